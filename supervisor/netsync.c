/* The firewall and the relays follow the world, and the names in guests with them. One change of the firewall at a time,
 * each from the world as it is then: whoever asks while one is under way is served by the next. */
#include "job.h"
#include "latch.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

/* Who changes rules is told of at once, but not more often than the pause; what is lost so is found by looking. */
enum { CHECK_EVERY_MS = 5000, CHECK_PAUSE_MS = 500 };

struct asker {
    struct asker *next;
    void (*done)(const struct vm_err *e, void *arg);
    void *arg;
};

struct netsync {
    struct world *w;
    struct asker *waiting, *served; /* for the next change; of the one under way */
    bool running, absent, none;   /* none: no network is left, so no table of ours either */
    struct strv gone, bridges;    /* networks that left; those to be removed now: name and bridge in turn */
    char *upstream;               /* the host's resolvers, that the last check found */
    struct strv links;            /* of guests, on their bridge, that it found; sorted */
    bool links_known;             /* could it look at all? */
    char *rules;
    char *in_force;               /* what was applied last, "" for no table; NULL: that may not be what stands */
    struct loop_timer *check;
    int64_t checked_at;           /* monotonic */
    int rules_fd;                 /* tells of changes, or -1 */
    struct loop_watch *rules_watch;
    bool touched;                 /* somebody else changed rules since the last check began */
    struct vm_err err;
    int rc;
};

/* A view on the world as net wants it; arrays are yours, the rest is borrowed. */
static int net_view(struct world *w, struct net_world *out, struct vm_err *e)
{
    struct net_guest *guests = calloc(w->n_guests + 1, sizeof *guests);
    size_t n = 0;

    if (!guests)
        return vm_no_memory(e);
    for (size_t i = 0; i < w->n_guests; i++) {
        struct guest *g = w->guests[i];

        if (!g->removing)
            guests[n++] = (struct net_guest){g->id, g->name, g->spec, g->nics, g->n_nics};
    }
    *out = (struct net_world){w->networks, w->n_networks, guests, n};
    return 0;
}

static void set_relays(struct world *w, const struct net_world *view)
{
    struct net_relay_rule *rules = NULL;
    struct vm_err e = {0};
    size_t n = 0;

    if (net_relay_rules(view, &rules, &n, &e) < 0 || net_relay_set(w->relay, rules, n, &e) < 0)
        log_warn(NULL, "ports: %s, continuing", e.text);
    free(rules);
}

static void sync_run(void *arg)
{
    struct netsync *s = arg;

    s->rc = s->none ? net_rules_remove(&s->err) : net_rules_apply(s->rules, &s->err);
    for (size_t i = 0; i + 1 < s->bridges.n && s->rc == 0; i += 2) {
        s->rc = net_bridge_remove(s->bridges.v[i + 1], &s->err);
        if (s->rc == 0)
            s->rc = store_drop_network(s->w->store, s->bridges.v[i], &s->err);
    }
}

/* Bridges of networks that left and that no guest is on any more. */
static void take_bridges(struct netsync *s)
{
    struct strv kept = {0};

    for (size_t i = 0; i + 1 < s->gone.n; i += 2) { /* name and bridge in turn */
        bool used = world_network(s->w, s->gone.v[i]) != NULL;

        for (size_t k = 0; k < s->w->n_guests && !used; k++)
            for (size_t m = 0; m < s->w->guests[k]->n_nics; m++)
                used |= !strcmp(s->w->guests[k]->nics[m].network, s->gone.v[i]);
        strv_add(used ? &kept : &s->bridges, s->gone.v[i]);
        strv_add(used ? &kept : &s->bridges, s->gone.v[i + 1]);
    }
    strv_done(s->gone);
    s->gone = kept;
}

void netsync_forget(struct world *w, const struct network_spec *n)
{
    strv_add(&w->netsync->gone, n->name);
    strv_add(&w->netsync->gone, n->bridge);
}

static void sync_done(void *arg, bool cancelled);

