/* The difference between two canonical specs, and what it costs. */
#include "fields.h"
#include "trail.h"

#include <stdarg.h>
#include <string.h>

#define X(id, name) [PLAN_##id] = name,
static const char *const class_names[PLAN_COUNT] = {PLAN_CLASSES(X)};
#undef X

const char *plan_class_name(enum plan_class c)
{
    return (unsigned)c < PLAN_COUNT ? class_names[c] : "?";
}

struct diff {
    struct plan_change *change;
    unsigned kind;
    bool resizes;     /* see plan_actual */
    struct trail at;
    bool script_told; /* that a script before changed is what changes the digests of all behind it */
    bool no_memory;
};

/* What is there, or what its absence means. */
static json_t *value_of(struct diff *d, const struct field *f, json_t *v)
{
    bool failed = false;
    json_t *otherwise;

    if (v)
        return json_incref(v);
    otherwise = f ? field_default(f, &failed) : NULL;
    d->no_memory |= failed;
    return otherwise;
}

static void add(struct diff *d, const struct field *f, json_t *from, json_t *to, enum plan_class class)
{
    struct plan_change *c = d->change;
    OWN(json) json_t *was = value_of(d, f, from);
    OWN(json) json_t *is = value_of(d, f, to);
    struct plan_field field = {.class = class};
    struct plan_field *grown = realloc(c->fields, (c->n_fields + 1) * sizeof *grown);

    if (grown)
        c->fields = grown;
    field.field = grown ? strdup(d->at.text) : NULL;
    field.from = was ? json_to_text(was) : NULL;
    field.to = is ? json_to_text(is) : NULL;
    if (!field.field || (was && !field.from) || (is && !field.to)) {
        free(field.field);
        free(field.from);
        free(field.to);
        d->no_memory = true;
        return;
    }
    c->fields[c->n_fields++] = field;
    if (class > c->class)
        c->class = class;
}

VM_PRINTF(2) static void impossible(struct diff *d, const char *fmt, ...);

static void impossible(struct diff *d, const char *fmt, ...)
{
    struct text t = {0};
    char what[200];
    va_list ap;

    if (d->change->error)
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    text_addf(&t, "%s: %s", d->at.text, what);
    d->no_memory |= !(d->change->error = text_take(&t));
}

static void check_possible(struct diff *d, const struct field *f, json_t *from, json_t *to)
{
    OWN(json) json_t *was = value_of(d, f, from);
    OWN(json) json_t *is = value_of(d, f, to);
    char big[TEXT_HUMAN], small[TEXT_HUMAN];

    if ((f->flags & F_GROWS) && json_integer_value(is) < json_integer_value(was))
        impossible(d, "cannot shrink from %s to %s; write %s or more",
                   text_human_size((uint64_t)json_integer_value(was), big),
                   text_human_size((uint64_t)json_integer_value(is), small), big);
    if (f->flags & F_FIXED)
        impossible(d, "cannot change from %s to %s while it holds data; give it another name",
                   was ? json_string_value(was) : "nothing", is ? json_string_value(is) : "nothing");
}

static enum plan_class class_of(const struct diff *d, const struct field *f, enum plan_class otherwise)
{
    if (d->kind == K_MICROVM && d->resizes && (f->flags & F_RESIZES))
        return PLAN_LIVE;
    if (d->kind == K_MICROVM && f->change_vm)
        return f->change_vm;
    return f->change ? f->change : otherwise;
}

static void diff_table(struct diff *d, const struct table *t, json_t *from, json_t *to, enum plan_class class);

/* Adds or removes a whole item; a script that goes leaves nothing to run. */
static void diff_whole(struct diff *d, const struct table *t, json_t *from, json_t *to, enum plan_class class)
{
    add(d, NULL, from, to, !to && class == PLAN_SCRIPTS ? PLAN_LIVE : class);
    d->script_told |= t && table_find(t, "script", ~0u) != NULL;
}

static json_t *item_by_id(json_t *list, const char *key, const char *id)
{
    json_t *v;
    size_t i;

    json_array_foreach(list, i, v) if (!strcmp(json_str(v, key, ""), id)) return v;
    return NULL;
}

/* Items that have a name of their own are compared by it, others by their place. */
static void diff_list_by_id(struct diff *d, const struct table *t, json_t *from, json_t *to, enum plan_class class)
{
    json_t *v, *other;
    size_t i, was;

    json_array_foreach(from, i, v) {
        const char *id = json_str(v, t->id, "");

        was = trail_push(&d->at, "[%s]", id);
        if ((other = item_by_id(to, t->id, id)))
            diff_table(d, t, v, other, class);
        else
            diff_whole(d, t, v, NULL, class);
        trail_pop(&d->at, was);
    }
    json_array_foreach(to, i, v) {
        const char *id = json_str(v, t->id, "");

        if (item_by_id(from, t->id, id))
            continue;
        was = trail_push(&d->at, "[%s]", id);
        diff_whole(d, t, NULL, v, class);
        trail_pop(&d->at, was);
    }
}

