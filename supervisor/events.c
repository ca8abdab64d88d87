/* What happened: a ring in memory, written to the store in batches, streamed to whoever listens. */
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum { RING = 1024, WRITE_AFTER_MS = 1000, ID_GAP = 1000 };

struct event {
    int64_t id, at;
    char *guest; /* NULL: the host's own */
    char *body;
};

struct listener {
    struct listener *next;
    struct events *events;
    struct http_stream *stream;
    char *guest; /* NULL: all */
};

struct events {
    struct world *w;
    struct event ring[RING]; /* event id is at ring[id % RING] */
    int64_t first, last, written; /* ids; first > last: empty */
    bool writing;
    struct loop_timer *timer;
    struct listener *listeners;
};

/* One batch on its way to the store, a copy: the ring may move on. */
struct write_out {
    struct events *events;
    struct store *store;
    struct store_event *v;
    size_t n;
    struct vm_err err;
    int rc;
};

static void write_run(void *arg)
{
    struct write_out *o = arg;

    o->rc = store_put_events(o->store, o->v, o->n, &o->err);
}

static void write_free(struct write_out *o)
{
    for (size_t i = 0; i < o->n; i++)
        free((char *)o->v[i].body);
    free(o->v);
    free(o);
}

static void write_done(void *arg, bool cancelled)
{
    struct write_out *o = arg;

    o->events->writing = false;
    if (o->rc < 0 && !cancelled)
        log_warn(NULL, "events are not kept: %s, continuing", o->err.text);
    if (o->events->written < o->events->last && !cancelled)
        loop_timer_set(o->events->timer, WRITE_AFTER_MS, WRITE_AFTER_MS / 2);
    write_free(o);
}

static struct write_out *write_new(struct events *v)
{
    struct write_out *o = calloc(1, sizeof *o);
    int64_t from = v->written + 1 > v->first ? v->written + 1 : v->first;

    if (!o || from > v->last || !(o->v = calloc((size_t)(v->last - from + 1), sizeof *o->v))) {
        free(o);
        return NULL;
    }
    for (int64_t id = from; id <= v->last; id++) {
        const struct event *ev = &v->ring[id % RING];
        char *body = strdup(ev->body);

        if (body)
            o->v[o->n++] = (struct store_event){.id = id, .at = ev->at, .body = body};
    }
    o->events = v;
    o->store = v->w->store;
    v->written = v->last;
    return o;
}

static void write_soon(void *arg)
{
    struct events *v = arg;
    struct write_out *o = v->writing ? NULL : write_new(v);

    if (!o)
        return;
    v->writing = true;
    if (loop_work(v->w->loop, (struct loop_job){write_run, write_done, o}, NULL) < 0) {
        v->writing = false;
        write_free(o);
    }
}

int events_open(struct world *w, struct vm_err *e)
{
    struct events *v = calloc(1, sizeof *v);

    if (!v)
        return vm_no_memory(e);
    v->w = w;
    /* The last second before a crash may be missing from the store: ids start well above what was given out. */
    v->last = v->written = store_event_last(w->store) + ID_GAP;
    v->first = v->last + 1;
    w->events = v;
    return loop_timer_new(w->loop, write_soon, v, &v->timer, e);
}

void events_close(struct world *w)
{
    struct events *v = w->events;
    struct write_out *o;

    if (!v)
        return;
    if ((o = write_new(v))) { /* the loop turns no more: waiting is allowed */
        write_run(o);
        write_free(o);
    }
    for (int64_t id = v->first; id <= v->last; id++) {
        free(v->ring[id % RING].guest);
        free(v->ring[id % RING].body);
    }
    loop_timer_free(v->timer);
    free(v);
    w->events = NULL;
}

static bool listener_wants(const struct listener *l, const char *guest)
{
    return !l->guest || (guest && !strcmp(l->guest, guest));
}

static void listener_give(struct listener *l, const char *body)
{
    if (http_stream_write(l->stream, body, strlen(body)))
        http_stream_write(l->stream, "\n", 1);
}

void events_add(struct world *w, const char *guest, const char *type, json_t *body, const char *fmt, ...)
{
    struct events *v = w->events;
    json_t *j = body ? body : json_object();
    char what[400], at[CLOCK_TEXT];
    struct event *slot;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    log_info(guest, "%s: %s", type, what);
    slot = &v->ring[(v->last + 1) % RING];
    if (v->last - v->first + 1 == RING)
        v->first++;
    free(slot->guest);
    free(slot->body);
    *slot = (struct event){.id = ++v->last, .at = wall_ms()};
    json_put_int(j, "id", slot->id);
    json_put_str(j, "at", wall_text(slot->at, at));
    json_put_str(j, "guest", guest);
    json_put_str(j, "type", type);
    json_put_str(j, "text", what);
    guest_set_text(&slot->guest, guest);
    slot->body = json_to_text(j);
    json_decref(j);
    if (!slot->body)
        guest_set_text(&slot->body, "{}");
    for (struct listener *l = v->listeners, *next; l; l = next) {
        next = l->next; /* a listener that lags may vanish while it is written to */
        if (listener_wants(l, guest))
            listener_give(l, slot->body);
    }
    loop_timer_set(v->timer, WRITE_AFTER_MS, WRITE_AFTER_MS / 2);
}

