/* The agent behind a listening socket, as it is on vsock; here the socket is a Unix one. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static struct sockaddr_un at;
static socklen_t at_len;
static pid_t pid;

static int accept_any(int listener)
{
    return accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

static void start(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    at = (struct sockaddr_un){ .sun_family = AF_UNIX };
    at_len = sizeof(at);
    ck_assert(bind(fd, (struct sockaddr *)&at, sizeof(sa_family_t)) == 0 && listen(fd, 64) == 0); /* abstract, autobound */
    ck_assert(getsockname(fd, (struct sockaddr *)&at, &at_len) == 0);
    pid = fork();
    if (pid == 0) {
        int moved = fcntl(fd, F_DUPFD_CLOEXEC, 20);
        for (int i = 3; i < 20; i++)
            close(i);
        open("/dev/null", O_RDWR | O_CLOEXEC);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGTERM, SIG_DFL);
        session_listen(moved, accept_any, TOKEN);
    }
    close(fd);
}

static void stop(void)
{
    kill(pid, SIGKILL);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* ---- a host ---- */

struct host { int fd; uint64_t nonce; struct frame_reader reader; uint8_t in[FRAME_BYTES_MAX]; };
static struct host a, b;

static void dial(struct host *h, uint64_t nonce)
{
    h->nonce = nonce;
    h->reader = (struct frame_reader){ .buf = h->in, .nonce = nonce };
    h->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(h->fd, (struct sockaddr *)&at, at_len), 0);
}

static void say(struct host *h, enum frame_type type, uint32_t stream, const void *data, size_t n)
{
    static uint8_t wire[FRAME_BYTES_MAX];
    struct frame out = { .type = type, .stream = stream, .nonce = h->nonce, .data = data, .n = (uint32_t)n };
    size_t bytes = frame_encode(wire, &out);
    ck_assert_int_eq(send(h->fd, wire, bytes, MSG_NOSIGNAL), (ssize_t)bytes);
}

static void greet(struct host *h, const char *token)
{
    char words[100];
    size_t n = 0;
    pairs_add(words, sizeof(words), &n, "version", "1");
    if (token)
        pairs_add(words, sizeof(words), &n, "token", token);
    say(h, FRAME_HELLO, 0, words, n);
}

enum { SILENT = -1, ENDED = 0 }; /* or a type */
static struct frame f;             /* the last one that was heard */
static int hear(struct host *h, int64_t ms)
{
    int64_t until = agent_now_ms() + ms;
    while (frame_next(&h->reader, &f) != FRAME_GOT) {
        struct pollfd p = { .fd = h->fd, .events = POLLIN };
        size_t room;
        void *to = frame_reader_room(&h->reader, &room);
        int64_t left = until - agent_now_ms();
        if (left <= 0 || poll(&p, 1, (int)left) == 0)
            return SILENT;
        ssize_t n = read(h->fd, to, room);
        if (n <= 0)
            return ENDED;
        frame_reader_add(&h->reader, (size_t)n);
    }
    return (int)f.type;
}

static void come_up(struct host *h, uint64_t nonce)
{
    dial(h, nonce);
    greet(h, TOKEN);
    ck_assert_int_eq(hear(h, 3000), FRAME_WELCOME);
}

static void alive(struct host *h)
{
    say(h, FRAME_PING, 0, NULL, 0);
    ck_assert_int_eq(hear(h, 2000), FRAME_PONG);
}

/* ---- tests ---- */

START_TEST(test_one_after_the_other)
{
    for (uint64_t i = 1; i < 20; i++) {
        come_up(&a, i);
        alive(&a);
        close(a.fd);
    }
}
END_TEST

/* vmsd died and nobody told the guest: its successor gets in, and what the old one ran is gone before. */
START_TEST(test_host_takes_over)
{
    static const char words[] = "op=exec\0arg=sh\0arg=-c\0arg=trap '' TERM; echo $$; while :; do sleep 0.1; done";
    come_up(&a, 1);
    say(&a, FRAME_OPEN, 1, words, sizeof(words));
    ck_assert_int_eq(hear(&a, 3000), FRAME_DATA);
    pid_t stubborn = (pid_t)atoi(f.data);
    ck_assert_int_eq(kill(stubborn, 0), 0);
    dial(&b, 2);
    greet(&b, TOKEN);
    ck_assert_int_eq(hear(&b, GRACE_MS + 3000), FRAME_WELCOME);
    ck_assert(kill(stubborn, 0) < 0 && errno == ESRCH);
    ck_assert_int_eq(hear(&a, 1000), ENDED);
    alive(&b);
    close(a.fd);
    alive(&b);
    close(b.fd);
}
END_TEST

