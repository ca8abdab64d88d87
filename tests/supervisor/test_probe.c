#include "../../supervisor/probe.h"

#include "double.h"

#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <vmsd/clock.h>

/* ---- an agent that does what the test says ---- */

struct agent_stream {
    struct agent_stream_events ev;
    bool cancelled;
};
static struct agent_stream stream; /* at most one; ev.end is set while it is open */
static char request[1024];
static bool refuse;

int agent_request(struct agent *a, const struct strv *q, struct agent_stream_events ev, struct agent_stream **out,
                  struct vm_err *e)
{
    (void)a;
    ck_assert_ptr_null(stream.ev.end);
    if (refuse)
        return vm_fail(e, VM_E_UNAVAILABLE, "busy");
    request[0] = '\0';
    for (size_t i = 0; i < q->n; i++)
        strcat(strcat(request, q->v[i]), " ");
    stream = (struct agent_stream){.ev = ev};
    *out = &stream;
    return 0;
}

void agent_stream_cancel(struct agent_stream *s)
{
    ck_assert_ptr_nonnull(s->ev.end);
    s->cancelled = true;
}

static void says(const char *text, size_t n)
{
    if (!stream.cancelled)
        stream.ev.data(AGENT_STDOUT, text, n, stream.ev.arg);
}

static void ends(struct agent_result r)
{
    struct agent_stream_events ev = stream.ev;

    stream.ev.end = NULL;
    ev.end(&r, ev.arg);
}

/* ---- what comes out ---- */

static struct loop *loop;
static struct {
    int calls;
    enum outcome outcome;
    char message[PROBE_MESSAGE_MAX + 1];
    char *said;
    size_t n_said;
} got;

static void done(enum outcome o, const char *message, const struct probe_said *said, void *arg)
{
    ck_assert_ptr_eq(arg, &got);
    ck_assert_uint_le(strlen(message), PROBE_MESSAGE_MAX);
    ck_assert(text_is_clean(message, strlen(message)));
    got.calls++;
    got.outcome = o;
    strcpy(got.message, message);
    got.said = said ? strndup(said->s, said->n) : NULL;
    got.n_said = said ? said->n : 0;
    loop_quit(loop);
}

static struct probe *start(const struct spec_check *c, const char *address)
{
    const char *words[] = {"env=A=b c"};
    struct strv env = {.v = (char **)words, .n = 1};
    struct probe_target at = {.loop = loop, .address = address, .env = &env};
    struct probe *p = NULL;
    struct vm_err e = {0};

    free(got.said);
    memset(&got, 0, sizeof got);
    ck_assert_msg(probe_start(&at, c, done, &got, &p, &e) == 0, "%s", e.text);
    ck_assert_int_eq(got.calls, 0);
    return p;
}

static void run(const struct spec_check *c, const char *address)
{
    start(c, address);
    ck_assert_int_eq(loop_run(loop, NULL), 0);
    ck_assert_int_eq(got.calls, 1);
}

static void set_up(void)
{
    ck_assert_int_eq(loop_open(1, &loop, NULL), 0);
    stream = (struct agent_stream){0};
    refuse = false;
}

static void tear_down(void)
{
    free(got.said);
    got.said = NULL;
    loop_close(loop);
}

static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* ---- tcp ---- */

START_TEST(test_tcp)
{
    uint16_t port = 0;
    struct double_server *d = double_open(&(struct double_plan){.mute = 1}, &port);
    struct spec_check c = {.kind = CHECK_TCP, .port = port, .timeout_ms = 300};
    int before;

    run(&c, "127.0.0.1");
    ck_assert_int_eq(got.outcome, OUTCOME_PASSED);
    before = open_fds();
    double_close(d);
    run(&c, "127.0.0.1");
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_str_eq(got.message, "Connection refused");
    run(&c, "::1");
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    run(&c, "fd00:dead:beef::1"); /* no route, or nobody there */
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_str_ne(got.message, "");
    ck_assert_int_eq(open_fds(), before - 3);
}
END_TEST

