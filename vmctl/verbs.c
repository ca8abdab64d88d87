/* vmctl start, stop, restart, rebuild, rm */
#include <string.h>
#include "cli.h"
#include "jobs.h"
#include "progress.h"
#include "select.h"
#include "stream.h"

struct watched {
    struct stream_records records;
    const char *guest; /* borrowed */
    char *path;
};

/* A guest that vmsd refused is one that failed; the others go on. */
static int tell_refused(struct progress *p, const char *guest, const struct vm_err *why, struct vm_err *e)
{
    OWN(json) json_t *end = json_pack("{s:s,s:s,s:s}", "type", "guest", "guest", guest, "state", "failed");
    OWN(json) json_t *result = json_pack("{s:s,s:b,s:i}", "type", "result", "ok", 0, "failed", 1);

    if (!end || !result)
        return vm_no_memory(e);
    json_put_str(end, "error", why->text);
    return progress_record(end, p, e) < 0 ? -1 : progress_record(result, p, e);
}

static int settle(struct cli *cli, struct watched *w, struct transfer *t, struct progress *p, struct vm_err *e)
{
    if (progress_interrupted(p)) {
        stream_records_end(&w->records, NULL);
        return 0;
    }
    if (stream_records_end(&w->records, t->failed ? NULL : e) < 0 && !t->failed)
        return -1;
    if (!t->failed)
        return 0;
    if (cli->client.unreached) {
        *e = t->err;
        return -1;
    }
    return tell_refused(p, w->guest, &t->err, e);
}

/* A stream for each guest, all side by side: they also bring what scripts print. */
static int run_streams(struct cli *cli, const char *tail, const json_t *guests, struct progress *p, struct vm_err *e)
{
    size_t n = json_array_size(guests), i;
    OWN(mem) struct watched *w = calloc(n + 1, sizeof *w);
    OWN(mem) struct transfer *t = calloc(n + 1, sizeof *t);
    OWN(str) char *query = text_format("%s?wait=1", tail);
    json_t *guest;
    int rc = w && t && query ? 0 : vm_no_memory(e);

    json_array_foreach(guests, i, guest) {
        if (rc < 0)
            break;
        w[i].records = (struct stream_records){.record = progress_record, .arg = p};
        w[i].guest = json_str(guest, "name", "");
        if (!(w[i].path = client_path("/v1/guests/", w[i].guest, query)))
            rc = vm_no_memory(e);
        t[i] = (struct transfer){
            .method = "POST", .path = w[i].path, .sink = stream_records_sink, .arg = &w[i].records};
    }
    if (rc == 0)
        rc = client_run(&cli->client, t, n, progress_tick, p, e);
    for (i = 0; rc == 0 && i < n; i++)
        rc = settle(cli, &w[i], &t[i], p, e);
    for (i = 0; w && i < n; i++) {
        text_done(w[i].records.line);
        free(w[i].path);
    }
    return rc;
}

/* More guests than streams are asked about instead: a guest whose stream has to wait could be the one that all those
 * before it depend upon. */
static int verb(struct cli *cli, const char *tail)
{
    OWN(json) json_t *guests = NULL;
    OWN(progress) struct progress *p = NULL;
    struct vm_err e = {0};
    bool streams;
    int rc;

    if (select_named(cli, &guests, &e) < 0 || progress_open(cli, &p, &e) < 0)
        return cli_fail(cli, &e);
    streams = json_array_size(guests) <= CLIENT_STREAMS_MAX;
    rc = streams ? run_streams(cli, tail, guests, p, &e) : jobs_run(cli, "POST", tail, guests, p, &e);
    if (rc < 0) {
        progress_close(TAKE(p)); /* the live view goes before the complaint */
        return cli_fail(cli, &e);
    }
    return progress_finish(p, streams ? json_array_size(guests) : 1);
}

int cmd_start(struct cli *cli)
{
    return verb(cli, "/start");
}

int cmd_stop(struct cli *cli)
{
    return verb(cli, "/stop");
}

int cmd_restart(struct cli *cli)
{
    return verb(cli, "/restart");
}

int cmd_rebuild(struct cli *cli)
{
    return verb(cli, "/rebuild");
}

int cmd_rm(struct cli *cli)
{
    OWN(json) json_t *guests = NULL;
    OWN(progress) struct progress *p = NULL;
    struct vm_err e = {0};

    if (select_named(cli, &guests, &e) < 0 || progress_open(cli, &p, &e) < 0)
        return cli_fail(cli, &e);
    if (jobs_run(cli, "DELETE", cli_has(cli, OPT_PURGE) ? "?purge=1" : "", guests, p, &e) < 0) {
        progress_close(TAKE(p));
        return cli_fail(cli, &e);
    }
    return progress_finish(p, 1);
}
