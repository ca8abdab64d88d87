/* vmctl events */
#include <fnmatch.h>
#include <string.h>
#include <vmsd/clock.h>
#include "cli.h"
#include "select.h"
#include "stream.h"
#include "term.h"

enum { AGAIN_MS = 1000 };

/* Of one vmsd. */
struct feed {
    struct events *all;
    struct host *host; /* NULL: the only one */
    int64_t last;      /* id of the last event, 0: none yet */
    bool away;         /* that vmsd was lost has been said */
    struct text path;
    struct stream_records records;
};
struct events {
    struct cli *cli;
    json_t *names; /* labels of the guests that are meant; NULL: all, and the host */
    struct feed *feeds;
    struct transfer *transfers;
    size_t n;
    int64_t ended_at; /* when the first of them did; 0: all go on */
};

static void events_done(struct events v)
{
    for (size_t i = 0; v.feeds && i < v.n; i++) {
        text_done(v.feeds[i].path);
        text_done(v.feeds[i].records.line);
    }
    free(v.feeds);
    free(v.transfers);
    json_decref(v.names);
}
OWN_DEFINE(events, struct events, events_done)

static bool wanted(const struct events *v, const json_t *ev, const char *label)
{
    const struct strv *types = &v->cli->values[OPT_TYPE];
    bool found = types->n == 0;

    for (size_t i = 0; i < types->n && !found; i++)
        found = fnmatch(types->v[i], json_str(ev, "type", ""), 0) == 0;
    return found && (!v->names || json_object_get(v->names, label));
}

static int on_event(const json_t *record, void *feed, struct vm_err *e)
{
    struct feed *f = feed;
    OWN(json) json_t *ev = f->host ? hosts_mark(f->host->name, record) : json_incref((json_t *)record);
    OWN(str) char *label = hosts_label(ev, "guest");

    if (!ev || !label)
        return vm_no_memory(e);
    f->away = false;
    f->last = json_integer_value(json_object_get(ev, "id"));
    if (!wanted(f->all, ev, label))
        return 0;
    if (f->all->cli->json)
        return cli_print_json_line(ev) < 0 ? vm_fail_sys(e, "write to standard output") : 0;
    if (json_is_string(json_object_get(ev, "guest")))
        term_say("%s  %s  %s  %s", json_str(ev, "at", "-"), label, json_str(ev, "type", "-"), json_str(ev, "text", ""));
    else
        term_say("%s  %s  %s  %s", json_str(ev, "at", "-"), json_str(ev, "host", "host"), json_str(ev, "type", "-"),
                 json_str(ev, "text", ""));
    return fflush(stdout) == 0 ? 0 : vm_fail_sys(e, "write to standard output");
}

static void feed_path(const struct cli *cli, struct feed *f)
{
    text_done(f->path);
    f->path = (struct text){0};
    text_add(&f->path, "/v1/events");
    if (f->last)
        text_addf(&f->path, "?since=%lld", (long long)f->last);
    else
        client_query(&f->path, "since", cli_value(cli, OPT_SINCE));
    if (cli_has(cli, OPT_FOLLOW))
        client_query(&f->path, "follow", "1");
}

static struct client *client_of(struct feed *f, struct vm_err *e)
{
    if (!f->host)
        return &f->all->cli->client;
    return host_left_out(f->host) ? NULL : host_client(f->host, e);
}

/* A second after one has ended it is asked for again, from where it was; so are then all, from where they were. */
static bool still_all(void *events)
{
    struct events *v = events;

    for (size_t i = 0; i < v->n && !v->ended_at; i++) {
        struct feed *f = &v->feeds[i];

        if (v->transfers[i].at ? !v->transfers[i].cut : !host_left_out(f->host) && client_of(f, NULL))
            v->ended_at = now_ms();
    }
    return !v->ended_at || now_ms() - v->ended_at < AGAIN_MS;
}

