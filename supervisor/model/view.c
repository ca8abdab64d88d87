/* From canonical JSON to the structs that code reads, by the same table. Strings are copied: the JSON may go first. */
#include "read.h"

#include <string.h>
#include <vmsd/hash.h>

struct view {
    struct arena *arena;
    unsigned kind;
    bool lenient, no_memory;
    const char *missing; /* the first field that is missing or is not what it should be */
};

static void take(struct view *w, void **out, size_t n)
{
    *out = arena_take(w->arena, n);
    w->no_memory |= !*out;
}

static const char *take_string(struct view *w, const char *s)
{
    const char *copy = arena_copy(w->arena, s, strlen(s));

    w->no_memory |= !copy;
    return copy;
}

static void view_table(struct view *w, const struct table *t, const json_t *v, char *at);

static void view_word(struct view *w, const struct field *f, const json_t *v, void *at)
{
    const char *s = json_string_value(v);

    if (f->word->view) {
        if (!f->word->view(f, v, at, w->arena))
            w->missing = f->key;
    } else if (s) {
        *(const char **)at = take_string(w, s);
    } else {
        w->missing = f->key;
    }
}

static void view_one(struct view *w, const struct field *f, const json_t *v, char *at)
{
    bool failed = false;
    OWN(json) json_t *otherwise = NULL;

    if (f->sub)
        view_table(w, f->sub, v, at);
    else if (v)
        view_word(w, f, v, at);
    else if (f->otherwise && !f->word->view)
        *(const char **)at = f->otherwise; /* outlives the JSON that it would be parsed into */
    else if ((otherwise = field_default(f, &failed)))
        view_word(w, f, otherwise, at);
    else
        w->no_memory |= failed;
}

static void view_strings(struct view *w, const json_t *v, struct spec_list *out)
{
    size_t n = json_array_size(v);
    void *strings;

    take(w, &strings, (n + 1) * sizeof(char *));
    if (!strings)
        return;
    out->v = strings;
    for (size_t i = 0; i < n; i++) {
        const char *s = json_string_value(json_array_get(v, i));

        if (s)
            out->v[out->n++] = take_string(w, s);
        else
            w->missing = "a string of a list";
    }
}

static int string_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void view_env(struct view *w, const json_t *v, struct spec_list *out)
{
    size_t n = json_object_size(v);
    const char *key;
    json_t *value;
    void *p;

    take(w, &p, (n + 1) * sizeof(char *));
    if (!p)
        return;
    out->v = p;
    json_object_foreach((json_t *)v, key, value) {
        const char *s = json_string_value(value);
        size_t room = s ? strlen(key) + strlen(s) + 2 : 0;

        if (!s) {
            w->missing = key;
            continue;
        }
        take(w, &p, room);
        if (!p)
            return;
        snprintf(p, room, "%s=%s", key, s);
        out->v[out->n++] = p;
    }
    if (out->n)
        qsort(out->v, out->n, sizeof *out->v, string_order);
}

static void view_list(struct view *w, const struct field *f, const json_t *v, char *base)
{
    bool ranges = f->word && f->word->view;
    size_t n = json_array_size(v), size = f->sub ? f->sub->size : sizeof(struct spec_range);
    void *items;

    if (!f->sub && !ranges) {
        view_strings(w, v, (void *)(base + f->at));
        return;
    }
    take(w, &items, (n + 1) * size);
    if (!items)
        return;
    *(void **)(void *)(base + f->at) = items;
    *(size_t *)(void *)(base + (f->sub ? f->n_at : f->at + offsetof(struct spec_ranges, n))) = n;
    for (size_t i = 0; i < n; i++) {
        if (f->sub)
            view_table(w, f->sub, json_array_get(v, i), (char *)items + i * size);
        else
            view_word(w, f, json_array_get(v, i), (char *)items + i * size);
    }
}

static void view_table(struct view *w, const struct table *t, const json_t *v, char *at)
{
    unsigned chosen = 0;

    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->rows[i];
        const json_t *value = json_object_get(v, f->key);

        if ((f->flags & F_ONE_OF) && value && t->kind_at != NO_MEMBER)
            *(unsigned *)(void *)(at + t->kind_at) = chosen;
        chosen += !!(f->flags & F_ONE_OF);
        if (f->at == NO_MEMBER || !field_has(f, w->kind) || (!value && (f->flags & F_ONE_OF)))
            continue;
        if (!value && (f->flags & F_NEED))
            w->missing = f->key;
        if (f->shape == LIST)
            view_list(w, f, value, at);
        else if (f->shape == ENV)
            view_env(w, value, (void *)(at + f->at));
        else
            view_one(w, f, value, at + f->at);
    }
}

/* Fills *out, of the kind that the JSON says. */
static int view_fill(struct view *w, const struct table *t, const json_t *v, void *out, struct vm_err *e)
{
    if (!(w->arena = arena_new()))
        return vm_no_memory(e);
    view_table(w, t, v, out);
    if (json_lost() || w->no_memory)
        return vm_no_memory(e);
    if (w->missing && !w->lenient)
        return vm_fail(e, VM_E_INVALID, "a stored spec (%s): %s is missing or is not what this version writes",
                       json_str(v, "name", "without a name"), w->missing);
    return 0;
}

int view_guest(json_t *json, bool lenient, struct guest_spec **out, struct vm_err *e)
{
    struct guest_spec *g = calloc(1, sizeof *g);
    struct view w = {.lenient = lenient};
    int rc;

    if (!g) {
        json_decref(json);
        return vm_no_memory(e);
    }
    g->json = json;
    w.kind = !strcmp(json_str(json, "kind", ""), "microvm") ? K_MICROVM : K_CONTAINER;
    rc = view_fill(&w, &guest_table, json, g, e);
    g->arena = w.arena;
    if (rc < 0) {
        guest_spec_free(g);
        return -1;
    }
    *out = g;
    return 0;
}

