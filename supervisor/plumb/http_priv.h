/* "http_priv.h": connections, requests and streams of the HTTP server. Private to plumb. Loop thread only.
 *
 * libmicrohttpd owns a connection's fd and calls us from within MHD_run. While we owe it an answer, the connection is
 * suspended, and libmicrohttpd does not look at its fd; then only our own watch notices that the client left. */
#ifndef PLUMB_HTTP_PRIV_H
#define PLUMB_HTTP_PRIV_H

#include "http_target.h"

#include <microhttpd.h>
#include <vmsd/http.h>
#include <vmsd/text.h>

struct http_server {
    struct loop *loop;
    struct http_options options;
    struct MHD_Daemon *daemon;
    int listen_fd;
    struct loop_watch *listen_watch, *daemon_watch;
    struct loop_timer *daemon_timer; /* libmicrohttpd's next time-out */
    struct loop_timer *pause_timer;  /* no fds left: accepting goes on by then */
    struct conn *conns;
    struct http_raw *raws;
    bool resumed; /* a connection, since MHD_run began */
};

struct conn {
    struct conn *next, **link;
    struct http_server *server;
    struct MHD_Connection *mhd; /* NULL until libmicrohttpd took it */
    int fd;                     /* libmicrohttpd's */
    struct http_peer peer;
    struct loop_watch *hup;       /* until the client has left */
    struct loop_timer *deadline;  /* of the head, and of each piece of a body */
    struct http_request *request; /* the one being served, or NULL */
    struct http_stream *stream;   /* its answer, if that is one */
    bool suspended;
};

/* Two sides hold a request: libmicrohttpd until it has completed it, and the handler from its call until it answers.
 * Whichever lets go last frees it. */
struct http_request {
    enum { REQUEST_HEAD, REQUEST_BODY, REQUEST_HANDLED, REQUEST_ANSWERED } state;
    struct conn *conn; /* NULL: libmicrohttpd is done with it */
    struct loop *loop;
    const struct http_route *route;
    struct http_peer peer;
    struct http_target target;
    struct vm_err bad; /* of the target; code OK if there is none */
    struct text body;
    struct MHD_Response *response;
    int status;
    bool held;        /* by the handler */
    bool client_left; /* while it was handled */
    void (*on_abort)(void *arg);
    void *abort_arg;
    void (*take)(struct http_raw *raw, int fd, const void *early, size_t n, void *arg);
    void *take_arg;
};

/* An upgraded connection: libmicrohttpd is done with it, but it counts as one of its peer's. */
struct http_raw {
    struct http_raw *next, **link; /* link NULL: the server is gone */
    int fd;
    uid_t uid;
};

/* http.c */
void server_run_soon(struct http_server *s);
void conn_suspend(struct conn *c);
void conn_resume(struct conn *c); /* nothing if it isn't suspended */
void conn_cut(struct conn *c);    /* as if the client had left */
void conn_time_out(struct conn *c, bool on); /* libmicrohttpd's, of an answer that is not read */
void raw_add(struct http_server *s, struct http_raw *raw);

/* http_request.c: libmicrohttpd's call-backs */
void *request_first_line(void *server, const char *uri, struct MHD_Connection *mhd);
enum MHD_Result request_step(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                             const char *version, const char *data, size_t *n, void **request);
void request_completed(void *server, struct MHD_Connection *mhd, void **request, enum MHD_RequestTerminationCode how);
void request_client_left(struct http_request *r);
/* Ends the request with that response, which is taken; NULL (no memory for one) closes the connection. */
void request_answer(struct http_request *r, int status, struct MHD_Response *response);
void response_add_headers(struct MHD_Response *response, const char *type);

/* http_stream.c */
/* Nothing can be sent any more; the stream's end comes when libmicrohttpd lets go of the answer. */
void stream_client_left(struct http_stream *s);

#endif
