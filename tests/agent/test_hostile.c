/* A guest that has taken over its agent, under the real host side, whose seconds last 50 ms here (AGENT_SECOND). An
 * honest agent works beside it on the same loop all the time: whatever the other does costs only its own session. */
#include "rig.h"

#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---- the hostile one: a thread with a blocking socket ---- */

static struct hostile {
    int fd;
    pthread_t thread;
    struct frame_reader reader;
    uint64_t nonce;
    void (*play)(void);
} h;

static uint8_t wire[FRAME_BYTES_MAX];

static void say_bytes(const void *p, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t w = send(h.fd, (const char *)p + at, n - at, MSG_NOSIGNAL);
        if (w <= 0)
            return; /* the host has had enough */
        at += (size_t)w;
    }
}

static void say(enum frame_type type, uint32_t stream, const void *data, size_t n)
{
    struct frame f = { .type = type, .channel = type == FRAME_DATA ? CHANNEL_STDOUT : 0, .stream = stream,
                       .nonce = h.nonce, .data = data, .n = (uint32_t)n };
    say_bytes(wire, frame_encode(wire, &f));
}
#define say_pairs(type, stream, text) say(type, stream, text, sizeof(text))

static void say_length(uint32_t n)
{
    struct frame f = { .type = FRAME_DATA, .channel = CHANNEL_STDOUT, .stream = 1, .nonce = h.nonce };
    frame_head(wire, &f);
    le32_put(wire + 12, n);
    say_bytes(wire, FRAME_HEAD);
}

/* The next frame of the host; type 0: it closed. */
static struct frame hear(void)
{
    struct frame f = { 0 };
    while (frame_next(&h.reader, &f) != FRAME_GOT) {
        size_t room;
        void *p = frame_reader_room(&h.reader, &room);
        ssize_t n = recv(h.fd, p, room, 0);
        if (n <= 0)
            return (struct frame){ 0 };
        frame_reader_add(&h.reader, (size_t)n);
    }
    return f;
}

static void welcome(void)
{
    say_pairs(FRAME_WELCOME, 0, "version=1");
}

static struct frame hear_type(enum frame_type type)
{
    struct frame f;
    do
        f = hear();
    while (f.type && f.type != type);
    return f;
}

static void *hostile_main(void *arg)
{
    (void)arg;
    h.reader.nonce = h.nonce = hear().nonce;
    h.play();
    return NULL;
}

/* ---- the host ---- */

static struct agent *agent;
static bool up, down;
static char why[200];
static struct call c; /* with the honest one */

static void on_up(void *arg)
{
    (void)arg;
    up = true;
    loop_quit(rig.loop);
}

static void on_down(void *arg, const char *text)
{
    (void)arg;
    ck_assert(!down);
    down = true;
    snprintf(why, sizeof(why), "%s", text);
    loop_quit(rig.loop);
}

static void start(void (*play)(void))
{
    struct vm_err e;
    int sv[2];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
    static uint8_t buf[FRAME_BYTES_MAX];
    h = (struct hostile){ .fd = sv[1], .play = play, .reader = { .buf = buf, .hello = true } };
    ck_assert_int_eq(pthread_create(&h.thread, NULL, hostile_main, NULL), 0);
    struct agent_events ev = { .up = on_up, .down = on_down };
    ck_assert_msg(agent_open(rig.loop, sv[0], ev, &agent, &e) == 0, "%s", e.text);
}

static void expect_down(const char *text, int64_t ms)
{
    rig_until(&down, ms);
    ck_assert_str_eq(why, text);
    ck_assert(!agent_is_up(agent));
    ck_assert(call_run(&c, "op=exec", "arg=echo", "arg=fine")); /* the neighbour noticed nothing */
    ck_assert_str_eq(c.out.s, "fine\n");
}

static void nothing(void)
{
}

static void only_welcome(void)
{
    welcome();
    hear_type(FRAME_BYE);
}

/* A request to the hostile one. */
static struct { struct agent_stream *s; bool ended; struct agent_result r; uint64_t n; bool close_in_data, close_in_end; } q;

static void q_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    (void)ch, (void)p, (void)arg;
    q.n += n;
    if (q.close_in_data) {
        agent_close(agent);
        agent = NULL;
    }
}

static void q_end(const struct agent_result *r, void *arg)
{
    (void)arg;
    ck_assert(!q.ended);
    q.ended = true;
    q.r = *r;
    q.s = NULL;
    loop_quit(rig.loop);
    if (q.close_in_end) {
        agent_close(agent);
        agent = NULL;
    }
}

