/* The agent's own session code on a line without connection boundaries, as a virtio-serial port is: a socket that the
 * hosts of this test share, one after the other. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

static int line;
static pid_t pid;
static uint8_t wire[FRAME_BYTES_MAX], buf[FRAME_BYTES_MAX];
static struct frame_reader reader;

static void start(bool boundaries, const char *token)
{
    int sv[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    line = sv[0];
    pid = fork();
    if (pid == 0) {
        close(sv[0]);
        int fd = fcntl(sv[1], F_DUPFD_CLOEXEC, 20);
        for (int i = 3; i < 20; i++) /* as main does */
            close(i);
        open("/dev/null", O_RDWR | O_CLOEXEC);
        fcntl(fd, F_SETFL, O_NONBLOCK);
        signal(SIGPIPE, SIG_IGN);
        signal(SIGTERM, SIG_DFL); /* Check's handler would end the test; vms-agent itself has none to inherit */
        session_serve(fd, boundaries, token);
        _exit(0);
    }
    close(sv[1]);
}

static void stop(void)
{
    int status;
    close(line);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}

static size_t frame_of(enum frame_type type, uint32_t stream, uint64_t nonce, const void *data, size_t n)
{
    struct frame f = { .type = type, .stream = stream, .nonce = nonce, .data = data, .n = (uint32_t)n };
    return frame_encode(wire, &f);
}

static void say(enum frame_type type, uint32_t stream, uint64_t nonce, const void *data, size_t n)
{
    size_t bytes = frame_of(type, stream, nonce, data, n);
    ck_assert_int_eq(write(line, wire, bytes), (ssize_t)bytes);
}

/* The next frame of this session within ms; type 0: none came, or the line ended. */
static struct frame hear(uint64_t nonce, int64_t ms)
{
    struct frame f = { 0 };
    int64_t until = agent_now_ms() + ms;
    if (reader.nonce != nonce)
        reader = (struct frame_reader){ .buf = buf, .nonce = nonce };
    while (frame_next(&reader, &f) != FRAME_GOT) {
        struct pollfd p = { .fd = line, .events = POLLIN };
        size_t room;
        void *to = frame_reader_room(&reader, &room);
        ssize_t n = -1;
        if (poll(&p, 1, until > agent_now_ms() ? (int)(until - agent_now_ms()) : 0) == 1)
            n = read(line, to, room);
        if (n <= 0)
            return (struct frame){ 0 };
        frame_reader_add(&reader, (size_t)n);
    }
    return f;
}

static void greet(uint64_t nonce)
{
    static const char words[] = "version=1\0token=" TOKEN;
    say(FRAME_HELLO, 0, nonce, words, sizeof(words));
}

/* Starts a program that ignores SIGTERM, and gives its pid. */
static pid_t start_stubborn(uint64_t nonce)
{
    static const char words[] = "op=exec\0arg=sh\0arg=-c\0arg=trap '' TERM; echo $$; while :; do sleep 0.1; done\0stdin=1";
    say(FRAME_OPEN, 1, nonce, words, sizeof(words));
    struct frame f = hear(nonce, 2000);
    ck_assert_int_eq(f.type, FRAME_DATA);
    return (pid_t)atoi(f.data);
}

START_TEST(test_token)
{
    start(true, TOKEN);
    greet(5);
    struct frame f = hear(5, 1000);
    ck_assert_int_eq(f.type, FRAME_WELCOME);
    ck_assert(pairs_ok(f.data, f.n));
    ck_assert_str_eq(pairs_get(f.data, f.n, "version"), "1");
    stop();
}
END_TEST

/* D18, A7: not a word to whoever does not know the token. */
START_TEST(test_A7_wrong_token)
{
    static const char *const wrong[] = { "version=1", "version=1\0token=", "version=1\0token=0123456789abcdef0123456789abcdeF",
                                         "version=1\0token=" TOKEN "0" };
    static const size_t n[] = { 10, 17, 49, 50 };
    for (size_t i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
        char end;
        start(true, TOKEN);
        say(FRAME_HELLO, 0, 5, wrong[i], n[i]);
        ck_assert_int_eq(read(line, &end, 1), 0);
        stop();
    }
}
END_TEST

