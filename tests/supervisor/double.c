#include "double.h"

#include <check.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct double_server {
    struct double_plan plan;
    pthread_t thread;
    int listener, stop[2];
    int joined;
    uint64_t sent;
    char heard[4096];
};

/* Readable, or the end of the test. */
static int wait_for(struct double_server *d, int fd)
{
    struct pollfd p[] = {{.fd = fd, .events = POLLIN}, {.fd = d->stop[0], .events = POLLIN}};

    return poll(p, 2, 20000) > 0 && !p[1].revents;
}

static void hear(struct double_server *d, int fd)
{
    size_t n = 0;

    d->heard[0] = '\0'; /* of the connection before */
    while (!strstr(d->heard, "\r\n\r\n") && n < sizeof d->heard - 1 && wait_for(d, fd)) {
        ssize_t got = read(fd, d->heard + n, sizeof d->heard - 1 - n);

        if (got <= 0)
            return;
        n += (size_t)got;
        d->heard[n] = '\0';
    }
}

static void say(struct double_server *d, int fd, const char *s, size_t n)
{
    while (n) {
        ssize_t put = send(fd, s, n, MSG_NOSIGNAL);

        if (put <= 0)
            return;
        d->sent += (uint64_t)put;
        s += put;
        n -= (size_t)put;
    }
}

static void flood(struct double_server *d, int fd)
{
    static const char block[65536];

    for (uint64_t left = d->plan.flood, before; left; left -= d->sent - before) {
        before = d->sent;
        say(d, fd, block, left < sizeof block ? left : sizeof block);
        if (d->sent == before)
            return;
    }
}

static void *serve(void *arg)
{
    struct double_server *d = arg;
    int fd;

    while (wait_for(d, d->listener) && (fd = accept(d->listener, NULL, NULL)) >= 0) {
        hear(d, fd);
        if (d->plan.say)
            say(d, fd, d->plan.say, strlen(d->plan.say));
        flood(d, fd);
        if (d->plan.hold)
            wait_for(d, d->stop[0]);
        close(fd);
    }
    return NULL;
}

static void listen_on(struct double_server *d, uint16_t *port)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    socklen_t n = sizeof in;

    if (d->plan.socket) {
        strcpy(un.sun_path, d->plan.socket);
        d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(d->listener, (struct sockaddr *)&un, sizeof un), 0);
    } else {
        d->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_eq(bind(d->listener, (struct sockaddr *)&in, sizeof in), 0);
        ck_assert_int_eq(getsockname(d->listener, (struct sockaddr *)&in, &n), 0);
        *port = ntohs(in.sin_port);
    }
    ck_assert_int_eq(listen(d->listener, d->plan.mute ? 0 : 16), 0);
}

struct double_server *double_open(const struct double_plan *plan, uint16_t *port)
{
    struct double_server *d = calloc(1, sizeof *d);

    ck_assert_ptr_nonnull(d);
    d->plan = *plan;
    ck_assert_int_eq(pipe(d->stop), 0);
    listen_on(d, port);
    if (d->plan.mute)
        d->joined = 1;
    else
        ck_assert_int_eq(pthread_create(&d->thread, NULL, serve, d), 0);
    return d;
}

static void join(struct double_server *d)
{
    if (d->joined)
        return;
    ck_assert_int_eq((int)write(d->stop[1], "", 1), 1);
    pthread_join(d->thread, NULL);
    d->joined = 1;
}

const char *double_heard(struct double_server *d)
{
    join(d);
    return d->heard;
}

uint64_t double_sent(struct double_server *d)
{
    join(d);
    return d->sent;
}

void double_close(struct double_server *d)
{
    join(d);
    close(d->listener);
    close(d->stop[0]);
    close(d->stop[1]);
    if (d->plan.socket)
        unlink(d->plan.socket);
    free(d);
}
