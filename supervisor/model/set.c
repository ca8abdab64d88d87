/* From a bundle to a checked set of specs. */
#include "read.h"

#include <string.h>

struct reading {
    const struct bundle *bundle;
    struct arena *arena;           /* nodes; gone at the end */
    struct docs docs;
    struct issues issues;
    struct entries guests, networks;
    struct host_spec *host;
    struct sums *sums;
};

/* Spec files stand at the top of the bundle. */
static bool is_spec_file(const char *path)
{
    static const char *const endings[] = {".yaml", ".yml", ".json"};
    const char *dot = strrchr(path, '.');

    for (size_t i = 0; dot && dot != path && !strchr(path, '/') && i < ARRAY_LEN(endings); i++)
        if (!strcmp(dot, endings[i]))
            return true;
    return false;
}

/* Which kind a document is of; 0 with a complaint when of none. */
static enum kinds kind_of(struct issues *is, const struct doc *d)
{
    const struct node *v = node_get(d->root, "kind", NULL);
    const char *near;

    if (!v) {
        issue_at(is, d->root, "no kind; expected kind: container, microvm, network, defaults or host");
        return 0;
    }
    for (size_t i = 0; v->kind == NODE_SCALAR && kind_names[i]; i++)
        if (!strcmp(v->text, kind_names[i]))
            return 1u << i;
    near = v->kind == NODE_SCALAR ? text_nearest(v->text, kind_names, 5) : NULL;
    issue_at(is, v, "kind: \"%.40s\" is not a kind; expected container, microvm, network, defaults or host%s%s%s",
             v->kind == NODE_SCALAR ? v->text : node_kind_name(v), near ? "; did you mean \"" : "", near ? near : "",
             near ? "\"?" : "");
    return 0;
}

static json_t *read_doc(struct reading *g, enum kinds kind, const struct doc *d, const struct node *root)
{
    struct reader r = {.issues = &g->issues, .base = g->bundle->base, .kind = kind, .own = d};
    json_t *v = read_table(&r, table_of(kind), root);

    if (r.no_memory || (v && !view_prune(table_of(kind), kind, v))) {
        g->issues.failed = true;
        json_decref(v);
        return NULL;
    }
    return v;
}

static bool list_has(const struct node *list, const char *word)
{
    if (list->kind == NODE_SCALAR)
        return !strcmp(list->text, word);
    for (size_t i = 0; list->kind == NODE_LIST && i < list->n; i++)
        if (list->items[i]->kind == NODE_SCALAR && !strcmp(list->items[i]->text, word))
            return true;
    return false;
}

/* Are defaults for a guest of that kind with these tags (NULL: none)? */
static bool is_for(const struct node *defaults, enum kinds kind, const struct node *tags)
{
    const struct node *only = node_get(defaults, "for", NULL), *k, *t;

    if (!only)
        return true;
    k = node_get(only, "kind", NULL);
    t = node_get(only, "tags", NULL);
    if (k && !(k->kind == NODE_SCALAR && !strcmp(k->text, kind_name(kind))))
        return false;
    if (!t)
        return true;
    if (tags && t->kind == NODE_SCALAR)
        return list_has(tags, t->text);
    for (size_t i = 0; tags && t->kind == NODE_LIST && i < t->n; i++)
        if (t->items[i]->kind == NODE_SCALAR && list_has(tags, t->items[i]->text))
            return true;
    return false;
}

/* A guest's tags decide which defaults it gets, so they come first: its own, or those of the last defaults that are
 * not limited by tags themselves. */
static const struct node *tags_of(const struct docs *defaults, const struct node *guest, enum kinds kind)
{
    const struct node *tags = node_get(guest, "tags", NULL);

    for (size_t i = defaults->n; !tags && i-- > 0;)
        if (is_for(defaults->v[i]->root, kind, NULL))
            tags = node_get(defaults->v[i]->root, "tags", NULL);
    return tags;
}

static const struct node *with_defaults(struct reading *g, const struct docs *defaults, const struct doc *d,
                                        enum kinds kind)
{
    const struct node *tags = tags_of(defaults, d->root, kind), *root = d->root;

    for (size_t i = defaults->n; i-- > 0 && root;)
        if (is_for(defaults->v[i]->root, kind, tags))
            root = read_merge(g->arena, &guest_table, kind, defaults->v[i]->root, root);
    g->issues.failed |= !root;
    return root;
}

static void add_guest(struct reading *g, const struct docs *defaults, const struct doc *d, enum kinds kind)
{
    const struct node *root = with_defaults(g, defaults, d, kind);
    json_t *v = root ? read_doc(g, kind, d, root) : NULL;
    struct entry *one = &g->guests.v[g->guests.n];

    if (!v)
        return;
    if (!json_object_get(v, "name") || !json_object_get(v, "kind")) { /* complained about */
        json_decref(v);
    } else if (!derive_guest(g->sums, v, root, &g->issues)) {
        json_decref(v);
        g->issues.failed = true;
    } else if (view_guest(v, true, &one->guest, NULL) < 0) {
        g->issues.failed = true;
    } else {
        one->root = root;
        g->guests.n++;
    }
}

static void add_network(struct reading *g, const struct doc *d)
{
    json_t *v = read_doc(g, K_NETWORK, d, d->root);
    struct entry *one = &g->networks.v[g->networks.n];

    if (!v)
        return;
    if (!json_object_get(v, "name")) {
        json_decref(v);
    } else if (view_network(v, true, &one->network, NULL) < 0) {
        g->issues.failed = true;
    } else {
        one->root = d->root;
        g->networks.n++;
    }
}