START_TEST(test_other_version)
{
    start(false, NULL);
    say(FRAME_HELLO, 0, 5, "version=2", 10);
    ck_assert_int_eq(hear(5, 1000).type, FRAME_BYE);
    greet(6);
    ck_assert_int_eq(hear(6, 1000).type, FRAME_WELCOME);
    stop();
}
END_TEST

START_TEST(test_nothing_before_hello)
{
    start(false, NULL);
    say(FRAME_PING, 0, 5, NULL, 0);
    say(FRAME_OPEN, 1, 5, "op=ping", 8);
    ck_assert_int_eq(hear(5, 200).type, 0);
    greet(6);
    ck_assert_int_eq(hear(6, 1000).type, FRAME_WELCOME);
    say(FRAME_PING, 0, 5, NULL, 0); /* another session's */
    say(FRAME_PING, 0, 6, NULL, 0);
    stop();
}
END_TEST

/* A host that comes while the last one's program runs: it has ended before the new session is up. */
START_TEST(test_next_session_ends_the_last)
{
    start(false, NULL);
    greet(5);
    ck_assert_int_eq(hear(5, 1000).type, FRAME_WELCOME);
    pid_t stubborn = start_stubborn(5);
    greet(6);
    ck_assert_int_eq(hear(6, 5000).type, FRAME_WELCOME);
    ck_assert(kill(stubborn, 0) < 0 && errno == ESRCH);
    stop();
}
END_TEST

START_TEST(test_goodbye_keeps_the_line)
{
    start(false, NULL);
    greet(5);
    ck_assert_int_eq(hear(5, 1000).type, FRAME_WELCOME);
    pid_t stubborn = start_stubborn(5);
    say(FRAME_BYE, 0, 5, NULL, 0);
    greet(6);
    ck_assert_int_eq(hear(6, 5000).type, FRAME_WELCOME);
    ck_assert(kill(stubborn, 0) < 0 && errno == ESRCH);
    stop();
}
END_TEST

/* A host that died in the middle of a frame, and the next one, whose HELLO the rest of that frame seems to be. */
START_TEST(test_D5_hello_within_a_cut_frame)
{
    start(false, NULL);
    greet(5);
    ck_assert_int_eq(hear(5, 1000).type, FRAME_WELCOME);
    pid_t stubborn = start_stubborn(5);
    static const uint8_t zeros[1000];
    frame_of(FRAME_DATA, 1, 5, zeros, sizeof(zeros));
    ck_assert_int_eq(write(line, wire, 500), 500);
    greet(6);
    ck_assert_int_eq(hear(6, GRACE_MS + 2000).type, FRAME_WELCOME);
    ck_assert(kill(stubborn, 0) < 0 && errno == ESRCH);
    say(FRAME_PING, 0, 6, NULL, 0);
    ck_assert_int_eq(hear(6, 1000).type, FRAME_PONG);
    stop();
}
END_TEST

/* What looks like a HELLO in a file is content, as long as its token is wrong. */
START_TEST(test_D5_hello_as_content)
{
    static const char words[] = "op=exec\0arg=cksum\0stdin=1", wrong[] = "version=1\0token=0123456789abcdef0123456789abcdee";
    uint8_t content[1000] = { 0 };
    struct frame f = { .type = FRAME_HELLO, .nonce = 7, .data = wrong, .n = sizeof(wrong) };
    start(false, TOKEN);
    greet(5);
    ck_assert_int_eq(hear(5, 1000).type, FRAME_WELCOME);
    say(FRAME_OPEN, 1, 5, words, sizeof(words));
    frame_encode(content + 100, &f);
    size_t n = frame_of(FRAME_DATA, 1, 5, content, sizeof(content));
    ck_assert_int_eq(write(line, wire, 700), 700);
    usleep(200000);
    ck_assert_int_eq(write(line, wire + 700, n - 700), (ssize_t)n - 700);
    say(FRAME_EOF, 1, 5, NULL, 0);
    f = hear(5, 2000);
    ck_assert_int_eq(f.type, FRAME_DATA);
    ck_assert(memchr(f.data, '\n', f.n) && strstr(f.data, " 1000\n"));
    ck_assert_int_eq(hear(5, 2000).type, FRAME_END);
    stop();
}
END_TEST