static void finish(struct netsync *s, const struct vm_err *e)
{
    struct asker *list = TAKE(s->served);

    while (list) {
        struct asker *a = list;

        list = a->next;
        if (a->done)
            a->done(e, a->arg);
        free(a);
    }
}

static void rules_changed(int fd, uint32_t revents, void *arg);

/* The kernel takes some 10 ms to replace a table. Where it has these very rules, and nobody else has touched any since, nothing
 * is to be done: so for most that happens to guests. */
static bool is_in_force(struct netsync *s)
{
    if (!s->rules_watch)
        return false;
    rules_changed(s->rules_fd, 0, s);
    return s->in_force && s->bridges.n == 0 && !strcmp(s->in_force, s->none ? "" : s->rules);
}

static void note_in_force(struct netsync *s)
{
    if (s->rules_watch)
        rules_changed(s->rules_fd, 0, s);
    free(s->in_force);
    s->in_force = s->rc < 0 || s->touched ? NULL : s->none ? strdup("") : TAKE(s->rules);
}

static void sync_start(struct netsync *s)
{
    struct net_world view = {0};
    bool started = false;

    s->served = TAKE(s->waiting);
    s->running = true;
    s->none = s->w->n_networks == 0;
    take_bridges(s);
    s->err = (struct vm_err){0};
    s->rc = net_view(s->w, &view, &s->err);
    if (s->rc == 0)
        s->rc = net_rules(&view, &s->rules, &s->err);
    if (s->rc == 0) {
        set_relays(s->w, &view);
        if (is_in_force(s)) {
            free((void *)view.guests);
            sync_done(s, false);
            return;
        }
        started = loop_work(s->w->loop, (struct loop_job){sync_run, sync_done, s}, &s->err) == 0;
    }
    free((void *)view.guests);
    if (started)
        return; /* s->rc is the worker's now */
    s->rc = -1;
    sync_done(s, false);
}

static void check_soon(struct netsync *s)
{
    int64_t wait = s->checked_at + CHECK_PAUSE_MS - now_ms();

    loop_timer_set(s->check, wait > 0 ? wait : 0, 0);
}

static void rest(struct netsync *s)
{
    if (s->touched)
        check_soon(s);
    else
        loop_timer_set(s->check, CHECK_EVERY_MS, CHECK_EVERY_MS / 2);
}

