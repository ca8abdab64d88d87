/* vmctl show: why is it not healthy? on one screen. */
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/spec.h>
#include "cli.h"
#include "human.h"
#include "page.h"
#include "select.h"
#include "table.h"
#include "term.h"
#include "why.h"

enum { EVENTS_MAX = 8, NUMBERS_MAX = 10 };

static void row_list(struct page *p, const char *label, const json_t *list)
{
    OWN(str) char *s = human_list(list);

    page_row(p, label, s);
}

static void add_word(struct page *p, const char *word)
{
    OWN(text) struct text shown = {0};

    term_add_visible(&shown, word);
    if (shown.failed)
        p->out.failed = true;
    else
        term_add_styled(&p->out, shown.s ? shown.s : "", term_style_of(word), term_has_colour());
}

/* "db: running, unhealthy" and what is known about it. */
static void show_guest(struct page *p, const json_t *g, const char *host)
{
    char ago[HUMAN_MAX], n[HUMAN_MAX];

    add_word(p, json_str(g, "name", ""));
    text_add(&p->out, ": ");
    add_word(p, json_str(g, "state", "unknown"));
    text_add(&p->out, ", ");
    add_word(p, json_str(g, "health", "none"));
    if (!strcmp(json_str(g, "wish", ""), "down"))
        text_add(&p->out, ", to stay stopped");
    text_add(&p->out, "\n");
    page_row(p, "host", host);
    if (json_str(g, "error", NULL))
        page_wrapf(p, "error", "%s", json_str(g, "error", ""));
    page_rowf(p, "kind", "%s, driver %s, image %s", json_str(g, "kind", "-"), json_str(g, "driver", "-"),
              json_str(g, "image", "-"));
    page_row(p, "warning", json_str(g, "warning", NULL));
    row_list(p, "tags", json_object_get(g, "tags"));
    row_list(p, "addresses", json_object_get(g, "addresses"));
    row_list(p, "domains", json_object_get(g, "domains"));
    if (!json_flag(g, "provisioned", true))
        page_row(p, "provisioned", "no: not all install scripts have succeeded");
    if (json_is_string(json_object_get(g, "started_at")))
        page_rowf(p, "started", "%s ago, %s", human_ago(json_object_get(g, "started_at"), p->now, ago),
                  json_str(g, "started_at", ""));
    page_rowf(p, "restarts", "%s", human_int(json_object_get(g, "restarts"), n));
    if (json_is_string(json_object_get(g, "applied_at")))
        page_rowf(p, "applied", "%s ago, generation %s", human_ago(json_object_get(g, "applied_at"), p->now, ago),
                  human_int(json_object_get(g, "generation"), n));
}

static void show_job(struct page *p, const json_t *job)
{
    OWN(str) char *waits = human_list(json_object_get(job, "waits_for"));

    if (!json_is_object(job))
        return;
    page_rowf(p, "now", "%s: %s %s%s%s", json_str(job, "verb", "job"), json_str(job, "state", ""),
              json_str(job, "step", ""), waits && *waits ? ", waits for " : "", waits ? waits : "");
}

/* A part of the page that is a table. */
static void show_table(struct page *p, const char *title, struct table *t)
{
    if (!t->cells.n)
        return;
    page_heading(p, title);
    table_render(t, p->width, term_has_colour(), &p->out);
}

static void show_checks(struct page *p, const json_t *checks)
{
    static const struct table_column columns[] = {
        {"STATE", .coloured = true}, {"CHECK", .least = 8},       {"SINCE", .right = true},
        {"LAST", .right = true},     {"FAILURES", .right = true}, {"MESSAGE", .least = 10},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    char s[HUMAN_MAX];
    json_t *c;
    size_t i;

    json_array_foreach(checks, i, c) {
        table_add(&t, json_str(c, "state", NULL));
        table_add(&t, json_str(c, "check", NULL));
        table_add(&t, human_ago(json_object_get(c, "since"), p->now, s));
        table_add(&t, human_ago(json_object_get(c, "last_at"), p->now, s));
        table_add(&t, human_int(json_object_get(c, "failures"), s));
        table_add(&t, json_str(c, "message", NULL));
    }
    show_table(p, "Checks", &t);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);

    return n >= m && !strcmp(s + n - m, end);
}

