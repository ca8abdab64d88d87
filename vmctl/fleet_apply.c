/* plan and apply over several hosts: to each host its directory. */
#include "fleet.h"

#include <string.h>
#include "apply.h"
#include "plan.h"
#include "progress.h"
#include "source.h"
#include "stream.h"
#include "term.h"

/* What goes to one host, and what comes back. */
struct load {
    const struct host *host;
    const struct source *source;
    struct text path;
    struct stream_records records;
    struct progress *progress;
    bool json;
};
struct loads {
    struct cli *cli;
    struct hosts *hosts;
    struct source *sources; /* one for each host; or only one, for all */
    struct load *v;
    struct transfer *transfers;
    size_t n_sources;
};

static void loads_done(struct loads l)
{
    for (size_t i = 0; l.v && i < l.hosts->n; i++) {
        text_done(l.v[i].path);
        text_done(l.v[i].records.line);
    }
    for (size_t i = 0; l.sources && i < l.n_sources; i++)
        source_done(l.sources[i]);
    free(l.sources);
    free(l.v);
    free(l.transfers);
}
OWN_DEFINE(loads, struct loads, loads_done)

/* A directory that the command line names is for all hosts, and never instead of one that is a host's own: by a slip all
 * guests would be everywhere. */
static int check_directory(const struct cli *cli, const struct host *h, struct vm_err *e)
{
    if (h->specs.n && cli->n_args)
        return vm_fail(e, VM_E_INVALID, "%s has a directory of its own, %.100s; leave '%.100s' out, or give -H %s alone", h->name,
                       h->specs.v[h->specs.n - 1], cli->args[0], h->name);
    if (!h->specs.n && !cli->n_args)
        return vm_fail(e, VM_E_INVALID, "%s has no directory of specs; give it one in " HOSTS_FILE " ('specs: %s.d'), or name one "
                       "that is for all of these hosts", h->name, h->name);
    return 0;
}

static int loads_read(struct cli *cli, struct loads *l, struct vm_err *e)
{
    size_t n = cli->hosts.n;

    l->cli = cli;
    l->n_sources = cli->n_args ? 1 : n;
    l->sources = calloc(n, sizeof *l->sources);
    l->v = calloc(n, sizeof *l->v);
    l->transfers = calloc(n, sizeof *l->transfers);
    if (!l->sources || !l->v || !l->transfers)
        return vm_no_memory(e);
    for (size_t i = 0; i < n; i++)
        if (check_directory(cli, &cli->hosts.v[i], e) < 0)
            return -1;
    if (source_read_each(cli, l->n_sources, l->sources, e) < 0)
        return -1;
    for (size_t i = 0; i < n; i++)
        l->v[i] = (struct load){.host = &cli->hosts.v[i], .source = &l->sources[i % l->n_sources], .json = cli->json};
    return 0;
}

static int loads_address(struct loads *l, const char *head, struct vm_err *e)
{
    for (size_t i = 0; i < l->hosts->n; i++) {
        struct load *one = &l->v[i];

        text_done(one->path);
        one->path = (struct text){0};
        apply_path(l->cli, one->source, head, &one->path);
        if (one->path.failed)
            return vm_no_memory(e);
        l->transfers[i] = (struct transfer){.method = "POST", .path = one->path.s, .body = one->source->tar, .n = one->source->n,
                                            .at = host_left_out(one->host) ? NULL : &l->hosts->v[i].client};
    }
    return 0;
}

/* One plan out of all of them. */
static int plan_all(struct loads *l, json_t **out, struct vm_err *e)
{
    static const char *const lists[] = {"changes", "orphans", "errors"};
    OWN(mem) json_t **docs = calloc(l->hosts->n, sizeof(json_t *));
    OWN(json) json_t *plan = json_pack("{s:[],s:[],s:[]}", lists[0], lists[1], lists[2]);

    if (!docs || !plan)
        return vm_no_memory(e);
    if (loads_address(l, "/v1/plan", e) < 0 || hosts_gather(l->hosts, l->transfers, docs, e) < 0)
        return -1;
    for (size_t i = 0; i < l->hosts->n; i++) {
        for (size_t k = 0; k < ARRAY_LEN(lists); k++)
            hosts_merge(l->hosts->v[i].name, json_object_get(docs[i], lists[k]), json_object_get(plan, lists[k]));
        json_decref(docs[i]);
    }
    *out = TAKE(plan);
    return json_lost() ? vm_no_memory(e) : 0;
}

