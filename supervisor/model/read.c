/* From nodes to canonical JSON, row by row of the table, with a complaint for everything that is not in it. */
#include "read.h"

#include <stdarg.h>
#include <string.h>

VM_PRINTF(3) static void complain(struct reader *r, const struct node *at, const char *fmt, ...);

static void complain(struct reader *r, const struct node *at, const char *fmt, ...)
{
    char what[640];
    va_list ap;

    if (at->doc != r->own && !r->loud)
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    issue_at(r->issues, at, "%s%s%s", r->at.text, r->at.n ? ": " : "", what);
}

/* "one of always, on-failure or no" */
static const char *expected(const struct field *f, char *out, size_t n)
{
    size_t used = 0;

    if (f->word->expected)
        return f->flags & F_WHOLE ? word_count.expected : f->word->expected;
    for (size_t i = 0; f->choices[i] && used < n; i++)
        used += (size_t)snprintf(out + used, n - used, "%s%s", !i ? "one of " : f->choices[i + 1] ? ", " : " or ",
                                 f->choices[i]);
    return out;
}

static void complain_word(struct reader *r, const struct field *f, const struct node *at, const char *what,
                          const char *hint)
{
    char list[160];

    complain(r, at, "%s; expected %s%s%s", what, expected(f, list, sizeof list), *hint ? "; " : "", hint);
}

static json_t *read_word(struct reader *r, const struct field *f, const struct node *at)
{
    struct word_cx cx = {.base = r->base};
    enum scalar scalar;
    json_t *v;

    if (at->kind != NODE_SCALAR) {
        complain_word(r, f, at, node_kind_name(at), "");
        return NULL;
    }
    scalar = node_scalar(at);
    if (scalar == SCALAR_NULL) {
        complain_word(r, f, at, "no value", "leave the key out for the default");
        return NULL;
    }
    if (!text_is_clean(at->text, at->n)) {
        complain(r, at, "\"%.60s\" has a control character, a line break or a direction mark; expected plain text",
                 at->text);
        return NULL;
    }
    v = f->word->parse(f, at->text, &cx);
    if (v && !(f->word->accepts & scalar)) {
        json_decref(v);
        v = NULL;
        word_wrong(&cx, "%.60s is %s", at->text, node_kind_name(at));
        snprintf(cx.hint, sizeof cx.hint, "write it %s quotes", scalar == SCALAR_STRING ? "without" : "in");
    }
    if (!v && *cx.why)
        complain_word(r, f, at, cx.why, cx.hint);
    else if (!v)
        r->no_memory = true;
    return v;
}

static json_t *read_item(struct reader *r, const struct field *f, const struct node *at)
{
    return f->sub ? read_table(r, f->sub, at) : read_word(r, f, at);
}

static bool append(struct reader *r, json_t *list, json_t *take)
{
    if (take && !json_array_append_new(list, take))
        return true;
    r->no_memory |= take != NULL;
    return false;
}

static json_t *read_list(struct reader *r, const struct field *f, const struct node *at)
{
    size_t most = f->items ? f->items : ITEMS_MAX;
    OWN(json) json_t *list = json_array();

    if (at->kind == NODE_SCALAR && node_scalar(at) == SCALAR_NULL) {
        complain(r, at, "no value; expected a list; leave the key out or write []");
        return NULL;
    }
    if (at->kind == NODE_LIST && at->n > most) {
        complain(r, at, "%zu items; expected at most %zu", at->n, most);
        return NULL;
    }
    if (at->kind == NODE_LIST && !at->n && (f->flags & F_SOME)) {
        complain(r, at, "an empty list; expected at least one item");
        return NULL;
    }
    if (!list) {
        r->no_memory = true;
        return NULL;
    }
    if (at->kind != NODE_LIST) { /* a list of one */
        size_t was = f->sub ? trail_push(&r->at, "[0]") : r->at.n;

        append(r, list, read_item(r, f, at));
        trail_pop(&r->at, was);
        return TAKE(list);
    }
    for (size_t i = 0; i < at->n; i++) {
        size_t was = trail_push(&r->at, "[%zu]", i);
        json_t *v = read_item(r, f, at->items[i]);

        if (!v && f->sub) /* keeps the places of those behind it */
            v = json_object();
        append(r, list, v);
        trail_pop(&r->at, was);
    }
    return TAKE(list);
}

