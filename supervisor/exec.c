/* exec: a program in a guest, its frames between the client's connection and the agent's stream. */
#include "api.h"
#include "facts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/proto.h>

/* IN_MAX and one frame more fit into what the agent's stream buffers. */
enum { OUT_MAX = 512 << 10, IN_MAX = AGENT_BUFFER / 2, ARGS_MAX = 256 };

struct exec {
    struct world *w;
    uint32_t id;
    struct strv request;
    struct http_raw *raw;
    int fd;
    struct loop_watch *watch;
    struct agent_stream *stream; /* NULL: it ended, or never began */
    struct frame_reader in;
    struct text out;             /* frames that the client has not taken yet */
    size_t out_at;
    size_t in_flight;            /* bytes towards the guest that it has not taken yet */
    bool full;                   /* too many of them: the client is not read */
    bool ended;
};

static void exec_free(struct exec *x)
{
    loop_watch_free(x->watch);
    if (x->raw)
        http_upgraded_close(x->raw);
    strv_done(x->request);
    text_done(x->out);
    free(x->in.buf);
    free(x);
}

static void rewatch(struct exec *x)
{
    bool pending = x->out_at < x->out.len;

    loop_watch_set(x->watch, (x->full || x->ended ? 0 : EPOLLIN) | (pending ? EPOLLOUT : 0));
}

/* False: the connection is broken. */
static bool flush(struct exec *x)
{
    while (x->out_at < x->out.len) {
        ssize_t n = send(x->fd, x->out.s + x->out_at, x->out.len - x->out_at, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno == EAGAIN;
        x->out_at += (size_t)n;
    }
    x->out_at = x->out.len = 0;
    if (x->stream)
        agent_stream_pause(x->stream, false);
    return true;
}

static void hang_up(struct exec *x)
{
    if (x->stream) { /* its end comes back and frees x */
        x->ended = true;
        loop_watch_free(x->watch); /* a broken connection wakes its watch whatever that waits for */
        x->watch = NULL;
        agent_stream_cancel(x->stream);
        return;
    }
    exec_free(x);
}

static void send_frame(struct exec *x, enum frame_type type, enum frame_channel ch, const void *p, size_t n)
{
    uint8_t head[FRAME_HEAD];
    struct frame f = {.type = type, .channel = ch, .stream = 1, .n = (uint32_t)n, .data = p};

    frame_head(head, &f);
    text_add_bytes(&x->out, head, sizeof head);
    text_add_bytes(&x->out, p, n);
}

static void on_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct exec *x = arg;
    const char *at = p;

    if (x->ended)
        return;
    for (size_t part; n; at += part, n -= part) {
        part = n < FRAME_PAYLOAD_MAX ? n : FRAME_PAYLOAD_MAX;
        send_frame(x, FRAME_DATA, ch == AGENT_STDOUT ? CHANNEL_STDOUT : CHANNEL_STDERR, at, part);
    }
    flush(x); /* a broken connection shows on the watch as well */
    if (x->out.len - x->out_at > OUT_MAX)
        agent_stream_pause(x->stream, true);
    rewatch(x);
}

static void on_end(const struct agent_result *r, void *arg)
{
    struct exec *x = arg;
    char pairs[sizeof r->error + 16];
    int n;

    x->stream = NULL;
    if (x->ended) { /* the client had gone */
        exec_free(x);
        return;
    }
    x->ended = true;
    if (!r->ok)
        n = snprintf(pairs, sizeof pairs, "error=%s", r->error);
    else if (r->signal)
        n = snprintf(pairs, sizeof pairs, "signal=%d", r->signal);
    else
        n = snprintf(pairs, sizeof pairs, "exit=%d", r->exit_code);
    send_frame(x, FRAME_END, CHANNEL_STDIN, pairs, (size_t)n + 1);
    if (!flush(x) || x->out.len == 0)
        exec_free(x);
    else
        rewatch(x);
}

