#include "init.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

/* Below these the guest's init mounts its own file systems. */
static bool is_taken(const char *target)
{
    static const char *const own[] = { "/dev", "/proc", "/sys", "/run", "/tmp" };
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        size_t n = strlen(own[i]);
        if (strncmp(target, own[i], n) == 0 && (!target[n] || target[n] == '/'))
            return true;
    }
    return false;
}

static bool is_plain_path(const char *path)
{
    if (*path != '/' || !path[1])
        return false;
    for (const char *p = path; *p; p += 1 + strcspn(p + 1, "/")) {
        size_t n = strcspn(p + 1, "/");
        if (n == 0 || (n == 1 && p[1] == '.') || (n == 2 && p[1] == '.' && p[2] == '.'))
            return false;
    }
    return true;
}

/* TAG TARGET [ro]; a target may hold spaces. */
static int parse_mount(char *value, struct setup *s, struct vm_err *e)
{
    char *target = strchr(value, ' ');
    struct setup_mount m = { .tag = value, .share = strncmp(value, "share", 5) == 0 };

    if (!target || target == value || target - value >= SERIAL)
        return vm_fail(e, VM_E_INVALID, "mount=%.100s is not TAG TARGET [ro]", value);
    *target++ = '\0';
    size_t n = strlen(target);
    if (n > 3 && strcmp(target + n - 3, " ro") == 0) {
        m.read_only = true;
        target[n - 3] = '\0';
    }
    m.target = target;
    if (!is_plain_path(target))
        return vm_fail(e, VM_E_INVALID, "mount=%s: target '%.200s' is no plain absolute path", m.tag, target);
    if (is_taken(target))
        return vm_fail(e, VM_E_INVALID, "mount=%s: target '%.200s' is below what every guest mounts anew; choose another",
                       m.tag, target);
    if (s->n_mounts == SETUP_MOUNTS_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "more than %d mounts", SETUP_MOUNTS_MAX);
    s->mounts[s->n_mounts++] = m;
    return 0;
}

static bool is_token(const char *s)
{
    size_t n = 0;
    while (isxdigit((unsigned char)s[n]))
        n++;
    return n == PROTO_TOKEN && !s[n];
}

/* The other keys are the agent's. */
static int parse_line(char *line, struct setup *s, struct vm_err *e)
{
    char *value = strchr(line, '=');
    if (!value || value == line)
        return vm_fail(e, VM_E_INVALID, "'%.100s' is not KEY=VALUE", line);
    *value++ = '\0';
    if (strcmp(line, "mount") == 0)
        return parse_mount(value, s, e);
    if (strcmp(line, "token") == 0) {
        if (!is_token(value))
            return vm_fail(e, VM_E_INVALID, "token= does not have %d hex digits", PROTO_TOKEN);
        s->token = value;
    } else if (strcmp(line, "root") == 0) {
        if (strcmp(value, "ro") != 0)
            return vm_fail(e, VM_E_INVALID, "root=%.100s is not root=ro", value);
        s->read_only_root = true;
    }
    return 0;
}

static int by_target(const void *a, const void *b)
{
    return strcmp(((const struct setup_mount *)a)->target, ((const struct setup_mount *)b)->target);
}

int setup_parse(char *text, size_t n, struct setup *out, struct vm_err *e)
{
    struct setup s = { 0 };
    unsigned line = 0;

    if (strlen(text) != n)
        return vm_fail(e, VM_E_INVALID, "a byte 0 in it");
    for (char *rest = text, *at; (at = strsep(&rest, "\n"));) {
        line++;
        if (*at && parse_line(at, &s, e) < 0)
            return vm_context(e, "line %u", line);
    }
    qsort(s.mounts, s.n_mounts, sizeof(s.mounts[0]), by_target);
    for (size_t i = 1; i < s.n_mounts; i++) {
        if (strcmp(s.mounts[i - 1].target, s.mounts[i].target) == 0)
            return vm_fail(e, VM_E_INVALID, "target '%.200s' is given twice", s.mounts[i].target);
    }
    *out = s;
    return 0;
}

const char *cmdline_init(char *cmdline)
{
    const char *init = NULL;
    for (char *rest = cmdline, *word; (word = strsep(&rest, " \n"));) {
        if (strncmp(word, "init=/", 6) == 0)
            init = word + 5;
    }
    return init;
}
