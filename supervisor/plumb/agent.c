#include "agent_mux.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- bytes that wait: a secret may be among them, so no memory is let go of before it is wiped ---- */

static bool queue_grow(struct queue *q, size_t n)
{
    struct queue grown = { .end = queue_len(q), .cap = q->cap ? q->cap : 4096 };

    while (grown.cap - grown.end < n)
        grown.cap *= 2;
    if (!(grown.p = malloc(grown.cap)))
        return false;
    if (grown.end)
        memcpy(grown.p, q->p + q->at, grown.end);
    queue_done(q);
    *q = grown;
    return true;
}

uint8_t *queue_room(struct queue *q, size_t n)
{
    if (q->cap - queue_len(q) < n) {
        if (!queue_grow(q, n))
            return NULL;
    } else if (q->at) {
        memmove(q->p, q->p + q->at, queue_len(q));
        q->end -= q->at;
        q->at = 0;
    }
    return q->p + q->end;
}

void queue_drop(struct queue *q, size_t n)
{
    q->at += n;
    if (q->at == q->end)
        queue_done(q);
}

void queue_done(struct queue *q)
{
    if (q->p)
        explicit_bzero(q->p, q->cap);
    free(q->p);
    *q = (struct queue){ 0 };
}

void agent_safe_text(char *out, size_t size, const char *from_guest)
{
    OWN(text) struct text t = { 0 };
    text_add_visible(&t, from_guest, strnlen(from_guest, size), NULL);
    size_t n = t.len < size ? t.len : size - 1;
    while (n && n < t.len && (t.s[n] & 0xc0) == 0x80) /* not through a character */
        n--;
    snprintf(out, size, "%.*s", (int)n, t.failed ? "(no memory)" : t.s ? t.s : "");
}

/* ---- life ---- */

static void agent_free(struct agent *a)
{
    loop_timer_free(a->timer);
    loop_watch_free(a->watch);
    fd_drop(a->fd);
    free(a->reader.buf);
    queue_done(&a->out);
    free(a);
}

void agent_hold(struct agent *a)
{
    a->holds++;
}

void agent_release(struct agent *a)
{
    if (--a->holds == 0 && a->closed)
        agent_free(a);
}

/* The fd goes at once, so that the guest's side ends too. */
static void agent_shut(struct agent *a, const char *why)
{
    a->state = AGENT_DOWN;
    loop_watch_free(a->watch);
    a->watch = NULL;
    loop_timer_stop(a->timer);
    a->fd = fd_drop(a->fd);
    free(a->reader.buf);
    a->reader = (struct frame_reader){ 0 };
    queue_done(&a->out);
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        if (a->streams[i])
            stream_lose(a->streams[i], why);
    }
}

void agent_down(struct agent *a, const char *why)
{
    if (a->state == AGENT_DOWN)
        return;
    agent_hold(a);
    agent_shut(a, why);
    if (!a->closed)
        a->ev.down(a->ev.arg, why);
    agent_release(a);
}

void agent_close(struct agent *a)
{
    if (!a || a->closed)
        return;
    a->closed = true;
    agent_hold(a);
    if (a->state != AGENT_DOWN) {
        agent_send(a, FRAME_BYE, 0, NULL, 0); /* a virtio-serial port may hide the end of a connection */
        if (queue_len(&a->out))
            (void)!send(a->fd, a->out.p + a->out.at, queue_len(&a->out), MSG_NOSIGNAL | MSG_DONTWAIT);
        agent_shut(a, "the session was closed");
    }
    agent_release(a);
}

bool agent_is_up(const struct agent *a)
{
    return a && a->state == AGENT_UP;
}

/* ---- out ---- */

int agent_send(struct agent *a, enum frame_type type, uint32_t stream, const void *data, size_t n)
{
    struct frame f = { .type = type, .stream = stream, .nonce = a->nonce, .data = data, .n = (uint32_t)n };
    uint8_t *p = NULL;

    if (queue_len(&a->out) + FRAME_HEAD + n <= OUT_MAX)
        p = queue_room(&a->out, FRAME_HEAD + n);
    if (!p) {
        a->choked = true;
        agent_arm(a);
        return -1;
    }
    a->out.end += frame_encode(p, &f);
    agent_kick(a);
    return 0;
}

