#include <vmsd/err.h>

#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define X(id, name, http, exit) [VM_E_##id] = name,
static const char *const names[VM_E_COUNT] = {VM_ERRORS(X)};
#undef X
#define X(id, name, http, exit) [VM_E_##id] = http,
static const int https[VM_E_COUNT] = {VM_ERRORS(X)};
#undef X
#define X(id, name, http, exit) [VM_E_##id] = exit,
static const int exits[VM_E_COUNT] = {VM_ERRORS(X)};
#undef X

/* A text that had no room ends in half a character, and that would cost the whole answer: JSON has none. */
static void mend(char *text)
{
    uint32_t c;

    for (size_t n = strlen(text), len; n; text += len, n -= len)
        if (!(len = utf8_at((const unsigned char *)text, n, &c))) {
            *text = '?';
            len = 1;
        }
}

/* In parentheses, for err.h has macros of these names. */
int (vm_fail)(struct vm_err *e, enum vm_errc code, const char *fmt, ...)
{
    va_list ap;

    if (!e)
        return -1;
    e->code = code;
    e->sys = 0;
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    mend(e->text);
    return -1;
}

int (vm_fail_sys)(struct vm_err *e, const char *fmt, ...)
{
    int sys = errno;
    char what[sizeof e->text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    vm_fail(e, VM_E_SYSTEM, "%.300s: %s", what, strerror(sys));
    if (e)
        e->sys = sys;
    errno = sys;
    return -1;
}

int (vm_context)(struct vm_err *e, const char *fmt, ...)
{
    char old[sizeof e->text];
    size_t n;
    va_list ap;

    if (!e)
        return -1;
    memcpy(old, e->text, sizeof old);
    va_start(ap, fmt);
    vsnprintf(e->text, sizeof e->text, fmt, ap);
    va_end(ap);
    n = strlen(e->text);
    snprintf(e->text + n, sizeof e->text - n, ": %s", old);
    mend(e->text);
    return -1;
}

int (vm_no_memory)(struct vm_err *e)
{
    vm_fail(e, VM_E_SYSTEM, "no memory");
    if (e)
        e->sys = ENOMEM;
    return -1;
}

const char *vm_err_name(enum vm_errc code)
{
    return code < VM_E_COUNT ? names[code] : "system";
}

int vm_err_http(enum vm_errc code)
{
    return code < VM_E_COUNT ? https[code] : 500;
}

int vm_err_exit(enum vm_errc code)
{
    return code < VM_E_COUNT ? exits[code] : 1;
}
