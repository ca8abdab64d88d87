#include "agent.h"

#include <errno.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/own.h>

/* There is one at a time; as a static its buffers cost nothing until they are touched. */
static struct session {
    struct line line;
    struct frame_reader reader;
    uint8_t in[FRAME_BYTES_MAX];
    bool boundaries, up;
    const char *token;
    uint64_t skipped;              /* of the reader, when the session came up */
    int64_t away_since;            /* 0: the host is there */
    struct stream streams[FRAME_STREAMS_MAX];
    struct callers callers;
    struct pollfd pfd[1 + FRAME_STREAMS_MAX * SLOTS + 1 + CALLERS];
} session;

int64_t agent_now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- the line: what is written waits in a buffer; whoever has no room tries again after the next poll ---- */

size_t line_room(const struct line *l)
{
    return OUT_BYTES - (l->end - l->at);
}

uint8_t *line_tail(struct line *l)
{
    memmove(l->out, l->out + l->at, l->end - l->at);
    l->end -= l->at;
    l->at = 0;
    return l->out + l->end;
}

void line_send(struct line *l, enum frame_type type, uint32_t stream, const void *data, size_t n)
{
    if (l->over || !l->nonce)
        return;
    struct frame f = { .type = type, .stream = stream, .nonce = l->nonce, .data = data, .n = (uint32_t)n };
    l->end += frame_encode(line_tail(l), &f);
}

void line_flush(struct line *l)
{
    while (!l->over && l->at < l->end) {
        ssize_t n = write(l->fd, l->out + l->at, l->end - l->at);
        if (n > 0)
            l->at += (size_t)n;
        else if (n < 0 && errno == EAGAIN)
            return;
        else if (n == 0 || errno != EINTR)
            l->over = true;
    }
}

/* ---- streams ---- */

static struct stream *stream_find(struct session *s, uint32_t id)
{
    for (struct stream *st = s->streams; st < s->streams + FRAME_STREAMS_MAX; st++) {
        if (st->id == id)
            return st;
    }
    return NULL;
}

static void open_request(struct session *s, const struct frame *f)
{
    struct request rq = { f->data, f->n };
    if (!f->stream || stream_find(s, f->stream))
        return;
    struct stream *st = stream_find(s, 0);
    if (st) {
        stream_open(st, &s->line, f->stream, &rq);
    } else {
        static const char busy[] = "error=too many requests at once; wait until one has ended";
        line_send(&s->line, FRAME_END, f->stream, busy, sizeof(busy));
    }
}

/* Polls and steps every stream; the line and the callers too, unless the session is ending. */
static void poll_all(struct session *s, short line_events, struct pollfd *calls, int timeout_ms)
{
    s->pfd[0] = (struct pollfd){ .fd = line_events ? s->line.fd : -1, .events = line_events };
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++)
        stream_wants(&s->streams[i], &s->line, s->pfd + 1 + i * SLOTS, &timeout_ms);
    if (calls)
        callers_wants(&s->callers, calls, &timeout_ms);
    size_t n = calls ? ARRAY_LEN(s->pfd) : ARRAY_LEN(s->pfd) - 1 - CALLERS;
    if (poll(s->pfd, n, timeout_ms) < 0) {
        for (size_t i = 0; i < n; i++)
            s->pfd[i].revents = 0;
    }
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        if (s->streams[i].id)
            stream_step(&s->streams[i], &s->line, s->pfd + 1 + i * SLOTS);
    }
}

static bool any_stream(const struct session *s)
{
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        if (s->streams[i].id)
            return true;
    }
    return false;
}

/* Nothing that this session started survives it: the next one may run the same script again. */
static void session_end(struct session *s)
{
    s->up = false;
    s->line.nonce = 0; /* nobody listens to what the streams would still say */
    s->line.at = s->line.end = 0;
    s->reader.nonce = 0;
    for (struct stream *st = s->streams; st < s->streams + FRAME_STREAMS_MAX; st++) {
        if (st->id)
            stream_cancel(st);
    }
    while (any_stream(s))
        poll_all(s, 0, NULL, -1);
}

/* ---- frames ---- */

static void hello(struct session *s, const struct frame *f)
{
    const char *version = NULL;
    char words[128];
    size_t n = 0;

    if (s->up && f->nonce == s->line.nonce)
        return;
    if (!hello_ok(f, s->token)) {
        s->line.over |= s->boundaries; /* without a word */
        return;
    }
    version = pairs_get(f->data, f->n, "version");
    bool fits = version && strcmp(version, "1") == 0;
    session_end(s); /* clears no byte of f */
    s->line.nonce = s->reader.nonce = f->nonce;
    s->skipped = s->reader.skipped;
    s->up = fits;
    if (fits) {
        pairs_add(words, sizeof(words), &n, "version", "1");
        pairs_add(words, sizeof(words), &n, "agent", VMSD_VERSION);
    } else {
        pairs_add(words, sizeof(words), &n, "error", "this vms-agent speaks version 1 only; restart the guest");
    }
    line_send(&s->line, fits ? FRAME_WELCOME : FRAME_BYE, 0, words, n);
}