/* False: the client sent what it must not. */
static bool take_frame(struct exec *x, const struct frame *f)
{
    const uint8_t *p = f->data;

    switch (f->type) {
    case FRAME_DATA:
        if (agent_stream_write(x->stream, f->data, f->n) < 0)
            return false;
        x->in_flight += f->n;
        x->full = x->in_flight > IN_MAX;
        return true;
    case FRAME_EOF:
        agent_stream_eof(x->stream);
        return true;
    case FRAME_SIGNAL:
        agent_stream_signal(x->stream, (int)le32_get(p));
        return true;
    case FRAME_RESIZE:
        agent_stream_resize(x->stream, le32_get(p), le32_get(p + 4));
        return true;
    default:
        return false;
    }
}

static bool take_frames(struct exec *x)
{
    enum frame_got got;
    struct frame f;

    while (!x->full && (got = frame_next(&x->in, &f)) != FRAME_NONE)
        if (got == FRAME_BROKEN || !x->stream || !take_frame(x, &f))
            return false;
    return true;
}

static void on_drained(void *arg)
{
    struct exec *x = arg;

    x->in_flight = 0;
    if (!x->full)
        return;
    x->full = false;
    if (!take_frames(x))
        hang_up(x);
    else
        rewatch(x);
}

static bool read_client(struct exec *x)
{
    size_t room;
    void *at = frame_reader_room(&x->in, &room);
    ssize_t n = recv(x->fd, at, room, MSG_DONTWAIT);

    if (n < 0)
        return errno == EAGAIN || errno == EINTR;
    if (n == 0)
        return false;
    frame_reader_add(&x->in, (size_t)n);
    return take_frames(x);
}

static void on_client(int fd, uint32_t revents, void *arg)
{
    struct exec *x = arg;

    (void)fd;
    if (revents & EPOLLOUT && !flush(x)) {
        hang_up(x);
        return;
    }
    if (x->ended && x->out.len == 0) {
        exec_free(x);
        return;
    }
    if (!x->ended && revents & (EPOLLIN | EPOLLHUP | EPOLLERR) && !read_client(x)) {
        hang_up(x);
        return;
    }
    rewatch(x);
}

static void begin(struct http_raw *raw, int fd, const void *early, size_t n, void *arg)
{
    struct agent_stream_events ev = {on_data, on_drained, on_end, arg};
    struct exec *x = arg;
    struct guest *g = world_guest_by_id(x->w, x->id);
    struct vm_err e = {0};
    size_t room;

    x->raw = raw;
    x->fd = fd;
    if (!raw) { /* the client left, or did not ask for the upgrade */
        exec_free(x);
        return;
    }
    if (loop_watch_new(x->w->loop, fd, EPOLLIN, on_client, x, &x->watch, &e) < 0) {
        exec_free(x);
        return;
    }
    if (!g || agent_request(g->agent, &x->request, ev, &x->stream, &e) < 0) {
        struct agent_result failed = {0};

        snprintf(failed.error, sizeof failed.error, "%.190s", g ? e.text : "the guest went away");
        on_end(&failed, x);
        return;
    }
    void *at = frame_reader_room(&x->in, &room);
    if (n > room) {
        hang_up(x);
        return;
    }
    if (n)
        memcpy(at, early, n);
    frame_reader_add(&x->in, n);
    if (!take_frames(x))
        hang_up(x);
    else
        rewatch(x);
}

static bool given(const json_t *v)
{
    return v && !json_is_null(v);
}

static int add_argv(struct strv *q, const json_t *argv, struct vm_err *e)
{
    const json_t *v;
    size_t i;

    if (json_array_size(argv) == 0 || json_array_size(argv) > ARGS_MAX)
        return vm_fail(e, VM_E_INVALID, "argv: expected 1 to %d strings", ARGS_MAX);
    json_array_foreach (argv, i, v) {
        if (!json_is_string(v))
            return vm_fail(e, VM_E_INVALID, "argv[%zu]: expected a string", i);
        strv_addf(q, "arg=%s", json_string_value(v));
    }
    return 0;
}

