/* JSON Schema, draft 2020-12, out of the field table: what editors complete, and what other validators check. */
#include "fields.h"

#include <string.h>

struct schema {
    json_t *defs;
    unsigned kind;
};

static json_t *typed(const struct field *f)
{
    static const struct { unsigned scalar; const char *name; } types[] = {
        {SCALAR_STRING, "string"}, {SCALAR_INT, "integer"}, {SCALAR_FLOAT, "number"}, {SCALAR_BOOL, "boolean"}};
    json_t *all = json_array(), *one;

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if ((f->word->accepts & types[i].scalar) && !((f->flags & F_WHOLE) && types[i].scalar == SCALAR_FLOAT))
            json_array_append_new(all, json_string(types[i].name));
    if (json_array_size(all) != 1)
        return all;
    one = json_incref(json_array_get(all, 0));
    json_decref(all);
    return one;
}

static json_t *number(double v)
{
    return v < 0x1p53 && v == (double)(json_int_t)v ? json_integer((json_int_t)v) : json_real(v);
}

static void put_bounds(json_t *s, const struct field *f)
{
    bool port = f->word == &word_port || f->word == &word_ports || f->word == &word_host_port;

    if (port || (f->max && (f->word->accepts & (SCALAR_INT | SCALAR_FLOAT)))) {
        json_put(s, "minimum", number(port ? 1 : f->min));
        json_put(s, "maximum", number(port ? 65535 : f->max));
    } else if (f->max && f->word->parse == word_text.parse) {
        json_put(s, "minLength", number(f->min));
        json_put(s, "maxLength", number(f->max));
    }
}

static json_t *of_word(const struct field *f)
{
    json_t *s = json_object(), *choices = f->choices ? json_array() : NULL;

    json_put(s, "type", typed(f));
    for (size_t i = 0; choices && f->choices[i]; i++)
        json_array_append_new(choices, json_string(f->choices[i]));
    if (choices)
        json_put(s, "enum", choices);
    if (f->word == &word_true)
        json_put(s, "const", json_true());
    if (f->word == &word_numbers)
        json_put(s, "not", json_pack("{sb}", "const", 0));
    if (f->word->pattern)
        json_put_str(s, "pattern", f->word->pattern);
    put_bounds(s, f);
    return s;
}

static json_t *of_table(struct schema *x, const struct table *t);

/* A table stands in $defs once, or once per kind where its fields depend on that. */
static json_t *ref_to(struct schema *x, const struct table *t)
{
    bool by_kind = false;
    char name[64], ref[80];

    for (size_t i = 0; i < t->n; i++)
        by_kind |= t->rows[i].kinds != 0;
    snprintf(name, sizeof name, "%s%s%s", t->title, by_kind ? "-" : "", by_kind ? kind_name(x->kind) : "");
    snprintf(ref, sizeof ref, "#/$defs/%s", name);
    if (!json_object_get(x->defs, name))
        json_put(x->defs, name, of_table(x, t));
    return json_pack("{s: s}", "$ref", ref);
}

static json_t *of_field(struct schema *x, const struct field *f)
{
    json_t *one = f->sub ? ref_to(x, f->sub) : of_word(f), *s = one;
    bool failed = false;

    if (f->shape == LIST)
        s = json_pack("{s: [O, {s: s, s: o, s: I, s: i}]}", "anyOf", one, "type", "array", "items", one, "maxItems",
                      (json_int_t)(f->items ? f->items : ITEMS_MAX), "minItems", f->flags & F_SOME ? 1 : 0);
    if (f->shape == ENV)
        s = json_pack("{s: s, s: {s: s}, s: i, s: o}", "type", "object", "propertyNames", "pattern",
                      word_env_name.pattern, "maxProperties", KEYS_MAX, "additionalProperties", one);
    json_put_str(s, "description", f->doc);
    if (f->otherwise)
        json_put(s, "default",
                 f->word->accepts & SCALAR_STRING ? json_string(f->otherwise) : field_default(f, &failed));
    return s;
}

/* What a guest must have may stand in another document, but for kind and name. */
static bool from_defaults(const struct schema *x, const struct table *t, const struct field *f)
{
    return t == &guest_table && strcmp(f->key, "kind") != 0 && (x->kind == K_DEFAULTS || strcmp(f->key, "name") != 0);
}

static json_t *of_map(struct schema *x, const struct table *t)
{
    json_t *s = json_object(), *properties = json_object(), *needed = json_array(), *one_of = json_array();

    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->rows[i];

        if (!field_has(f, x->kind) || (f->flags & F_DERIVED))
            continue;
        if (f->choices == kind_names)
            json_put(properties, f->key, json_pack("{s: s, s: s}", "const", kind_name(x->kind), "description", f->doc));
        else
            json_put(properties, f->key, of_field(x, f));
        if ((f->flags & F_NEED) && !from_defaults(x, t, f))
            json_array_append_new(needed, json_string(f->key));
        if (f->flags & F_ONE_OF)
            json_array_append_new(one_of, json_pack("{s: [s]}", "required", f->key));
    }
    json_put_str(s, "type", "object");
    json_put(s, "properties", properties);
    json_put(s, "additionalProperties", json_false());
    json_put(s, "required", needed);
    if (json_array_size(one_of))
        json_put(s, "oneOf", one_of);
    else
        json_decref(one_of);
    return s;
}

static json_t *of_table(struct schema *x, const struct table *t)
{
    json_t *map = of_map(x, t);

    return t->bare ? json_pack("{s: [o, o]}", "anyOf", of_word(table_find(t, t->bare, x->kind)), map) : map;
}

json_t *spec_schema(void)
{
    struct schema x = {.defs = json_object()};
    json_t *s = json_object(), *kinds = json_array(), *cases = json_array();

    for (size_t i = 0; kind_names[i]; i++) {
        char ref[40];

        x.kind = 1u << i;
        json_put(x.defs, kind_names[i], of_map(&x, table_of(x.kind)));
        snprintf(ref, sizeof ref, "#/$defs/%s", kind_names[i]);
        json_array_append_new(kinds, json_string(kind_names[i]));
        json_array_append_new(cases, json_pack("{s: {s: {s: {s: s}}}, s: {s: s}}", "if", "properties", "kind", "const",
                                               kind_names[i], "then", "$ref", ref));
    }
    json_put_str(s, "$schema", "https://json-schema.org/draft/2020-12/schema");
    json_put_str(s, "title", "vmsd spec");
    json_put_str(s, "description", "One document of a spec file of vmsd.");
    json_put_str(s, "type", "object");
    json_put(s, "required", json_pack("[s]", "kind"));
    json_put(s, "properties", json_pack("{s: {s: o}}", "kind", "enum", kinds));
    json_put(s, "allOf", cases);
    json_put(s, "$defs", x.defs);
    return s;
}
