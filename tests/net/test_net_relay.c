/* The relay for what the kernel's NAT cannot serve. */
#include "netlab.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/loop.h>
#include <vmsd/own.h>

struct host { struct loop *loop; struct net_relay *relay; pthread_t thread; sem_t ready; };
struct order { struct host *h; const struct net_relay_rule *rules; size_t n; struct vm_err e; int rc; };

static void set_here(void *arg)
{
    struct order *o = arg;
    o->rc = net_relay_set(o->h->relay, o->rules, o->n, &o->e);
}

static void close_here(void *arg)
{
    struct host *h = arg;
    net_relay_close(h->relay);
    loop_quit(h->loop);
}

/* The loop belongs to the thread that opens it. */
static void *run(void *arg)
{
    struct host *h = arg;
    ok(loop_open(1, &h->loop, e));
    ok(net_relay_open(h->loop, &h->relay, e));
    sem_post(&h->ready);
    ok(loop_run(h->loop, e));
    loop_close(h->loop);
    return NULL;
}

static void start(struct host *h)
{
    ck_assert_int_eq(sem_init(&h->ready, 0, 0), 0);
    ck_assert_int_eq(pthread_create(&h->thread, NULL, run, h), 0);
    ck_assert_int_eq(sem_wait(&h->ready), 0);
}

static void stop(struct host *h)
{
    loop_call(h->loop, close_here, h);
    pthread_join(h->thread, NULL);
}

static struct order set(struct host *h, const struct net_relay_rule *rules, size_t n)
{
    struct order o = { .h = h, .rules = rules, .n = n };
    loop_call(h->loop, set_here, &o);
    return o;
}

static int read_all(int fd, char *p, size_t n)
{
    size_t at = 0;
    while (at < n) {
        struct pollfd w = { .fd = fd, .events = POLLIN };
        ssize_t got = poll(&w, 1, 3000) == 1 ? read(fd, p + at, n - at) : -1;
        if (got <= 0)
            break;
        at += (size_t)got;
    }
    return (int)at;
}

/* From the loopback of the host, and from outside over IPv6, to a guest that has IPv4 only. */
START_TEST(test_ipv6_reaches_an_ipv4_guest)
{
    struct lab *l = lab_open(2);
    struct host h;
    struct net_relay_rule *rules;
    size_t n;
    ok(net_link_remove(l->nics[0].ifname, e));
    l->nics[0].address6[0] = '\0';
    lab_publish(l, 0, NULL, 8080, 80, false);
    lab_publish(l, 1, NULL, 8081, 80, false);
    lab_rules(l);
    l->ns[0] = lab_ns();
    lab_attach(l, 0);
    OWN(fd) int s0 = lab_listen(l->ns[0], "0.0.0.0", 80);
    OWN(fd) int s1 = lab_listen(l->ns[1], "10.20.0.11", 80);
    start(&h);
    ok(net_relay_rules(&l->world, &rules, &n, e));
    OWN(mem) void *memory = rules;
    ck_assert_uint_eq(n, 2);
    struct order o = set(&h, rules, n);
    ck_assert_msg(o.rc == 0, "%s", o.e.text);
    OWN(fd) int own = lab_connect_as(l->host, 1234, "::1", 8080, 2000);
    ck_assert_msg(own >= 0 && lab_echo(own, s0), "%s", strerror(errno));
    OWN(fd) int out = lab_connect(l->outside, "2001:db8::1", 8080, 2000);
    ck_assert_msg(out >= 0 && lab_echo(out, s0), "%s", strerror(errno));
    OWN(fd) int own1 = lab_connect(l->host, "::1", 8081, 2000);
    ck_assert_msg(own1 >= 0 && lab_echo(own1, s1), "%s", strerror(errno));
    ck_assert(!lab_reaches(l->ns[1], "fd20::1", 8080)); /* guests do not come in by the relay */
    char byte;
    o = set(&h, rules, n); /* the same again cuts nothing */
    ck_assert(o.rc == 0 && send(own1, "x", 1, MSG_NOSIGNAL) == 1);
    o = set(&h, rules, 1); /* the second goes, with its connection; the first stays */
    ck_assert_int_eq(o.rc, 0);
    ck_assert_int_le(read(own1, &byte, 1), 0);
    ck_assert(!lab_reaches(l->host, "::1", 8081));
    ck_assert(lab_reaches(l->host, "::1", 8080));
    stop(&h);
}
END_TEST

START_TEST(test_busy_port_is_named_and_the_others_work)
{
    struct lab *l = lab_open(1);
    struct host h;
    OWN(fd) int busy = lab_listen(l->host, "::1", 8080);
    OWN(fd) int s = lab_listen(l->host, "127.0.0.1", 80);
    static const struct net_relay_rule rules[] = { { "::1", 8080, "127.0.0.1", 80 }, { "::1", 8081, "127.0.0.1", 80 } };
    start(&h);
    struct order o = set(&h, rules, 2);
    ck_assert_int_eq(o.rc, -1);
    ck_assert_int_eq(o.e.code, VM_E_CONFLICT);
    ck_assert_ptr_nonnull(strstr(o.e.text, "[::1]:8080"));
    OWN(fd) int c = lab_connect(l->host, "::1", 8081, 2000);
    ck_assert(c >= 0 && lab_echo(c, s));
    busy = fd_drop(busy);
    ck_assert_int_eq(set(&h, rules, 2).rc, 0);
    stop(&h);
}
END_TEST

