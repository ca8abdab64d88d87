/* vmctl audit: who did what. */
#include <string.h>
#include "cli.h"
#include "human.h"
#include "table.h"
#include "term.h"

/* "alice (root)": who logged in, and who it was by then. */
static void add_who(struct table *t, const json_t *row)
{
    OWN(str) char *uid = human_value(json_object_get(row, "uid"));
    const char *user = json_str(row, "user", uid), *login = json_str(row, "login_user", NULL);

    if (json_is_null(json_object_get(row, "uid")))
        table_add(t, "vmsd");
    else if (login && user && strcmp(login, user) != 0)
        table_addf(t, "%s (%s)", login, user);
    else
        table_add(t, user);
}

/* Of an apply its commit and what it changed, of what vmsd did then the guest and the script or kind of change, of all else its
 * object. */
static void add_what(struct table *t, const json_t *row)
{
    const json_t *detail = json_object_get(row, "detail"), *changes = json_object_get(detail, "changes");
    const char *commit = json_str(detail, "commit", NULL);
    OWN(text) struct text what = {0};
    json_t *change;
    size_t i;

    if (!json_is_array(changes)) {
        const char *on = json_str(row, "what", "-"), *more = json_str(detail, "script", json_str(detail, "class", NULL));

        table_addf(t, "%s%s%s", on, more ? " " : "", more ? more : "");
        return;
    }
    text_addf(&what, "%.12s%s%s", commit ? commit : "no commit", commit && strstr(commit, "-dirty") ? "-dirty" : "",
              json_array_size(changes) ? ":" : ": nothing to change");
    json_array_foreach(changes, i, change)
        text_addf(&what, " %s %s%s", json_str(change, "class", "-"), json_str(change, "guest", "-"),
                  i + 1 < json_array_size(changes) ? "," : "");
    table_add(t, what.failed ? NULL : what.s);
}

int cmd_audit(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"ID", .right = true}, {"WHEN", .right = false}, {"WHO", .least = 6}, {"VERB", .least = 6}, {"WHAT", .least = 10}, {"RESULT", .least = 6},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(text) struct text path = {0};
    OWN(json) json_t *doc = NULL;
    struct vm_err e = {0};
    json_t *row;
    size_t i;

    text_add(&path, "/v1/audit");
    client_query(&path, "since", cli_value(cli, OPT_SINCE));
    client_query(&path, "limit", cli_value(cli, OPT_LINES));
    if (path.failed)
        vm_no_memory(&e);
    if (path.failed || client_json(&cli->client, "GET", path.s, &doc, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json)
        return cli_written(cli_print_json(doc));
    json_array_foreach(json_object_get(doc, "audit"), i, row) {
        OWN(str) char *id = human_value(json_object_get(row, "id"));

        table_add(&t, id);
        table_add(&t, json_str(row, "at", NULL));
        add_who(&t, row);
        table_add(&t, json_str(row, "verb", NULL));
        add_what(&t, row);
        table_add(&t, json_str(row, "result", NULL));
    }
    return cli_written(table_print(&t));
}
