#include "http_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    IDLE_S = 30,            /* an answer that the client doesn't read */
    RESERVED_FOR_ROOT = 16, /* of HTTP_CONNECTIONS_MAX */
    PAUSE_MS = 250,
    GROUPS_MAX = 65536,     /* the kernel's NGROUPS_MAX */
    ACCEPTS_PER_ROUND = 64,
};

/* libmicrohttpd looks at resumed connections in MHD_run, but says by neither its fd nor MHD_get_timeout that there are
 * any. */
void server_run_soon(struct http_server *s)
{
    s->resumed = true;
    loop_timer_set(s->daemon_timer, 0, 0);
}

/* ---- one connection ---- */

void conn_resume(struct conn *c)
{
    if (!c->suspended)
        return;
    c->suspended = false;
    MHD_resume_connection(c->mhd);
    server_run_soon(c->server);
}

static void conn_client_left(struct conn *c)
{
    if (c->stream)
        stream_client_left(c->stream);
    else if (c->request)
        request_client_left(c->request);
    conn_resume(c); /* libmicrohttpd then closes it */
}

void conn_suspend(struct conn *c)
{
    c->suspended = true;
    MHD_suspend_connection(c->mhd);
    if (!c->hup) /* it left while its request was read: nobody will say so later */
        conn_client_left(c);
}

void conn_time_out(struct conn *c, bool on)
{
    MHD_set_connection_option(c->mhd, MHD_CONNECTION_OPTION_TIMEOUT, on ? (unsigned)IDLE_S : 0u);
}

/* Both libmicrohttpd and our watch see it as a hang-up. */
void conn_cut(struct conn *c)
{
    shutdown(c->fd, SHUT_RDWR);
}

static void conn_free(struct conn *c)
{
    if (c->next)
        c->next->link = c->link;
    *c->link = c->next;
    loop_watch_free(c->hup);
    loop_timer_free(c->deadline);
    free(c);
}

/* Comes for a full close only: a client that just ended its sending side still reads. */
static void conn_hung_up(int fd, uint32_t revents, void *arg)
{
    struct conn *c = arg;

    (void)fd, (void)revents;
    loop_watch_free(c->hup);
    c->hup = NULL;
    if (c->suspended) /* else libmicrohttpd sees it by itself */
        conn_client_left(c);
}

static void conn_too_slow(void *arg)
{
    conn_cut(arg);
}

static int conn_new(struct http_server *s, int fd, const struct http_peer *peer, struct conn **out)
{
    struct conn *c = calloc(1, sizeof *c);

    if (!c)
        return -1;
    *c = (struct conn){.server = s, .fd = fd, .peer = *peer, .next = s->conns, .link = &s->conns};
    if (s->conns)
        s->conns->link = &c->next;
    s->conns = c;
    if (loop_watch_new(s->loop, fd, 0, conn_hung_up, c, &c->hup, NULL) < 0 ||
        loop_timer_new(s->loop, conn_too_slow, c, &c->deadline, NULL) < 0) {
        conn_free(c);
        return -1;
    }
    loop_timer_set(c->deadline, HTTP_HEAD_MS, 500);
    *out = c;
    return 0;
}

static struct conn *conn_of_fd(struct http_server *s, int fd)
{
    struct conn *c = s->conns;

    while (c && c->fd != fd)
        c = c->next;
    return c;
}

static void conn_notify(void *arg, struct MHD_Connection *mhd, void **context, enum MHD_ConnectionNotificationCode code)
{
    struct http_server *s = arg;

    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        struct conn *c = conn_of_fd(s, info->connect_fd);
        if (c)
            c->mhd = mhd;
        *context = c;
    } else if (*context) {
        conn_free(*context);
        *context = NULL;
    }
}

/* ---- accepting ---- */

static void daemon_run(struct http_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;

    s->resumed = false;
    MHD_run(s->daemon);
    if (s->resumed)
        return; /* in a call-back: the timer is set */
    if (MHD_get_timeout(s->daemon, &ms) == MHD_YES)
        loop_timer_set(s->daemon_timer, ms > INT_MAX ? INT_MAX : (int64_t)ms, ms ? 500 : 0);
    else
        loop_timer_stop(s->daemon_timer);
}

static void on_daemon_fd(int fd, uint32_t revents, void *arg)
{
    (void)fd, (void)revents;
    daemon_run(arg);
}

static void on_daemon_timer(void *arg)
{
    daemon_run(arg);
}

/* Asked once; a pid is only a name for the log, as its process may be gone and another in its place. */
static int peer_of(struct http_server *s, int fd, struct http_peer *out)
{
    struct ucred cred;
    socklen_t n = sizeof cred, n_groups = 0;
    OWN(mem) void *groups = NULL;

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
        return -1;
    /* Says by ERANGE how much room the groups take, unless there are none. */
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &n_groups) < 0) {
        if (errno != ERANGE || n_groups > GROUPS_MAX * sizeof(gid_t) || !(groups = malloc(n_groups)) ||
            getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &n_groups) < 0)
            return -1;
    }
    *out = (struct http_peer){.uid = cred.uid, .gid = cred.gid, .pid = cred.pid};
    out->role = s->options.role_of(out, groups, n_groups / sizeof(gid_t), s->options.arg);
    return 0;
}