/* In the unit that its name says, as Prometheus has it. */
static const char *number_text(const json_t *number, int64_t now, char out[static HUMAN_MAX])
{
    const char *name = json_str(number, "name", "");
    const json_t *v = json_object_get(number, "value");
    double at = json_number_value(v);

    if (ends_with(name, "_timestamp_seconds") && at > 0 && at * 1000 < (double)now)
        snprintf(out, HUMAN_MAX, "%s ago", text_human_duration(now - (int64_t)(at * 1000), (char[TEXT_HUMAN]){""}));
    else if (ends_with(name, "_bytes") && at >= 0)
        human_size(v, out);
    else if (ends_with(name, "_seconds") && at >= 0)
        human_seconds(v, out);
    else
        snprintf(out, HUMAN_MAX, "%.12g", at);
    return out;
}

static void add_labels(struct table *t, const json_t *labels)
{
    OWN(text) struct text line = {0};
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)labels, key, v)
        text_addf(&line, "%s%s=%s", line.len ? ", " : "", key, json_string_value(v) ? json_string_value(v) : "");
    table_add(t, line.s);
}

/* What the service tells of itself; of very many the first. */
static void show_numbers(struct page *p, const json_t *checks)
{
    static const struct table_column columns[] = {
        {"NUMBER", .least = 12}, {"VALUE", .right = true}, {"OF", .least = 10}};
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    char s[HUMAN_MAX];
    size_t i, k, n = 0;
    json_t *c, *one;

    json_array_foreach(checks, i, c) {
        json_array_foreach(json_object_get(c, "numbers"), k, one) {
            if (n++ >= NUMBERS_MAX)
                continue;
            table_add(&t, json_str(one, "name", NULL));
            table_add(&t, number_text(one, p->now, s));
            add_labels(&t, json_object_get(one, "labels"));
        }
    }
    show_table(p, "Numbers", &t);
    if (n > NUMBERS_MAX)
        page_rowf(p, "…", "%zu more: vmctl show -o json", n - NUMBERS_MAX);
}

static void show_scripts(struct page *p, const json_t *scripts)
{
    static const struct table_column columns[] = {
        {"STATE", .coloured = true}, {"NN", .right = true},   {"SCRIPT", .least = 8},
        {"TOOK", .right = true},     {"RESULT", .least = 10},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    char s[HUMAN_MAX];
    json_t *c;
    size_t i;

    json_array_foreach(scripts, i, c) {
        int64_t code = json_int(c, "exit_code", 0), sig = json_int(c, "signal", 0);
        const char *error = json_str(c, "error", NULL);

        table_add(&t, json_str(c, "state", NULL));
        table_add(&t, human_int(json_object_get(c, "index"), s));
        table_add(&t, json_str(c, "script", NULL));
        table_add(&t, human_seconds(json_object_get(c, "duration"), s));
        if (error)
            table_add(&t, error);
        else if (sig)
            table_addf(&t, "ended by signal %d", (int)sig);
        else if (code)
            table_addf(&t, "exit status %d", (int)code);
        else
            table_add(&t, NULL);
    }
    show_table(p, "Install scripts", &t);
}

static void show_usage(struct page *p, const json_t *u)
{
    const json_t *net = json_object_get(u, "net"), *io = json_object_get(u, "io"),
                 *pressure = json_object_get(u, "pressure");
    char a[HUMAN_MAX], b[HUMAN_MAX], c[HUMAN_MAX], d[HUMAN_MAX];

    if (!json_is_object(u))
        return;
    page_heading(p, "Usage");
    page_rowf(p, "cpu", "%s, %s in all", human_percent(json_object_get(u, "cpu_percent"), a),
              human_seconds(json_object_get(u, "cpu_seconds"), b));
    page_rowf(p, "memory", "%s of %s, at most %s so far", human_size(json_object_get(u, "memory_bytes"), a),
              human_size(json_object_get(u, "memory_limit_bytes"), b),
              human_size(json_object_get(u, "memory_peak_bytes"), c));
    if (json_is_integer(json_object_get(u, "guest_memory_total_bytes")))
        page_rowf(p, "inside", "%s of %s of memory, as it says itself",
                  human_size(json_object_get(u, "guest_memory_bytes"), a),
                  human_size(json_object_get(u, "guest_memory_total_bytes"), b));
    page_rowf(p, "disk", "%s; read %s, written %s", human_size(json_object_get(u, "disk_bytes"), a),
              human_size(json_object_get(io, "read_bytes"), b), human_size(json_object_get(io, "write_bytes"), c));
    page_rowf(p, "network", "received %s, sent %s; dropped %s in, %s out",
              human_size(json_object_get(net, "rx_bytes"), a), human_size(json_object_get(net, "tx_bytes"), b),
              human_int(json_object_get(net, "rx_drops"), c), human_int(json_object_get(net, "tx_drops"), d));
    page_rowf(p, "pressure", "cpu %s, memory %s, io %s; %s processes",
              human_percent(json_object_get(pressure, "cpu"), a), human_percent(json_object_get(pressure, "memory"), b),
              human_percent(json_object_get(pressure, "io"), c), human_int(json_object_get(u, "pids"), d));
}

/* What the spec says beyond what is shown elsewhere. */
static void show_spec(struct page *p, json_t *spec)
{
    static const char *const elsewhere[] = {"kind", "name", "tags", "image", "domains", "install", "health"};
    const char *key;
    json_t *v;

    if (!json_object_size(spec))
        return;
    page_heading(p, "Spec");
    json_object_foreach(spec, key, v) {
        OWN(str) char *said = NULL;
        bool skip =
            json_is_null(v) || (json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v));

        for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++)
            skip |= !strcmp(key, elsewhere[i]);
        if (skip)
            continue;
        said = spec_value_text(key, v);
        page_row(p, key, said);
    }
}