static void sync_done(void *arg, bool cancelled)
{
    struct netsync *s = arg;

    if (cancelled)
        s->rc = vm_fail(&s->err, VM_E_UNAVAILABLE, "vmsd is ending");
    note_in_force(s);
    free(s->rules);
    s->rules = NULL;
    for (size_t i = 0; s->rc < 0 && i < s->bridges.n; i++) /* the next change tries again */
        strv_add(&s->gone, s->bridges.v[i]);
    strv_done(s->bridges);
    s->bridges = (struct strv){0};
    s->running = false;
    if (s->rc < 0)
        log_error(NULL, "firewall: %s", s->err.text);
    finish(s, s->rc < 0 ? &s->err : NULL);
    names_push(s->w);
    if (s->waiting && !cancelled)
        sync_start(s);
    else if (!cancelled)
        rest(s);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Somebody else's firewall may flush everything: our table must be back at once. */
static void check_run(void *arg)
{
    struct netsync *s = arg;
    bool present = true;

    s->absent = net_rules_check(&present, NULL) == 0 && !present;
    s->upstream = names_upstream();
    strv_done(s->links);
    s->links = (struct strv){0};
    s->links_known = net_ports(&s->links, NULL) == 0;
    if (s->links_known && s->links.n)
        qsort(s->links.v, s->links.n, sizeof *s->links.v, by_text);
}

/* Somebody removed a running guest's link, or the bridge under it: it gets it again, and nothing else of it is touched. */
static void mend_links(struct netsync *s)
{
    for (size_t i = 0; s->links_known && i < s->w->n_guests; i++) {
        struct guest *g = s->w->guests[i];
        bool whole = true;
        struct job *j;

        for (size_t k = 0; k < g->n_nics && k < g->n_linked; k++) {
            const char *name = g->nics[k].ifname;

            whole &= s->links.n && bsearch(&name, s->links.v, s->links.n, sizeof *s->links.v, by_text);
        }
        if (whole || !guest_is_up(g) || g->job || g->next || !(j = job_new(g, JOB_CONVERGE)))
            continue;
        events_add(s->w, g->name, "link-lost", NULL, "somebody removed its link; it is put back");
        j->quiet = true;
        job_submit(j);
    }
}

static void check_done(void *arg, bool cancelled)
{
    struct netsync *s = arg;

    s->running = false;
    if (cancelled)
        return;
    names_take_upstream(s->w, TAKE(s->upstream));
    mend_links(s);
    if (s->rc < 0) {
        netsync_ask(s->w, NULL, NULL); /* the last change came to nothing: once more */
    } else if (s->absent) {
        events_add(s->w, NULL, "firewall-lost", NULL, "somebody removed our rules; they are put back");
        netsync_ask(s->w, NULL, NULL);
    } else if (s->waiting) {
        sync_start(s);
    } else {
        rest(s);
    }
}

static void check_now(void *arg)
{
    struct netsync *s = arg;

    if (s->running)
        return;
    s->touched = s->links_known = false;
    if (s->w->n_networks == 0 && s->rc == 0)
        return;
    s->running = true;
    s->checked_at = now_ms();
    if (loop_work(s->w->loop, (struct loop_job){check_run, check_done, s}, NULL) < 0)
        check_done(s, false);
}

static void rules_changed(int fd, uint32_t revents, void *arg)
{
    struct netsync *s = arg;

    (void)revents;
    if (!net_rules_touched(fd))
        return;
    free(s->in_force);
    s->in_force = NULL;
    if (s->touched)
        return;
    s->touched = true;
    if (!s->running)
        check_soon(s);
}

int netsync_open(struct world *w, struct vm_err *e)
{
    struct netsync *s = calloc(1, sizeof *s);
    struct vm_err why;

    if (!s)
        return vm_no_memory(e);
    s->w = w;
    s->rules_fd = -1;
    w->netsync = s;
    if (net_rules_watch(&s->rules_fd, &why) < 0 ||
        loop_watch_new(w->loop, s->rules_fd, EPOLLIN, rules_changed, s, &s->rules_watch, &why) < 0)
        log_warn(NULL, "firewall: %s, looking at it every %d s instead", why.text, CHECK_EVERY_MS / 1000);
    return loop_timer_new(w->loop, check_now, s, &s->check, e);
}

void netsync_close(struct world *w)
{
    struct netsync *s = w->netsync;

    if (!s)
        return;
    loop_timer_free(s->check);
    loop_watch_free(s->rules_watch);
    fd_drop(s->rules_fd);
    finish(s, NULL);
    s->served = TAKE(s->waiting);
    finish(s, NULL);
    free(s->rules);
    free(s->in_force);
    free(s->upstream);
    strv_done(s->gone);
    strv_done(s->bridges);
    strv_done(s->links);
    free(s);
    w->netsync = NULL;
}

void netsync_ask(struct world *w, void (*done)(const struct vm_err *e, void *arg), void *arg)
{
    struct netsync *s = w->netsync;
    struct asker *a = calloc(1, sizeof *a), **end = &s->waiting;
    struct vm_err e = {0};

    if (!a) {
        vm_no_memory(&e);
        if (done)
            done(&e, arg);
        return;
    }
    *a = (struct asker){.done = done, .arg = arg};
    while (*end)
        end = &(*end)->next;
    *end = a;
    if (!s->running)
        sync_start(s);
}

static void open_latch(const struct vm_err *e, void *arg)
{
    latch_open(arg, e);
}

struct wait {
    struct world *w;
    struct latch latch;
};

static void ask_on_loop(void *arg)
{
    struct wait *x = arg;

    netsync_ask(x->w, open_latch, &x->latch);
}

int netsync_wait(struct world *w, struct vm_err *e)
{
    struct wait x = {.w = w};

    latch_init(&x.latch);
    loop_call(w->loop, ask_on_loop, &x);
    return latch_wait(&x.latch, e);
}