int fleet_plan(struct cli *cli)
{
    OWN(loads) struct loads l = {.hosts = &cli->hosts};
    OWN(json) json_t *plan = NULL;
    struct vm_err e = {0};

    if (loads_read(cli, &l, &e) < 0)
        return cli_fail(cli, &e);
    if (hosts_reach(&cli->hosts) < 0)
        return EXIT_DONE; /* each host has its status */
    return plan_all(&l, &plan, &e) < 0 ? cli_fail(cli, &e) : plan_print(cli, plan);
}

/* ---- apply ---- */

/* For people a guest is "left/db"; as JSON a record is as it came, and has "host". */
static json_t *labelled(const char *host, const json_t *record)
{
    json_t *marked = hosts_mark(host, record), *v;
    OWN(str) char *guest = hosts_label(marked, "guest");
    const char *key;
    void *next;

    json_object_foreach_safe(marked, next, key, v) {
        OWN(json) json_t *list = json_is_array(v) ? json_array() : NULL;

        if (!list)
            continue;
        hosts_merge(host, v, list);
        json_put(marked, key, TAKE(list));
    }
    if (json_object_get(record, "guest"))
        json_put_str(marked, "guest", guest);
    return marked;
}

static int on_record(const json_t *record, void *load, struct vm_err *e)
{
    struct load *l = load;
    OWN(json) json_t *told = (l->json ? hosts_mark : labelled)(l->host->name, record);

    return told ? progress_record(told, l->progress, e) : vm_no_memory(e);
}

static int confirm(struct loads *l, bool *go, struct vm_err *e)
{
    OWN(json) json_t *plan = NULL;

    *go = true;
    if (!apply_asks(l->cli))
        return 0;
    return plan_all(l, &plan, e) < 0 ? -1 : apply_confirm(l->cli, plan, go, e);
}

/* How many hosts answered to the end. */
static size_t settle(struct loads *l)
{
    size_t whole = 0;

    for (size_t i = 0; i < l->hosts->n; i++) {
        struct transfer *t = &l->transfers[i];

        if (t->at && !t->failed && !progress_interrupted())
            t->failed = stream_records_end(&l->v[i].records, &t->err) < 0;
        whole += t->at && !t->failed;
    }
    return whole;
}

static int apply_all(struct loads *l, struct vm_err *e)
{
    OWN(progress) struct progress *p = NULL;
    int status;

    if (loads_address(l, "/v1/apply", e) < 0 || progress_open(l->cli, &p, e) < 0)
        return cli_fail(l->cli, e);
    for (size_t i = 0; i < l->hosts->n; i++) {
        l->v[i].progress = p;
        l->v[i].records = (struct stream_records){.record = on_record, .arg = &l->v[i]};
        l->transfers[i].sink = stream_records_sink;
        l->transfers[i].arg = &l->v[i].records;
    }
    if (client_run(NULL, l->transfers, l->hosts->n, progress_tick, p, e) < 0) {
        progress_close(TAKE(p)); /* the live view goes before the complaint */
        return cli_fail(l->cli, e);
    }
    status = progress_finish(p, settle(l));
    for (size_t i = 0; i < l->hosts->n; i++)
        if (l->transfers[i].failed && !progress_interrupted())
            host_fail(&l->hosts->v[i], &l->transfers[i].err);
    return status;
}

int fleet_apply(struct cli *cli)
{
    OWN(loads) struct loads l = {.hosts = &cli->hosts};
    struct vm_err e = {0};
    bool go = true;

    if (loads_read(cli, &l, &e) < 0)
        return cli_fail(cli, &e);
    if (hosts_reach(&cli->hosts) < 0)
        return EXIT_DONE; /* each host has its status */
    if (confirm(&l, &go, &e) < 0)
        return cli_fail(cli, &e);
    return go ? apply_all(&l, &e) : EXIT_FAILED;
}
