/* <vmsd/http.h>: HTTP/1.1 on a Unix socket (libmicrohttpd on our loop). Floor 1. Loop thread only.
 *
 * Routes are rows; a row names the role that it needs, so no handler can forget to ask. */
#ifndef VMSD_HTTP_H
#define VMSD_HTTP_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <vmsd/err.h>
#include <vmsd/loop.h>

enum http_role { ROLE_NONE, ROLE_READ, ROLE_WRITE };
enum {
    HTTP_CONNECTIONS_MAX = 256,    /* per server … */
    HTTP_PER_UID_MAX = 64,         /* … and per peer; root has no limit of its own */
    HTTP_HEAD_MS = 10000,          /* a request's head must be there by then */
    HTTP_STREAM_BACKLOG = 1 << 20, /* an event reader that lags this far behind is cut */
};

struct http_server;
struct http_request;               /* valid until answered */
struct http_stream;                /* an answer without a known end */
struct http_peer { uid_t uid; gid_t gid; pid_t pid; enum http_role role; };

struct http_route {
    const char *method, *path;     /* "/v1/guests/{name}/exec": {x} matches one segment */
    enum http_role role;
    size_t body_max;               /* 0: no body allowed */
    void (*handle)(struct http_request *r, void *arg);
    const char *query;             /* keys that its query may have, set apart by blanks, "key*" more than once; NULL: any.
                                      A key that is spelt wrong must not widen what a request does */
};
/* listen_fd is taken. role_of decides once, at accept, from the peer's credentials. */
struct http_options {
    const struct http_route *routes; size_t n_routes;
    enum http_role (*role_of)(const struct http_peer *p, const gid_t *groups, size_t n_groups, void *arg);
    void *arg;                     /* for role_of and every handler */
};
int http_serve(struct loop *l, int listen_fd, const struct http_options *o, struct http_server **out, struct vm_err *e);
void http_server_free(struct http_server *s);
/* A listening Unix socket at an absolute path, of that mode and group (gid -1: none), with a live owner refused:
 * CONFLICT when another process answers there. A path that is something else than a socket of ours is left alone. */
int http_listen(const char *path, mode_t mode, gid_t group, int *out_fd, struct vm_err *e);

const char *http_path_arg(const struct http_request *r, const char *name);  /* decoded; never NULL for a {name} of the route */
const char *http_query(const struct http_request *r, const char *name);     /* decoded, or NULL */
const char *http_query_nth(const struct http_request *r, const char *name, size_t nth); /* one that may be repeated */
const char *http_header(const struct http_request *r, const char *name);    /* or NULL; copy what is needed later */
const void *http_body(const struct http_request *r, size_t *n);
const struct http_peer *http_peer(const struct http_request *r);

/* Exactly one of these ends a request; it may come later than the handler's return. */
void http_reply_json(struct http_request *r, int status, json_t *body);     /* body is taken; compact plus '\n' */
void http_reply_text(struct http_request *r, int status, const char *type, const char *body, size_t n); /* copied */
void http_reply_error(struct http_request *r, const struct vm_err *e);
/* Tells the handler's side when the client went away before it was answered; then the request is gone. Without it the
 * request stays until it is answered, into the void. To be called from the handler. */
void http_on_abort(struct http_request *r, void (*fn)(void *arg), void *arg);

/* A chunked answer. gone(arg) is called once when the client left or lagged behind, or after http_stream_end;
 * the stream is invalid from then on. NULL: no memory, and gone is not called. */
struct http_stream *http_reply_stream(struct http_request *r, int status, const char *type, void (*gone)(void *arg), void *arg);
bool http_stream_write(struct http_stream *s, const void *p, size_t n); /* false: the reader lags and will be cut */
size_t http_stream_backlog(const struct http_stream *s);
void http_stream_on_drain(struct http_stream *s, void (*fn)(void *arg), void *arg); /* backlog fell to 0; may be NULL */
void http_stream_end(struct http_stream *s);

/* Answers 101 with Upgrade: protocol; then take(fd, arg) gets the raw, non-blocking connection, and early bytes that
 * came with the request are handed to it first. close(fd) is the taker's through http_upgraded_close, also after
 * http_server_free. If it comes to nothing (the client has left, or did not ask for that protocol: 400), take gets
 * NULL and -1. */
struct http_raw;
void http_reply_upgrade(struct http_request *r, const char *protocol,
                        void (*take)(struct http_raw *raw, int fd, const void *early, size_t n, void *arg), void *arg);
void http_upgraded_close(struct http_raw *raw);

#endif
