/* vmctl jobs, and jobs that are followed by asking. */
#include "jobs.h"

#include <string.h>
#include <vmsd/clock.h>
#include "human.h"
#include "table.h"

enum { ASK_MS = 200 };

struct followed {
    const char *guest; /* borrowed */
    json_t *job;       /* as last heard of */
    char *step;        /* as last told */
    bool ended;
};

static int tell(struct progress *p, json_t *record, struct vm_err *e)
{
    int rc = record ? progress_record(record, p, e) : vm_no_memory(e);

    json_decref(record);
    return rc;
}

/* Tells what changed since last time. */
static int tell_change(struct progress *p, struct followed *f, struct vm_err *e)
{
    const char *state = json_str(f->job, "state", ""), *step = json_str(f->job, "step", ""),
               *error = json_str(f->job, "error", NULL);
    int64_t from = human_time(json_str(f->job, "created_at", NULL)), to = human_time(json_str(f->job, "ended_at", NULL));

    if (*step && (!f->step || strcmp(f->step, step) != 0)) {
        free(f->step);
        if (!(f->step = strdup(step)))
            return vm_no_memory(e);
        if (tell(p, json_pack("{s:s,s:s,s:s,s:s}", "type", "step", "guest", f->guest, "step", step, "state", "started"), e) < 0)
            return -1;
    }
    f->ended = !strcmp(state, "done") || !strcmp(state, "failed");
    if (!f->ended)
        return 0;
    return tell(p,
                json_pack("{s:s,s:s,s:s,s:s*,s:o*,s:s*}", "type", "guest", "guest", f->guest, "state", state, "class",
                          json_str(f->job, "verb", NULL), "duration",
                          from >= 0 && to >= from ? json_real((double)(to - from) / 1000) : NULL, "error", error),
                e);
}

static json_t *job_of(const json_t *answer)
{
    json_t *job = json_object_get(answer, "job");

    return json_is_object(job) ? json_incref(job) : json_pack("{s:O*}", "id", job);
}

static int begin(struct cli *cli, const char *method, const char *tail, struct followed *f, struct vm_err *e)
{
    OWN(str) char *path = client_path("/v1/guests/", f->guest, tail);
    OWN(json) json_t *answer = NULL;

    if (!path)
        return vm_no_memory(e);
    if (client_json(&cli->client, method, path, &answer, e) < 0)
        return vm_context(e, "%s", f->guest);
    return (f->job = job_of(answer)) ? 0 : vm_no_memory(e);
}

static int ask_about(struct cli *cli, struct followed *f, struct vm_err *e)
{
    OWN(str) char *id = human_value(json_object_get(f->job, "id"));
    OWN(str) char *path = id ? client_path("/v1/jobs/", id, "") : NULL;
    json_t *job = NULL;

    if (!path)
        return vm_no_memory(e);
    if (client_json(&cli->client, "GET", path, &job, e) < 0)
        return vm_context(e, "%s", f->guest);
    json_decref(f->job);
    f->job = job;
    return 0;
}

static int follow(struct cli *cli, struct followed *jobs, size_t n, struct progress *p, struct vm_err *e)
{
    size_t left = n, failed = 0;
    int64_t begun = now_ms();

    while (left) {
        left = 0;
        for (size_t i = 0; i < n; i++) {
            if (jobs[i].ended)
                continue;
            if (ask_about(cli, &jobs[i], e) < 0 || tell_change(p, &jobs[i], e) < 0)
                return -1;
            left += !jobs[i].ended;
            failed += jobs[i].ended && strcmp(json_str(jobs[i].job, "state", ""), "failed") == 0;
        }
        if (!progress_tick(p))
            return 0;
        if (left)
            sleep_ms(ASK_MS);
    }
    return tell(p,
                json_pack("{s:s,s:b,s:I,s:I,s:f}", "type", "result", "ok", failed == 0, "changed",
                          (json_int_t)(n - failed), "failed", (json_int_t)failed, "duration",
                          (double)(now_ms() - begun) / 1000),
                e);
}

int jobs_run(struct cli *cli, const char *method, const char *tail, const json_t *guests, struct progress *p,
             struct vm_err *e)
{
    size_t n = json_array_size(guests), i;
    struct followed *jobs = calloc(n + 1, sizeof *jobs);
    json_t *guest;
    int rc = jobs ? 0 : vm_no_memory(e);

    json_array_foreach(guests, i, guest) {
        if (rc < 0)
            break;
        jobs[i].guest = json_str(guest, "name", "");
        rc = begin(cli, method, tail, &jobs[i], e);
    }
    if (rc == 0)
        rc = follow(cli, jobs, n, p, e);
    for (i = 0; jobs && i < n; i++) {
        json_decref(jobs[i].job);
        free(jobs[i].step);
    }
    free(jobs);
    return rc;
}

int cmd_jobs(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"ID", .right = true}, {"GUEST", .least = 6}, {"VERB", .least = 5}, {"CLASS", .least = 5},
        {"STATE", .coloured = true}, {"STEP", .least = 5}, {"WAITS-FOR", .least = 6}, {"AGE", .right = true},
        {"ERROR", .least = 8},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(json) json_t *doc = NULL;
    struct vm_err e = {0};
    json_t *job;
    size_t i;

    if (client_json(&cli->client, "GET", "/v1/jobs", &doc, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json)
        return cli_print_json(doc) < 0 ? EXIT_FAILED : EXIT_DONE;
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
    return table_print(&t) < 0 ? EXIT_FAILED : EXIT_DONE;
}
