/* vmctl ls */
#include <vmsd/clock.h>
#include "cli.h"
#include "human.h"
#include "select.h"
#include "table.h"
#include "term.h"

static const struct table_column columns[] = {
    {"HOST", .least = 4}, /* of several only */
    {"NAME", .least = 6},    {"KIND", .least = 4},   {"STATE", .coloured = true},   {"HEALTH", .coloured = true},
    {"ADDRESS", .least = 8}, {"CPU", .right = true}, {"MEMORY", .right = true},     {"DISK", .right = true},
    {"NET", .right = true},  {"AGE", .right = true}, {"LAST-APPLY", .right = true},
};

static void add_row(struct table *t, const json_t *g, int64_t now)
{
    const json_t *usage = json_object_get(g, "usage"), *net = json_object_get(usage, "net");
    const json_t *rx = json_object_get(net, "rx_bytes"), *tx = json_object_get(net, "tx_bytes");
    char a[HUMAN_MAX], b[HUMAN_MAX];

    if (t->columns == columns)
        table_add(t, json_str(g, "host", NULL));
    table_add(t, json_str(g, "name", NULL));
    table_add(t, json_str(g, "kind", NULL));
    table_add(t, json_str(g, "state", NULL));
    table_add(t, json_str(g, "health", NULL));
    table_add(t, json_string_value(json_array_get(json_object_get(g, "addresses"), 0)));
    table_add(t, human_percent(json_object_get(usage, "cpu_percent"), a));
    table_add(t, human_size(json_object_get(usage, "memory_bytes"), a));
    table_add(t, human_size(json_object_get(usage, "disk_bytes"), a));
    if (json_is_number(rx) && json_is_number(tx))
        table_addf(t, "%s/%s", human_size(rx, a), human_size(tx, b));
    else
        table_add(t, NULL);
    table_add(t, human_ago(json_object_get(g, "started_at"), now, a));
    table_add(t, human_ago(json_object_get(g, "applied_at"), now, a));
}

/* A guest may run and be healthy although what was asked of it last failed: the table alone would hide that. */
static void add_error(struct text *out, const json_t *g, const char *host)
{
    OWN(str) char *label = hosts_label(g, "name"), *vmctl = hosts_command(json_str(g, "host", host));
    const char *error = json_str(g, "error", NULL);
    OWN(text) struct text line = {0}, shown = {0};

    if (!error)
        return;
    text_addf(&line, "%s: %s; see %s show %s", label ? label : "", error, vmctl ? vmctl : "vmctl", json_str(g, "name", ""));
    if (!line.failed)
        term_add_visible(&shown, line.s);
    out->failed |= line.failed || shown.failed;
    if (out->failed)
        return;
    term_add_cut(out, shown.s, term_is_tty() ? term_columns() : SIZE_MAX);
    text_add(out, "\n");
}

int cmd_ls(struct cli *cli)
{
    OWN(json) json_t *guests = NULL;
    size_t hidden = !cli->hosts.several;
    OWN(table) struct table t = {.columns = columns + hidden, .n_columns = ARRAY_LEN(columns) - hidden};
    OWN(text) struct text errors = {0};
    struct vm_err e = {0};
    int64_t now = wall_ms();
    json_t *guest;
    size_t i;

    if (select_guests(cli, &guests, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json) {
        OWN(json) json_t *doc = json_pack("{s:O}", "guests", guests);

        return cli_written(cli_print_json(doc));
    }
    json_array_foreach(guests, i, guest)
        add_row(&t, guest, now);
    json_array_foreach(guests, i, guest)
        add_error(&errors, guest, cli->client.host);
    if (table_print(&t) < 0)
        return cli_written(-1);
    return cli_written(errors.len || errors.failed ? term_write(&errors) : 0);
}