/* As on a host that was booted with ipv6.disable=1. */
static void forget_ipv6(void)
{
    struct sock_filter rows[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EAFNOSUPPORT),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = { ARRAY_LEN(rows), rows };
    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
    ck_assert(socket(AF_INET6, SOCK_STREAM, 0) == -1 && errno == EAFNOSUPPORT);
}

/* Where nobody can come by IPv6, there is nothing to relay, and nothing to complain of. */
START_TEST(test_host_without_ipv6)
{
    static const struct net_relay_rule rule = { "::", 8080, "127.0.0.1", 80 };
    struct host h;
    forget_ipv6();
    start(&h);
    struct order o = set(&h, &rule, 1);
    ck_assert_msg(o.rc == 0, "%s", o.e.text);
    stop(&h);
}
END_TEST

static void *pour(void *arg)
{
    static char block[64 << 10];
    for (int i = 0; i < 64; i++)
        for (size_t at = 0; at < sizeof block;) {
            ssize_t put = send(*(int *)arg, block + at, sizeof block - at, MSG_NOSIGNAL);
            if (put < 0)
                return arg;
            at += (size_t)put;
        }
    shutdown(*(int *)arg, SHUT_WR);
    return NULL;
}

START_TEST(test_a_port_of_the_host_is_not_free)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t n = sizeof at;
    OWN(fd) int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct vm_err e = { 0 };
    struct spec_port all = { 0 }, here = { .address = "127.0.0.1" }, there = { .address = "127.0.0.2" };
    ck_assert(bind(tcp, (struct sockaddr *)&at, n) == 0 && listen(tcp, 1) == 0);
    ck_assert(getsockname(tcp, (struct sockaddr *)&at, &n) == 0);
    all.host = here.host = there.host = ntohs(at.sin_port);
    ck_assert_int_eq(net_port_free(&all, &e), -1);
    ck_assert_int_eq(e.code, VM_E_CONFLICT);
    ck_assert_ptr_nonnull(strstr(e.text, "ss -lntup"));
    ck_assert_int_eq(net_port_free(&here, &e), -1);
    ck_assert_int_eq(net_port_free(&there, &e), 0);
    all.udp = true; /* another kind of port */
    ck_assert_int_eq(net_port_free(&all, &e), 0);
    tcp = fd_drop(tcp);
    all.udp = false;
    ck_assert_int_eq(net_port_free(&all, &e), 0);
}
END_TEST

/* 4 MiB one way to a reader that dawdles, then an answer after the end: half-closed connections work. */
START_TEST(test_half_close_and_backpressure)
{
    struct lab *l = lab_open(1);
    struct host h;
    OWN(fd) int s = lab_listen(l->host, "127.0.0.1", 80);
    static const struct net_relay_rule rule = { "::1", 8080, "127.0.0.1", 80 };
    start(&h);
    ck_assert_int_eq(set(&h, &rule, 1).rc, 0);
    OWN(fd) int c = lab_connect(l->host, "::1", 8080, 2000);
    OWN(fd) int d = accept(s, NULL, NULL);
    ck_assert(c >= 0 && d >= 0);
    ck_assert_int_eq(fcntl(c, F_SETFL, 0), 0);
    pthread_t thread;
    void *why;
    ck_assert_int_eq(pthread_create(&thread, NULL, pour, &c), 0);
    usleep(300000);
    static char block[64 << 10];
    for (int i = 0; i < 64; i++)
        ck_assert_int_eq(read_all(d, block, sizeof block), (int)sizeof block);
    ck_assert_int_eq(read(d, block, 1), 0);
    pthread_join(thread, &why);
    ck_assert_ptr_null(why);
    ck_assert_int_eq(write(d, "bye", 3), 3);
    d = fd_drop(d);
    ck_assert_int_eq(read_all(c, block, 3), 3);
    ck_assert_int_eq(read(c, block, 1), 0);
    stop(&h);
}
END_TEST

START_TEST(test_refused_by_the_guest)
{
    struct lab *l = lab_open(1);
    struct host h;
    static const struct net_relay_rule rule = { "::1", 8080, "127.0.0.1", 80 };
    char byte;
    start(&h);
    ck_assert_int_eq(set(&h, &rule, 1).rc, 0);
    OWN(fd) int c = lab_connect(l->host, "::1", 8080, 2000);
    ck_assert_int_ge(c, 0);
    struct pollfd p = { .fd = c, .events = POLLIN };
    ck_assert_int_eq(poll(&p, 1, 2000), 1);
    ck_assert_int_le(read(c, &byte, 1), 0);
    stop(&h);
}
END_TEST