/* Written by the loop and never here, so that a caller never sees the session end under its hands. */
void agent_kick(struct agent *a)
{
    if (a->writing || !a->watch)
        return;
    a->writing = true;
    loop_watch_set(a->watch, EPOLLIN | EPOLLOUT);
}

static void write_out(struct agent *a)
{
    for (size_t i = 0; i < FRAME_STREAMS_MAX && a->state == AGENT_UP; i++) {
        if (a->streams[i])
            stream_pump(a->streams[i]);
    }
    if (a->state == AGENT_DOWN)
        return;
    if (queue_len(&a->out)) {
        ssize_t n = send(a->fd, a->out.p + a->out.at, queue_len(&a->out), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n >= 0) {
            queue_drop(&a->out, (size_t)n);
        } else if (errno != EAGAIN && errno != EINTR) {
            agent_down(a, "the agent closed the connection");
            return;
        }
    }
    bool more = queue_len(&a->out) > 0;
    for (size_t i = 0; i < FRAME_STREAMS_MAX && !more; i++)
        more = a->streams[i] && stream_can_write(a->streams[i]);
    if (!more) {
        a->writing = false;
        loop_watch_set(a->watch, EPOLLIN);
    }
}

/* ---- in ---- */

/* Says what is wrong with a frame of the session itself, or NULL. */
static const char *on_welcome(struct agent *a, const struct frame *f)
{
    const char *version = pairs_ok(f->data, f->n) ? pairs_get(f->data, f->n, "version") : NULL;
    if (!version || strcmp(version, "1") != 0)
        return "the agent speaks another version of the protocol";
    a->state = AGENT_UP;
    a->skipped = a->reader.skipped;
    a->ping_at = now_ms() + PING_MS;
    a->ev.up(a->ev.arg);
    return NULL;
}

static void on_bye(struct agent *a, const struct frame *f)
{
    const char *error = pairs_ok(f->data, f->n) ? pairs_get(f->data, f->n, "error") : NULL;
    char why[200] = "the agent said goodbye";
    if (error)
        agent_safe_text(why, sizeof(why), error);
    agent_down(a, why);
}

/* Late, unasked and unknown frames change nothing; whoever sends many is no agent of ours. */
static const char *on_stray(struct agent *a)
{
    return ++a->strays > STRAYS_MAX ? "the agent keeps sending frames that nobody asked for" : NULL;
}

static const char *on_frame(struct agent *a, const struct frame *f)
{
    struct agent_stream *s = f->stream ? stream_of(a, f->stream) : NULL;
    if (a->state == AGENT_GREETING && f->type == FRAME_WELCOME)
        return on_welcome(a, f);
    if (f->type == FRAME_BYE) {
        on_bye(a, f);
        return NULL;
    }
    if (a->state == AGENT_UP && s)
        return stream_frame(s, f);
    if (a->pinged && f->type == FRAME_PONG) {
        a->pinged = false;
        return NULL;
    }
    return on_stray(a);
}

static const char *on_bytes(struct agent *a)
{
    struct frame f = { 0 };
    bool whole = false;
    const char *wrong = NULL;

    while (a->state != AGENT_DOWN && !wrong) {
        enum frame_got got = frame_next(&a->reader, &f);
        if (a->state == AGENT_UP && a->reader.skipped != a->skipped)
            return "the agent sent bytes that are no frame";
        if (a->reader.skipped > SKIP_MAX)
            return "the line carries no frames of this session";
        if (got == FRAME_BROKEN)
            return "the agent sent a frame of an impossible type or length";
        if (got == FRAME_NONE)
            break;
        whole = true;
        wrong = on_frame(a, &f);
    }
    if (a->state != AGENT_DOWN && frame_reader_idle(&a->reader)) {
        a->frame_by = 0;
    } else if (whole || !a->frame_by) {
        a->frame_by = now_ms() + FRAME_MS;
        agent_arm(a);
    }
    return wrong;
}

static void read_in(struct agent *a)
{
    size_t room;
    if (!a->reader.buf && !(a->reader.buf = malloc(FRAME_BYTES_MAX))) {
        agent_down(a, "no memory");
        return;
    }
    void *p = frame_reader_room(&a->reader, &room);
    ssize_t n = recv(a->fd, p, room, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        agent_down(a, "the agent closed the connection");
        return;
    }
    frame_reader_add(&a->reader, (size_t)n);
    const char *wrong = on_bytes(a);
    if (wrong)
        agent_down(a, wrong);
    else if (a->state != AGENT_DOWN && frame_reader_idle(&a->reader)) { /* a thousand idle sessions hold no buffers */
        free(a->reader.buf);
        a->reader.buf = NULL;
        a->reader.at = a->reader.end = 0;
    }
}

