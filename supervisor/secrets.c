/* Secrets: read when they are needed, given to the guest, wiped. */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

enum { SECRET_MAX = 64 << 10, SECRET_COMMAND_MS = 30000, KEY_BYTES = 32 };
enum { PART_MIN = 3 }; /* shorter lines of a secret are in any text */

void secret_wipe(struct secret *s)
{
    if (s->data) {
        explicit_bzero(s->data, s->n);
        free(s->data);
    }
    *s = (struct secret){0};
}

static int from_command(const struct spec_secret *s, struct secret *out, struct vm_err *e)
{
    struct child_plan plan = {.argv = (char *const *)s->command.v, .output_max = SECRET_MAX, .secret = true,
                              .starter = CHILD_COMMAND};
    struct child_end end = {0};

    if (child_run(&plan, deadline_in(SECRET_COMMAND_MS), &end, e) < 0)
        return -1;
    *out = (struct secret){end.output, end.n};
    if (end.status != 0 || end.dropped) { /* its output may be half a secret: never shown */
        secret_wipe(out);
        return vm_fail(e, VM_E_BACKEND, "command '%s' %s", s->command.v[0],
                       end.status ? "failed; run it as root to see why" : "printed too much for a secret");
    }
    return 0;
}

int secret_read(const struct spec_secret *s, struct secret *out, struct vm_err *e)
{
    const char *value;

    if (s->file) {
        OWN(fd) int fd = path_open_host(s->file, O_RDONLY | O_NONBLOCK, e);

        if (fd < 0 || path_read_fd(fd, s->file, SECRET_MAX, &out->data, &out->n, e) < 0)
            return vm_context(e, "secret '%s'", s->name);
        return 0;
    }
    if (s->command.n)
        return from_command(s, out, e) < 0 ? vm_context(e, "secret '%s'", s->name) : 0;
    value = getenv(s->env);
    if (!value)
        return vm_fail(e, VM_E_ABSENT, "secret '%s': vmsd's environment has no '%s'; set it in the service's unit", s->name,
                       s->env);
    out->n = strlen(value);
    out->data = strdup(value);
    return out->data ? 0 : vm_no_memory(e);
}

static bool line_has(const char *line, const struct secret *s)
{
    for (size_t at = 0; at < s->n;) {
        const char *part = s->data + at, *end = memchr(part, '\n', s->n - at);
        size_t n = end ? (size_t)(end - part) : s->n - at;

        if (n >= PART_MIN && memmem(line, strlen(line), part, n))
            return true;
        at += n + 1;
    }
    return false;
}

bool secrets_may_be_in(const struct guest_spec *g, const char *line)
{
    bool found = false;

    for (size_t i = 0; i < g->n_secrets && !found; i++) {
        struct secret s = {0};

        found = g->secrets[i].command.n || secret_read(&g->secrets[i], &s, NULL) < 0 || line_has(line, &s);
        secret_wipe(&s);
    }
    return found;
}

/* The key stays beside the store, not in it, so that a copy of the store alone tells nothing about short secrets. */
static int digest_key(const char *state_dir, char **key, size_t *n, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(state_dir, O_RDONLY | O_DIRECTORY, e);
    char fresh[KEY_BYTES];

    if (dir < 0)
        return -1;
    if (path_exists(dir, "secrets.key"))
        return path_read(dir, "secrets.key", KEY_BYTES, key, n, e);
    if (getrandom(fresh, sizeof fresh, 0) != sizeof fresh)
        return vm_fail_sys(e, "random key");
    if (path_write(dir, "secrets.key", fresh, sizeof fresh, 0600, e) < 0)
        return -1;
    return path_read(dir, "secrets.key", KEY_BYTES, key, n, e);
}

int secrets_digest(struct guest_spec *g, const char *state_dir, size_t *bad, struct vm_err *e)
{
    OWN(str) char *key = NULL;
    json_t *list = json_object_get(g->json, "secrets");
    size_t nkey = 0;

    *bad = 0;
    if (g->n_secrets && digest_key(state_dir, &key, &nkey, e) < 0)
        return -1;
    for (size_t i = 0; i < g->n_secrets; i++) {
        struct secret s = {0};
        char sum[HASH_HEX];

        if (g->secrets[i].command.n)
            continue; /* may be slow, or ask a person: only when it is needed */
        if (secret_read(&g->secrets[i], &s, e) < 0) {
            *bad = i;
            return -1;
        }
        hash_keyed(key, nkey, s.data, s.n, sum);
        secret_wipe(&s);
        json_object_set_new(json_array_get(list, i), "digest", json_string(sum));
    }
    if (key)
        explicit_bzero(key, nkey);
    return 0;
}