static void add_host(struct reading *g, const struct doc *d)
{
    json_t *v = read_doc(g, K_HOST, d, d->root);

    if (!v)
        return;
    if (g->host) {
        issue_at(&g->issues, d->root, "a second document of kind: host; expected at most one; write both as one");
        json_decref(v);
    } else if (view_host(v, true, &g->host, NULL) < 0) {
        g->issues.failed = true;
    }
}

/* Every document becomes a guest, a network or the host; defaults are checked once, for themselves, and then in every guest. */
static int read_docs(struct reading *g)
{
    OWN(mem) void *kinds_memory = calloc(g->docs.n + 1, sizeof(enum kinds));
    OWN(mem) void *defaults_memory = calloc(g->docs.n + 1, sizeof(struct doc *));
    enum kinds *kinds = kinds_memory;
    struct docs defaults = {.v = defaults_memory};

    g->guests.v = calloc(g->docs.n + 1, sizeof *g->guests.v);
    g->networks.v = calloc(g->docs.n + 1, sizeof *g->networks.v);
    if (!kinds || !defaults.v || !g->guests.v || !g->networks.v)
        return -1;
    for (size_t i = 0; i < g->docs.n; i++) {
        kinds[i] = kind_of(&g->issues, g->docs.v[i]);
        if (kinds[i] == K_DEFAULTS) {
            json_decref(read_doc(g, K_DEFAULTS, g->docs.v[i], g->docs.v[i]->root));
            defaults.v[defaults.n++] = g->docs.v[i];
        }
    }
    for (size_t i = 0; i < g->docs.n && !g->issues.failed; i++) {
        if (kinds[i] == K_NETWORK)
            add_network(g, g->docs.v[i]);
        else if (kinds[i] == K_HOST)
            add_host(g, g->docs.v[i]);
        else if (kinds[i] & K_GUEST)
            add_guest(g, &defaults, g->docs.v[i], kinds[i]);
    }
    if (g->guests.n > SPEC_GUESTS_MAX)
        issue_add(&g->issues, g->guests.v[SPEC_GUESTS_MAX].root->doc->file, 0, 0, false,
                  "%zu guests in all; expected at most %d", g->guests.n, SPEC_GUESTS_MAX);
    return g->issues.failed ? -1 : 0;
}

/* By name; those of one name as they were read. */
static int entry_order(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    int c = strcmp(entry_name(x), entry_name(y));

    if (c)
        return c;
    c = strcmp(x->root->doc->file, y->root->doc->file);
    return c ? c : x->root->line < y->root->line ? -1 : x->root->line > y->root->line;
}

static int hand_over(struct reading *g, struct spec_set **out)
{
    struct spec_set *s = calloc(1, sizeof *s);

    if (!s)
        return -1;
    s->guests = calloc(g->guests.n + 1, sizeof(struct guest_spec *));
    s->networks = calloc(g->networks.n + 1, sizeof(struct network_spec *));
    if (!s->guests || !s->networks) {
        spec_set_free(s);
        return -1;
    }
    for (; s->n_guests < g->guests.n; s->n_guests++)
        s->guests[s->n_guests] = TAKE(g->guests.v[s->n_guests].guest);
    for (; s->n_networks < g->networks.n; s->n_networks++)
        s->networks[s->n_networks] = TAKE(g->networks.v[s->n_networks].network);
    s->host = TAKE(g->host);
    s->issues = TAKE(g->issues.v);
    s->n_issues = g->issues.n;
    s->n_errors = g->issues.errors;
    g->issues.n = 0;
    *out = s;
    return 0;
}

static int read_all(struct reading *g, const struct spec_host *host)
{
    if (!(g->arena = arena_new()) || !(g->sums = sums_new(g->bundle)))
        return -1;
    for (size_t i = 0; i < g->bundle->n; i++) {
        const struct bundle_file *f = &g->bundle->files[i];

        if (is_spec_file(f->path) && yaml_read(f->path, f->data, f->len, g->arena, &g->docs, &g->issues) < 0)
            return -1;
    }
    if (read_docs(g) < 0)
        return -1;
    qsort(g->guests.v, g->guests.n, sizeof *g->guests.v, entry_order);
    qsort(g->networks.v, g->networks.n, sizeof *g->networks.v, entry_order);
    if (!cross_check(g->guests, g->networks, host, &g->issues) || g->issues.failed)
        return -1;
    issues_end(&g->issues);
    return g->issues.failed ? -1 : 0;
}

int spec_set_read(const struct bundle *b, const struct spec_host *host, struct spec_set **out, struct vm_err *e)
{
    struct reading g = {.bundle = b};
    int rc = read_all(&g, host);
    bool full = g.arena && arena_is_full(g.arena);

    if (json_lost() || full)
        rc = -1;
    if (!rc)
        rc = hand_over(&g, out);
    for (size_t i = 0; i < g.guests.n; i++)
        guest_spec_free(g.guests.v[i].guest);
    for (size_t i = 0; i < g.networks.n; i++)
        network_spec_free(g.networks.v[i].network);
    host_spec_free(g.host);
    free(g.guests.v);
    free(g.networks.v);
    free(g.docs.v);
    issues_done(g.issues);
    sums_free(g.sums);
    arena_free(g.arena);
    if (full)
        return vm_fail(e, VM_E_TOO_LARGE, "the specs take more than %d MiB to read; write fewer documents of kind defaults, each of "
                       "which is merged with each guest", ARENA_MAX >> 20);
    return rc < 0 ? vm_no_memory(e) : 0;
}

void spec_set_free(struct spec_set *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_guests; i++)
        guest_spec_free(s->guests[i]);
    for (size_t i = 0; i < s->n_networks; i++)
        network_spec_free(s->networks[i]);
    host_spec_free(s->host);
    issues_done((struct issues){.v = s->issues, .n = s->n_issues});
    free(s->guests);
    free(s->networks);
    free(s);
}