json_t *events_recent(struct world *w, const char *guest, size_t max)
{
    struct events *v = w->events;
    json_t *list = json_array();

    for (int64_t id = v->last; id >= v->first && json_array_size(list) < max; id--) {
        const struct event *ev = &v->ring[id % RING];

        if (!guest || (ev->guest && !strcmp(ev->guest, guest)))
            json_array_insert_new(list, 0, json_loads(ev->body, 0, NULL));
    }
    return list;
}

static void listener_gone(void *arg)
{
    struct listener *l = arg;

    for (struct listener **p = &l->events->listeners; *p; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            break;
        }
    }
    free(l->guest);
    free(l);
}

/* Older events than the ring holds come from the store, on a worker. */
struct history {
    struct events *events;
    struct http_request *request;
    struct text lines;
    char *guest;
    int64_t since, upto;
    bool follow;
    struct vm_err err;
    int rc;
};

static int history_each(const struct store_event *ev, void *arg)
{
    struct history *h = arg;
    OWN(json) json_t *j = NULL;

    if (ev->id > h->upto)
        return -1;
    if (h->guest) {
        const char *name = (j = json_loads(ev->body, 0, NULL)) ? json_str(j, "guest", "") : "";

        if (strcmp(name, h->guest))
            return 0;
    }
    text_addf(&h->lines, "%s\n", ev->body);
    return 0;
}

static void history_run(void *arg)
{
    struct history *h = arg;

    if (h->since < h->upto)
        h->rc = store_events(h->events->w->store, h->since, 20000, history_each, h, &h->err);
}

static void history_reply(struct history *h)
{
    struct events *v = h->events;
    struct listener *l = calloc(1, sizeof *l);
    int64_t from = h->upto + 1 > v->first ? h->upto + 1 : v->first;

    if (!l) {
        vm_no_memory(&h->err);
        http_reply_error(h->request, &h->err);
        return;
    }
    *l = (struct listener){.events = v, .guest = TAKE(h->guest), .next = v->listeners};
    v->listeners = l;
    if (!(l->stream = http_reply_stream(h->request, 200, "application/x-ndjson", listener_gone, l))) {
        listener_gone(l);
        return;
    }
    if (h->lines.len)
        http_stream_write(l->stream, h->lines.s, h->lines.len);
    for (int64_t id = from; id <= v->last; id++)
        if (id > h->since && listener_wants(l, v->ring[id % RING].guest))
            listener_give(l, v->ring[id % RING].body);
    if (!h->follow)
        http_stream_end(l->stream);
}

static void history_done(void *arg, bool cancelled)
{
    struct history *h = arg;

    if (cancelled || h->lines.failed)
        h->rc = vm_fail(&h->err, VM_E_UNAVAILABLE, "vmsd is ending or out of memory");
    if (h->request && h->rc < 0)
        http_reply_error(h->request, &h->err);
    else if (h->request)
        history_reply(h);
    text_done(h->lines);
    free(h->guest);
    free(h);
}

static void history_abort(void *arg)
{
    ((struct history *)arg)->request = NULL;
}

void events_serve(struct http_request *r, struct world *w)
{
    const char *since = http_query(r, "since"), *guest = http_query(r, "guest");
    struct history *h = calloc(1, sizeof *h);
    uint64_t from = 0;
    struct vm_err e = {0};

    if (!h || (since && !text_to_u64(since, &from)) || from > INT64_MAX) {
        vm_fail(&e, VM_E_INVALID, "since: '%.40s' is not the id of an event", since ? since : "");
        http_reply_error(r, &e);
        free(h);
        return;
    }
    h->events = w->events;
    h->request = r;
    h->since = (int64_t)from;
    h->upto = w->events->first - 1; /* what the ring holds is taken from the ring */
    h->follow = http_query(r, "follow") != NULL;
    http_on_abort(r, history_abort, h);
    if (guest)
        guest_set_text(&h->guest, guest);
    if (loop_work(w->loop, (struct loop_job){history_run, history_done, h}, &e) < 0) {
        http_reply_error(r, &e);
        free(h->guest);
        free(h);
    }
}
