#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/loop.h>
#include <vmsd/net.h>
#include <vmsd/text.h>

enum {
    RELAY_BUFFER = 32 << 10,
    RELAY_CONNECTIONS_MAX = 256, /* of one port: more wait in the kernel's queue */
    RELAY_CONNECT_MS = 10000,
    RELAY_RETRY_MS = 1000,       /* after accept failed for want of descriptors */
};

/* One end of a connection, with what came from it and has not yet gone to the other. */
struct end {
    int fd;
    struct loop_watch *watch;
    size_t at, n;
    bool eof, shut; /* it said its last; we told it ours */
    unsigned char data[RELAY_BUFFER];
};

struct connection {
    struct connection *next, **from;
    struct listener *listener;
    struct loop_timer *patience; /* for the guest to answer; NULL once it has */
    struct end client, guest;
};

struct listener {
    struct listener *next;
    struct net_relay *relay;
    char listen_address[NET_ADDR], to_address[NET_ADDR];
    uint16_t listen_port, to_port;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *retry;
    struct connection *connections;
    unsigned n;
};

struct net_relay { struct loop *loop; struct listener *listeners; };

static socklen_t socket_address(const char *address, uint16_t port, struct sockaddr_storage *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    *out = (struct sockaddr_storage){ 0 };
    if (inet_pton(AF_INET, address, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, address, &v6->sin6_addr) != 1)
        return 0;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    return sizeof *v6;
}

static void end_close(struct end *end)
{
    loop_watch_free(end->watch);
    fd_drop(end->fd);
}

static void connection_close(struct connection *c)
{
    struct listener *l = c->listener;
    *c->from = c->next;
    if (c->next)
        c->next->from = c->from;
    end_close(&c->client);
    end_close(&c->guest);
    loop_timer_free(c->patience);
    free(c);
    if (l->n-- == RELAY_CONNECTIONS_MAX)
        loop_watch_set(l->watch, EPOLLIN);
}

/* Moves what can be moved now; false: the connection is broken. */
static bool flow(struct end *from, struct end *to)
{
    if (from->n == 0 && !from->eof) {
        ssize_t got = read(from->fd, from->data, sizeof from->data);
        if (got < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        from->eof = got == 0;
        from->at = 0;
        from->n = got > 0 ? (size_t)got : 0;
    }
    if (from->n > 0) {
        ssize_t put = send(to->fd, from->data + from->at, from->n, MSG_NOSIGNAL);
        if (put < 0 && errno != EAGAIN && errno != EINTR)
            return false;
        from->at += put > 0 ? (size_t)put : 0;
        from->n -= put > 0 ? (size_t)put : 0;
    }
    if (from->eof && from->n == 0 && !to->shut) {
        shutdown(to->fd, SHUT_WR);
        to->shut = true;
    }
    return true;
}

static void connection_event(int fd, uint32_t revents, void *arg);

/* An end that was told our last and has said its own is hung up, and the kernel would report that again and again: it is
 * not watched while nothing can be done with it. False: no memory. */
static bool end_interest(struct connection *c, struct end *end, const struct end *other)
{
    uint32_t events = (end->n == 0 && !end->eof ? EPOLLIN : 0u) | (other->n > 0 ? EPOLLOUT : 0u);
    if (!events && end->shut) {
        loop_watch_free(end->watch);
        end->watch = NULL;
        return true;
    }
    if (!end->watch)
        return loop_watch_new(c->listener->relay->loop, end->fd, events, connection_event, c, &end->watch, NULL) == 0;
    loop_watch_set(end->watch, events);
    return true;
}

static void connection_event(int fd, uint32_t revents, void *arg)
{
    struct connection *c = arg;
    int why = 0;
    socklen_t n = sizeof why;
    if (c->patience && fd == c->guest.fd && !(revents & EPOLLERR) &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) == 0 && why == 0) {
        loop_timer_free(c->patience);
        c->patience = NULL;
    }
    if (revents & EPOLLERR || c->patience || !flow(&c->client, &c->guest) || !flow(&c->guest, &c->client) ||
        (c->client.shut && c->guest.shut) || !end_interest(c, &c->client, &c->guest) ||
        !end_interest(c, &c->guest, &c->client))
        connection_close(c);
}

static void connection_late(void *arg)
{
    connection_close(arg);
}

