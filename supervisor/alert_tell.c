/* Who is told: each channel takes what the store has for it, one notice after the other; what fails is tried again. */
#include "alert.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum { RETRY_MS = 5000, RETRY_MAX_MS = 900000, PAUSE_MAX_MS = 60000, GIVE_UP_MS = 86400000 };

struct teller {
    struct teller *next;
    struct tellers *all;
    char *channel;
    size_t index;                  /* of `notify` */
    struct loop_timer *timer;
    unsigned failures;             /* in a row */
    bool busy, again, gone;        /* gone: out of the list, and freed when it is not busy any more */
};

struct tellers {
    struct world *w;
    struct teller *first;
    struct strv channels;
    bool sweeping, sweep_again;    /* notices of channels that are no more */
};

enum telling { TELL_NOTHING, TELL_LATER, TELL_TOLD, TELL_FAILED, TELL_GIVEN_UP };

/* One notice on its way, with copies. */
struct delivery {
    struct teller *teller;
    struct world *w;               /* for its options and its store alone, neither of which changes */
    char *host_text, *channel;
    size_t index;
    enum telling how;
    int64_t wait_ms;
    bool first;                    /* try of this notice */
    char *guest;
    int64_t alert;
    struct vm_err err;
};

static void delivery_free(struct delivery *d)
{
    free(d->host_text);
    free(d->channel);
    free(d->guest);
    free(d);
}

static int64_t back_off(unsigned tries, int64_t most)
{
    int64_t ms = RETRY_MS;

    while (tries-- && ms < most)
        ms *= 2;
    return ms < most ? ms : most;
}

/* That it is tried is written first: who is told once too often was told by a vmsd that could not write what came of it. */
static void deliver(struct delivery *d, const struct store_notice *n)
{
    int64_t now = wall_ms(), wait = n->next_at - now;
    OWN(host_spec) struct host_spec *h = NULL;
    struct vm_err kept = {0};
    bool told;

    if (wait > 0 && wait <= RETRY_MAX_MS) { /* more is a clock that was set back */
        d->how = TELL_LATER;
        d->wait_ms = wait;
        return;
    }
    d->first = n->tries == 0;
    d->alert = n->alert.id;
    d->guest = n->alert.guest ? strdup(n->alert.guest) : NULL;
    d->how = TELL_FAILED;
    if (store_notice_try(d->w->store, n->id, now + back_off(n->tries, RETRY_MAX_MS), &d->err) < 0)
        return;
    told = host_spec_load(d->host_text, &h, &d->err) == 0 && d->index < h->n_notify &&
           alert_send(&h->notify[d->index], n, d->w, &d->err) == 0;
    d->how = told ? TELL_TOLD : now - n->at > GIVE_UP_MS ? TELL_GIVEN_UP : TELL_FAILED;
    if (store_notice_tried(d->w->store, n->id, told ? NULL : d->err.text, d->how != TELL_FAILED, &kept) < 0)
        log_warn(NULL, "%s: what became of alert %lld is not kept: %s, continuing", d->channel, (long long)n->alert.id, kept.text);
}

static void deliver_run(void *arg)
{
    struct delivery *d = arg;
    OWN(notice) struct store_notice n = {0};
    bool found = false;

    if (store_notice_next(d->w->store, d->channel, &n, &found, &d->err) < 0)
        d->how = TELL_FAILED;
    else if (found)
        deliver(d, &n);
}

static void teller_free(struct teller *t)
{
    if (!t)
        return;
    loop_timer_free(t->timer);
    free(t->channel);
    free(t);
}

static void complain(struct teller *t, const struct delivery *d)
{
    json_t *body;

    if (d->how != TELL_GIVEN_UP && !d->first)
        return; /* it was said */
    body = json_pack("{ss sI}", "channel", t->channel, "alert", (json_int_t)d->alert);
    events_add(t->all->w, d->guest, "alert-untold", body, "%s: %s%s", t->channel, d->err.text,
               d->how == TELL_GIVEN_UP ? "; given up after a day" : ", trying again");
}

static void deliver_done(void *arg, bool cancelled)
{
    struct delivery *d = arg;
    struct teller *t = d->teller;
    bool failed = d->how == TELL_FAILED || d->how == TELL_GIVEN_UP;

    t->busy = false;
    if (t->gone) {
        teller_free(t);
    } else if (!cancelled) {
        if (failed)
            complain(t, d);
        t->failures = failed ? t->failures + 1 : 0;
        if (failed)
            loop_timer_set(t->timer, back_off(t->failures - 1, PAUSE_MAX_MS), 0);
        else if (d->how == TELL_TOLD || t->again)
            loop_timer_set(t->timer, 0, 0);
        else if (d->how == TELL_LATER)
            loop_timer_set(t->timer, d->wait_ms, 0);
        t->again = false;
    }
    delivery_free(d);
}