static bool is_full_for(const struct http_server *s, uid_t uid)
{
    unsigned all = 0, own = 0;

    for (const struct conn *c = s->conns; c; c = c->next, all++)
        own += c->peer.uid == uid;
    for (const struct http_raw *r = s->raws; r; r = r->next, all++)
        own += r->uid == uid;
    if (uid == 0)
        return all >= HTTP_CONNECTIONS_MAX;
    return own >= HTTP_PER_UID_MAX || all >= HTTP_CONNECTIONS_MAX - RESERVED_FOR_ROOT;
}

static void refuse(int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
                                 "Content-Length: 98\r\nConnection: close\r\n\r\n"
                                 "{\"error\":{\"code\":\"unavailable\","
                                 "\"message\":\"too many connections, or no memory; close some first\"}}\n";
    (void)!send(fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void serve(struct http_server *s, int taken_fd)
{
    OWN(fd) int fd = taken_fd;
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    struct http_peer peer;
    struct conn *c;

    if (peer_of(s, fd, &peer) < 0)
        return;
    if (is_full_for(s, peer.uid) || conn_new(s, fd, &peer, &c) < 0) {
        refuse(fd);
        return;
    }
    int given = take_fd(&fd); /* closed by libmicrohttpd, also on failure */
    if (MHD_add_connection(s->daemon, given, (struct sockaddr *)&addr, sizeof addr.sun_family) != MHD_YES &&
        conn_of_fd(s, given) == c)
        conn_free(c); /* failed before it was announced to conn_notify */
}

static void on_listen_fd(int listen_fd, uint32_t revents, void *arg)
{
    struct http_server *s = arg;

    (void)revents;
    for (int i = 0; i < ACCEPTS_PER_ROUND; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd >= 0) {
            serve(s, fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The connection stays in the queue, so the fd stays ready: without a pause we would spin. */
            loop_watch_set(s->listen_watch, 0);
            loop_timer_set(s->pause_timer, PAUSE_MS, 50);
            break;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            break;
        }
    }
    daemon_run(s);
}

static void on_pause_over(void *arg)
{
    struct http_server *s = arg;
    loop_watch_set(s->listen_watch, EPOLLIN);
}

/* ---- the server ---- */

void raw_add(struct http_server *s, struct http_raw *raw)
{
    raw->next = s->raws;
    raw->link = &s->raws;
    if (s->raws)
        s->raws->link = &raw->next;
    s->raws = raw;
}

void http_upgraded_close(struct http_raw *raw)
{
    if (raw->link) {
        if (raw->next)
            raw->next->link = raw->link;
        *raw->link = raw->next;
    }
    fd_drop(raw->fd);
    free(raw);
}

static size_t keep_encoded(void *arg, struct MHD_Connection *mhd, char *s)
{
    (void)arg, (void)mhd;
    return strlen(s);
}

static int start(struct http_server *s, struct vm_err *e)
{
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_ALLOW_UPGRADE, 0, NULL, NULL,
        request_step, s, MHD_OPTION_URI_LOG_CALLBACK, request_first_line, s, MHD_OPTION_NOTIFY_COMPLETED,
        request_completed, s, MHD_OPTION_NOTIFY_CONNECTION, conn_notify, s, MHD_OPTION_UNESCAPE_CALLBACK, keep_encoded,
        NULL, MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)IDLE_S, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (!s->daemon)
        return vm_fail(e, VM_E_SYSTEM, "libmicrohttpd does not start");
    if (fcntl(s->listen_fd, F_SETFL, O_NONBLOCK) < 0) /* one that systemd gave would block the loop */
        return vm_fail_sys(e, "take over the socket");
    int fd = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    if (loop_timer_new(s->loop, on_daemon_timer, s, &s->daemon_timer, e) < 0 ||
        loop_timer_new(s->loop, on_pause_over, s, &s->pause_timer, e) < 0 ||
        loop_watch_new(s->loop, fd, EPOLLIN, on_daemon_fd, s, &s->daemon_watch, e) < 0 ||
        loop_watch_new(s->loop, s->listen_fd, EPOLLIN, on_listen_fd, s, &s->listen_watch, e) < 0)
        return -1;
    return 0;
}

int http_serve(struct loop *l, int listen_fd, const struct http_options *o, struct http_server **out, struct vm_err *e)
{
    struct http_server *s = calloc(1, sizeof *s);

    if (!s) {
        fd_drop(listen_fd);
        return vm_no_memory(e);
    }
    *s = (struct http_server){.loop = l, .options = *o, .listen_fd = listen_fd};
    if (start(s, e) < 0) {
        http_server_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

/* Handlers hear that their clients have left; upgraded connections live on with those who took them. */
void http_server_free(struct http_server *s)
{
    if (!s)
        return;
    loop_watch_free(s->listen_watch);
    fd_drop(s->listen_fd);
    for (struct conn *c = s->conns; c; c = c->next)
        conn_client_left(c); /* libmicrohttpd does not stop while one is suspended */
    if (s->daemon)
        MHD_stop_daemon(s->daemon);
    for (struct http_raw *raw = s->raws; raw; raw = raw->next)
        raw->link = NULL;
    loop_watch_free(s->daemon_watch);
    loop_timer_free(s->daemon_timer);
    loop_timer_free(s->pause_timer);
    free(s);
}