static int add_env(struct strv *q, json_t *env, struct vm_err *e)
{
    const char *key;
    json_t *v;

    if (given(env) && !json_is_object(env))
        return vm_fail(e, VM_E_INVALID, "env: expected an object");
    json_object_foreach (env, key, v) {
        if (!*key || strchr(key, '=') || !json_is_string(v))
            return vm_fail(e, VM_E_INVALID, "env: '%.40s': expected a name without '=', and a string", key);
        strv_addf(q, "env=%s=%s", key, json_string_value(v));
    }
    return 0;
}

static int add_word(struct strv *q, const char *key, const json_t *v, struct vm_err *e)
{
    if (given(v) && !json_is_string(v))
        return vm_fail(e, VM_E_INVALID, "%s: expected a string", key);
    if (given(v))
        strv_addf(q, "%s=%s", key, json_string_value(v));
    return 0;
}

static int add_input(struct strv *q, const json_t *input, json_t *tty, struct vm_err *e)
{
    json_int_t rows = 24, cols = 80;
    json_error_t why;

    if (given(input) && !json_is_boolean(input))
        return vm_fail(e, VM_E_INVALID, "stdin: expected true or false");
    if (given(tty) && (json_unpack_ex(tty, &why, JSON_STRICT, "{s?I, s?I}", "rows", &rows, "cols", &cols) < 0 || rows < 0 ||
                       rows > UINT16_MAX || cols < 0 || cols > UINT16_MAX))
        return vm_fail(e, VM_E_INVALID, "tty: expected an object with rows and cols from 0 to %d", UINT16_MAX);
    if (given(tty))
        strv_addf(q, "pty=%dx%d", (int)rows, (int)cols);
    else if (json_is_true(input))
        strv_add(q, "stdin=1");
    return 0;
}

static int build_request(json_t *body, const struct guest *g, struct strv *q, struct vm_err *e)
{
    json_t *argv = NULL, *env = NULL, *cwd = NULL, *user = NULL, *input = NULL, *tty = NULL;
    struct facts facts = facts_of(g);
    json_error_t why;

    if (json_unpack_ex(body, &why, JSON_STRICT, "{s:o, s?o, s?o, s?o, s?o, s?o}", "argv", &argv, "env", &env, "cwd",
                       &cwd, "user", &user, "stdin", &input, "tty", &tty) < 0)
        return vm_fail(e, VM_E_INVALID, "the request: %.150s", why.text);
    strv_add(q, "op=exec");
    facts_env(&facts, q); /* the client's own words come later, and win */
    if (add_argv(q, argv, e) < 0 || add_env(q, env, e) < 0 || add_word(q, "cwd", cwd, e) < 0 ||
        add_word(q, "user", user, e) < 0 || add_input(q, input, tty, e) < 0)
        return -1;
    return q->failed ? vm_no_memory(e) : 0;
}

void exec_serve(struct http_request *r, void *arg)
{
    struct world *w = arg;
    struct guest *g = api_guest_with_agent(r, w);
    OWN(json) json_t *body = NULL;
    struct vm_err e = {0};
    struct exec *x;
    size_t n;
    const void *p = http_body(r, &n);

    if (!g)
        return;
    body = json_from_text(p ? p : "", n, &e);
    x = body ? calloc(1, sizeof *x) : NULL;
    if (!x || !(x->in.buf = malloc(FRAME_BYTES_MAX)) || build_request(body, g, &x->request, &e) < 0) {
        if (e.code == VM_E_OK)
            vm_no_memory(&e);
        http_reply_error(r, &e);
        if (x)
            exec_free(x);
        return;
    }
    x->w = w;
    x->id = g->id;
    x->fd = -1;
    access_record(w, r, "exec", g->name); /* not what: an argument may be a secret */
    http_reply_upgrade(r, "vmsd-exec", begin, x);
}
