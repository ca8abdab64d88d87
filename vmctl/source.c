#include "source.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/spec.h>
#include "select.h"
#include "term.h"

static int read_stdin(char **out, size_t *n, struct vm_err *e)
{
    OWN(text) struct text t = {0};
    char block[64 << 10];
    ssize_t got;

    if (isatty(STDIN_FILENO))
        return vm_fail(e, VM_E_INVALID,
                       "standard input is a terminal; give it a tar: git archive HEAD %s | vmctl apply -", SOURCE_DIR);
    while ((got = read(STDIN_FILENO, block, sizeof block)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return vm_fail_sys(e, "read the tar from standard input");
        if (t.len + (size_t)got > BUNDLE_BYTES_MAX)
            return vm_fail(e, VM_E_TOO_LARGE, "the tar on standard input is larger than %lu MiB",
                           BUNDLE_BYTES_MAX >> 20);
        text_add_bytes(&t, block, (size_t)got);
    }
    if (!t.len)
        return vm_fail(e, VM_E_INVALID, "standard input is empty; a tar was expected");
    *n = t.len;
    *out = text_take(&t);
    return *out ? 0 : vm_no_memory(e);
}

struct sets {
    struct spec_set **v;
    size_t n;
};

static void sets_done(struct sets s)
{
    for (size_t i = 0; i < s.n; i++)
        spec_set_free(s.v[i]);
    free(s.v);
}
OWN_DEFINE(sets, struct sets, sets_done)

/* Guests of the specs, then, if it is one host, those that vmsd has: with --prune one may select a guest that has left the
 * directory. */
static int check_selection(struct cli *cli, struct bundle *const *b, size_t n_bundles, const struct strv *selected,
                           struct vm_err *e)
{
    OWN(sets) struct sets sets = {.v = calloc(n_bundles, sizeof *sets.v)};
    OWN(json) json_t *doc = NULL;
    OWN(mem) struct select_known *known = NULL;
    struct spec_host host = {0};
    json_t *guest, *list;
    size_t all = 0, n = 0, i;

    if (!sets.v)
        return vm_no_memory(e);
    for (; sets.n < n_bundles; sets.n++) {
        if (spec_set_read(b[sets.n], &host, &sets.v[sets.n], e) < 0)
            return -1;
        if (sets.v[sets.n]->n_errors) { /* the daemon will say them all */
            sets.n++;
            return 0;
        }
        all += sets.v[sets.n]->n_guests;
    }
    if (!cli->hosts.several && client_json(&cli->client, "GET", "/v1/guests", &doc, e) < 0)
        return -1;
    list = json_object_get(doc, "guests");
    if (!(known = calloc(all + json_array_size(list) + 1, sizeof *known)))
        return vm_no_memory(e);
    for (size_t k = 0; k < sets.n; k++)
        for (i = 0; i < sets.v[k]->n_guests; i++)
            known[n++] = (struct select_known){sets.v[k]->guests[i]->name, sets.v[k]->guests[i]->tags};
    json_array_foreach(list, i, guest)
        known[n++].name = json_str(guest, "name", "");
    return select_check(selected, known, n, e);
}

/* Most likely it is another directory that was meant. */
static void warn(const struct bundle *b, const char *where)
{
    for (size_t i = 0; i < b->n; i++) {
        const char *path = b->files[i].path, *dot = strrchr(path, '.');

        if (dot && !strchr(path, '/') && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml") || !strcmp(dot, ".json")))
            return;
    }
    term_complain("warning: '%s' has no spec: no *.yaml, *.yml or *.json at its top", where);
}

static int directory(const struct cli *cli, const char *where, char **out, struct vm_err *e)
{
    OWN(str) char *path = realpath(where, NULL);
    struct stat st;

    if ((!path || stat(path, &st) < 0) && cli->hosts.n && !cli->n_args)
        return vm_fail(e, VM_E_INVALID, "directory of specs '%.200s': %s; specs in " HOSTS_FILE " names it", where, strerror(errno));
    if (!path || stat(path, &st) < 0)
        return vm_fail(e, VM_E_INVALID, "directory of specs '%.200s': %s; the first argument of %s names it", where,
                       strerror(errno), cli->command->name);
    if (!S_ISDIR(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%.200s' is no directory; name the one that holds all specs", where);
    *out = TAKE(path);
    return 0;
}

int source_bundle(const struct cli *cli, const struct strv *dirs, char **base, struct bundle **out, struct vm_err *e)
{
    for (size_t i = 0; i < dirs->n; i++) {
        free(*base);
        *base = NULL;
        if (directory(cli, dirs->v[i], base, e) < 0)
            return -1;
    }
    if (bundle_from_dirs(dirs->v, dirs->n, out, e) < 0)
        return -1;
    warn(*out, dirs->v[dirs->n - 1]);
    return 0;
}

void source_dirs(const struct cli *cli, size_t i, struct strv *out)
{
    const struct strv *own = i < cli->hosts.n ? &cli->hosts.v[i].specs : NULL;

    for (size_t k = 0; !cli->n_args && own && k < own->n; k++)
        strv_add(out, own->v[k]);
    if (!out->n)
        strv_add(out, cli->n_args ? cli->args[0] : SOURCE_DIR);
}

static int read_one(struct cli *cli, size_t i, struct source *s, struct bundle **b, struct vm_err *e)
{
    OWN(strv) struct strv dirs = {0};

    source_dirs(cli, i, &dirs);
    if (dirs.failed)
        return vm_no_memory(e);
    if (select_patterns(cli, 1, &s->selected, e) < 0)
        return -1;
    if (strcmp(dirs.v[0], "-") != 0)
        return source_bundle(cli, &dirs, &s->base, b, e) < 0 ? -1 : bundle_to_tar(*b, &s->tar, &s->n, e);
    if (read_stdin(&s->tar, &s->n, e) < 0)
        return -1;
    if (s->selected.n && bundle_from_tar(s->tar, s->n, NULL, b, e) < 0)
        return vm_context(e, "standard input");
    return 0;
}

int source_read_each(struct cli *cli, size_t n, struct source *out, struct vm_err *e)
{
    OWN(mem) struct bundle **b = calloc(n, sizeof(struct bundle *));
    int rc = b ? 0 : vm_no_memory(e);

    for (size_t i = 0; i < n && rc == 0; i++)
        rc = read_one(cli, i, &out[i], &b[i], e);
    if (rc == 0 && out[0].selected.n)
        rc = check_selection(cli, b, n, &out[0].selected, e);
    for (size_t i = 0; b && i < n; i++)
        bundle_free(b[i]);
    return rc;
}

int source_read(struct cli *cli, struct source *out, struct vm_err *e)
{
    return source_read_each(cli, 1, out, e);
}

void source_path(const struct source *s, const char *head, struct text *out)
{
    text_add(out, head);
    if (s->base)
        client_query(out, "base", s->base);
    client_query_list(out, "select", &s->selected);
}

void source_done(struct source s)
{
    free(s.tar);
    free(s.base);
    strv_done(s.selected);
}
