/* vmctl jobs */
#include <vmsd/clock.h>
#include "cli.h"
#include "human.h"
#include "table.h"

int cmd_jobs(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"ID", .right = true},     {"GUEST", .least = 6},       {"VERB", .least = 5},
        {"CLASS", .least = 5},     {"STATE", .coloured = true}, {"STEP", .least = 5},
        {"WAITS-FOR", .least = 6}, {"AGE", .right = true},      {"ERROR", .least = 8},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(json) json_t *doc = NULL;
    struct vm_err e = {0};
    json_t *job;
    size_t i;

    if (client_json(&cli->client, "GET", "/v1/jobs", &doc, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json)
        return cli_written(cli_print_json(doc));
    json_array_foreach(json_object_get(doc, "jobs"), i, job) {
        OWN(str) char *id = human_value(json_object_get(job, "id"));
        OWN(str) char *waits = human_list(json_object_get(job, "waits_for"));
        char age[HUMAN_MAX];

        table_add(&t, id);
        table_add(&t, json_str(job, "guest", NULL));
        table_add(&t, json_str(job, "verb", NULL));
        table_add(&t, json_str(job, "class", NULL));
        table_add(&t, json_str(job, "state", NULL));
        table_add(&t, json_str(job, "step", NULL));
        table_add(&t, waits);
        table_add(&t, human_ago(json_object_get(job, "created_at"), wall_ms(), age));
        table_add(&t, json_str(job, "error", NULL));
    }
    return cli_written(table_print(&t));
}