/* Takes fd. The client waits unread until the guest has answered. */
static int connection_take(struct listener *l, int fd)
{
    static const int on = 1;
    struct loop *loop = l->relay->loop;
    struct sockaddr_storage to;
    socklen_t n = socket_address(l->to_address, l->to_port, &to);
    struct connection *c = calloc(1, sizeof *c);
    if (!c)
        return fd_drop(fd);
    c->listener = l;
    c->client.fd = fd;
    c->from = &l->connections;
    c->next = l->connections;
    if (c->next)
        c->next->from = &c->next;
    l->connections = c;
    l->n++;
    c->guest.fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(c->client.fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (c->guest.fd >= 0)
        setsockopt(c->guest.fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    if (c->guest.fd < 0 || (connect(c->guest.fd, (struct sockaddr *)&to, n) < 0 && errno != EINPROGRESS) ||
        loop_timer_new(loop, connection_late, c, &c->patience, NULL) < 0 ||
        loop_watch_new(loop, c->client.fd, 0, connection_event, c, &c->client.watch, NULL) < 0 ||
        loop_watch_new(loop, c->guest.fd, EPOLLOUT, connection_event, c, &c->guest.watch, NULL) < 0) {
        connection_close(c);
        return -1;
    }
    loop_timer_set(c->patience, RELAY_CONNECT_MS, 0);
    return 0;
}

static void listener_retry(void *arg)
{
    struct listener *l = arg;
    loop_watch_set(l->watch, l->n < RELAY_CONNECTIONS_MAX ? EPOLLIN : 0);
}

static void listener_event(int fd, uint32_t revents, void *arg)
{
    struct listener *l = arg;
    (void)revents;
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
        loop_watch_set(l->watch, 0); /* still readable: without a pause the loop would spin */
        loop_timer_set(l->retry, RELAY_RETRY_MS, RELAY_RETRY_MS);
        return;
    }
    if (client >= 0 && connection_take(l, client) == 0 && l->n == RELAY_CONNECTIONS_MAX)
        loop_watch_set(l->watch, 0);
}

static void listener_close(struct listener *l)
{
    while (l->connections)
        connection_close(l->connections);
    loop_watch_free(l->watch);
    loop_timer_free(l->retry);
    fd_drop(l->fd);
    free(l);
}

static inline void listener_drop(struct listener *l)
{
    if (l)
        listener_close(l);
}
OWN_DEFINE(listener, struct listener *, listener_drop)

static int listener_open(struct net_relay *r, const struct net_relay_rule *rule, struct listener **out, struct vm_err *e)
{
    static const int on = 1;
    struct sockaddr_storage at, to;
    socklen_t n = socket_address(rule->listen_address, rule->listen_port, &at);
    if (n == 0 || socket_address(rule->to_address, rule->to_port, &to) == 0)
        return vm_fail(e, VM_E_INVALID, "relay: '%s' or '%s' is no address", rule->listen_address, rule->to_address);
    OWN(listener) struct listener *l = calloc(1, sizeof *l);
    if (!l)
        return vm_no_memory(e);
    l->relay = r;
    snprintf(l->listen_address, sizeof l->listen_address, "%s", rule->listen_address);
    snprintf(l->to_address, sizeof l->to_address, "%s", rule->to_address);
    l->listen_port = rule->listen_port;
    l->to_port = rule->to_port;
    l->fd = socket(at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0 || setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
        (at.ss_family == AF_INET6 && setsockopt(l->fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) < 0) ||
        bind(l->fd, (struct sockaddr *)&at, n) < 0 || listen(l->fd, SOMAXCONN) < 0)
        return vm_fail_sys(e, "relay [%s]:%u", rule->listen_address, rule->listen_port);
    if (loop_timer_new(r->loop, listener_retry, l, &l->retry, e) < 0 ||
        loop_watch_new(r->loop, l->fd, EPOLLIN, listener_event, l, &l->watch, e) < 0)
        return -1;
    *out = TAKE(l);
    return 0;
}

static int try_port(const struct spec_port *p, const char *address, struct vm_err *e)
{
    static const int on = 1;
    struct sockaddr_storage at;
    socklen_t n = socket_address(address, p->host, &at);
    OWN(fd) int fd = n ? socket(at.ss_family, (p->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return 0; /* a host without that family has nobody who listens there */
    if (!p->udp)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* what waits for its end does not count */
    if (at.ss_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&at, n) == 0 || errno != EADDRINUSE)
        return 0;
    return vm_fail(e, VM_E_CONFLICT, "a program of the host listens on port %u/%s already (ss -lntup shows which); stop it, "
                   "or take another port or an address in front of it", p->host, p->udp ? "udp" : "tcp");
}

int net_port_free(const struct spec_port *p, struct vm_err *e)
{
    if (p->address)
        return try_port(p, p->address, e);
    return try_port(p, "0.0.0.0", e) < 0 ? -1 : try_port(p, "::", e);
}

static bool listener_is(const struct listener *l, const struct net_relay_rule *rule)
{
    return l->listen_port == rule->listen_port && l->to_port == rule->to_port &&
           strcmp(l->listen_address, rule->listen_address) == 0 && strcmp(l->to_address, rule->to_address) == 0;
}

int net_relay_open(struct loop *loop, struct net_relay **out, struct vm_err *e)
{
    struct net_relay *r = calloc(1, sizeof *r);
    if (!r)
        return vm_no_memory(e);
    r->loop = loop;
    *out = r;
    return 0;
}

/* What is no longer wanted goes first, with its connections: it may hold an address that a new rule wants. */
int net_relay_set(struct net_relay *r, const struct net_relay_rule *rules, size_t n, struct vm_err *e)
{
    OWN(text) struct text failed = { 0 };
    for (struct listener **at = &r->listeners, *l; (l = *at);) {
        bool wanted = false;
        for (size_t i = 0; i < n && !wanted; i++)
            wanted = listener_is(l, &rules[i]);
        if (wanted) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        listener_close(l);
    }
    for (size_t i = 0; i < n; i++) {
        struct vm_err why = { 0 };
        struct listener *l = r->listeners;
        while (l && !listener_is(l, &rules[i]))
            l = l->next;
        if (l)
            continue;
        if (listener_open(r, &rules[i], &l, &why) < 0) {
            if (why.sys != EAFNOSUPPORT) /* to a host without IPv6 nobody comes by it */
                text_addf(&failed, "%s%s", failed.len ? "; " : "", why.text);
            continue;
        }
        l->next = r->listeners;
        r->listeners = l;
    }
    return failed.len ? vm_fail(e, VM_E_CONFLICT, "%s; free the port or publish another", failed.s) : 0;
}

void net_relay_close(struct net_relay *r)
{
    if (!r)
        return;
    net_relay_set(r, NULL, 0, NULL);
    free(r);
}
