/* The reference of all fields, in Markdown, out of the field table. */
#include "fields.h"

#include <string.h>
#include <vmsd/text.h>

static const char head[] =
    "# Spec reference\n\n"
    "<!-- Made from the field tables in supervisor/model/fields*.c: change it there, then run `ninja docs`. -->\n\n"
    "A spec file is `*.yaml`, `*.yml` or `*.json` at the top of the spec directory. It holds one or several YAML 1.2\n"
    "documents (`---` between them), each of one kind: `container`, `microvm`, `network`, `defaults` or `host`.\n"
    "For editors there is a JSON Schema in [vms.schema.json](vms.schema.json).\n\n"
    "- **Sizes** are `512M`, `2G`: K, M, G and T, binary. **Durations** are `250ms`, `5s`, `10m`, `1h`, `7d`.\n"
    "- A **list** of one may be written without brackets. A key without a value is an error; leave it out instead.\n"
    "- **Defaults**: every document of kind `defaults` gives guests what they do not say themselves. Where several\n"
    "  do, the last one in the order of the files wins. A guest's list replaces a list; the maps `env`, `limits`,\n"
    "  `security`, `restart` and `alerts` are merged key by key.\n"
    "- **Change** says what a later change of the field costs: `live` nothing; `scripts` install scripts run again;\n"
    "  `restart` the guest stops and starts; `rebuild` its root file system is made anew (volumes stay).\n";

static void add_form(struct text *t, const struct field *f)
{
    char lo[WORD_BOUND], hi[WORD_BOUND];

    if (f->shape == LIST)
        text_add(t, "list of ");
    if (f->shape == ENV)
        text_add(t, "map of ");
    if (f->sub) {
        text_addf(t, "[%s](#%s)", f->sub->title, f->sub->title);
        if (f->sub->bare)
            text_addf(t, " or its `%s`", f->sub->bare);
        return;
    }
    if (f->choices && !f->word->expected) {
        for (size_t i = 0; f->choices[i]; i++)
            text_addf(t, "%s`%s`", i ? ", " : "", f->choices[i]);
        return;
    }
    text_add(t, f->word->name);
    if (f->max)
        text_addf(t, f->word == &word_text ? " of %s..%s bytes" : " %s..%s", word_bound(f, f->min, lo),
                  word_bound(f, f->max, hi));
}

static void add_default(struct text *t, const struct field *f)
{
    if (f->otherwise)
        text_addf(t, "`%s`", f->otherwise);
    else if (f->computed)
        text_add(t, f->computed);
    else if (f->flags & F_NEED)
        text_add(t, "**required**");
    else if (f->flags & F_ONE_OF)
        text_add(t, "one of these");
    else
        text_add(t, f->shape == LIST ? "`[]`" : f->shape == ENV ? "`{}`" : f->sub ? "its own" : "none");
}

static void add_change(struct text *t, const struct field *f, enum plan_class class, bool guest)
{
    if (f->flags & F_FIXED)
        text_add(t, "refused");
    else if (guest && !strcmp(f->key, "name"))
        text_add(t, "another guest");
    else
        text_add(t, plan_class_name(class));
    if (f->change_vm && f->change_vm != class)
        text_addf(t, ", %s for a microvm", plan_class_name(f->change_vm));
    if (f->flags & F_RESIZES)
        text_add(t, " (live where its hypervisor can)");
    if (f->flags & F_GROWS)
        text_add(t, ", only to more");
}

static void add_kinds(struct text *t, const struct field *f)
{
    const unsigned kinds = f->kinds & (K_GUEST | K_DEFAULTS);

    if (kinds == K_DEFAULTS)
        text_add(t, " *Only in `defaults`.*");
    else if (kinds && !(kinds & K_CONTAINER))
        text_add(t, " *Only for a microvm.*");
    else if (kinds && !(kinds & K_MICROVM))
        text_add(t, " *For a container.*");
}

static void add_table(struct text *t, const struct table *table, const char *title, const char *path,
                      enum plan_class class, bool top)
{
    text_addf(t, "\n%s %s\n\n", top ? "##" : "###", title);
    if (path)
        text_addf(t, "In `%s`.", path);
    if (path && table->bare)
        text_addf(t, " A bare value means `%s`.", table->bare);
    if (path)
        text_add(t, "\n\n");
    text_add(t, "| field | form | default | change | |\n|---|---|---|---|---|\n");
    for (size_t i = 0; i < table->n; i++) {
        const struct field *f = &table->rows[i];

        if (f->flags & F_DERIVED)
            continue;
        text_addf(t, "| `%s` | ", f->key);
        add_form(t, f);
        text_add(t, " | ");
        add_default(t, f);
        text_add(t, " | ");
        if (table == &guest_table && f->kinds == K_DEFAULTS)
            text_add(t, "by its fields");
        else
            add_change(t, f, f->change ? f->change : class, top);
        text_addf(t, " | %s", f->doc);
        add_kinds(t, f);
        text_addf(t, " Example: `%s` |\n", f->example);
    }
    for (size_t i = 0; i < table->n; i++) {
        const struct field *f = &table->rows[i];
        char below[64];

        if (!f->sub)
            continue;
        snprintf(below, sizeof below, "%s%s%s", path ? path : "", path ? "." : "", f->key);
        add_table(t, f->sub, f->sub->title, below, f->change ? f->change : class, false);
    }
}

char *spec_reference(void)
{
    OWN(text) struct text t = {0};

    text_add(&t, head);
    add_table(&t, &guest_table, "Guests: container, microvm, defaults", NULL, PLAN_LIVE, true);
    add_table(&t, &network_table, "Networks", NULL, PLAN_LIVE, true);
    add_table(&t, &host_table, "The host", NULL, PLAN_LIVE, true);
    return text_take(&t);
}