static void on_ready(int fd, uint32_t revents, void *arg)
{
    struct agent *a = arg;
    (void)fd;
    agent_hold(a);
    if (revents & (EPOLLIN | EPOLLHUP | EPOLLERR))
        read_in(a);
    if (a->state != AGENT_DOWN && (revents & EPOLLOUT))
        write_out(a);
    agent_release(a);
}

/* ---- time ---- */

void agent_arm(struct agent *a)
{
    int64_t at = a->state == AGENT_UP ? a->ping_at : a->hello_by, slack = a->state == AGENT_UP ? PING_SLACK_MS : 0;
    bool sharp = a->choked;

    if (a->choked)
        at = 0;
    if (a->frame_by && a->frame_by < at) {
        at = a->frame_by;
        sharp = true;
    }
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        const struct agent_stream *s = a->streams[i];
        if (s && s->cancelled && s->cancel_by < at) {
            at = s->cancel_by;
            sharp = true;
        }
    }
    int64_t left = at - now_ms();
    loop_timer_set(a->timer, left > 0 ? left : 0, sharp ? 0 : slack);
}

static const char *overdue(const struct agent *a, int64_t now)
{
    if (a->choked)
        return "the agent does not read what it is sent";
    if (a->state == AGENT_GREETING && now >= a->hello_by)
        return "the agent did not answer within 10 s";
    if (a->frame_by && now >= a->frame_by)
        return "the agent began a frame and did not end it within 30 s";
    if (a->state == AGENT_UP && a->pinged && now >= a->ping_at)
        return "the agent did not answer a ping within 30 s";
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        const struct agent_stream *s = a->streams[i];
        if (s && s->cancelled && now >= s->cancel_by)
            return "the agent did not end a cancelled request within 15 s";
    }
    return NULL;
}

static void on_time(void *arg)
{
    struct agent *a = arg;
    int64_t now = now_ms();
    const char *why = overdue(a, now);

    if (why) {
        agent_down(a, why);
        return;
    }
    if (a->state == AGENT_UP && now >= a->ping_at) {
        a->pinged = true;
        a->ping_at = now + PING_MS;
        agent_send(a, FRAME_PING, 0, NULL, 0);
    }
    agent_arm(a);
}

/* ---- opening ---- */

static void hello(struct agent *a)
{
    char words[128];
    size_t n = 0;
    pairs_add(words, sizeof(words), &n, "version", "1");
    if (a->ev.token)
        pairs_add(words, sizeof(words), &n, "token", a->ev.token);
    a->hello_by = now_ms() + HELLO_MS;
    agent_send(a, FRAME_HELLO, 0, words, n);
    agent_arm(a);
    a->ev.token = NULL; /* the caller's; not ours to keep */
}

int agent_open(struct loop *l, int fd, struct agent_events ev, struct agent **out, struct vm_err *e)
{
    struct agent *a = calloc(1, sizeof(*a));
    if (!a) {
        fd_drop(fd);
        return vm_no_memory(e);
    }
    *a = (struct agent){ .loop = l, .fd = fd, .ev = ev };
    int rc = 0;
    if (ev.token && strlen(ev.token) != PROTO_TOKEN)
        rc = vm_fail(e, VM_E_INVALID, "an agent's token has %d hex digits", PROTO_TOKEN);
    while (rc == 0 && a->nonce == 0) { /* 0 is the one of vmctl's streams */
        if (getrandom(&a->nonce, sizeof(a->nonce), 0) != sizeof(a->nonce))
            rc = vm_fail_sys(e, "take random bytes");
    }
    a->reader.nonce = a->nonce;
    if (rc == 0)
        rc = loop_timer_new(l, on_time, a, &a->timer, e);
    if (rc == 0)
        rc = loop_watch_new(l, fd, EPOLLIN, on_ready, a, &a->watch, e);
    if (rc < 0) {
        agent_free(a);
        return -1;
    }
    hello(a);
    *out = a;
    return 0;
}