static void request_for(struct agent_stream_events ev)
{
    OWN(strv) struct strv words = { 0 };
    struct vm_err e;
    rig_until(&up, 2000);
    strv_add(&words, "op=ping");
    ck_assert_msg(agent_request(agent, &words, ev, &q.s, &e) == 0, "%s", e.text);
}

static void request(void)
{
    request_for((struct agent_stream_events){ .data = q_data, .end = q_end });
}

/* ---- greeting ---- */

START_TEST(test_no_welcome)
{
    start(nothing);
    expect_down("the agent did not answer within 10 s", 2000);
    ck_assert(!up);
}
END_TEST

static void play_other_version(void)
{
    say_pairs(FRAME_WELCOME, 0, "version=2");
}

START_TEST(test_other_version)
{
    start(play_other_version);
    expect_down("the agent speaks another version of the protocol", 400);
}
END_TEST

static void play_refuse(void)
{
    say_pairs(FRAME_BYE, 0, "error=no \33[2Jway\n");
}

START_TEST(test_P1_goodbye_is_escaped)
{
    start(play_refuse);
    expect_down("no \\x1B[2Jway\\x0A", 400);
}
END_TEST

static void play_stale_then_welcome(void)
{
    static uint8_t stale[500000];
    for (size_t i = 0; i < sizeof(stale); i++)
        stale[i] = (uint8_t)(i * 31 >> 3);
    say_bytes(stale, sizeof(stale));
    uint64_t nonce = h.nonce;
    h.nonce = 0x0123456789abcdef;
    welcome(); /* of a session before */
    say_pairs(FRAME_END, 1, "exit=0");
    h.nonce = nonce;
    only_welcome();
}

START_TEST(test_D5_stale_bytes)
{
    start(play_stale_then_welcome);
    rig_until(&up, 2000);
    ck_assert(agent_is_up(agent));
}
END_TEST

static void play_garbage(void)
{
    static uint8_t garbage[2 << 20];
    say_bytes(garbage, sizeof(garbage));
}

START_TEST(test_garbage_before_welcome)
{
    start(play_garbage);
    expect_down("the line carries no frames of this session", 2000);
}
END_TEST

static void play_bytes_between(void)
{
    welcome();
    say_bytes("x", 1);
    welcome();
}

START_TEST(test_garbage_between_frames)
{
    start(play_bytes_between);
    expect_down("the agent sent bytes that are no frame", 2000);
}
END_TEST

/* ---- frames ---- */

static uint32_t length;

static void play_length(void)
{
    welcome();
    say_length(length);
    hear_type(FRAME_BYE);
}

START_TEST(test_D1_length)
{
    static const uint32_t lengths[] = { 0, FRAME_PAYLOAD_MAX + 1, 1u << 31, UINT32_MAX };
    length = lengths[_i];
    start(play_length);
    expect_down("the agent sent a frame of an impossible type or length", 1000);
}
END_TEST

static void play_slowly(void)
{
    welcome();
    struct frame f = { .type = FRAME_DATA, .channel = CHANNEL_STDOUT, .stream = 1, .nonce = h.nonce, .data = wire, .n = 100 };
    uint8_t bytes[FRAME_HEAD + 100];
    size_t n = frame_encode(bytes, &f);
    for (size_t i = 0; i < n && send(h.fd, bytes + i, 1, MSG_NOSIGNAL) == 1; i++)
        sleep_ms(50);
}

START_TEST(test_D2_one_byte_a_second)
{
    start(play_slowly);
    rig_until(&up, 1000);
    int64_t begin = now_ms();
    expect_down("the agent began a frame and did not end it within 30 s", 3000);
    ck_assert_int_ge(now_ms() - begin, 1400);
}
END_TEST

static void play_half_a_frame(void)
{
    welcome();
    say_length(1000);
    hear_type(FRAME_BYE);
}

START_TEST(test_D2_silence_in_a_frame)
{
    start(play_half_a_frame);
    expect_down("the agent began a frame and did not end it within 30 s", 3000);
}
END_TEST

static void play_unasked(void)
{
    welcome();
    struct frame f = hear_type(FRAME_OPEN);
    for (int i = 0; i < 100; i++) {
        say_pairs(FRAME_END, f.stream + 1, "exit=0"); /* unknown */
        say_pairs(FRAME_DATA, f.stream + 7, "?");
        say_pairs(FRAME_END, 0, "exit=0");
        say(FRAME_PONG, 0, NULL, 0);
        welcome();
    }
    say_pairs(FRAME_END, f.stream, "exit=3");
    for (int i = 0; i < 100; i++) {
        say_pairs(FRAME_END, f.stream, "exit=0"); /* again */
        say_pairs(FRAME_DATA, f.stream, "late");
    }
    hear_type(FRAME_BYE);
}