/* Of a stream that is open; what comes for others is late and ignored. -1: the host broke the rules. */
static int stream_frame(struct session *s, const struct frame *f)
{
    struct stream *st = f->stream ? stream_find(s, f->stream) : NULL;
    if (!st)
        return 0;
    switch (f->type) {
    case FRAME_DATA:
        return stream_input(st, f->data, f->n);
    case FRAME_EOF:
        stream_input_eof(st);
        return 0;
    case FRAME_CREDIT:
        if (le32_get(f->data) > FRAME_WINDOW - st->credit)
            return -1;
        st->credit += le32_get(f->data);
        return 0;
    case FRAME_SIGNAL:
        stream_signal(st, (int)le32_get(f->data));
        return 0;
    case FRAME_RESIZE:
        stream_resize(st, le32_get(f->data), le32_get((const uint8_t *)f->data + 4));
        return 0;
    case FRAME_CANCEL:
        stream_cancel(st);
        return 0;
    default:
        return 0;
    }
}

static int session_frame(struct session *s, const struct frame *f)
{
    if (f->type == FRAME_HELLO) {
        hello(s, f);
        return 0;
    }
    if (!s->up)
        return 0;
    switch (f->type) {
    case FRAME_OPEN:
        open_request(s, f);
        return 0;
    case FRAME_PING:
        line_send(&s->line, FRAME_PONG, 0, NULL, 0);
        return 0;
    case FRAME_BYE:
        return -1;
    default:
        return stream_frame(s, f);
    }
}

/* Ends the session, and the connection with it, where the line is one. */
static void session_break(struct session *s)
{
    session_end(s);
    s->line.over |= s->boundaries;
}

/* On a line without boundaries a host may go in the middle of a frame, and what seems to be the rest of that is the next
 * host's HELLO. It counts at once when its token is right; others are left in peace as the bytes that they are. */
static bool find_hello(struct session *s)
{
    struct frame_reader *r = &s->reader, probe = { .buf = r->buf, .at = r->at + 1, .end = r->end, .hello = true };
    struct frame f;

    while (!s->boundaries && probe.at < probe.end) {
        enum frame_got got = frame_next(&probe, &f);
        if (got == FRAME_GOT && f.type == FRAME_HELLO && hello_ok(&f, s->token)) {
            size_t at = probe.at - FRAME_HEAD - f.n;
            r->skipped += at - r->at;
            r->at = at;
            return true;
        }
        probe.at += got != FRAME_GOT;
    }
    return false;
}

static void handle_frames(struct session *s)
{
    while (!s->line.over && line_room(&s->line) >= OUT_CONTROL) {
        struct frame f = { 0 };
        enum frame_got got = frame_next(&s->reader, &f);
        bool gap = s->up && s->reader.skipped != s->skipped; /* bytes of this session are lost */
        if (got == FRAME_NONE && !find_hello(s))
            return;
        if (got == FRAME_BROKEN || (got == FRAME_GOT && gap && f.type != FRAME_HELLO)) {
            frame_reader_skip(&s->reader);
            session_break(s);
        } else if (got == FRAME_GOT && session_frame(s, &f) < 0) {
            session_break(s);
        }
    }
}

/* A port tells late that its host went and another came: it may do so when the new one has said HELLO already. So its end
 * is believed only when it lasts. */
static bool end_is_true(struct session *s)
{
    if (s->boundaries)
        return true;
    if (!s->away_since)
        s->away_since = agent_now_ms();
    return agent_now_ms() - s->away_since >= AWAY_MS;
}

static void read_line(struct session *s)
{
    size_t room;
    void *p = frame_reader_room(&s->reader, &room);
    if (!room)
        return;
    ssize_t n = read(s->line.fd, p, room);
    if (n > 0)
        frame_reader_add(&s->reader, (size_t)n);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR)))
        s->away_since = 0;
    else
        s->line.over = n < 0 || end_is_true(s);
}

static void line_begin(struct session *s, int fd, bool boundaries)
{
    s->line.fd = fd;
    s->line.over = false;
    s->boundaries = boundaries;
    s->away_since = 0;
    s->reader = (struct frame_reader){ .buf = s->in, .hello = true };
}

static void turn(struct session *s, struct pollfd *calls)
{
    bool room = line_room(&s->line) >= OUT_CONTROL;
    short events = (short)((room ? POLLIN : 0) | (s->line.at < s->line.end ? POLLOUT : 0));

    if (s->line.over || s->away_since) /* poll would say so again, at once */
        events = 0;
    poll_all(s, events, calls, s->away_since ? AWAY_POLL_MS : -1);
    if (s->away_since || (s->pfd[0].revents & (POLLIN | POLLHUP | POLLERR)))
        read_line(s);
    handle_frames(s);
    line_flush(&s->line);
}

void session_serve(int fd, bool boundaries, const char *token)
{
    struct session *s = &session;

    s->token = token;
    line_begin(s, fd, boundaries);
    while (!s->line.over)
        turn(s, NULL);
    session_end(s);
}

/* What it has said so far is read once more, now as the session's own first bytes. */
static void take_over(struct session *s, struct caller *c)
{
    session_end(s);
    s->line.fd = fd_drop(s->line.fd);
    line_begin(s, take_fd(&c->fd), true);
    memcpy(s->in, c->in, c->reader.end);
    frame_reader_add(&s->reader, c->reader.end);
    handle_frames(s);
    line_flush(&s->line);
}

void session_listen(int listener, int (*accept_host)(int listener), const char *token)
{
    struct session *s = &session;
    struct pollfd *calls = s->pfd + ARRAY_LEN(s->pfd) - 1 - CALLERS;

    s->token = token;
    s->line.fd = -1;
    s->line.over = true;
    callers_open(&s->callers, listener, accept_host, token);
    for (;;) {
        turn(s, calls);
        if (s->line.over && s->line.fd >= 0) {
            session_end(s);
            s->line.fd = fd_drop(s->line.fd);
        }
        struct caller *c = callers_step(&s->callers, calls);
        if (c)
            take_over(s, c);
    }
}
