/* What guests use: one worker asks for all of them every few seconds, the loop keeps the answers. */
#include "usage.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum { EVERY_MS = 10000, SLACK_MS = 2000, SOON_MS = 200, KEEP_EVERY_MS = 60000 };

struct usage {
    struct usage_sample now, shown; /* shown: when the guest was last said to have changed */
    struct limits_seen limits;
};

struct sampler {
    struct world *w;
    struct loop_timer *timer;
    int64_t kept;                /* wall: minute of the samples that were stored last */
    bool failing;                /* storing them; told once */
    bool running, again;         /* again: and then soon */
};

/* One round: copies of what a worker needs to ask, and its answers. */
struct item {
    uint32_t id;
    bool up;
    const struct vm_driver *driver;
    struct drv_proc proc;
    char *run_dir;
    char (*ifnames)[NET_IFNAME];
    size_t n_ifnames;
    struct usage_sample before, now;
};
struct round {
    struct sampler *sampler;
    struct store *store;
    struct image_store *images;
    int64_t keep;                /* wall: store them as of this minute; 0: no */
    struct vm_err err;
    size_t n;
    struct item items[];
};

#define NO_STATS \
    {.cpu_seconds = NAN, .memory = UINT64_MAX, .memory_peak = UINT64_MAX, .memory_limit = UINT64_MAX, .memory_cache = UINT64_MAX, \
     .pids = UINT64_MAX, .io_read = UINT64_MAX, .io_write = UINT64_MAX, \
     .pressure_cpu = NAN, .pressure_memory = NAN, .pressure_io = NAN, \
     .memory_kills = UINT64_MAX, .pids_refused = UINT64_MAX, .cpu_held_seconds = NAN}
#define NO_NET {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}
const struct usage_sample usage_unknown = {
    .cpu_percent = NAN, .disk = UINT64_MAX, .stats = NO_STATS, .net = NO_NET, .inside_kills = UINT64_MAX};

/* ---- pure ---- */

double usage_cpu_percent(const struct usage_sample *before, const struct usage_sample *now)
{
    double used = now->stats.cpu_seconds - before->stats.cpu_seconds;

    if (!now->boot || before->boot != now->boot || now->at <= before->at || isnan(used) || used < 0)
        return NAN;
    return used * 100000 / (double)(now->at - before->at);
}

static bool moved(double a, double b, double step)
{
    return isnan(a) != isnan(b) || fabs(a - b) >= step;
}

static bool stepped(uint64_t a, uint64_t b, uint64_t step)
{
    return (a == UINT64_MAX) != (b == UINT64_MAX) || (a > b ? a - b : b - a) >= step;
}

bool usage_differs(const struct usage_sample *a, const struct usage_sample *b)
{
    const struct drv_stats *s = &a->stats, *t = &b->stats;
    const struct net_stats *n = &a->net, *m = &b->net;

    return a->boot != b->boot || moved(a->cpu_percent, b->cpu_percent, 0.5) || stepped(a->disk, b->disk, 64 << 10) ||
           moved(s->cpu_seconds, t->cpu_seconds, 0.1) || stepped(s->memory, t->memory, 256 << 10) ||
           stepped(s->memory_peak, t->memory_peak, 256 << 10) || stepped(s->memory_limit, t->memory_limit, 1) ||
           stepped(s->pids, t->pids, 1) || stepped(s->io_read, t->io_read, 64 << 10) ||
           stepped(s->io_write, t->io_write, 64 << 10) || moved(s->pressure_cpu, t->pressure_cpu, 1) ||
           moved(s->pressure_memory, t->pressure_memory, 1) || moved(s->pressure_io, t->pressure_io, 1) ||
           stepped(n->rx_bytes, m->rx_bytes, 4096) || stepped(n->tx_bytes, m->tx_bytes, 4096) ||
           stepped(n->rx_drops, m->rx_drops, 1) || stepped(n->tx_drops, m->tx_drops, 1);
}

/* ---- on a worker ---- */

static void add_net(struct net_stats *sum, const struct net_stats *one)
{
    sum->rx_bytes += one->rx_bytes;
    sum->tx_bytes += one->tx_bytes;
    sum->rx_packets += one->rx_packets;
    sum->tx_packets += one->tx_packets;
    sum->rx_drops += one->rx_drops;
    sum->tx_drops += one->tx_drops;
}