static void diff_list(struct diff *d, const struct table *t, json_t *from, json_t *to, enum plan_class class)
{
    size_t a = json_array_size(from), b = json_array_size(to);

    if (t->id) {
        diff_list_by_id(d, t, from, to, class);
        return;
    }
    for (size_t i = 0; i < a || i < b; i++) {
        size_t was = trail_push(&d->at, "[%zu]", i);

        if (i < a && i < b)
            diff_table(d, t, json_array_get(from, i), json_array_get(to, i), class);
        else
            diff_whole(d, t, json_array_get(from, i), json_array_get(to, i), class);
        trail_pop(&d->at, was);
    }
}

static void diff_env(struct diff *d, json_t *from, json_t *to, enum plan_class class)
{
    const char *key;
    json_t *v;
    size_t was;

    json_object_foreach(from, key, v) {
        json_t *other = json_object_get(to, key);

        was = trail_push(&d->at, ".%s", key);
        if (!other || !json_equal(v, other))
            add(d, NULL, v, other, class);
        trail_pop(&d->at, was);
    }
    json_object_foreach(to, key, v) {
        was = trail_push(&d->at, ".%s", key);
        if (!json_object_get(from, key))
            add(d, NULL, NULL, v, class);
        trail_pop(&d->at, was);
    }
}

static void diff_field(struct diff *d, const struct field *f, json_t *from, json_t *to, enum plan_class class)
{
    bool digest = (f->flags & F_DERIVED) && class == PLAN_SCRIPTS;

    if (from == to || (from && to && json_equal(from, to)))
        return;
    if (f->shape == ENV)
        diff_env(d, from, to, class);
    else if (f->shape == LIST && f->sub)
        diff_list(d, f->sub, from, to, class);
    else if (f->sub && !(f->flags & (F_ONE_OF | F_NEED)))
        diff_table(d, f->sub, from, to, class);
    else if (!digest || !d->script_told) {
        check_possible(d, f, from, to);
        add(d, f, from, to, class);
        d->script_told |= digest;
    }
}

static void diff_table(struct diff *d, const struct table *t, json_t *from, json_t *to, enum plan_class class)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->rows[i];
        size_t was;

        if (!field_has(f, d->kind))
            continue;
        was = trail_push_key(&d->at, f->key);
        diff_field(d, f, json_object_get(from, f->key), json_object_get(to, f->key), class_of(d, f, class));
        trail_pop(&d->at, was);
    }
}

/* The host has no name. */
static struct plan_change *change_new(const struct plan_actual *have, const char *name, const struct table *t)
{
    struct plan_change *c = calloc(1, sizeof *c);

    if (c) {
        c->network = t != &guest_table;
        c->guest = text_format("%s%s", t == &network_table ? "network " : "", name ? name : have->name);
    }
    if (c && !c->guest) {
        free(c);
        return NULL;
    }
    return c;
}

static int compare(struct plan_change *c, const struct table *t, unsigned kind, const struct plan_actual *have,
                   json_t *want, json_t **had, struct vm_err *e)
{
    const char *applied = have->applied;
    OWN(str) char *text = json_to_text(want);
    struct diff d = {.change = c, .kind = kind, .resizes = have->resizes};

    if (!text)
        return vm_no_memory(e);
    if (!strcmp(text, applied))
        return 0;
    if (!(*had = json_from_text(applied, strlen(applied), e)))
        return vm_context(e, "the spec that was applied to %s", c->guest);
    diff_table(&d, t, *had, want, PLAN_LIVE);
    return d.no_memory ? vm_no_memory(e) : 0;
}

/* The first script that did not succeed yet, or whose digest is not what ran. */
static size_t first_script(const struct plan_actual *have, json_t *had, const struct guest_spec *want)
{
    const json_t *old = json_object_get(had, "install");
    size_t i = 0;

    while (i < want->n_install && i < have->scripts_done && want->install[i].digest &&
           (!had || !strcmp(json_str(json_array_get(old, i), "digest", ""), want->install[i].digest)))
        i++;
    return i;
}

static void finish(struct plan_change *c)
{
    if (c->error && c->class == PLAN_REBUILD && !strncmp(c->error, "disk:", 5)) { /* the new root may be smaller */
        free(c->error);
        c->error = NULL;
    }
    c->downtime = c->class == PLAN_RESTART || c->class == PLAN_REBUILD || c->class == PLAN_REMOVE;
    c->destroys_data = !c->network && (c->class == PLAN_REBUILD || c->class == PLAN_REMOVE);
}