/* CPU time that this process takes in that time. */
static int64_t busy_us(unsigned us)
{
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    usleep(us);
    getrusage(RUSAGE_SELF, &after);
    return (after.ru_utime.tv_sec - before.ru_utime.tv_sec + after.ru_stime.tv_sec - before.ru_stime.tv_sec) * 1000000 +
           after.ru_utime.tv_usec - before.ru_utime.tv_usec + after.ru_stime.tv_usec - before.ru_stime.tv_usec;
}

static int unacknowledged(int fd)
{
    int n = -1;
    ck_assert_int_eq(ioctl(fd, TIOCOUTQ, &n), 0);
    return n;
}

/* The guest says its last and then does not read; the client has sent more than fits on the way to it, and hangs up. The loop
 * does not spin, and nothing is lost. */
START_TEST(test_hung_up_before_the_guest_reads)
{
    struct lab *l = lab_open(1);
    struct host h;
    static const struct net_relay_rule rule = { "::1", 8080, "127.0.0.1", 80 };
    static char block[64 << 10];
    size_t sent = 0, got = 0;
    lab_run(l->host, "cd /proc/sys/net/ipv4; echo 4096 16384 16384 >tcp_wmem; echo 4096 1048576 1048576 >tcp_rmem");
    OWN(fd) int s = lab_listen(l->host, "127.0.0.1", 80);
    ck_assert_int_eq(setsockopt(s, SOL_SOCKET, SO_RCVBUF, &(int){ 64 << 10 }, sizeof(int)), 0);
    start(&h);
    ck_assert_int_eq(set(&h, &rule, 1).rc, 0);
    OWN(fd) int c = lab_connect(l->host, "::1", 8080, 2000);
    OWN(fd) int d = accept(s, NULL, NULL);
    ck_assert(c >= 0 && d >= 0);
    ck_assert_int_eq(shutdown(d, SHUT_WR), 0);
    ck_assert_int_eq(read_all(c, block, 1), 0); /* the end has come to the client */
    for (struct pollfd p = { .fd = c, .events = POLLOUT }; poll(&p, 1, 500) == 1;) {
        ssize_t n = send(c, block, sizeof block, MSG_DONTWAIT | MSG_NOSIGNAL);
        sent += n > 0 ? (size_t)n : 0;
    }
    ck_assert_int_eq(shutdown(c, SHUT_WR), 0);
    for (int i = 0; i < 1000 && unacknowledged(c) > 0; i++, usleep(2000))
        got += (size_t)read_all(d, block, 16 << 10);
    ck_assert_int_eq(unacknowledged(c), 0); /* the relay's kernel has all of it, and the end */
    ck_assert_int_lt(busy_us(300000), 30000);
    for (int n; got < sent; got += (size_t)n)
        ck_assert_int_gt(n = read_all(d, block, sent - got < sizeof block ? sent - got : sizeof block), 0);
    ck_assert_int_eq(read(d, block, 1), 0);
    stop(&h);
}
END_TEST

/* More clients than one port may have: the rest wait, are served when others go, and the loop does not spin. */
START_TEST(test_L1_bounded_connections)
{
    enum { MANY = 300, MOST = 256 };
    struct lab *l = lab_open(1);
    struct host h;
    int c[MANY], served = 0;
    OWN(fd) int s = lab_listen(l->host, "127.0.0.1", 80);
    ck_assert_int_eq(listen(s, MANY), 0);
    static const struct net_relay_rule rule = { "::1", 8080, "127.0.0.1", 80 };
    start(&h);
    ck_assert_int_eq(set(&h, &rule, 1).rc, 0);
    for (int i = 0; i < MANY; i++)
        ck_assert_int_ge(c[i] = lab_connect(l->host, "::1", 8080, 2000), 0);
    struct pollfd p = { .fd = s, .events = POLLIN };
    int d[MANY];
    while (served < MANY && poll(&p, 1, 300) == 1)
        d[served++] = accept(s, NULL, NULL);
    ck_assert_int_eq(served, MOST);
    ck_assert_int_lt(busy_us(300000), 30000);
    for (int i = 0; i < 50; i++) {
        close(c[i]);
        close(d[i]);
    }
    while (served < MANY && poll(&p, 1, 1000) == 1)
        d[served++] = accept(s, NULL, NULL);
    ck_assert_int_eq(served, MANY);
    stop(&h);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_relay");
    TCase *t = tcase_create("relay");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_ipv6_reaches_an_ipv4_guest);
    tcase_add_test(t, test_busy_port_is_named_and_the_others_work);
    tcase_add_test(t, test_a_port_of_the_host_is_not_free);
    tcase_add_test(t, test_host_without_ipv6);
    tcase_add_test(t, test_half_close_and_backpressure);
    tcase_add_test(t, test_refused_by_the_guest);
    tcase_add_test(t, test_hung_up_before_the_guest_reads);
    tcase_add_test(t, test_L1_bounded_connections);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