/* D5: a line that is cut at any byte, 10,000 times, without any sign but the next host's HELLO. */
START_TEST(test_D5_cuts_without_a_sign)
{
    enum { CUTS = 10000 };
    static uint8_t bytes[4096], data[2000];
    unsigned seed = getenv("SEED") ? (unsigned)strtoul(getenv("SEED"), NULL, 10) : (unsigned)getpid();
    fprintf(stderr, "test_D5_cuts_without_a_sign: SEED=%u\n", seed);
    srandom(seed);
    start(false, TOKEN);
    for (uint64_t nonce = 1; nonce <= CUTS; nonce++) {
        static const char words[] = "version=1\0token=" TOKEN, ping[] = "op=ping";
        struct frame parts[] = {
            { .type = FRAME_HELLO, .nonce = nonce, .data = words, .n = sizeof(words) },
            { .type = FRAME_OPEN, .nonce = nonce, .stream = 1, .data = ping, .n = sizeof(ping) },
            { .type = FRAME_DATA, .nonce = nonce, .stream = 1, .data = data, .n = (uint32_t)(random() % (long)sizeof(data)) + 1 },
        };
        size_t n = 0, kinds = nonce % 50 ? 3 : 2; /* few start a process: that takes its time */
        for (size_t i = 0; i < kinds; i++) {
            if (i != 1 || nonce % 50 == 0)
                n += frame_encode(bytes + n, &parts[i]);
        }
        size_t cut = (size_t)random() % n + 1;
        ck_assert_int_eq(write(line, bytes, cut), (ssize_t)cut);
        if (nonce % 10 == 0) {
            greet(nonce + CUTS);
            ck_assert_int_eq(hear(nonce + CUTS, GRACE_MS + 5000).type, FRAME_WELCOME);
            say(FRAME_PING, 0, nonce + CUTS, NULL, 0);
            ck_assert_int_eq(hear(nonce + CUTS, 2000).type, FRAME_PONG);
        }
    }
    stop();
}
END_TEST

/* More input than the credit: the host is broken, so its session ends. */
START_TEST(test_input_overrun)
{
    static const uint8_t data[FRAME_PAYLOAD_MAX];
    start(true, NULL);
    greet(5);
    ck_assert_int_eq(hear(5, 1000).type, FRAME_WELCOME);
    static const char words[] = "op=exec\0arg=sleep\0arg=100\0stdin=1";
    say(FRAME_OPEN, 1, 5, words, sizeof(words));
    for (int i = 0; i < 6; i++) { /* the window and the pipe, 64 KiB each, and one more */
        size_t n = frame_of(FRAME_DATA, 1, 5, data, sizeof(data));
        for (size_t at = 0; at < n;) {
            ssize_t w = send(line, wire + at, n - at, MSG_NOSIGNAL);
            ck_assert(w > 0 || i == 5);
            at = w > 0 ? at + (size_t)w : n;
        }
    }
    enum frame_type heard;
    while ((heard = hear(5, 5000).type) == FRAME_CREDIT)
        ;
    ck_assert_int_eq(heard, 0);
    char end;
    ck_assert_int_le(recv(line, &end, 1, MSG_DONTWAIT), 0);
    ck_assert_int_ne(errno, EAGAIN);
    stop();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent-session");
    TCase *t = tcase_create("agent-session");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_token);
    tcase_add_test(t, test_A7_wrong_token);
    tcase_add_test(t, test_other_version);
    tcase_add_test(t, test_nothing_before_hello);
    tcase_add_test(t, test_next_session_ends_the_last);
    tcase_add_test(t, test_goodbye_keeps_the_line);
    tcase_add_test(t, test_D5_hello_within_a_cut_frame);
    tcase_add_test(t, test_D5_hello_as_content);
    tcase_add_test(t, test_D5_cuts_without_a_sign);
    tcase_add_test(t, test_input_overrun);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
