#include "select.h"

#include <string.h>
#include <vmsd/plan.h>

#define TAG "tag:"

static bool matches(char *pattern, const struct select_known *guest)
{
    struct strv one = {.v = (char *[]){pattern, NULL}, .n = 1};

    return select_match(&one, guest->name, &guest->tags);
}

int select_patterns(const struct cli *cli, size_t first, struct strv *out, struct vm_err *e)
{
    const struct strv *tags = &cli->values[OPT_TAG];

    for (size_t i = first; i < cli->n_args; i++)
        strv_add(out, cli->args[i]);
    for (size_t i = 0; i < tags->n; i++)
        strv_addf(out, TAG "%s", tags->v[i]);
    return out->failed ? vm_no_memory(e) : 0;
}

/* The tag nearest to a mistyped one; NULL when none is near, or there is no memory to look for it. */
static const char *near_tag(const char *tag, const struct select_known *known, size_t n)
{
    OWN(mem) const char **words = NULL;
    size_t count = 0, at = 0;

    for (size_t i = 0; i < n; i++)
        count += known[i].tags.n;
    if (!(words = calloc(count + 1, sizeof *words)))
        return NULL;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < known[i].tags.n; k++)
            words[at++] = known[i].tags.v[k];
    return text_nearest(tag, words, count);
}

static int no_such(const char *pattern, const struct select_known *known, size_t n, struct vm_err *e)
{
    OWN(mem) const char **words = calloc(n + 1, sizeof *words);
    const char *near;

    if (!words)
        return vm_no_memory(e);
    if (!strncmp(pattern, TAG, strlen(TAG))) {
        near = near_tag(pattern + strlen(TAG), known, n);
        return vm_fail(e, VM_E_ABSENT, "no guest has the tag '%.100s'%s%.60s%s", pattern + strlen(TAG),
                       near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
    }
    if (strpbrk(pattern, "*?"))
        return vm_fail(e, VM_E_ABSENT, "no guest matches '%.100s'; vmctl ls shows those that are", pattern);
    for (size_t i = 0; i < n; i++)
        words[i] = known[i].name;
    near = text_nearest(pattern, words, n);
    return vm_fail(e, VM_E_ABSENT, "no guest '%.100s'%s%.100s%s", pattern, near ? "; did you mean '" : "",
                   near ? near : "", near ? "'?" : "; vmctl ls shows those that are");
}

int select_check(const struct strv *patterns, const struct select_known *known, size_t n, struct vm_err *e)
{
    for (size_t p = 0; p < patterns->n; p++) {
        bool found = false;

        for (size_t i = 0; i < n && !found; i++)
            found = matches(patterns->v[p], &known[i]);
        if (!found)
            return no_such(patterns->v[p], known, n, e);
    }
    return 0;
}

struct guests {
    json_t *list; /* of the API */
    struct select_known *known;
    size_t n;
};

static void guests_done(struct guests g)
{
    for (size_t i = 0; i < g.n; i++)
        free(g.known[i].tags.v);
    free(g.known);
    json_decref(g.list);
}
OWN_DEFINE(guests, struct guests, guests_done)

static int guests_get(struct cli *cli, struct guests *g, struct vm_err *e)
{
    OWN(json) json_t *doc = NULL;
    size_t i, k;
    json_t *guest, *tag;

    if (hosts_guests(cli, &doc, e) < 0)
        return -1;
    g->list = json_incref(json_object_get(doc, "guests"));
    if (!(g->known = calloc(json_array_size(g->list) + 1, sizeof *g->known)))
        return vm_no_memory(e);
    json_array_foreach(g->list, i, guest) {
        struct select_known *known = &g->known[g->n++];
        const json_t *tags = json_object_get(guest, "tags");

        known->name = json_str(guest, "name", "");
        if (!(known->tags.v = calloc(json_array_size(tags) + 1, sizeof *known->tags.v)))
            return vm_no_memory(e);
        json_array_foreach(tags, k, tag)
            known->tags.v[known->tags.n++] = json_string_value(tag) ? json_string_value(tag) : "";
    }
    return 0;
}

static int pick_named(struct cli *cli, const char *name, json_t **out, struct vm_err *e)
{
    OWN(str) char *path = client_path("/v1/guests/", name, "");
    OWN(json) json_t *doc = NULL, *list = NULL;

    if (!path)
        return vm_no_memory(e);
    if (client_json(&cli->client, "GET", path, &doc, e) < 0)
        return -1;
    if (!(list = json_pack("[O]", json_object_get(doc, "guest"))))
        return vm_fail(e, VM_E_BACKEND, "vmsd's answer to %s has no guest", path);
    *out = TAKE(list);
    return 0;
}

/* Of one name that guest is asked for, and all, of which there may be a thousand, only to tell the nearest. */
static int pick(struct cli *cli, const struct strv *patterns, json_t **out, struct vm_err *e)
{
    bool named = patterns->n == 1 && !cli->hosts.several && text_is_label(patterns->v[0], SPEC_NAME_MAX);
    OWN(guests) struct guests g = {0};
    OWN(json) json_t *picked = json_array();

    if (!picked)
        return vm_no_memory(e);
    if (named && pick_named(cli, patterns->v[0], out, e) == 0)
        return 0;
    if (named && e->code != VM_E_ABSENT)
        return -1;
    if (guests_get(cli, &g, e) < 0 || select_check(patterns, g.known, g.n, e) < 0)
        return -1;
    for (size_t i = 0; i < g.n; i++) {
        bool wanted = patterns->n == 0;

        for (size_t p = 0; p < patterns->n && !wanted; p++)
            wanted = matches(patterns->v[p], &g.known[i]);
        if (wanted && json_array_append(picked, json_array_get(g.list, i)) < 0)
            return vm_no_memory(e);
    }
    *out = TAKE(picked);
    return 0;
}

int select_guests(struct cli *cli, json_t **out, struct vm_err *e)
{
    OWN(strv) struct strv patterns = {0};

    if (select_patterns(cli, 0, &patterns, e) < 0)
        return -1;
    return pick(cli, &patterns, out, e);
}

int select_named(struct cli *cli, json_t **out, struct vm_err *e)
{
    bool named = cli->n_args || cli_has(cli, OPT_TAG);

    if (named && cli_has(cli, OPT_ALL))
        return vm_fail(e, VM_E_INVALID, "name guests or give --all, not both");
    if (!named && !cli_has(cli, OPT_ALL))
        return vm_fail(e, VM_E_INVALID, "name a guest, a glob or -t TAG; see vmctl %s --help", cli->command->name);
    return select_guests(cli, out, e);
}

int select_one(struct cli *cli, const char *pattern, char **name, struct vm_err *e)
{
    OWN(strv) struct strv patterns = {0};
    OWN(json) json_t *picked = NULL;
    size_t n;

    strv_add(&patterns, pattern);
    if (patterns.failed)
        return vm_no_memory(e);
    if (pick(cli, &patterns, &picked, e) < 0)
        return -1;
    if ((n = json_array_size(picked)) != 1)
        return vm_fail(e, VM_E_INVALID, "'%.100s' matches %zu guests; name one", pattern, n);
    *name = strdup(json_str(json_array_get(picked, 0), "name", ""));
    return *name ? 0 : vm_no_memory(e);
}