static void tell_next(void *arg)
{
    struct teller *t = arg;
    struct delivery *d = t->busy ? NULL : calloc(1, sizeof *d);
    struct world *w = t->all->w;

    if (!d)
        return;
    *d = (struct delivery){.teller = t, .w = w, .index = t->index, .channel = strdup(t->channel),
                           .host_text = w->host_text ? strdup(w->host_text) : NULL};
    t->busy = d->channel && d->host_text && loop_work(w->loop, (struct loop_job){deliver_run, deliver_done, d}, NULL) == 0;
    if (t->busy)
        return;
    delivery_free(d);
    loop_timer_set(t->timer, RETRY_MS, 0);
}

/* One that waits after a failure goes on waiting. */
void tellers_kick(struct tellers *all)
{
    for (struct teller *t = all->first; t; t = t->next) {
        t->again |= t->busy;
        if (!t->busy && !t->failures)
            loop_timer_set(t->timer, 0, 0);
    }
}

/* ---- the list follows the spec ---- */

struct sweep { struct tellers *all; struct store *store; struct strv channels; struct vm_err err; };

static void sweep_run(void *arg)
{
    struct sweep *x = arg;

    store_notices_keep(x->store, &x->channels, &x->err);
}

static void sweep_start(struct tellers *all);

static void sweep_done(void *arg, bool cancelled)
{
    struct sweep *x = arg;
    struct tellers *all = x->all;

    all->sweeping = false;
    if (x->err.code != VM_E_OK && !cancelled)
        log_warn(NULL, "notices of alerts that nobody is to get any more: %s, continuing", x->err.text);
    strv_done(x->channels);
    free(x);
    if (all->sweep_again && !cancelled)
        sweep_start(all);
}

static void sweep_start(struct tellers *all)
{
    struct sweep *x = all->sweeping ? NULL : calloc(1, sizeof *x);

    all->sweep_again = all->sweeping;
    if (!x)
        return;
    *x = (struct sweep){.all = all, .store = all->w->store};
    for (size_t i = 0; i < all->channels.n; i++)
        strv_add(&x->channels, all->channels.v[i]);
    all->sweeping = !x->channels.failed && loop_work(all->w->loop, (struct loop_job){sweep_run, sweep_done, x}, NULL) == 0;
    if (!all->sweeping) {
        strv_done(x->channels);
        free(x);
    }
}

static void let_go(struct tellers *all)
{
    for (struct teller *t = all->first, *next; t; t = next) {
        next = t->next;
        t->gone = true;
        loop_timer_stop(t->timer);
        if (!t->busy)
            teller_free(t);
    }
    all->first = NULL;
    strv_done(all->channels);
    all->channels = (struct strv){0};
}

static int add(struct tellers *all, size_t i, const struct spec_notify *to, struct vm_err *e)
{
    struct teller *t = calloc(1, sizeof *t);

    if (!t || !(t->channel = alert_channel(i, to))) {
        free(t);
        return vm_no_memory(e);
    }
    t->all = all;
    t->index = i;
    if (loop_timer_new(all->w->loop, tell_next, t, &t->timer, e) < 0) {
        teller_free(t);
        return -1;
    }
    strv_add(&all->channels, t->channel);
    t->next = all->first;
    all->first = t;
    return all->channels.failed ? vm_no_memory(e) : 0;
}

int tellers_set(struct tellers *all, const struct host_spec *h, struct vm_err *e)
{
    let_go(all);
    for (size_t i = 0; i < h->n_notify; i++)
        if (add(all, i, &h->notify[i], e) < 0)
            return -1;
    sweep_start(all);
    tellers_kick(all);
    return 0;
}

const struct strv *tellers_channels(const struct tellers *all)
{
    return &all->channels;
}

int tellers_open(struct world *w, struct tellers **out, struct vm_err *e)
{
    struct tellers *all = calloc(1, sizeof *all);

    if (!all)
        return vm_no_memory(e);
    all->w = w;
    *out = all;
    return tellers_set(all, w->host_spec, e);
}

void tellers_close(struct tellers *all)
{
    if (!all)
        return;
    let_go(all);
    free(all);
}