static void measure(struct item *x, struct image_store *images)
{
    struct net_stats sum = {0}, one;
    struct drv_stats stats = NO_STATS;
    size_t heard = 0;
    uint64_t disk;

    x->now = usage_unknown;
    if (root_usage(images, x->id, &disk) == 0)
        x->now.disk = disk;
    if (x->up) {
        x->now.boot = x->proc.keeper.start;
        if (x->driver->stats(x->id, x->run_dir, &x->proc, &stats, NULL) == 0)
            x->now.stats = stats;
        for (size_t i = 0; i < x->n_ifnames; i++) {
            if (net_stats(x->ifnames[i], &one, NULL) == 0) {
                add_net(&sum, &one);
                heard++;
            }
        }
        if (heard)
            x->now.net = sum;
    }
    x->now.at = now_ms();
    x->now.cpu_percent = usage_cpu_percent(&x->before, &x->now);
}

static int64_t stored(uint64_t v)
{
    return v > INT64_MAX ? -1 : (int64_t)v;
}

static int keep(const struct round *r, struct vm_err *e)
{
    struct store_sample *v = calloc(r->n + 1, sizeof *v);
    int rc;

    if (!v)
        return vm_no_memory(e);
    for (size_t i = 0; i < r->n; i++) {
        const struct usage_sample *s = &r->items[i].now;

        v[i] = (struct store_sample){.guest = r->items[i].id, .at = r->keep, .cpu_percent = s->cpu_percent,
                                     .memory = stored(s->stats.memory), .disk = stored(s->disk),
                                     .rx = stored(s->net.rx_bytes), .tx = stored(s->net.tx_bytes)};
    }
    rc = store_put_samples(r->store, v, r->n, e);
    free(v);
    return rc;
}

static void round_run(void *arg)
{
    struct round *r = arg;

    for (size_t i = 0; i < r->n; i++)
        measure(&r->items[i], r->images);
    if (r->keep)
        keep(r, &r->err);
}

/* ---- on the loop ---- */

static void round_free(struct round *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->items[i].run_dir);
        free(r->items[i].ifnames);
    }
    free(r);
}

static void take(struct guest *g, const struct item *x)
{
    if (!g->usage && !(g->usage = calloc(1, sizeof *g->usage)))
        return;
    if (!g->usage->shown.at)
        g->usage->shown = usage_unknown;
    g->usage->now = x->now;
    g->usage->now.inside_kills = inside_kills(g);
    limits_look(g, &g->usage->limits, &x->before, &g->usage->now);
    if (usage_differs(&g->usage->shown, &x->now)) {
        g->usage->shown = x->now;
        guest_dirty(g);
    }
}

static void next_round(struct sampler *s, int64_t ms)
{
    s->again = false;
    loop_timer_set(s->timer, ms, ms * SLACK_MS / EVERY_MS);
}

static void round_done(void *arg, bool cancelled)
{
    struct round *r = arg;
    struct sampler *s = r->sampler;
    bool failed = r->err.code != VM_E_OK;

    for (size_t i = 0; i < r->n && !cancelled; i++) {
        struct guest *g = world_guest_by_id(s->w, r->items[i].id);

        /* One that came up, went down or was restarted meanwhile is measured the next time. */
        if (g && guest_is_up(g) == r->items[i].up && (!r->items[i].up || g->proc.keeper.start == r->items[i].now.boot))
            take(g, &r->items[i]);
    }
    if (r->keep && !cancelled && failed != s->failing) {
        if (failed)
            log_warn(NULL, "samples of usage are not kept: %s, continuing", r->err.text);
        s->failing = failed;
    }
    round_free(r);
    s->running = false;
    if (!cancelled)
        next_round(s, s->again ? SOON_MS : EVERY_MS);
}

static int fill(struct item *x, const struct guest *g)
{
    *x = (struct item){.id = g->id, .up = guest_is_up(g) && g->driver, .driver = g->driver, .proc = g->proc,
                       .before = *usage_last(g)};
    if (!x->up)
        return 0;
    x->run_dir = guest_run_dir(g);
    x->ifnames = calloc(g->n_nics + 1, sizeof *x->ifnames);
    if (!x->run_dir || !x->ifnames)
        return -1;
    for (; x->n_ifnames < g->n_nics; x->n_ifnames++)
        memcpy(x->ifnames[x->n_ifnames], g->nics[x->n_ifnames].ifname, NET_IFNAME);
    return 0;
}

static struct round *round_new(struct sampler *s)
{
    struct world *w = s->w;
    struct round *r = calloc(1, sizeof *r + w->n_guests * sizeof r->items[0]);
    int64_t minute = wall_ms() / KEEP_EVERY_MS * KEEP_EVERY_MS;

