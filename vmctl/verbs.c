/* vmctl start, stop, restart, rebuild, rm */
#include "cli.h"
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
    if (progress_interrupted()) {
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

/* One request to each guest, all side by side, each with its own sink. */
static int ask_all(struct cli *cli, const char *method, const char *tail, const json_t *guests, struct watched *w,
                   struct transfer *t, struct progress *p, struct vm_err *e)
{
    json_t *guest;
    size_t i;

    json_array_foreach(guests, i, guest) {
        w[i] = (struct watched){.records = {.record = progress_record, .arg = p}, .guest = json_str(guest, "name", "")};
        if (!(w[i].path = client_path("/v1/guests/", w[i].guest, tail)))
            return vm_no_memory(e);
        t[i] =
            (struct transfer){.method = method, .path = w[i].path, .sink = stream_records_sink, .arg = &w[i].records};
    }
    return client_run(&cli->client, t, i, progress_tick, p, e);
}

static int run_streams(struct cli *cli, const char *method, const char *tail, const json_t *guests, struct progress *p,
                       struct vm_err *e)
{
    size_t n = json_array_size(guests), i;
    OWN(mem) struct watched *w = calloc(n + 1, sizeof *w);
    OWN(mem) struct transfer *t = calloc(n + 1, sizeof *t);
    int rc = w && t ? ask_all(cli, method, tail, guests, w, t, p, e) : vm_no_memory(e);

    for (i = 0; rc == 0 && i < n; i++)
        rc = settle(cli, &w[i], &t[i], p, e);
    for (i = 0; w && i < n; i++) {
        text_done(w[i].records.line);
        free(w[i].path);
    }
    return rc;
}

/* Of more guests than there are streams, those that come first could wait for one that has not been asked for yet: so
 * all are asked for before any is watched. What is refused here is refused again, and told, when it is watched. */
static void ask_ahead(struct cli *cli, const char *tail, const json_t *guests)
{
    json_t *guest;
    size_t i;

    json_array_foreach(guests, i, guest) {
        OWN(str) char *path = client_path("/v1/guests/", json_str(guest, "name", ""), tail);

        if (path)
            client_json(&cli->client, "POST", path, NULL, NULL);
    }
}

static int verb(struct cli *cli, const char *method, const char *tail)
{
    OWN(json) json_t *guests = NULL;
    OWN(progress) struct progress *p = NULL;
    struct vm_err e = {0};

    if (select_named(cli, &guests, &e) < 0 || progress_open(cli, &p, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->command->run == cmd_start && json_array_size(guests) > CLIENT_STREAMS_MAX)
        ask_ahead(cli, "/start", guests);
    if (run_streams(cli, method, tail, guests, p, &e) < 0) {
        progress_close(TAKE(p)); /* the live view goes before the complaint */
        return cli_fail(cli, &e);
    }
    return progress_finish(p, json_array_size(guests));
}

int cmd_start(struct cli *cli)
{
    return verb(cli, "POST", "/start?wait=1");
}

int cmd_stop(struct cli *cli)
{
    return verb(cli, "POST", "/stop?wait=1");
}

int cmd_restart(struct cli *cli)
{
    return verb(cli, "POST", "/restart?wait=1");
}

int cmd_rebuild(struct cli *cli)
{
    return verb(cli, "POST", "/rebuild?wait=1");
}

int cmd_rm(struct cli *cli)
{
    return verb(cli, "DELETE", cli_has(cli, OPT_PURGE) ? "?purge=1&wait=1" : "?wait=1");
}
