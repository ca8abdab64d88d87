/* vmctl plan */
#include "plan.h"

#include <string.h>
#include <vmsd/spec.h>
#include "cli.h"
#include "human.h"
#include "issues.h"
#include "source.h"
#include "term.h"

/* Classes in the order of the summary, and what each costs; the API's flags decide where they say more. */
static const struct {
    const char *class, *cost;
    enum term_style style;
} classes[] = {
    {"create", "new", STYLE_GREEN},
    {"live", "no downtime", STYLE_NONE},
    {"scripts", "no downtime", STYLE_NONE},
    {"restart", "restarts the guest", STYLE_YELLOW},
    {"rebuild", "throws its root away; volumes stay", STYLE_RED},
    {"remove", "removes the guest; volumes stay", STYLE_RED},
};

static enum term_style class_style(const char *class)
{
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (!strcmp(classes[i].class, class))
            return classes[i].style;
    return STYLE_NONE;
}

static const char *cost_of(const json_t *change)
{
    const char *class = json_str(change, "class", "");
    bool new = !strcmp(class, "create"), gone = !strcmp(class, "remove");

    if (!new && !gone && json_flag(change, "destroys_data", false))
        class = "rebuild";
    else if (!new && !gone && json_flag(change, "downtime", false))
        class = "restart";
    for (size_t i = 0; i < ARRAY_LEN(classes); i++)
        if (!strcmp(classes[i].class, class))
            return classes[i].cost;
    return "";
}

/* As a spec would say it. */
static void add_value(struct text *out, const char *field, const json_t *v)
{
    OWN(str) char *s = v && !json_is_null(v) ? spec_value_text(field, v) : strdup("(none)");

    if (s)
        term_add_visible(out, s);
    out->failed |= !s;
}

/* A sum tells that something else changed: what that is depends on whose sum it is. */
static bool add_sum(struct text *out, const char *field)
{
    const char *end = strrchr(field, '.');

    if (!end || strcmp(end, ".digest") != 0)
        return false;
    text_add(out, "    ");
    text_add_visible(out, field, (size_t)(end - field), NULL);
    text_add(out, !strncmp(field, "install[", 8) ? ": script, inputs or environment changed\n" : ": content changed\n");
    return true;
}

static void add_fields(struct text *out, const json_t *fields)
{
    size_t i;
    json_t *f;

    json_array_foreach(fields, i, f) {
        const char *field = json_str(f, "field", "");

        if (add_sum(out, field))
            continue;
        text_add(out, "    ");
        term_add_visible(out, field);
        text_add(out, ": ");
        add_value(out, field, json_object_get(f, "from"));
        text_add(out, " -> ");
        add_value(out, field, json_object_get(f, "to"));
        text_add(out, "\n");
    }
}

static void add_change(struct text *out, const json_t *change, size_t width, bool whole, bool colour)
{
    const char *class = json_str(change, "class", "");
    const char *error = json_str(change, "error", NULL);
    const json_t *scripts = json_object_get(change, "scripts");
    OWN(text) struct text shown = {0}, word = {0};
    OWN(str) char *list = human_list(scripts), *name = hosts_label(change, "guest");

    term_add_visible(&shown, name ? name : "");
    term_add_visible(&word, class);
    if (!name || shown.failed || word.failed || !list) {
        out->failed = true;
        return;
    }
    text_add(out, shown.s ? shown.s : "");
    term_add_spaces(out, width + 2 - term_width(shown.s ? shown.s : ""));
    term_add_styled(out, word.s ? word.s : "", class_style(class), colour);
    text_addf(out, "%*s  %s\n", (int)(word.len < 7 ? 7 - word.len : 0), "", cost_of(change));
    if (error && whole) { /* else the end of its job tells */
        text_add(out, "    ");
        term_add_styled(out, "impossible: ", STYLE_RED, colour);
        term_add_visible(out, error);
        text_add(out, "\n");
    }
    if (!whole)
        return;
    add_fields(out, json_object_get(change, "fields"));
    if (json_array_size(scripts)) {
        text_add(out, "    runs: ");
        term_add_visible(out, list);
        text_add(out, "\n");
    }
}