static void show_events(struct page *p, const json_t *events)
{
    size_t n = json_array_size(events), i = n > EVENTS_MAX ? n - EVENTS_MAX : 0;

    if (!n)
        return;
    page_heading(p, "Last events");
    for (; i < n; i++) {
        const json_t *ev = json_array_get(events, i);

        page_rowf(p, json_str(ev, "type", ""), "%s  %s", json_str(ev, "at", ""), json_str(ev, "text", ""));
    }
}

static int show(struct cli *cli, const char *host, const char *name, struct vm_err *e)
{
    struct page p = {.width = term_is_tty() ? term_columns() : 0, .now = wall_ms()};
    OWN(str) char *path = client_path("/v1/guests/", name, "");
    OWN(json) json_t *doc = NULL;
    int rc;

    if (!path)
        return vm_no_memory(e);
    if (client_json(&cli->client, "GET", path, &doc, e) < 0)
        return -1;
    if (cli->json)
        return cli_print_json(doc);
    show_guest(&p, json_object_get(doc, "guest"), host);
    show_job(&p, json_object_get(doc, "job"));
    show_checks(&p, json_object_get(doc, "checks"));
    show_numbers(&p, json_object_get(doc, "checks"));
    show_scripts(&p, json_object_get(doc, "scripts"));
    show_usage(&p, json_object_get(json_object_get(doc, "guest"), "usage"));
    show_spec(&p, json_object_get(doc, "spec"));
    show_events(&p, json_object_get(doc, "events"));
    why_show(&cli->client, doc, &p); /* last: what a terminal shows without scrolling */
    rc = term_write(&p.out) < 0 ? vm_fail_sys(e, "write to standard output") : 0;
    text_done(p.out);
    return rc;
}

int cmd_show(struct cli *cli)
{
    OWN(json) json_t *guests = NULL;
    struct vm_err e = {0};
    json_t *guest;
    size_t i;

    if (select_named(cli, &guests, &e) < 0)
        return cli_fail(cli, &e);
    json_array_foreach(guests, i, guest) {
        if (i && !cli->json)
            putchar('\n');
        hosts_turn(cli, guest);
        if (show(cli, json_str(guest, "host", NULL), json_str(guest, "name", ""), &e) < 0)
            return cli_fail(cli, &e);
    }
    return EXIT_DONE;
}
