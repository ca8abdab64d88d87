#include "http_priv.h"

#include <fcntl.h>
#include <string.h>
#include <strings.h>

enum {
    BLOCK = 16 << 10,
    KEEP_BYTES = 64 << 10, /* what an empty buffer may hold on to */
};

struct http_stream {
    struct conn *conn; /* NULL: cut */
    struct text buffer;
    size_t sent; /* of buffer */
    bool ended;
    void (*gone)(void *arg);
    void *gone_arg;
    void (*drained)(void *arg);
    void *drained_arg;
};

/* ---- libmicrohttpd asks for more ---- */

static void buffer_reset(struct http_stream *s)
{
    if (s->buffer.cap > KEEP_BYTES) {
        text_done(s->buffer);
        s->buffer = (struct text){0};
    }
    s->buffer.len = s->sent = 0;
}

static ssize_t stream_read(void *arg, uint64_t position, char *out, size_t max)
{
    struct http_stream *s = arg;
    size_t n = http_stream_backlog(s);

    (void)position;
    if (!s->conn)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0 && s->ended)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == 0) {
        conn_suspend(s->conn);
        return 0;
    }
    n = n < max ? n : max;
    memcpy(out, s->buffer.s + s->sent, n);
    s->sent += n;
    if (s->sent == s->buffer.len) {
        buffer_reset(s);
        if (s->drained && !s->ended)
            s->drained(s->drained_arg);
    }
    return (ssize_t)n;
}

/* libmicrohttpd has let go of the answer: it is sent, or never will be. */
static void stream_free(void *arg)
{
    struct http_stream *s = arg;

    if (s->conn)
        s->conn->stream = NULL;
    s->gone(s->gone_arg);
    text_done(s->buffer);
    free(s);
}

void stream_client_left(struct http_stream *s)
{
    if (s->conn)
        s->conn->stream = NULL;
    s->conn = NULL;
}

/* ---- the writer's side ---- */

static void drop_response(void *arg)
{
    MHD_destroy_response(arg);
}

struct http_stream *http_reply_stream(struct http_request *r, int status, const char *type, void (*gone)(void *arg),
                                      void *arg)
{
    struct http_stream *s = calloc(1, sizeof *s);
    struct MHD_Response *response =
        s ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, BLOCK, stream_read, s, stream_free) : NULL;

    if (!response) {
        free(s);
        request_answer(r, status, NULL);
        return NULL;
    }
    *s = (struct http_stream){.conn = r->client_left ? NULL : r->conn, .gone = gone, .gone_arg = arg};
    response_add_headers(response, type);
    if (!s->conn) {
        loop_post(r->loop, drop_response, response); /* gone comes when the caller has got s */
        response = NULL;
    } else {
        s->conn->stream = s;
    }
    request_answer(r, status, response);
    return s;
}

size_t http_stream_backlog(const struct http_stream *s)
{
    return s->buffer.len - s->sent;
}

/* The part that is sent makes room when it is the larger one, so a byte is moved but once on average. */
static void buffer_compact(struct http_stream *s)
{
    size_t left = http_stream_backlog(s);

    if (s->sent <= left)
        return;
    memmove(s->buffer.s, s->buffer.s + s->sent, left + 1);
    s->buffer.len = left;
    s->sent = 0;
}

bool http_stream_write(struct http_stream *s, const void *p, size_t n)
{
    if (!s->conn || s->ended)
        return false;
    if (n <= HTTP_STREAM_BACKLOG && http_stream_backlog(s) <= HTTP_STREAM_BACKLOG - n) {
        buffer_compact(s);
        text_add_bytes(&s->buffer, p, n);
        if (!s->buffer.failed) {
            conn_resume(s->conn);
            return true;
        }
    }
    struct conn *c = s->conn;
    stream_client_left(s);
    conn_cut(c);
    conn_resume(c);
    return false;
}

void http_stream_on_drain(struct http_stream *s, void (*fn)(void *arg), void *arg)
{
    s->drained = fn;
    s->drained_arg = arg;
}

void http_stream_end(struct http_stream *s)
{
    s->ended = true;
    if (!s->conn)
        return;
    conn_time_out(s->conn, true); /* nobody looks after what is left of it any more */
    conn_resume(s->conn);
}

/* ---- upgrades ---- */

static bool asks_for(const struct http_request *r, const char *protocol)
{
    const char *upgrade = http_header(r, MHD_HTTP_HEADER_UPGRADE);
    const char *connection = http_header(r, MHD_HTTP_HEADER_CONNECTION);

    return upgrade && connection && strcasecmp(upgrade, protocol) == 0 && strcasestr(connection, "upgrade");
}

/* The taker gets a descriptor of its own, so that libmicrohttpd can forget the connection at once and its life and
 * ours do not depend on each other. */
static void on_upgrade(void *arg, struct MHD_Connection *mhd, void *request, const char *early, size_t n,
                       MHD_socket theirs, struct MHD_UpgradeResponseHandle *handle)
{
    struct http_server *server = arg;
    struct http_request *r = request;
    struct http_raw *raw = calloc(1, sizeof *raw);
    OWN(fd) int fd = fcntl(theirs, F_DUPFD_CLOEXEC, 3);

    (void)mhd;
    if (raw && fd >= 0 && fcntl(fd, F_SETFL, O_NONBLOCK) == 0) {
        *raw = (struct http_raw){.fd = take_fd(&fd), .uid = r->peer.uid};
        raw_add(server, raw);
        void (*take)(struct http_raw *, int, const void *, size_t, void *) = r->take;
        r->take = NULL;
        take(raw, raw->fd, early, n, r->take_arg);
    } else {
        free(raw);
    }
    MHD_upgrade_action(handle, MHD_UPGRADE_ACTION_CLOSE);
    server_run_soon(server);
}

void http_reply_upgrade(struct http_request *r, const char *protocol,
                        void (*take)(struct http_raw *raw, int fd, const void *early, size_t n, void *arg), void *arg)
{
    struct MHD_Response *response = NULL;
    struct vm_err e;

    r->take = take;
    r->take_arg = arg;
    if (r->conn && !asks_for(r, protocol)) {
        vm_fail(&e, VM_E_INVALID, "this request needs the headers 'Connection: Upgrade' and 'Upgrade: %s'", protocol);
        http_reply_error(r, &e);
        return;
    }
    if (r->conn)
        response = MHD_create_response_for_upgrade(on_upgrade, r->conn->server);
    if (response)
        MHD_add_response_header(response, MHD_HTTP_HEADER_UPGRADE, protocol);
    request_answer(r, MHD_HTTP_SWITCHING_PROTOCOLS, response);
}