static const char *shape_of(const struct node *at)
{
    return at->kind == NODE_SCALAR && node_scalar(at) == SCALAR_NULL ? "no value" : node_kind_name(at);
}

static json_t *read_env(struct reader *r, const struct field *f, const struct node *at)
{
    OWN(json) json_t *env = json_object();

    if (at->kind != NODE_MAP) {
        complain(r, at, "%s; expected a map such as {NAME: value}", shape_of(at));
        return NULL;
    }
    if (at->n > KEYS_MAX) {
        complain(r, at, "%zu variables; expected at most %d", at->n, KEYS_MAX);
        return NULL;
    }
    for (size_t i = 0; env && i < at->n; i++) {
        const struct node *key = at->items[2 * i];
        size_t was = trail_push_key(&r->at, key->text);
        json_t *v = NULL;

        if (env_key(key->text))
            v = read_word(r, f, at->items[2 * i + 1]);
        else
            complain(r, key, "\"%.60s\" is not the name of a variable; expected %s", key->text, word_env_name.expected);
        if (v && json_object_set_new(env, key->text, v) < 0)
            r->no_memory = true;
        trail_pop(&r->at, was);
    }
    if (!env)
        r->no_memory = true;
    return TAKE(env);
}

static json_t *read_field(struct reader *r, const struct field *f, const struct node *at)
{
    bool loud = r->loud;
    json_t *v;

    /* What only one kind knows was not checked where the defaults stand. */
    r->loud = loud || (f->kinds && !(f->kinds & (K_DEFAULTS | K_NETWORK)));
    v = f->shape == LIST ? read_list(r, f, at) : f->shape == ENV ? read_env(r, f, at) : read_item(r, f, at);
    r->loud = loud;
    return v;
}

/* "recipe, directory, tar or sha256": the keys with that flag, or all. */
static void keys_text(const struct table *t, unsigned kind, unsigned flag, char *out, size_t n)
{
    const struct field *shown[64];
    size_t count = 0, used = 0;

    for (size_t i = 0; i < t->n && count < ARRAY_LEN(shown); i++)
        if (field_has(&t->rows[i], kind) && !(t->rows[i].flags & F_DERIVED) && (!flag || (t->rows[i].flags & flag)))
            shown[count++] = &t->rows[i];
    *out = '\0';
    for (size_t i = 0; i < count && used < n; i++)
        used += (size_t)snprintf(out + used, n - used, "%s%s", !i ? "" : i + 1 < count ? ", " : " or ", shown[i]->key);
}

/* What a kernel holds back from its processes means nothing to a guest that has a kernel of its own. */
static const char *only_in(unsigned kinds)
{
    if (kinds & K_MICROVM)
        return "microvm only";
    return kinds & K_CONTAINER ? "container only, as a microVM has a kernel of its own" : "defaults only";
}

static void complain_key(struct reader *r, const struct table *t, const struct node *key)
{
    const struct field *other = table_find(t, key->text, ~0u);
    const char *near, *keys[64];
    char list[200];
    size_t n = 0;

    if (other && !(other->flags & F_DERIVED)) {
        r->loud = true;
        complain(r, key, "%s: not a field of a %s; expected it in kind %s; leave it out", key->text,
                 kind_name(r->kind), only_in(other->kinds));
        r->loud = false;
        return;
    }
    if (!strcmp(key->text, "<<")) {
        complain(r, key, "<<: merge keys are not YAML 1.2; expected fields; use a document of kind: defaults");
        return;
    }
    for (size_t i = 0; i < t->n && n < ARRAY_LEN(keys); i++)
        if (field_has(&t->rows[i], r->kind) && !(t->rows[i].flags & F_DERIVED))
            keys[n++] = t->rows[i].key;
    if ((near = text_nearest(key->text, keys, n))) {
        complain(r, key, "unknown field \"%.60s\"; did you mean \"%s\"?", key->text, near);
        return;
    }
    keys_text(t, r->kind, 0, list, sizeof list);
    complain(r, key, "unknown field \"%.60s\"; expected %s", key->text, n > 12 ? "a field of the reference" : list);
}