START_TEST(test_D4_unasked_frames_change_nothing)
{
    start(play_unasked);
    request();
    rig_until(&q.ended, 1000);
    ck_assert(q.r.ok);
    ck_assert_int_eq(q.r.exit_code, 3);
    rig_for(100);
    ck_assert_uint_eq(q.n, 0);
    ck_assert(agent_is_up(agent));
}
END_TEST

static void play_flood(void)
{
    welcome();
    for (int i = 0; i < 100000; i++)
        say_pairs(FRAME_END, 77, "exit=0");
}

START_TEST(test_D4_flood)
{
    start(play_flood);
    expect_down("the agent keeps sending frames that nobody asked for", 2000);
}
END_TEST

/* ---- streams ---- */

static void play_overrun(void)
{
    static uint8_t data[CHANNEL_COUNT + FRAME_PAYLOAD_MAX];
    welcome();
    struct frame f = hear_type(FRAME_OPEN);
    for (int i = 0; i < FRAME_WINDOW / FRAME_PAYLOAD_MAX; i++)
        say(FRAME_DATA, f.stream, data, FRAME_PAYLOAD_MAX);
    if (length)
        say(FRAME_DATA, f.stream, data, length);
    hear_type(FRAME_BYE);
}

START_TEST(test_credit_to_its_bound)
{
    length = 0;
    start(play_overrun);
    request();
    agent_stream_pause(q.s, true);
    rig_for(300);
    ck_assert_uint_eq(q.n, FRAME_WINDOW);
    ck_assert(agent_is_up(agent));
}
END_TEST

START_TEST(test_credit_overrun)
{
    length = 1;
    start(play_overrun);
    request();
    agent_stream_pause(q.s, true);
    expect_down("the agent sent more than it had credit for", 1000);
    ck_assert_uint_eq(q.n, FRAME_WINDOW);
    ck_assert(q.ended && q.r.lost && !q.r.ok);
}
END_TEST

/* Of what wants no output: it does not crash the host, nor keep it busy. */
START_TEST(test_D4_output_that_nobody_wants)
{
    length = _i;
    start(play_overrun);
    request_for((struct agent_stream_events){ .end = q_end });
    if (length) {
        expect_down("the agent sent more than it had credit for", 1000);
    } else {
        rig_for(300);
        ck_assert(agent_is_up(agent));
    }
}
END_TEST

static void play_gift(void)
{
    welcome();
    say(FRAME_CREDIT, hear_type(FRAME_OPEN).stream, "\1\0\0\0", 4);
    hear_type(FRAME_BYE);
}

START_TEST(test_credit_given_without_need)
{
    start(play_gift);
    request();
    expect_down("the agent gave more credit than it had taken", 1000);
}
END_TEST

static void play_host(void)
{
    welcome();
    say_pairs(FRAME_OPEN, hear_type(FRAME_OPEN).stream, "op=exec");
    hear_type(FRAME_BYE);
}

START_TEST(test_frames_of_the_host)
{
    start(play_host);
    request();
    expect_down("the agent sent a frame that only the host may send", 1000);
}
END_TEST

#define X97 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
static const struct { const char *text; size_t n; const char *error; } results[] = {
#define R(text, error) { text, sizeof(text), error }
    R("exit=256", "the agent gave no result"),          R("exit=-1", "the agent gave no result"),
    R("exit=", "the agent gave no result"),             R("signal=0", "the agent gave no result"),
    R("signal=65", "the agent gave no result"),         R("what=ever", "the agent gave no result"),
    R("exit", "the agent's result makes no sense"),     R("=0", "the agent's result makes no sense"),
    R("error=a\33]52;c;eA==\7b", "a\\x1B]52;c;eA==\\x07b"), R("error=\xe2\x80\xae", "\\xE2\\x80\\xAE"),
    R("exit=0\0error=both", "both"),
    R("error=\33" X97 X97 "\xe2\x82\xac", "\\x1B" X97 X97), /* the euro has not room enough */
#undef R
};

static void play_result(void)
{
    welcome();
    size_t i = length;
    say(FRAME_END, hear_type(FRAME_OPEN).stream, results[i].text, results[i].n);
    hear_type(FRAME_BYE);
}

