/* What happened: a ring in memory, written to the store in batches, streamed to whoever listens. */
#include "api.h"
#include "world.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum { RING = 1024, WRITE_AFTER_MS = 1000, ID_GAP = 1000, PAGE = 200, PAGE_BYTES = HTTP_STREAM_BACKLOG / 4 };

struct event {
    int64_t id, at;
    char *guest; /* NULL: the host's own */
    char *body;
};

/* Whoever asks: given first what the store has, page by page as the reader takes it, then the ring, then what comes. */
struct listener {
    struct listener *next;
    struct events *events;
    struct http_request *request; /* without follow: answered when all is there, in one piece */
    struct http_stream *stream;   /* with follow */
    char *guest;                  /* NULL: all */
    int64_t seen, upto;           /* the last id that was given or passed over; how far the store shall be read */
    bool live, busy;              /* in the list of those who hear what comes; a worker reads a page */
    unsigned rows;                /* of the page */
    struct text lines;
    int rc;
    struct vm_err err;
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
    struct events *v = o->events;

    v->writing = false;
    if (cancelled || o->rc < 0)
        v->written = o->n ? o->v[0].id - 1 : v->written; /* again with those that follow, or at the end */
    else if (v->written < v->last)
        loop_timer_set(v->timer, WRITE_AFTER_MS, WRITE_AFTER_MS / 2);
    if (o->rc < 0 && !cancelled)
        log_warn(NULL, "events are not kept: %s, continuing", o->err.text);
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
    if (loop_work(v->w->loop, (struct loop_job){write_run, write_done, o}, NULL) < 0)
        write_done(o, true);
}

int events_open(struct world *w, struct vm_err *e)
{
    struct events *v;
    int64_t last = 0;

    if (store_event_last(w->store, &last, e) < 0)
        return -1;
    if (!(v = calloc(1, sizeof *v)))
        return vm_no_memory(e);
    v->w = w;
    /* The last second before a crash may be missing from the store: ids start well above what was given out. */
    v->last = v->written = last + ID_GAP;
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
    if (!l->stream)
        text_addf(&l->lines, "%s\n", body);
    else if (http_stream_write(l->stream, body, strlen(body)))
        http_stream_write(l->stream, "\n", 1);
}

/* What stays of an event that there was no memory for. */
static void event_lost(struct event *ev, const char *at)
{
    char body[256];

    snprintf(body, sizeof body, "{\"at\":\"%s\",\"guest\":%s%s%s,\"id\":%" PRId64 ",\"text\":\"no memory to keep it\",\"type\":\"lost\"}",
             at, ev->guest ? "\"" : "", ev->guest ? ev->guest : "null", ev->guest ? "\"" : "", ev->id);
    guest_set_text(&ev->body, body);
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
        event_lost(slot, at);
    for (struct listener *l = v->listeners, *next; l; l = next) {
        next = l->next; /* a listener that lags may vanish while it is written to */
        if (listener_wants(l, guest))
            listener_give(l, slot->body);
    }
    if (v->last - v->written > RING / 2) /* sooner than the ring comes round */
        write_soon(v);
    else
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

static void listener_free(struct listener *l)
{
    text_done(l->lines);
    free(l->guest);
    free(l);
}

static void listener_gone(void *arg)
{
    struct listener *l = arg;

    for (struct listener **p = &l->events->listeners; l->live && *p; p = &(*p)->next) {
        if (*p == l) {
            *p = l->next;
            break;
        }
    }
    l->stream = NULL;
    if (!l->busy)
        listener_free(l);
}

static void listener_abort(void *arg)
{
    ((struct listener *)arg)->request = NULL; /* while a worker reads: without, the request is answered at once */
}

static int page_each(const struct store_event *ev, void *arg)
{
    struct listener *l = arg;
    OWN(json) json_t *j = NULL;

    if (ev->id > l->upto)
        return -1;
    l->rows++;
    l->seen = ev->id;
    if (l->guest) {
        const char *name = (j = json_loads(ev->body, 0, NULL)) ? json_str(j, "guest", "") : "";

        if (strcmp(name, l->guest))
            return 0;
    }
    text_addf(&l->lines, "%s\n", ev->body);
    return 0;
}

static void page_run(void *arg)
{
    struct listener *l = arg;

    l->rows = 0;
    l->rc = store_events(l->events->w->store, l->seen, PAGE, page_each, l, &l->err);
    if (l->rc == 0 && l->rows < PAGE)
        l->seen = l->upto;
}

static void listener_go_on(void *arg);

static void page_done(void *arg, bool cancelled)
{
    struct listener *l = arg;

    l->busy = false;
    if (cancelled || l->lines.failed)
        l->rc = vm_fail(&l->err, VM_E_UNAVAILABLE, "vmsd is ending or out of memory");
    if (l->rc < 0 && l->stream) {
        http_stream_end(l->stream); /* its reader may come again, with the last id that it got */
    } else if (l->rc < 0 && l->request) {
        http_reply_error(l->request, &l->err);
        listener_free(l);
    } else if (l->stream) {
        if (l->lines.len && !http_stream_write(l->stream, l->lines.s, l->lines.len))
            return; /* it hears of that by itself */
        l->lines.len = 0;
        listener_go_on(l);
    } else if (l->request) {
        listener_go_on(l);
    } else {
        listener_free(l);
    }
}

/* Gives what there is beyond `seen`, as fast as it is taken. */
static void listener_go_on(void *arg)
{
    struct listener *l = arg;
    struct events *v = l->events;

    if (l->stream)
        http_stream_on_drain(l->stream, NULL, NULL);
    for (; l->seen < v->last; l->seen++) {
        const struct event *ev = &v->ring[(l->seen + 1) % RING];

        if (l->stream && http_stream_backlog(l->stream) > PAGE_BYTES) {
            http_stream_on_drain(l->stream, listener_go_on, l);
            return;
        }
        if (l->seen < v->first - 1) {
            l->busy = true;
            l->upto = v->first - 1;
            if (loop_work(v->w->loop, (struct loop_job){page_run, page_done, l}, &l->err) < 0)
                page_done(l, true);
            return;
        }
        if (listener_wants(l, ev->guest))
            listener_give(l, ev->body);
    }
    if (l->request) {
        http_reply_text(l->request, 200, "application/x-ndjson", l->lines.s ? l->lines.s : "", l->lines.len);
        listener_free(l);
        return;
    }
    l->live = true;
    l->next = v->listeners;
    v->listeners = l;
}

void events_get(struct http_request *r, void *arg)
{
    struct world *w = arg;
    const char *since = http_query(r, "since"), *guest = http_query(r, "guest");
    struct listener *l = NULL;
    uint64_t from = 0;
    struct vm_err e = {0};

    if ((since && !text_to_u64(since, &from)) || from > INT64_MAX)
        vm_fail(&e, VM_E_INVALID, "since: '%.40s' is not the id of an event", since);
    else if (!(l = calloc(1, sizeof *l)))
        vm_no_memory(&e);
    if (!l) {
        http_reply_error(r, &e);
        return;
    }
    l->events = w->events;
    l->seen = (int64_t)from;
    if (guest)
        guest_set_text(&l->guest, guest);
    if (!api_flag(r, "follow")) {
        l->request = r;
        http_on_abort(r, listener_abort, l);
    } else if (!(l->stream = http_reply_stream(r, 200, "application/x-ndjson", listener_gone, l))) {
        listener_free(l);
        return;
    }
    listener_go_on(l);
}