/* "vms-NAME", or with a hash where that is too long for the kernel. */
static const char *bridge_name(const char *name, struct arena *a)
{
    char sum[HASH_HEX], bridge[16];
    int n = snprintf(bridge, sizeof bridge, "vms-%s", name);

    if (n >= (int)sizeof bridge) {
        hash_bytes(name, strlen(name), sum);
        snprintf(bridge, sizeof bridge, "vms-%.11s", sum);
    }
    return arena_copy(a, bridge, strlen(bridge));
}

static int network_complete(struct network_spec *n, struct vm_err *e)
{
    char domain[SPEC_NAME_MAX + 16];

    if (!n->name)
        return 0;
    if (!n->bridge && !(n->bridge = bridge_name(n->name, n->arena)))
        return vm_no_memory(e);
    if (!n->domain) {
        snprintf(domain, sizeof domain, "%s.internal", n->name);
        if (!(n->domain = arena_copy(n->arena, domain, strlen(domain))))
            return vm_no_memory(e);
    }
    return 0;
}

int view_network(json_t *json, bool lenient, struct network_spec **out, struct vm_err *e)
{
    struct network_spec *n = calloc(1, sizeof *n);
    struct view w = {.kind = K_NETWORK, .lenient = lenient};
    int rc;

    if (!n) {
        json_decref(json);
        return vm_no_memory(e);
    }
    n->json = json;
    rc = view_fill(&w, &network_table, json, n, e);
    n->arena = w.arena;
    if (rc < 0 || network_complete(n, e) < 0) {
        network_spec_free(n);
        return -1;
    }
    *out = n;
    return 0;
}

int view_host(json_t *json, bool lenient, struct host_spec **out, struct vm_err *e)
{
    struct host_spec *h = calloc(1, sizeof *h);
    struct view w = {.kind = K_HOST, .lenient = lenient};
    int rc;

    if (!h) {
        json_decref(json);
        return vm_no_memory(e);
    }
    h->json = json;
    rc = view_fill(&w, &host_table, json, h, e);
    h->arena = w.arena;
    if (rc < 0) {
        host_spec_free(h);
        return -1;
    }
    *out = h;
    return 0;
}

static bool prune_field(const struct field *f, unsigned kind, json_t *obj, json_t *v)
{
    bool failed = false;
    OWN(json) json_t *otherwise = NULL;
    json_t *item;
    size_t i;

    if (f->shape == LIST && f->sub)
        json_array_foreach(v, i, item) if (!view_prune(f->sub, kind, item)) return false;
    if (f->shape == ONE && f->sub && !view_prune(f->sub, kind, v))
        return false;
    otherwise = field_default(f, &failed);
    if (failed)
        return false;
    if (otherwise ? json_equal(otherwise, v)
                  : !(f->flags & (F_NEED | F_ONE_OF)) &&
                        ((json_is_object(v) && !json_object_size(v)) || (json_is_array(v) && !json_array_size(v))))
        json_object_del(obj, f->key);
    return true;
}

bool view_prune(const struct table *t, unsigned kind, json_t *v)
{
    for (size_t i = 0; i < t->n; i++) {
        json_t *value = json_object_get(v, t->rows[i].key);

        if (value && field_has(&t->rows[i], kind) && !prune_field(&t->rows[i], kind, v, value))
            return false;
    }
    return true;
}

int guest_spec_load(const char *text, struct guest_spec **out, struct vm_err *e)
{
    OWN(json) json_t *json = json_from_text(text, strlen(text), e);
    const char *kind;

    if (!json)
        return vm_context(e, "a stored spec");
    kind = json_str(json, "kind", "");
    if (strcmp(kind, "container") && strcmp(kind, "microvm"))
        return vm_fail(e, VM_E_INVALID, "a stored spec (%s): no guest", json_str(json, "name", "without a name"));
    return view_guest(TAKE(json), false, out, e);
}

int network_spec_load(const char *text, struct network_spec **out, struct vm_err *e)
{
    OWN(json) json_t *json = json_from_text(text, strlen(text), e);

    if (!json)
        return vm_context(e, "a stored spec");
    if (strcmp(json_str(json, "kind", ""), "network"))
        return vm_fail(e, VM_E_INVALID, "a stored spec (%s): no network", json_str(json, "name", "without a name"));
    return view_network(TAKE(json), false, out, e);
}

int host_spec_load(const char *text, struct host_spec **out, struct vm_err *e)
{
    const char *have = text ? text : "{\"kind\":\"host\"}";
    OWN(json) json_t *json = json_from_text(have, strlen(have), e);

    if (!json)
        return vm_context(e, "a stored spec");
    if (strcmp(json_str(json, "kind", ""), "host"))
        return vm_fail(e, VM_E_INVALID, "a stored spec: not of the host");
    return view_host(TAKE(json), false, out, e);
}

void guest_spec_slim(struct guest_spec *g)
{
    json_decref(g->json);
    g->json = NULL;
}

void guest_spec_free(struct guest_spec *g)
{
    if (!g)
        return;
    json_decref(g->json);
    arena_free(g->arena);
    free(g);
}

void network_spec_free(struct network_spec *n)
{
    if (!n)
        return;
    json_decref(n->json);
    arena_free(n->arena);
    free(n);
}

void host_spec_free(struct host_spec *h)
{
    if (!h)
        return;
    json_decref(h->json);
    arena_free(h->arena);
    free(h);
}