/* What a script or a file changes in a root that is read-only: it is made writable by one start, and read-only by another. */
static bool opens_root(const struct plan_change *c, const struct guest_spec *want)
{
    static const char *const of_files[] = {"files", "env"};
    bool opens = c->class == PLAN_SCRIPTS;

    for (size_t i = 0; i < c->n_fields && want->n_files; i++)
        for (size_t k = 0; k < ARRAY_LEN(of_files); k++)
            opens |= !strncmp(c->fields[i].field, of_files[k], strlen(of_files[k]));
    return opens && want->security.read_only_root;
}

static int plan_scripts(struct plan_change *c, const struct plan_actual *have, json_t *had,
                        const struct guest_spec *want, struct vm_err *e)
{
    bool all = !have->applied || c->class == PLAN_REBUILD || c->class == PLAN_CREATE;

    c->first_script = all ? 0 : first_script(have, had, want);
    for (size_t i = 0; i < want->n_install; i++)
        strv_add(&c->scripts, want->install[i].script);
    if (c->first_script < want->n_install && c->class < PLAN_SCRIPTS)
        c->class = PLAN_SCRIPTS;
    if (c->class < PLAN_RESTART && opens_root(c, want))
        c->class = PLAN_RESTART;
    return c->scripts.failed ? vm_no_memory(e) : 0;
}

/* The spec that is wanted, of either sort; name NULL: none is. */
struct wanted { const struct table *table; unsigned kind; const char *name; json_t *json; };

/* *had: what was applied, where that differs. */
static int change_of(const struct plan_actual *have, const struct wanted *want, struct plan_change **out, json_t **had,
                     struct vm_err *e)
{
    OWN(plan_change) struct plan_change *c = change_new(have, want->name, want->table);

    if (!c)
        return vm_no_memory(e);
    if (!want->name)
        c->class = PLAN_REMOVE;
    else if (!have->applied)
        c->class = PLAN_CREATE;
    else if (compare(c, want->table, want->kind, have, want->json, had, e) < 0)
        return -1;
    *out = TAKE(c);
    return 0;
}

int plan_guest(const struct plan_actual *have, const struct guest_spec *want, struct plan_change **out,
               struct vm_err *e)
{
    struct wanted w = {.table = &guest_table};
    OWN(plan_change) struct plan_change *c = NULL;
    OWN(json) json_t *had = NULL;

    if (want)
        w = (struct wanted){&guest_table, want->kind == KIND_MICROVM ? K_MICROVM : K_CONTAINER, want->name, want->json};
    if (change_of(have, &w, &c, &had, e) < 0 || (want && plan_scripts(c, have, had, want, e) < 0))
        return -1;
    finish(c);
    *out = TAKE(c);
    return 0;
}

int plan_network(const struct plan_actual *have, const struct network_spec *want, struct plan_change **out,
                 struct vm_err *e)
{
    struct wanted w = {&network_table, K_NETWORK, want ? want->name : NULL, want ? want->json : NULL};
    OWN(json) json_t *had = NULL;

    if (change_of(have, &w, out, &had, e) < 0)
        return -1;
    finish(*out);
    return 0;
}

int plan_host(const char *applied, const struct host_spec *want, struct plan_change **out, struct vm_err *e)
{
    struct plan_actual have = {.name = "the host", .applied = applied, .network = true};
    struct wanted w = {&host_table, K_HOST, want ? "the host" : NULL, want ? want->json : NULL};
    OWN(json) json_t *had = NULL;

    if (change_of(&have, &w, out, &had, e) < 0)
        return -1;
    finish(*out);
    (*out)->downtime = false;
    return 0;
}

void plan_change_free(struct plan_change *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->n_fields; i++) {
        free(c->fields[i].field);
        free(c->fields[i].from);
        free(c->fields[i].to);
    }
    free(c->fields);
    strv_done(c->scripts);
    free(c->guest);
    free(c->error);
    free(c);
}

static json_t *json_or_null(const char *text)
{
    json_t *v = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;

    return v ? v : json_null();
}

json_t *plan_change_json(const struct plan_change *c)
{
    json_t *v = json_object(), *fields = json_array(), *scripts = json_array();

    for (size_t i = 0; i < c->n_fields; i++) {
        json_t *f = json_object();

        json_put_str(f, "field", c->fields[i].field);
        json_put(f, "from", json_or_null(c->fields[i].from));
        json_put(f, "to", json_or_null(c->fields[i].to));
        json_put_str(f, "class", plan_class_name(c->fields[i].class));
        json_array_append_new(fields, f);
    }
    for (size_t i = c->first_script; i < c->scripts.n; i++)
        json_array_append_new(scripts, json_string(c->scripts.v[i]));
    json_put_str(v, "guest", c->guest);
    json_put_str(v, "class", plan_class_name(c->class));
    json_put(v, "fields", fields);
    json_put(v, "downtime", json_boolean(c->downtime));
    json_put(v, "destroys_data", json_boolean(c->destroys_data));
    json_put_str(v, "error", c->error);
    json_put(v, "scripts", scripts);
    return v;
}
