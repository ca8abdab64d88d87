#include <vmsd/fetch.h>

#include "supervisor/double.h"

#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <turn.h>
#include <unistd.h>
#include <vmsd/clock.h>

static struct loop *loop;
static struct {
    int calls, status;
    char body[64];
    size_t n;
    bool cut;
    struct vm_err err;
} got;

static void done(const struct fetch_answer *a, const struct vm_err *e, void *arg)
{
    ck_assert_ptr_eq(arg, &got);
    ck_assert((a != NULL) != (e != NULL));
    got.calls++;
    if (e)
        got.err = *e;
    if (a) {
        got.status = a->status;
        got.n = a->n;
        got.cut = a->cut;
        ck_assert_uint_eq(a->body[a->n], '\0');
        snprintf(got.body, sizeof got.body, "%s", a->body);
    }
    loop_quit(loop);
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

static void set_up(void)
{
    struct vm_err e;

    ck_assert_msg(loop_open(1, &loop, &e) == 0, "%s", e.text);
    turn(loop, 1); /* the loop opens its clock with the first timer, and keeps it */
    memset(&got, 0, sizeof got);
}

static void tear_down(void)
{
    loop_close(loop);
}

static void fetch(const struct fetch_request *q)
{
    struct fetch *f = NULL;
    struct vm_err e = {0};

    memset(&got, 0, sizeof got);
    ck_assert_msg(fetch_start(loop, q, done, &got, &f, &e) == 0, "%s", e.text);
    ck_assert_int_eq(got.calls, 0);
    ck_assert_msg(loop_run(loop, &e) == 0, "%s", e.text);
    ck_assert_int_eq(got.calls, 1);
}

static void ask(const struct double_plan *plan, size_t max, int64_t timeout_ms)
{
    uint16_t port = 0;
    int before = open_fds();
    struct double_server *d = double_open(plan, &port);

    fetch(&(struct fetch_request){
        .address = "127.0.0.1", .port = port, .path = "/", .timeout_ms = timeout_ms, .answer_max = max});
    double_close(d);
    ck_assert_int_eq(open_fds(), before);
}

#define OK "HTTP/1.1 200 OK\r\n"

static const struct {
    struct double_plan plan;
    int status;
    const char *body;
    enum vm_errc code;
} answers[] = {
    {{.say = OK "Content-Length: 5\r\n\r\nhello", .hold = 1}, 200, "hello", VM_E_OK},
    {{.say = OK "\r\nuntil the end"}, 200, "until the end", VM_E_OK},
    {{.say = OK "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", .hold = 1}, 200, "abcde", VM_E_OK},
    {{.say = "HTTP/1.1 500 Oh\r\nContent-Length: 3\r\n\r\nbad", .hold = 1}, 500, "bad", VM_E_OK},
    {{.say = "HTTP/1.1 302 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", .hold = 1}, 302, "", VM_E_OK},
    /* cloud-hypervisor: no reason, no length, and the connection stays open */
    {{.say = "HTTP/1.1 204 \r\nServer: x\r\nConnection: keep-alive\r\n\r\n", .hold = 1}, 204, "", VM_E_OK},
    {{.say = "HTTP/1.1 204\r\n\r\n", .hold = 1}, 204, "", VM_E_OK},
    {{.say = "HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 2\r\n\r\nok", .hold = 1}, 200, "ok", VM_E_OK},
    {{.say = OK "Content-Length: 100\r\n\r\ntorn"}, 0, "", VM_E_BACKEND},
    {{.say = OK "Transfer-Encoding: chunked\r\n\r\nffff\r\ntorn"}, 0, "", VM_E_BACKEND},
    {{.say = OK "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", .hold = 1}, 0, "", VM_E_BACKEND},
    {{.say = OK "Content-Length: -1\r\n\r\n", .hold = 1}, 0, "", VM_E_BACKEND},
    {{.say = "SSH-2.0-OpenSSH\r\n", .hold = 1}, 0, "", VM_E_BACKEND},
    {{.say = ""}, 0, "", VM_E_BACKEND},
    {{.say = OK "X: ", .flood = 1 << 20}, 0, "", VM_E_BACKEND},
    {{.say = OK "Content-Length: 5\r\n\r\nhel", .hold = 1}, 0, "", VM_E_TIMEOUT},
    {{.hold = 1}, 0, "", VM_E_TIMEOUT},
};

START_TEST(test_answers)
{
    ask(&answers[_i].plan, 1000, answers[_i].code == VM_E_TIMEOUT ? 200 : 5000);
    ck_assert_msg(got.err.code == answers[_i].code, "%d: %s", _i, got.err.text);
    ck_assert_int_eq(got.status, answers[_i].status);
    ck_assert_str_eq(got.body, answers[_i].body);
    ck_assert_uint_eq(got.n, strlen(answers[_i].body));
    ck_assert(!got.cut);
    ck_assert_ptr_null(strchr(got.err.text, '\n'));
    ck_assert(got.err.code == VM_E_OK || got.err.text[0]);
}
END_TEST

START_TEST(test_answer_at_its_bound)
{
    struct double_plan p = {.say = OK "Content-Length: 5\r\n\r\nhello", .hold = 1};

    ask(&p, 5, 5000);
    ck_assert(!got.cut);
    ck_assert_str_eq(got.body, "hello");
    ask(&p, 4, 5000);
    ck_assert(got.cut);
    ck_assert_int_eq(got.status, 200);
    ck_assert_str_eq(got.body, "hell");
    ask(&p, 0, 5000);
    ck_assert(got.cut);
    ck_assert_int_eq(got.status, 200);
    ck_assert_uint_eq(got.n, 0);
}
END_TEST

START_TEST(test_D1_gigabyte_of_body)
{
    struct double_plan p = {.say = OK "\r\n", .flood = 1ull << 30};
    uint16_t port = 0;
    struct double_server *d = double_open(&p, &port);

    fetch(&(struct fetch_request){
        .address = "127.0.0.1", .port = port, .path = "/", .timeout_ms = 10000, .answer_max = 256 << 10});
    ck_assert_int_eq(got.status, 200);
    ck_assert(got.cut);
    ck_assert_uint_eq(got.n, 256 << 10);
    ck_assert_uint_lt(double_sent(d), 64 << 20);
    double_close(d);
}
END_TEST

/* A peer that never stops its headers, one line after the other, meets the bound as well. */
START_TEST(test_D1_endless_headers)
{
    static char lines[1 << 20];

    strcpy(lines, OK);
    for (size_t n = strlen(lines); n < sizeof lines - 8; n += 6)
        memcpy(lines + n, "A: b\r\n", 7);
    ask(&(struct double_plan){.say = lines, .hold = 1}, 1000, 5000);
    ck_assert_int_eq(got.err.code, VM_E_BACKEND);
    ck_assert_ptr_nonnull(strstr(got.err.text, "header"));
}
END_TEST

START_TEST(test_refused_and_silent)
{
    uint16_t port = 0;
    struct double_server *d = double_open(&(struct double_plan){.mute = 1}, &port);
    struct fetch_request q = {.address = "127.0.0.1", .port = port, .path = "/", .timeout_ms = 300, .answer_max = 10};
    int64_t began = now_ms();

    fetch(&q); /* its port is open, nobody reads */
    ck_assert_int_eq(got.err.code, VM_E_TIMEOUT);
    ck_assert_int_lt(now_ms() - began, 2000);
    double_close(d);
    fetch(&q);
    ck_assert_int_eq(got.err.code, VM_E_UNAVAILABLE);
    ck_assert_ptr_nonnull(strstr(got.err.text, "refused"));
}
END_TEST

START_TEST(test_request_as_it_goes_out)
{
    struct double_plan p = {.say = OK "Content-Length: 0\r\n\r\n", .hold = 1, .socket = "/tmp/test_fetch.sock"};
    uint16_t port;
    struct double_server *d;
    const char *heard;

    unlink(p.socket);
    d = double_open(&p, &port);
    fetch(&(struct fetch_request){.socket = p.socket, .method = "PUT", .path = "/api/v1/../vm.create?a=b#c",
                                  .body = "{\"a\":1}", .n_body = 7, .timeout_ms = 5000, .answer_max = 100});
    ck_assert_int_eq(got.status, 200);
    heard = double_heard(d);
    ck_assert_int_eq(strncmp(heard, "PUT /api/v1/../vm.create?a=b#c HTTP/1.1\r\n", 41), 0);
    ck_assert_ptr_nonnull(strstr(heard, "\r\nHost: localhost\r\n"));
    ck_assert_ptr_nonnull(strstr(heard, "\r\nContent-Length: 7\r\n"));
    ck_assert_ptr_nonnull(strstr(heard, "\r\nContent-Type: application/json\r\n"));
    ck_assert_ptr_null(strstr(heard, "Expect"));
    double_close(d);

    p.socket = NULL;
    d = double_open(&p, &port);
    setenv("http_proxy", "http://127.0.0.1:1/", 1);
    fetch(&(struct fetch_request){.address = "127.0.0.1", .port = port, .path = "/health", .host = "git.example",
                                  .timeout_ms = 5000, .answer_max = 100});
    unsetenv("http_proxy");
    ck_assert_int_eq(got.status, 200);
    heard = double_heard(d);
    ck_assert_int_eq(strncmp(heard, "GET /health HTTP/1.1\r\n", 22), 0);
    ck_assert_ptr_nonnull(strstr(heard, "\r\nHost: git.example\r\n"));
    double_close(d);
}
END_TEST

static const struct fetch_request refused[] = {
    {.address = "localhost", .port = 80, .path = "/", .timeout_ms = 1000},
    {.address = "127.1", .port = 80, .path = "/", .timeout_ms = 1000},
    {.address = "fe80::1%eth0", .port = 80, .path = "/", .timeout_ms = 1000},
    {.address = "10.0.0.1/@evil", .port = 80, .path = "/", .timeout_ms = 1000},
    {.path = "/", .timeout_ms = 1000},
    {.address = "127.0.0.1", .port = 80, .path = "x", .timeout_ms = 1000},
    {.address = "127.0.0.1", .port = 80, .path = "/ HTTP/1.1\r\nX: y", .timeout_ms = 1000},
    {.address = "127.0.0.1", .port = 80, .path = "/", .host = "a\r\nX: y", .timeout_ms = 1000},
    {.address = "127.0.0.1", .port = 80, .path = "/", .method = "GET / ", .timeout_ms = 1000},
    {.address = "127.0.0.1", .port = 80, .path = "/", .timeout_ms = 0},
    {.socket = "/123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345"
               "67890", .path = "/", .timeout_ms = 1000},
};

START_TEST(test_requests_refused)
{
    struct fetch *f = NULL;
    struct vm_err e = {0};

    ck_assert_int_eq(fetch_start(loop, &refused[_i], done, &got, &f, &e), -1);
    ck_assert_int_ne(e.code, VM_E_OK);
    ck_assert_ptr_null(f);
}
END_TEST

static void cancel(void *arg)
{
    fetch_cancel(arg);
}

START_TEST(test_cancel_at_any_time)
{
    uint16_t port = 0;
    int before = open_fds();
    struct double_server *d = double_open(&(struct double_plan){.say = OK "Content-Length: 9\r\n\r\nabc", .hold = 1}, &port);
    struct loop_timer *cut[5] = {0};
    struct fetch *f = NULL;
    struct vm_err e;

    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(fetch_start(loop, &(struct fetch_request){.address = "127.0.0.1", .port = port, .path = "/",
                                                                   .timeout_ms = 5000, .answer_max = 100},
                                     done, &got, &f, &e), 0);
        if (i == 0)
            fetch_cancel(f);
        else if (loop_timer_new(loop, cancel, f, &cut[i], &e) == 0)
            loop_timer_set(cut[i], (i - 1) * 5, 0);
    }
    fetch_cancel(NULL);
    turn(loop, 300);
    ck_assert_int_eq(got.calls, 0);
    for (int i = 0; i < 5; i++)
        loop_timer_free(cut[i]);
    double_close(d);
    ck_assert_int_eq(open_fds(), before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fetch");
    TCase *c = tcase_create("fetch");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, test_answers, 0, sizeof answers / sizeof answers[0]);
    tcase_add_test(c, test_answer_at_its_bound);
    tcase_add_test(c, test_D1_gigabyte_of_body);
    tcase_add_test(c, test_D1_endless_headers);
    tcase_add_test(c, test_refused_and_silent);
    tcase_add_test(c, test_request_as_it_goes_out);
    tcase_add_loop_test(c, test_requests_refused, 0, sizeof refused / sizeof refused[0]);
    tcase_add_test(c, test_cancel_at_any_time);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