START_TEST(test_A7_wrong_token_disturbs_nobody)
{
    static const char *const wrong[] = { NULL, "", "0123456789abcdef0123456789abcdeF", (TOKEN "0"), "0123456789abcdef0123456789abcde" };
    come_up(&a, 1);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        dial(&b, 7);
        greet(&b, wrong[i]);
        ck_assert_int_eq(hear(&b, 2000), ENDED);
        close(b.fd);
        alive(&a);
    }
    close(a.fd);
}
END_TEST

START_TEST(test_garbage_hangs_up)
{
    static const char garbage[][FRAME_HEAD + 1] = { "GET / HTTP/1.1\r\n\r\n", "\xffVMX", "\xffVMS\x01\x03", "\xffVMS\x02\x01" };
    static const size_t n[] = { 18, 4, FRAME_HEAD, FRAME_HEAD };
    come_up(&a, 1);
    for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
        dial(&b, 7);
        ck_assert_int_eq(write(b.fd, garbage[i], n[i]), (ssize_t)n[i]);
        ck_assert_int_eq(hear(&b, 2000), ENDED);
        close(b.fd);
    }
    dial(&b, 7);
    say(&b, FRAME_PING, 0, NULL, 0); /* no HELLO */
    ck_assert_int_eq(hear(&b, 2000), ENDED);
    close(b.fd);
    alive(&a);
    close(a.fd);
}
END_TEST

/* D9: they say nothing. A host still gets in at once, and they are sent away in time. */
START_TEST(test_D9_silent_callers)
{
    struct host *idle = calloc(20, sizeof(*idle));
    for (int i = 0; i < 20; i++)
        dial(&idle[i], 9);
    come_up(&a, 1);
    for (int i = 0; i < 20; i++) {
        int64_t begin = agent_now_ms();
        ck_assert_int_eq(hear(&idle[i], CALLER_MS + 3000), ENDED);
        ck_assert(i != 17 || agent_now_ms() - begin > CALLER_MS / 2); /* the host took the seat of the one before it */
        close(idle[i].fd);
    }
    free(idle);
    alive(&a);
    close(a.fd);
}
END_TEST

/* D2: a HELLO that comes byte by byte counts as soon as it is whole; half of one keeps a seat for a while, no more. */
START_TEST(test_D2_slow_hello)
{
    uint8_t wire[200];
    static const char words[] = "version=1\0token=" TOKEN;
    struct frame hello = { .type = FRAME_HELLO, .nonce = 5, .data = words, .n = sizeof(words) };
    size_t n = frame_encode(wire, &hello);
    dial(&a, 5);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(write(a.fd, wire + i, 1), 1);
        usleep(1000);
    }
    ck_assert_int_eq(hear(&a, 2000), FRAME_WELCOME);
    dial(&b, 5);
    ck_assert_int_eq(write(b.fd, wire, n - 1), (ssize_t)n - 1);
    ck_assert_int_eq(hear(&b, CALLER_MS + 3000), ENDED);
    alive(&a);
    close(a.fd);
    close(b.fd);
}
END_TEST

/* What follows the HELLO in the same breath belongs to the session. */
START_TEST(test_hello_with_more)
{
    uint8_t wire[400];
    static const char words[] = "version=1\0token=" TOKEN;
    struct frame hello = { .type = FRAME_HELLO, .nonce = 5, .data = words, .n = sizeof(words) };
    struct frame ping = { .type = FRAME_PING, .nonce = 5 };
    size_t n = frame_encode(wire, &hello);
    n += frame_encode(wire + n, &ping);
    dial(&a, 5);
    ck_assert_int_eq(write(a.fd, wire, n), (ssize_t)n);
    ck_assert_int_eq(hear(&a, 2000), FRAME_WELCOME);
    ck_assert_int_eq(hear(&a, 2000), FRAME_PONG);
    close(a.fd);
}
END_TEST

/* The peer's half is closed: its session is over, though bytes could still be written to it. */
START_TEST(test_half_closed)
{
    come_up(&a, 1);
    shutdown(a.fd, SHUT_WR);
    ck_assert_int_eq(hear(&a, 2000), ENDED);
    close(a.fd);
    come_up(&b, 2);
    alive(&b);
    close(b.fd);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent-listen");
    TCase *t = tcase_create("agent-listen");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, start, stop);
    tcase_add_test(t, test_one_after_the_other);
    tcase_add_test(t, test_host_takes_over);
    tcase_add_test(t, test_A7_wrong_token_disturbs_nobody);
    tcase_add_test(t, test_garbage_hangs_up);
    tcase_add_test(t, test_D9_silent_callers);
    tcase_add_test(t, test_D2_slow_hello);
    tcase_add_test(t, test_hello_with_more);
    tcase_add_test(t, test_half_closed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