/* What is missing, and what excludes each other. */
static void check_whole(struct reader *r, const struct table *t, const struct node *at, const json_t *v)
{
    const char *wrong;
    unsigned given = 0, choices = 0;
    char list[200];

    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->rows[i];
        bool there = node_get(at, f->key, NULL);

        if (!field_has(f, r->kind))
            continue;
        if ((f->flags & F_NEED) && !there && !(r->kind == K_DEFAULTS && t == &guest_table))
            complain(r, at, "no %s; expected one, such as %s: %s", f->key, f->key, f->example);
        choices += !!(f->flags & F_ONE_OF);
        given += (f->flags & F_ONE_OF) && there;
    }
    if (choices && given != 1) {
        keys_text(t, r->kind, F_ONE_OF, list, sizeof list);
        complain(r, at, "%s; expected exactly one of %s", given ? "too much at once" : "says too little", list);
    } else if (t->check && json_object_size(v) == at->n && (wrong = t->check(v))) { /* all of it could be read */
        complain(r, at, "%s", wrong);
    }
}

static void put(struct reader *r, json_t *obj, const char *key, json_t *take)
{
    if (take && json_object_set_new(obj, key, take) < 0)
        r->no_memory = true;
}

json_t *read_table(struct reader *r, const struct table *t, const struct node *at)
{
    OWN(json) json_t *obj = json_object();
    bool null = at->kind == NODE_SCALAR && node_scalar(at) == SCALAR_NULL;
    char list[200];

    if (!obj) {
        r->no_memory = true;
        return NULL;
    }
    if (at->kind == NODE_SCALAR && t->bare && !null) {
        put(r, obj, t->bare, read_field(r, table_find(t, t->bare, r->kind), at));
        return json_object_size(obj) ? TAKE(obj) : NULL;
    }
    if (at->kind != NODE_MAP) {
        keys_text(t, r->kind, 0, list, sizeof list);
        complain(r, at, "%s; expected a map with %s", shape_of(at), list);
        return NULL;
    }
    for (size_t i = 0; i < at->n && !r->no_memory; i++) {
        const struct node *key = at->items[2 * i];
        const struct field *f = table_find(t, key->text, r->kind);
        size_t was;

        if (!f || (f->flags & F_DERIVED)) {
            complain_key(r, t, key);
            continue;
        }
        was = trail_push_key(&r->at, f->key);
        put(r, obj, f->key, read_field(r, f, at->items[2 * i + 1]));
        trail_pop(&r->at, was);
    }
    check_whole(r, t, at, obj);
    return TAKE(obj);
}

struct node *read_merge(struct arena *a, const struct table *t, unsigned kind, const struct node *lower,
                        const struct node *higher)
{
    struct node *out = arena_take(a, sizeof *out);

    if (!out)
        return NULL;
    *out = *higher;
    if (lower->kind != NODE_MAP || higher->kind != NODE_MAP)
        return out;
    if (!(out->items = arena_take(a, 2 * (lower->n + higher->n + 1) * sizeof(struct node *))))
        return NULL;
    if (higher->n)
        memcpy(out->items, higher->items, 2 * higher->n * sizeof(struct node *));
    for (size_t i = 0; i < lower->n; i++) {
        struct node *key = lower->items[2 * i], *value = lower->items[2 * i + 1];
        const struct field *f = t ? table_find(t, key->text, kind) : NULL;
        size_t at = 0;

        if (t && (!f || !strcmp(key->text, "kind") || !strcmp(key->text, "name")))
            continue;
        while (at < higher->n && strcmp(higher->items[2 * at]->text, key->text))
            at++;
        if (at == higher->n) {
            struct node none = {.kind = NODE_MAP, .doc = value->doc, .line = value->line, .column = value->column};

            /* A map of the defaults may hold what this kind does not know. */
            if (f && f->sub && (f->flags & F_MERGE) && value->kind == NODE_MAP &&
                !(value = read_merge(a, f->sub, kind, value, &none)))
                return NULL;
            out->items[2 * out->n] = key;
            out->items[2 * out->n++ + 1] = value;
        } else if (f && (f->flags & F_MERGE) &&
                   !(out->items[2 * at + 1] = read_merge(a, f->sub, kind, value, higher->items[2 * at + 1]))) {
            return NULL;
        }
    }
    return out;
}