static bool removes(const json_t *changes, const char *guest)
{
    json_t *change;
    size_t i;

    json_array_foreach(changes, i, change) {
        OWN(str) char *label = hosts_label(change, "guest");

        if (!strcmp(json_str(change, "class", ""), "remove") && label && !strcmp(label, guest ? guest : ""))
            return true;
    }
    return false;
}

void plan_show(const json_t *plan, bool whole, bool colour, struct text *out)
{
    const json_t *changes = json_object_get(plan, "changes"), *orphans = json_object_get(plan, "orphans");
    OWN(json) json_t *stay = json_array();
    size_t i, width = 8;
    json_t *change, *orphan;

    json_array_foreach(changes, i, change) {
        OWN(text) struct text shown = {0};
        OWN(str) char *label = hosts_label(change, "guest");

        term_add_visible(&shown, label ? label : "");
        if (!shown.failed && shown.s && term_width(shown.s) > width)
            width = term_width(shown.s);
    }
    json_array_foreach(changes, i, change)
        add_change(out, change, width, whole, colour);
    json_array_foreach(orphans, i, orphan)
        if (!removes(changes, json_string_value(orphan)))
            json_array_append(stay, orphan);
    if (json_array_size(stay)) {
        OWN(str) char *list = human_list(stay);

        text_add(out, "no longer in the directory: ");
        term_add_visible(out, list ? list : "");
        text_add(out, "; apply --prune removes them\n");
        out->failed |= !list;
    }
}

void plan_summary(const json_t *plan, struct text *out)
{
    const json_t *changes = json_object_get(plan, "changes");
    const char *between = "plan: ", *host = json_str(plan, "host", NULL);
    json_t *change;
    size_t i;

    if (host)
        term_add_visible(out, host);
    text_add(out, host ? ": " : "");
    for (size_t c = 0; c < ARRAY_LEN(classes); c++) {
        size_t n = 0;

        json_array_foreach(changes, i, change)
            n += !strcmp(json_str(change, "class", ""), classes[c].class);
        if (!n)
            continue;
        text_addf(out, "%s%zu %s", between, n, classes[c].class);
        between = ", ";
    }
    text_add(out, *between == 'p' ? "plan: nothing to do\n" : "\n");
}

bool plan_destroys(const json_t *plan)
{
    json_t *change;
    size_t i;

    json_array_foreach(json_object_get(plan, "changes"), i, change)
        if (json_flag(change, "destroys_data", false) || !strcmp(json_str(change, "class", ""), "remove"))
            return true;
    return false;
}

int plan_print(struct cli *cli, const json_t *plan)
{
    size_t errors = issues_errors(json_object_get(plan, "errors")), changes = json_array_size(json_object_get(plan, "changes"));
    OWN(text) struct text out = {0};
    char n[HUMAN_MAX];

    if (cli->json && cli_print_json(plan) < 0)
        return cli_written(-1);
    if (cli->json)
        return errors ? EXIT_USAGE : EXIT_DONE;
    issues_print(json_object_get(plan, "errors"));
    if (errors && !changes)
        term_complain("%s; nothing would be done", human_count(errors, "error", n));
    if (errors && !changes)
        return EXIT_USAGE;
    plan_show(plan, true, term_has_colour(), &out);
    plan_summary(plan, &out);
    if (term_write(&out) < 0)
        return cli_written(-1);
    return errors ? EXIT_USAGE : EXIT_DONE; /* of other hosts */
}

int cmd_plan(struct cli *cli)
{
    OWN(source) struct source s = {0};
    OWN(text) struct text path = {0};
    OWN(json) json_t *plan = NULL;
    struct vm_err e = {0};

    if (source_read(cli, &s, &e) < 0)
        return cli_fail(cli, &e);
    source_path(&s, "/v1/plan", &path);
    if (path.failed)
        vm_no_memory(&e);
    if (path.failed || client_post(&cli->client, path.s, s.tar, s.n, &plan, &e) < 0)
        return cli_fail(cli, &e);
    return plan_print(cli, plan);
}