    if (!r)
        return NULL;
    *r = (struct round){.sampler = s, .store = w->store, .images = w->images, .keep = minute != s->kept ? minute : 0};
    s->kept = minute;
    while (r->n < w->n_guests) {
        if (fill(&r->items[r->n], w->guests[r->n]) < 0) {
            r->n++;
            round_free(r);
            return NULL;
        }
        r->n++;
    }
    return r;
}

static void round_start(void *arg)
{
    struct sampler *s = arg;
    struct round *r = s->w->n_guests ? round_new(s) : NULL;

    for (size_t i = 0; i < s->w->n_guests; i++)
        inside_ask(s->w->guests[i]);
    s->running = r && loop_work(s->w->loop, (struct loop_job){round_run, round_done, r}, NULL) == 0;
    if (s->running)
        return;
    if (r)
        round_free(r);
    next_round(s, EVERY_MS);
}

void usage_soon(struct world *w)
{
    if (w->sampler && w->sampler->running)
        w->sampler->again = true;
    else if (w->sampler)
        next_round(w->sampler, SOON_MS);
}

int usage_open(struct world *w, struct vm_err *e)
{
    struct sampler *s = calloc(1, sizeof *s);

    if (!s)
        return vm_no_memory(e);
    s->w = w;
    s->kept = wall_ms() / KEEP_EVERY_MS * KEEP_EVERY_MS;
    w->sampler = s;
    if (loop_timer_new(w->loop, round_start, s, &s->timer, e) < 0)
        return -1;
    next_round(s, SOON_MS);
    return 0;
}

void usage_close(struct world *w)
{
    if (!w->sampler)
        return;
    loop_timer_free(w->sampler->timer);
    free(w->sampler);
    w->sampler = NULL;
}

void usage_drop(struct guest *g)
{
    free(g->usage);
    g->usage = NULL;
    inside_drop(g);
}

/* What was measured of a boot that is over says nothing of what is now. */
const struct usage_sample *usage_last(const struct guest *g)
{
    uint64_t boot = guest_is_up(g) ? g->proc.keeper.start : 0;

    return g->usage && g->usage->now.boot == boot ? &g->usage->now : &usage_unknown;
}

/* ---- as the API shows it ---- */

static json_t *number(double v)
{
    return isnan(v) ? NULL : json_real(v);
}

static json_t *count(uint64_t v)
{
    return v > INT64_MAX ? NULL : json_integer((json_int_t)v);
}

static json_t *rounded(double v)
{
    return number(round(v * 100) / 100);
}

static json_t *io_json(const struct drv_stats *s)
{
    json_t *o = json_object();

    json_put(o, "read_bytes", count(s->io_read));
    json_put(o, "write_bytes", count(s->io_write));
    return o;
}

static json_t *net_json(const struct net_stats *n)
{
    json_t *o = json_object();

    json_put(o, "rx_bytes", count(n->rx_bytes));
    json_put(o, "tx_bytes", count(n->tx_bytes));
    json_put(o, "rx_packets", count(n->rx_packets));
    json_put(o, "tx_packets", count(n->tx_packets));
    json_put(o, "rx_drops", count(n->rx_drops));
    json_put(o, "tx_drops", count(n->tx_drops));
    return o;
}

static json_t *pressure_json(const struct drv_stats *s)
{
    json_t *o = json_object();

    json_put(o, "cpu", rounded(s->pressure_cpu));
    json_put(o, "memory", rounded(s->pressure_memory));
    json_put(o, "io", rounded(s->pressure_io));
    return o;
}

json_t *usage_json(const struct guest *g)
{
    const struct usage_sample *u = usage_last(g);
    uint64_t inside = UINT64_MAX, total = UINT64_MAX;
    json_t *o = json_object();

    inside_memory(g, &inside, &total);
    json_put(o, "cpu_seconds", rounded(u->stats.cpu_seconds));
    json_put(o, "cpu_percent", rounded(u->cpu_percent));
    json_put(o, "memory_bytes", count(u->stats.memory));
    json_put(o, "memory_peak_bytes", count(u->stats.memory_peak));
    json_put(o, "memory_limit_bytes", count(u->stats.memory_limit));
    json_put(o, "guest_memory_bytes", count(inside));
    json_put(o, "guest_memory_total_bytes", count(total));
    json_put(o, "pids", count(u->stats.pids));
    json_put(o, "disk_bytes", count(u->disk));
    json_put(o, "io", io_json(&u->stats));
    json_put(o, "net", net_json(&u->net));
    json_put(o, "pressure", pressure_json(&u->stats));
    return o;
}