/* What failed has it in its transfer. */
static int read_once(struct events *v, struct vm_err *e)
{
    bool many = v->cli->hosts.several, follow = cli_has(v->cli, OPT_FOLLOW);

    v->ended_at = 0;
    for (size_t i = 0; i < v->n; i++) {
        struct feed *f = &v->feeds[i];

        feed_path(v->cli, f);
        if (f->path.failed)
            return vm_no_memory(e);
        text_done(f->records.line);
        f->records = (struct stream_records){.record = on_event, .arg = f};
        v->transfers[i] = (struct transfer){.method = "GET", .path = f->path.s, .sink = stream_records_sink,
                                            .arg = &f->records, .cut = true};
        v->transfers[i].at = client_of(f, &v->transfers[i].err);
    }
    if (client_run(NULL, v->transfers, v->n, many && follow ? still_all : NULL, v, e) < 0)
        return -1;
    for (size_t i = 0; i < v->n; i++) {
        struct transfer *t = &v->transfers[i];

        if (t->at && !t->failed && !t->cut)
            t->failed = stream_records_end(&v->feeds[i].records, &t->err) < 0;
    }
    return 0;
}

static bool any_seen(const struct events *v)
{
    for (size_t i = 0; i < v->n; i++)
        if (v->feeds[i].last)
            return true;
    return false;
}

/* What is left of the second. */
static void rest(const struct events *v)
{
    int64_t ms = v->ended_at ? v->ended_at + AGAIN_MS - now_ms() : AGAIN_MS;

    if (ms > 0)
        sleep_ms(ms);
}

/* A vmsd that is started anew, upgraded say, goes on where the last one was. */
static int follow(struct events *v, struct vm_err *e)
{
    for (;;) {
        if (read_once(v, e) < 0)
            return -1;
        if (ferror(stdout))
            return vm_fail(e, VM_E_SYSTEM, "write to standard output");
        if (!v->cli->hosts.several && v->transfers[0].failed && !any_seen(v)) {
            *e = v->transfers[0].err;
            return -1;
        }
        for (size_t i = 0; i < v->n; i++) {
            struct feed *f = &v->feeds[i];
            const char *why = v->transfers[i].err.code ? v->transfers[i].err.text : "";

            if (v->transfers[i].cut || f->away || (f->host && host_left_out(f->host)))
                continue;
            term_complain("%s%svmsd ended or was lost%s%s%s; looking for it every second", f->host ? f->host->name : "",
                          f->host ? ": " : "", *why ? " (" : "", why, *why ? ")" : "");
            f->away = true;
        }
        rest(v);
    }
}

static int once(struct events *v, struct vm_err *e)
{
    if (read_once(v, e) < 0)
        return -1;
    for (size_t i = 0; i < v->n; i++) {
        struct transfer *t = &v->transfers[i];

        if (t->failed && v->feeds[i].host)
            host_fail(v->feeds[i].host, &t->err);
        else if (t->failed)
            *e = t->err;
        if (t->failed && !v->feeds[i].host)
            return -1;
    }
    return 0;
}

static int names_of(struct cli *cli, json_t **out, struct vm_err *e)
{
    OWN(json) json_t *guests = NULL;
    json_t *guest;
    size_t i;

    if (!cli->n_args && !cli_has(cli, OPT_TAG))
        return 0;
    if (select_guests(cli, &guests, e) < 0)
        return -1;
    if (!(*out = json_object()))
        return vm_no_memory(e);
    json_array_foreach(guests, i, guest) {
        OWN(str) char *label = hosts_label(guest, "name");

        json_put(*out, label ? label : "", json_true());
    }
    return 0;
}

int cmd_events(struct cli *cli)
{
    bool many = cli->hosts.several;
    OWN(events) struct events v = {.cli = cli, .n = many ? cli->hosts.n : 1};
    struct vm_err e = {0};

    v.feeds = calloc(v.n, sizeof *v.feeds);
    v.transfers = calloc(v.n, sizeof *v.transfers);
    if (!v.feeds || !v.transfers) {
        vm_no_memory(&e);
        return cli_fail(cli, &e);
    }
    for (size_t i = 0; i < v.n; i++)
        v.feeds[i] = (struct feed){.all = &v, .host = many ? &cli->hosts.v[i] : NULL};
    if (names_of(cli, &v.names, &e) < 0 || (cli_has(cli, OPT_FOLLOW) ? follow(&v, &e) : once(&v, &e)) < 0)
        return cli_fail(cli, &e);
    return EXIT_DONE;
}
