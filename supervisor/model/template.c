/* ${NAME} stands for a value, $$ for a $; any other $ for itself, as configuration files are full of them. */
#include "fields.h"

#include <string.h>

enum { NAME_MAX_BYTES = 128, TEMPLATE_MAX = 4 << 20 };

static int fail_at(const char *text, const char *at, struct vm_err *e, const char *what)
{
    unsigned line = 1, column = 1;

    for (const char *s = text; s < at; s++) {
        line += *s == '\n';
        column = *s == '\n' ? 1 : column + ((*s & 0xc0) != 0x80);
    }
    return vm_fail(e, VM_E_INVALID, "line %u, column %u: %s; write $${ for ${ itself", line, column, what);
}

/* The name between ${ and }, into name; its length, or 0 when there is none. */
static size_t name_of(const char *s, const char *end, char name[static NAME_MAX_BYTES + 1])
{
    const char *close = memchr(s, '}', (size_t)(end - s));
    size_t n = close ? (size_t)(close - s) : 0;

    if (!n || n > NAME_MAX_BYTES)
        return 0;
    memcpy(name, s, n);
    name[n] = '\0';
    return env_key(name) ? n : 0;
}

int spec_template(const char *text, size_t n, const char *(*lookup)(const char *name, void *arg), void *arg, char **out,
                  struct vm_err *e)
{
    OWN(text) struct text t = {0};
    const char *end = text + n, *s = text;
    char name[NAME_MAX_BYTES + 1], what[NAME_MAX_BYTES + 40];

    while (s < end) {
        const char *dollar = memchr(s, '$', (size_t)(end - s)), *value;
        size_t length;

        text_add_bytes(&t, s, (size_t)((dollar ? dollar : end) - s));
        if (!dollar)
            break;
        s = dollar + 1;
        if (s < end && *s == '$') {
            text_add(&t, "$");
            s++;
        } else if (s < end && *s == '{') {
            if (!(length = name_of(s + 1, end, name)))
                return fail_at(text, dollar, e, "${ without a NAME and a } behind it");
            if (!(value = lookup(name, arg))) {
                snprintf(what, sizeof what, "${%s} has no value", name);
                return fail_at(text, dollar, e, what);
            }
            text_add(&t, value);
            s += length + 2;
        } else {
            text_add(&t, "$");
        }
        if (t.len > TEMPLATE_MAX)
            return vm_fail(e, VM_E_TOO_LARGE, "a template that grows past %d MiB", TEMPLATE_MAX >> 20);
    }
    if (!(*out = text_take(&t)))
        return vm_no_memory(e);
    return 0;
}