START_TEST(test_P1_results)
{
    length = (uint32_t)_i;
    start(play_result);
    request();
    rig_until(&q.ended, 1000);
    ck_assert(!q.r.ok && !q.r.lost);
    ck_assert_int_eq(q.r.exit_code, -1);
    ck_assert_int_eq(q.r.signal, 0);
    ck_assert_str_eq(q.r.error, results[_i].error);
    ck_assert(agent_is_up(agent));
}
END_TEST

/* ---- silence ---- */

START_TEST(test_no_pong)
{
    start(only_welcome);
    rig_until(&up, 1000);
    int64_t begin = now_ms();
    expect_down("the agent did not answer a ping within 30 s", 6000);
    ck_assert_int_ge(now_ms() - begin, 2900); /* one period until the ping, one for its answer */
}
END_TEST

START_TEST(test_cancel_without_end)
{
    start(only_welcome);
    request();
    int64_t begin = now_ms();
    agent_stream_cancel(q.s);
    expect_down("the agent did not end a cancelled request within 15 s", 2000);
    ck_assert_int_ge(now_ms() - begin, 700);
    ck_assert(q.ended && q.r.lost);
}
END_TEST

static void play_deaf(void)
{
    welcome();
    (void)poll(&(struct pollfd){ .fd = h.fd }, 1, -1); /* until the host hangs up */
}

START_TEST(test_never_reads)
{
    start(play_deaf);
    request();
    for (int i = 0; i < 100000; i++)
        agent_stream_resize(q.s, 24, 80);
    expect_down("the agent does not read what it is sent", 1000);
}
END_TEST

static void play_hang_up(void)
{
    welcome();
    hear_type(FRAME_OPEN);
    shutdown(h.fd, SHUT_RDWR);
}

START_TEST(test_hang_up)
{
    start(play_hang_up);
    request();
    expect_down("the agent closed the connection", 1000);
    ck_assert(q.ended && q.r.lost);
    ck_assert_str_eq(q.r.error, "the agent closed the connection");
}
END_TEST

/* ---- the session closed out of a call-back ---- */

static void play_answer(void)
{
    welcome();
    uint32_t stream = hear_type(FRAME_OPEN).stream;
    say_pairs(FRAME_DATA, stream, "data");
    say_pairs(FRAME_DATA, stream, "data");
    say_pairs(FRAME_END, stream, "exit=0");
    hear_type(FRAME_BYE);
}

START_TEST(test_close_in_data)
{
    start(play_answer);
    request();
    q.close_in_data = true;
    rig_until(&q.ended, 1000);
    ck_assert(q.r.lost);
    ck_assert_uint_eq(q.n, sizeof("data"));
    ck_assert(!down);
}
END_TEST

START_TEST(test_close_in_end)
{
    start(play_answer);
    request();
    q.close_in_end = true;
    rig_until(&q.ended, 1000);
    ck_assert(q.r.ok);
    ck_assert(!down);
}
END_TEST

static void set_up(void)
{
    agent = NULL;
    up = down = false;
    rig_start();
}

static void tear_down(void)
{
    agent_close(agent);
    shutdown(h.fd, SHUT_RDWR);
    down = true;
    pthread_join(h.thread, NULL);
    close(h.fd);
    rig_stop();
    call_done(&c);
}

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_no_welcome);
    tcase_add_test(t, test_other_version);
    tcase_add_test(t, test_P1_goodbye_is_escaped);
    tcase_add_test(t, test_D5_stale_bytes);
    tcase_add_test(t, test_garbage_before_welcome);
    tcase_add_test(t, test_garbage_between_frames);
    tcase_add_loop_test(t, test_D1_length, 0, 4);
    tcase_add_test(t, test_D2_one_byte_a_second);
    tcase_add_test(t, test_D2_silence_in_a_frame);
    tcase_add_test(t, test_D4_unasked_frames_change_nothing);
    tcase_add_test(t, test_D4_flood);
    tcase_add_test(t, test_credit_to_its_bound);
    tcase_add_test(t, test_credit_overrun);
    tcase_add_loop_test(t, test_D4_output_that_nobody_wants, 0, 2);
    tcase_add_test(t, test_credit_given_without_need);
    tcase_add_test(t, test_frames_of_the_host);
    tcase_add_loop_test(t, test_P1_results, 0, ARRAY_LEN(results));
    tcase_add_test(t, test_no_pong);
    tcase_add_test(t, test_cancel_without_end);
    tcase_add_test(t, test_never_reads);
    tcase_add_test(t, test_hang_up);
    tcase_add_test(t, test_close_in_data);
    tcase_add_test(t, test_close_in_end);
}

int main(void)
{
    return run_suite("agent-hostile", add);
}
