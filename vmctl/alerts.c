/* vmctl alerts, silence: what is not well, and who is told. */
#include <string.h>
#include <vmsd/clock.h>
#include "cli.h"
#include "human.h"
#include "select.h"
#include "table.h"
#include "term.h"

/* Of the last notice of each channel: "told", or what stands in the way. */
static char *told(const json_t *alert, const json_t *channels)
{
    const json_t *notices = json_object_get(alert, "notices");
    size_t done = 0, open = 0, i;
    const char *error = NULL;
    json_t *n;

    json_array_foreach(notices, i, n) {
        done += !json_is_null(json_object_get(n, "done_at"));
        open += json_is_null(json_object_get(n, "done_at"));
        error = json_str(n, "error", error);
    }
    if (error)
        return text_format("%s: %s", open ? "trying again" : "failed", error);
    if (open)
        return text_format("on its way");
    return text_format("%s", done ? "told" : json_array_size(channels) ? "-" : "nobody is to be told");
}

static void add_row(struct table *t, const json_t *alert, const json_t *channels)
{
    OWN(str) char *id = human_value(json_object_get(alert, "id")), *state = told(alert, channels);
    const char *ended = json_str(alert, "ended_at", NULL);
    char since[HUMAN_MAX], until[HUMAN_MAX];

    table_add(t, id);
    table_add(t, json_str(alert, "level", NULL));
    table_add(t, json_str(alert, "guest", "host"));
    table_add(t, json_str(alert, "kind", NULL));
    table_add(t, human_ago(json_object_get(alert, "began_at"), wall_ms(), since));
    table_add(t, ended ? human_ago(json_object_get(alert, "ended_at"), wall_ms(), until) : "-");
    table_add(t, json_str(alert, "text", NULL));
    table_add(t, state);
}

int cmd_alerts(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"ID", .right = true}, {"LEVEL", .least = 7}, {"WHERE", .least = 6}, {"KIND", .least = 6}, {"SINCE", .right = true},
        {"OVER", .right = true}, {"WHAT", .least = 12}, {"NOTICE", .least = 6},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(text) struct text path = {0};
    OWN(json) json_t *doc = NULL;
    struct vm_err e = {0};
    json_t *alerts, *alert;
    size_t i;

    text_add(&path, "/v1/alerts");
    if (cli_has(cli, OPT_HISTORY))
        client_query(&path, "all", "1");
    client_query(&path, "limit", cli_value(cli, OPT_LINES));
    if (path.failed)
        vm_no_memory(&e);
    if (path.failed || client_json(&cli->client, "GET", path.s, &doc, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json)
        return cli_written(cli_print_json(doc));
    json_array_foreach(json_object_get(doc, "silent"), i, alert)
        term_say("nobody is told of %s until %s", json_str(alert, "guest", "-"), json_str(alert, "until", "-"));
    alerts = json_object_get(doc, "alerts");
    json_array_foreach(alerts, i, alert)
        add_row(&t, alert, json_object_get(doc, "channels"));
    if (!json_array_size(alerts))
        term_say("%s", cli_has(cli, OPT_HISTORY) ? "there was no alert" : "all is well");
    return cli_written(json_array_size(alerts) ? table_print(&t) : fflush(stdout));
}

static int silence(struct cli *cli, const char *guest, const char *seconds, json_t **out, struct vm_err *e)
{
    OWN(str) char *head = client_path("/v1/guests/", guest, "/silence");
    OWN(text) struct text path = {0};

    text_add(&path, head ? head : "");
    client_query(&path, "for", seconds);
    return !head || path.failed ? vm_no_memory(e) : client_json(&cli->client, "POST", path.s, out, e);
}

int cmd_silence(struct cli *cli)
{
    const char *want = cli_has(cli, OPT_FOR) ? cli_value(cli, OPT_FOR) : "1h";
    OWN(json) json_t *guests = NULL, *done = json_array();
    struct vm_err e = {0};
    char seconds[24];
    json_t *guest;
    int64_t ms;
    size_t i;

    if (!text_to_duration(want, &ms) || ms % 1000)
        vm_fail(&e, VM_E_INVALID, "--for: '%.40s' is no time; expected one such as 2h or 30m", want);
    if (e.code || select_named(cli, &guests, &e) < 0)
        return cli_fail(cli, &e);
    snprintf(seconds, sizeof seconds, "%lld", (long long)(ms / 1000));
    json_array_foreach(guests, i, guest) {
        json_t *one = NULL;

        if (silence(cli, json_str(guest, "name", ""), seconds, &one, &e) < 0)
            return cli_fail(cli, &e);
        if (!cli->json && ms / 1000)
            term_say("nobody is told of %s until %s", json_str(one, "guest", "-"), json_str(one, "until", "-"));
        else if (!cli->json)
            term_say("people are told of %s again", json_str(one, "guest", "-"));
        json_array_append_new(done, one);
    }
    if (!cli->json)
        return cli_written(fflush(stdout));
    OWN(json) json_t *doc = json_pack("{s:O}", "silent", done);
    return cli_written(cli_print_json(doc));
}