/* A full backlog drops the SYN: what a guest behind a dropping firewall looks like. */
START_TEST(test_tcp_silence)
{
    uint16_t port = 0;
    struct double_server *d = double_open(&(struct double_plan){.mute = 1}, &port);
    struct spec_check c = {.kind = CHECK_TCP, .port = port, .timeout_ms = 300};
    int64_t began;

    run(&c, "127.0.0.1");
    run(&c, "127.0.0.1");
    began = now_ms();
    run(&c, "127.0.0.1");
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_str_eq(got.message, "no answer within 0.3 s");
    ck_assert_int_ge(now_ms() - began, 300);
    ck_assert_int_lt(now_ms() - began, 600);
    double_close(d);
}
END_TEST

/* ---- http ---- */

static const struct {
    const char *say, *body;
    int status;
    enum outcome want;
    const char *message;
} pages[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", NULL, 0, OUTCOME_PASSED, "status 200"},
    {"HTTP/1.1 302 Go\r\nContent-Length: 0\r\n\r\n", NULL, 0, OUTCOME_PASSED, "status 302"},
    {"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 0, OUTCOME_FAILED, "status 404"},
    {"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", NULL, 404, OUTCOME_PASSED, "status 404"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", NULL, 204, OUTCOME_FAILED, "status 200"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "ell", 0, OUTCOME_PASSED, "status 200"},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "elk", 0, OUTCOME_FAILED,
     "status 200, but the page does not have 'elk'"},
    {"\x1b[31m\r\n", NULL, 0, OUTCOME_FAILED, NULL},
};

START_TEST(test_http)
{
    uint16_t port = 0;
    struct double_server *d = double_open(&(struct double_plan){.say = pages[_i].say}, &port);

    run(&(struct spec_check){.kind = CHECK_HTTP, .port = port, .path = "/", .status = pages[_i].status,
                             .body = pages[_i].body, .timeout_ms = 2000}, "127.0.0.1");
    ck_assert_int_eq(got.outcome, pages[_i].want);
    if (pages[_i].message)
        ck_assert_str_eq(got.message, pages[_i].message);
    double_close(d);
}
END_TEST

START_TEST(test_http_page_without_end)
{
    struct double_plan p = {.say = "HTTP/1.1 200 OK\r\n\r\nhello", .flood = 1ull << 30};
    uint16_t port = 0;
    struct double_server *d = double_open(&p, &port);
    struct spec_check c = {.kind = CHECK_HTTP, .port = port, .path = "/", .body = "hello", .timeout_ms = 5000};

    run(&c, "127.0.0.1");
    ck_assert_int_eq(got.outcome, OUTCOME_PASSED);
    c.body = "absent";
    run(&c, "127.0.0.1");
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_ptr_nonnull(strstr(got.message, "first 256 KiB"));
    double_close(d);
}
END_TEST

static const char *const all[] = {"*"};
#define NUMBERS .numbers = {(const char **)all, 1}

/* What numbers may stand in is handed on: of a page that was cut the whole lines, of one that is refused nothing. */
START_TEST(test_http_said)
{
    struct double_plan p = {.say = "HTTP/1.1 200 OK\r\n\r\na 1\nb 2"};
    uint16_t port = 0;
    struct double_server *d = double_open(&p, &port);
    struct spec_check c = {.kind = CHECK_HTTP, .port = port, .path = "/", .timeout_ms = 5000};

    run(&c, "127.0.0.1");
    ck_assert_ptr_null(got.said);
    c = (struct spec_check){.kind = CHECK_HTTP, .port = port, .path = "/", .timeout_ms = 5000, NUMBERS};
    run(&c, "127.0.0.1");
    ck_assert_str_eq(got.said, "a 1\nb 2");
    ck_assert_str_eq(got.message, "status 200");
    c.status = 201;
    run(&c, "127.0.0.1");
    ck_assert_ptr_null(got.said);
    double_close(d);
    p = (struct double_plan){.say = "HTTP/1.1 200 OK\r\n\r\na 1\nb 2", .flood = 1ull << 30};
    d = double_open(&p, &port);
    c.port = port;
    c.status = 0;
    run(&c, "127.0.0.1");
    ck_assert_str_eq(got.said, "a 1");
    double_close(d);
}
END_TEST

/* ---- through the agent ---- */

static const char *const argv[] = {"pg_isready", "-q", NULL};
static const struct spec_check exec = {.kind = CHECK_EXEC, .exec = {(const char **)argv, 2}, .timeout_ms = 200};
static const struct spec_check units = {.kind = CHECK_UNITS, .timeout_ms = 200};

static const struct {
    const struct spec_check *check;
    const char *says;
    struct agent_result end;
    enum outcome want;
    const char *message;
} answers[] = {
    {&exec, "one\ntwo\n\n", {.ok = true}, OUTCOME_PASSED, "two"},
    {&exec, "", {.ok = true}, OUTCOME_PASSED, ""},
    {&exec, "no response\n", {.ok = true, .exit_code = 2}, OUTCOME_FAILED, "exit 2: no response"},
    {&exec, "", {.ok = true, .exit_code = 1}, OUTCOME_FAILED, "exit 1"},
    {&exec, "x", {.ok = true, .exit_code = -1, .signal = 9}, OUTCOME_FAILED, "ended by signal 9: x"},
    {&exec, "", {.exit_code = -1, .error = "no such program"}, OUTCOME_FAILED, "no such program"},
    {&exec, "", {.exit_code = -1, .lost = true, .error = "gone"}, OUTCOME_UNKNOWN, "gone"},
    {&exec, "\x1b]0;evil\a\xff", {.ok = true}, OUTCOME_PASSED, "\\x1B]0;evil\\x07\\xFF"},
    {&units, "state=running\n", {.ok = true}, OUTCOME_PASSED, ""},
    {&units, "state=degraded\nfailed=a.service\nfailed=b.mount\n", {.ok = true}, OUTCOME_FAILED, "failed: a.service, b.mount"},
    {&units, "state=degraded\nfailed=torn", {.ok = true}, OUTCOME_FAILED, "failed: torn"},
    {&units, "", {.ok = true}, OUTCOME_FAILED, "the guest's systemd does not tell the state of its units"},
    {&units, "state=", {.ok = true}, OUTCOME_FAILED, "the guest's systemd does not tell the state of its units"},
    {&units, "\n\n=\nfailed=\nstate=running\n", {.ok = true}, OUTCOME_PASSED, ""},
};

START_TEST(test_agent_answers)
{
    const char *s = answers[_i].says;

    start(answers[_i].check, "");
    ck_assert_str_eq(request, answers[_i].check == &exec ? "op=exec arg=pg_isready arg=-q env=A=b c merge=1 " : "op=units ");
    for (; *s; s++) /* byte by byte */
        says(s, 1);
    ends(answers[_i].end);
    ck_assert_int_eq(got.calls, 1);
    ck_assert_int_eq(got.outcome, answers[_i].want);
    ck_assert_str_eq(got.message, answers[_i].message);
}
END_TEST

START_TEST(test_D1_output_is_bounded)
{
    static char block[4096];
    char want[PROBE_MESSAGE_MAX + 1] = {0};

    start(&exec, "");
    memset(block, 'y', sizeof block);
    memset(want, 'y', PROBE_MESSAGE_MAX);
    for (int i = 0; i < 64; i++) /* 256 KiB to the byte */
        says(block, sizeof block);
    ck_assert(!stream.cancelled);
    ends((struct agent_result){.ok = true});
    ck_assert_int_eq(got.outcome, OUTCOME_PASSED);
    ck_assert_str_eq(got.message, want);

    start(&exec, "");
    for (int i = 0; i < 64; i++)
        says(block, sizeof block);
    says(block, 1);
    ck_assert(stream.cancelled);
    ck_assert_int_eq(got.calls, 0);
    ends((struct agent_result){.ok = true, .exit_code = -1, .signal = 15});
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_str_eq(got.message, "it writes more than 256 KiB of output");

    start(&units, "");
    says("state=degraded\n", 15);
    for (int i = 0; i < 100; i++)
        says("failed=unit-with-a-name.service\n", 32);
    ends((struct agent_result){.ok = true});
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_int_eq(strncmp(got.message, "failed: unit-with-a-name.service, ", 34), 0);
}
END_TEST

static void errs(const char *text)
{
    stream.ev.data(AGENT_STDERR, text, strlen(text), stream.ev.arg);
}

START_TEST(test_exec_said)
{
    struct spec_check c = {.kind = CHECK_EXEC, .exec = {(const char **)argv, 2}, .timeout_ms = 200, NUMBERS};
    char flood[1024];

    start(&c, "");
    ck_assert_ptr_null(strstr(request, "merge"));
    says("queue 1\nage ", 12);
    errs("slow today\n");
    says("2\n", 2);
    ends((struct agent_result){.ok = true});
    ck_assert_str_eq(got.said, "queue 1\nage 2\n");
    ck_assert_str_eq(got.message, "slow today"); /* numbers are none */

    start(&c, "");
    says("queue 9\n", 8);
    errs("too long a queue\n");
    ends((struct agent_result){.ok = true, .exit_code = 1});
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_str_eq(got.said, "queue 9\n"); /* the more so when it fails */
    ck_assert_str_eq(got.message, "exit 1: too long a queue");

    start(&c, "");
    says("queue 1\n", 8);
    ends((struct agent_result){.exit_code = -1, .lost = true, .error = "gone"});
    ck_assert_ptr_null(got.said);

    memset(flood, 'x', sizeof flood);
    start(&c, "");
    for (int i = 0; i < 300; i++)
        says(flood, sizeof flood);
    ck_assert(stream.cancelled);
    ends((struct agent_result){.ok = true});
    ck_assert_str_eq(got.message, "it writes more than 256 KiB of output");
    ck_assert_ptr_null(got.said);
}
END_TEST

START_TEST(test_message_ends_between_characters)
{
    char text[301];

    memset(text, 'a', 300);
    text[300] = '\0';
    memcpy(text + 199, "\xe2\x82\xac", 3); /* the bound is in its middle */
    start(&exec, "");
    says(text, 300);
    ends((struct agent_result){.ok = true});
    ck_assert_uint_eq(strlen(got.message), 199);
}
END_TEST

static void quit(void *arg)
{
    (void)arg;
    loop_quit(loop);
}

static void wait_ms(int64_t ms)
{
    struct loop_timer *t;

    ck_assert_int_eq(loop_timer_new(loop, quit, NULL, &t, NULL), 0);
    loop_timer_set(t, ms, 0);
    ck_assert_int_eq(loop_run(loop, NULL), 0);
    loop_timer_free(t);
}

START_TEST(test_agent_too_slow)
{
    start(&exec, "");
    wait_ms(150);
    ck_assert(!stream.cancelled);
    wait_ms(150);
    ck_assert(stream.cancelled);
    ck_assert_int_eq(got.calls, 0); /* not over before the guest has ended it */
    ends((struct agent_result){.ok = true});
    ck_assert_int_eq(got.calls, 1);
    ck_assert_int_eq(got.outcome, OUTCOME_FAILED);
    ck_assert_str_eq(got.message, "it took longer than its timeout");
}
END_TEST

START_TEST(test_cancelled_ones_answer_late)
{
    struct spec_check tcp = {.kind = CHECK_TCP, .port = 1, .timeout_ms = 50};
    struct spec_check http = {.kind = CHECK_HTTP, .port = 1, .path = "/", .timeout_ms = 50};

    probe_cancel(NULL);
    probe_cancel(start(&tcp, "127.0.0.1"));
    probe_cancel(start(&http, "127.0.0.1"));
    probe_cancel(start(&exec, ""));
    ck_assert(stream.cancelled);
    wait_ms(300);
    ends((struct agent_result){.ok = true});
    ck_assert_int_eq(got.calls, 0);
}
END_TEST

START_TEST(test_no_beginning)
{
    struct probe_target at = {.loop = loop, .address = "nonsense"};
    struct spec_check tcp = {.kind = CHECK_TCP, .port = 1, .timeout_ms = 50};
    struct probe *p = NULL;

    ck_assert_int_eq(probe_start(&at, &tcp, done, &got, &p, NULL), -1);
    refuse = true;
    ck_assert_int_eq(probe_start(&at, &exec, done, &got, &p, NULL), -1);
    ck_assert_ptr_null(p);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("probe");
    TCase *c = tcase_create("probe");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, test_tcp);
    tcase_add_test(c, test_tcp_silence);
    tcase_add_loop_test(c, test_http, 0, sizeof pages / sizeof pages[0]);
    tcase_add_test(c, test_http_page_without_end);
    tcase_add_test(c, test_http_said);
    tcase_add_test(c, test_exec_said);
    tcase_add_loop_test(c, test_agent_answers, 0, sizeof answers / sizeof answers[0]);
    tcase_add_test(c, test_D1_output_is_bounded);
    tcase_add_test(c, test_message_ends_between_characters);
    tcase_add_test(c, test_agent_too_slow);
    tcase_add_test(c, test_cancelled_ones_answer_late);
    tcase_add_test(c, test_no_beginning);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
