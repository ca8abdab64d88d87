#include "http_rig.h"

#include <check.h>
#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/json.h>

static struct vm_err e;

static void expect(uid_t as, const char *method, const char *path, const char *body, int status)
{
    OWN(rig_answer) struct rig_answer a = rig_ask(as, method, path, body);
    ck_assert_msg(a.status == status, "%s %.60s by %u: %d, not %d: %s", method, path, (unsigned)as, a.status, status,
                  a.body.len ? a.body.s : "");
    if (status >= 400) {
        OWN(json) json_t *j = json_from_text(a.body.s, a.body.len, &e);
        ck_assert_msg(j != NULL, "%s: %s", a.body.s, e.text);
        ck_assert_ptr_nonnull(json_str(json_object_get(j, "error"), "code", NULL));
        ck_assert_ptr_nonnull(json_str(json_object_get(j, "error"), "message", NULL));
    }
}

/* Raw bytes on a new connection; the status of the answer, 0 if it is closed without one. */
static int say_raw(uid_t as, const void *p, size_t n)
{
    OWN(fd) int fd = rig_dial(as);
    rig_send(fd, p, n);
    shutdown(fd, SHUT_WR);
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    return a.status;
}
#define SAY(s) say_raw(RIG_WRITER, s, sizeof(s) - 1)

/* ---- who may ---- */

START_TEST(test_B1_every_route_by_every_method_and_role)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "get"};
    static const struct {
        const char *path;
        struct { const char *method; enum http_role role; } open[3];
    } table[] = {
        {"/v1/things", {{"GET", ROLE_READ}}},
        {"/v1/things/db", {{"GET", ROLE_READ}, {"PUT", ROLE_WRITE}, {"DELETE", ROLE_WRITE}}},
        {"/v1/things/db/big", {{"POST", ROLE_WRITE}}},
        {"/v1/free", {{"GET", ROLE_NONE}}},
        {"/v1/later", {{"GET", ROLE_READ}}},
        {"/v1/nothing", {{0}}},
        {"/", {{0}}},
        {"/v2/things", {{0}}},
        {"/v1/things/db/big/more", {{0}}},
    };
    static const struct { uid_t uid; enum http_role role; } users[] = {
        {RIG_NOBODY, ROLE_NONE}, {RIG_READER, ROLE_READ}, {RIG_WRITER, ROLE_WRITE}};

    for (size_t p = 0; p < ARRAY_LEN(table); p++)
        for (size_t m = 0; m < ARRAY_LEN(methods); m++)
            for (size_t u = 0; u < ARRAY_LEN(users); u++) {
                int want = !table[p].open[0].method ? 404 : 405;
                if (users[u].role == ROLE_NONE)
                    want = 403;
                for (size_t i = 0; i < 3 && table[p].open[i].method; i++)
                    if (strcmp(table[p].open[i].method, methods[m]) == 0)
                        want = users[u].role >= table[p].open[i].role ? 200 : 403;
                if (strcmp(methods[m], "HEAD") != 0) {
                    expect(users[u].uid, methods[m], table[p].path, NULL, want);
                    continue;
                }
                OWN(fd) int fd = rig_dial(users[u].uid);
                OWN(text) struct text t = {0};
                text_addf(&t, "HEAD %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", table[p].path);
                rig_send(fd, t.s, t.len);
                OWN(rig_answer) struct rig_answer a = rig_hear(fd);
                ck_assert_int_eq(a.status, want);
            }
}
END_TEST

START_TEST(test_supplementary_groups_count)
{
    gid_t group = RIG_READER;
    ck_assert_int_eq(setgroups(1, &group), 0);
    expect(RIG_NOBODY, "GET", "/v1/things", NULL, 200);
    gid_t many[1000];
    for (size_t i = 0; i < ARRAY_LEN(many); i++)
        many[i] = (gid_t)(100000 + i);
    ck_assert_int_eq(setgroups(ARRAY_LEN(many), many), 0);
    expect(RIG_NOBODY, "GET", "/v1/things", NULL, 403);
    many[999] = RIG_READER;
    ck_assert_int_eq(setgroups(ARRAY_LEN(many), many), 0);
    expect(RIG_NOBODY, "GET", "/v1/things", NULL, 200);
    ck_assert_int_eq(setgroups(0, NULL), 0);
    expect(RIG_NOBODY, "GET", "/v1/things", NULL, 403);
}
END_TEST

START_TEST(test_A3_role_is_the_one_of_connect)
{
    OWN(fd) int fd = rig_dial(RIG_READER);
    rig_say(fd, "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"); /* sent by root */
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    ck_assert_int_eq(a.status, 403);
}
END_TEST

START_TEST(test_B6_forbidden_and_missing_look_the_same)
{
    static const char *const paths[] = {"/v1/things/db", "/v1/things/missing"};
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_READER, "DELETE", paths[0], NULL);
    OWN(rig_answer) struct rig_answer b = rig_ask(RIG_READER, "DELETE", paths[1], NULL);
    ck_assert_int_eq(a.status, 403);
    ck_assert_int_eq(b.status, 403);
    ck_assert_str_eq(a.body.s, b.body.s);
    /* one without any role can't even tell paths */
    OWN(rig_answer) struct rig_answer c = rig_ask(RIG_NOBODY, "GET", "/v1/nothing", NULL);
    ck_assert_str_eq(a.body.s, c.body.s);
}
END_TEST

START_TEST(test_405_names_the_methods)
{
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "POST", "/v1/things/db", NULL);
    ck_assert_int_eq(a.status, 405);
    ck_assert_ptr_nonnull(strstr(a.head.s, "Allow: GET, PUT, DELETE\r\n"));
}
END_TEST

/* ---- what is asked ---- */

START_TEST(test_arguments_are_decoded_once)
{
    OWN(fd) int fd = rig_dial(RIG_WRITER);
    rig_say(fd, "GET /v1/things/a%40b?q=x%20y+z%2541&q=&other HTTP/1.1\r\nHost: x\r\nX-Test: yes\r\n\r\n");
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    ck_assert_str_eq(a.body.s, "{\"name\":\"a@b\",\"body\":0,\"q\":\"x y z%41\",\"second\":\"\","
                               "\"header\":\"yes\"}\n");
    ck_assert_ptr_nonnull(strstr(a.head.s, "Content-Type: application/json\r\n"));
    ck_assert_ptr_nonnull(strstr(a.head.s, "Cache-Control: no-store\r\n"));
}
END_TEST

START_TEST(test_B2_only_canonical_paths)
{
    static const char *const bad[] = {
        "/v1/../v1/things", "/v1/./things", "/v1//things", "//v1/things", "/v1/things/", "/v1/%2e%2e/things",
        "/v1/%2E/things", "/v1/thing%73", "/v1/things/a%2fb", "/v1/things/a%00b", "/v1/things/%", "/v1/things/%4",
        "/v1/things/%zz", "/v1/things;x", "/v1/things\\db", "/v1/things/\x80", "/v1/things/%ff", "/v1/things/a%0ab",
        "v1/things", "http://x/v1/things", "*", "/v1/things?q=%", "/v1/things?q=%00", "/v1/things?q=%0a",
        "/v1/things?q=%ff", "/v1/things?q=\x01", "/v1/things#x", "/v1/things/%2525",
        "/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a",
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect(RIG_WRITER, "GET", bad[i], NULL, 400);
    expect(RIG_WRITER, "GET", "/V1/things", NULL, 404);
    expect(RIG_WRITER, "GET", "/v1/Things", NULL, 404);
    expect(RIG_WRITER, "GET", "/v1/things?", NULL, 200);
    expect(RIG_WRITER, "GET", "/v1/things?q=a/b:c", NULL, 200);
}
END_TEST
START_TEST(unknown_and_double_query_keys_are_refused)
{
    static const char *const bad[] = {"/v1/things?tag=x", "/v1/things?qq=1", "/v1/things?q=1&tag=2", "/v1/things?=1",
                                      "/v1/things?tags%20q=1", "/v1/things?q%2a%20tags=1", "/v1/things?q%2a=1",
                                      "/v1/things?tags=1&tags=1", "/v1/things?tags&q=1&t%61gs=2"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        expect(RIG_WRITER, "GET", bad[i], NULL, 400);
    expect(RIG_WRITER, "GET", "/v1/things?tags=1&q=2&q=3", NULL, 200);
    expect(RIG_WRITER, "GET", "/v1/later?anything=1", NULL, 200);
}
END_TEST

START_TEST(test_B2_long_targets)
{
    OWN(str) char *path = malloc(70000);
    memset(path, 'a', 70000);
    memcpy(path, "/v1/things/", 11);
    path[8192] = '\0';
    expect(RIG_WRITER, "GET", path, NULL, 200);
    path[8192] = 'a';
    path[8193] = '\0';
    expect(RIG_WRITER, "GET", path, NULL, 400);
    path[8193] = 'a';
    path[65536] = '\0';
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "GET", path, NULL);
    ck_assert_msg(a.status == 414 || a.status == 431 || a.status == 413, "%d", a.status); /* libmicrohttpd's own */
    expect(RIG_WRITER, "GET", "/v1/things", NULL, 200);
}
END_TEST

#define PUT "PUT /v1/things/a HTTP/1.1\r\nHost: x\r\n"

START_TEST(test_B4_malformed_requests)
{
    static const struct { const char *bytes; size_t n; } bad[] = {
#define BAD(s) {s, sizeof(s) - 1}
        BAD(PUT "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        BAD(PUT "Content-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        BAD(PUT "Content-Length: 5\r\nContent-Length: 0\r\n\r\nabcde"),
        BAD(PUT "Content-Length: 1, 1\r\n\r\na"),
        BAD(PUT "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        BAD(PUT "Transfer-Encoding: gzip\r\n\r\nabc"),
        BAD(PUT "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
        BAD(PUT "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n"),
        BAD(PUT "Transfer-Encoding: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        BAD(PUT "Content-Length: -1\r\n\r\n"),
        BAD(PUT "Content-Length: +1\r\n\r\na"),
        BAD(PUT "Content-Length: 0x1\r\n\r\na"),
        BAD(PUT "Content-Length: 1 \x0b\r\n\r\na"),
        BAD(PUT "Content-Length:\r\n\r\na"),
        BAD(PUT "Content-Length: 18446744073709551616\r\n\r\na"),
        BAD(PUT "Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"),
        BAD(PUT "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n"),
        BAD(PUT "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n"),
        BAD(PUT "Transfer-Encoding: chunked\r\n\r\n3\r\nabcXX0\r\n\r\n"),
        BAD("GET /v1/things HTTP/1.1\r\n\r\n"), /* no Host */
        BAD("GET /v1/things HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n"),
        BAD("GET /v1/things HTTP/9.9\r\nHost: x\r\n\r\n"),
        BAD("GET /v1/things\r\n\r\n"),
        BAD("GET\r\n\r\n"),
        BAD("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"), /* TLS */
#undef BAD
    };
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        OWN(fd) int fd = rig_dial(RIG_WRITER);
        int64_t handled = rig_count("handled");
        rig_send(fd, bad[i].bytes, bad[i].n);
        rig_say(fd, "GET /v1/things HTTP/1.1\r\nHost: x\r\n\r\n"); /* smuggled */
        shutdown(fd, SHUT_WR);
        OWN(rig_answer) struct rig_answer a = rig_hear(fd);
        ck_assert_msg(a.status == 0 || (a.status >= 400 && a.status != 404), "%zu: %d", i, a.status);
        ck_assert_msg(rig_ended(fd), "%zu is not closed", i);
        ck_assert_msg(rig_count("handled") == handled, "%zu was handled", i);
    }
    expect(RIG_WRITER, "GET", "/v1/things", NULL, 200);
}
END_TEST

START_TEST(test_B2_a_nul_ends_the_path)
{
    static const char hidden[] = "GET /v1/things\0/../../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    ck_assert_int_eq(say_raw(RIG_WRITER, hidden, sizeof hidden - 1), 200); /* the verdict of what is before it */
    ck_assert_int_eq(say_raw(RIG_NOBODY, hidden, sizeof hidden - 1), 403);
}
END_TEST

START_TEST(test_B4_header_of_1_mib)
{
    OWN(fd) int fd = rig_dial(RIG_WRITER);
    OWN(str) char *big = malloc(1 << 20);
    memset(big, 'a', 1 << 20);
    rig_say(fd, "GET /v1/things HTTP/1.1\r\nHost: x\r\nX: ");
    rig_send(fd, big, 1 << 20);
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    ck_assert_msg(a.status == 0 || a.status == 431 || a.status == 413, "%d", a.status);
    ck_assert(rig_ended(fd));
    expect(RIG_WRITER, "GET", "/v1/things", NULL, 200);
}
END_TEST

START_TEST(test_B3_role_is_judged_per_request_of_a_pipeline)
{
    OWN(fd) int fd = rig_dial(RIG_READER);
    rig_say(fd, "GET /v1/things/one HTTP/1.1\r\nHost: x\r\n\r\n"
                "DELETE /v1/things/two HTTP/1.1\r\nHost: x\r\n\r\n"
                "GET /v1/later HTTP/1.1\r\nHost: x\r\n\r\n"
                "GET /v1/things/three HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: DELETE\r\n\r\n");
    static const int want[] = {200, 403, 200, 200};
    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        OWN(rig_answer) struct rig_answer a = rig_hear(fd);
        ck_assert_msg(a.status == want[i], "%zu: %d, not %d", i, a.status, want[i]);
        if (i == 3)
            ck_assert_ptr_nonnull(strstr(a.body.s, "\"name\":\"three\""));
    }
}
END_TEST

START_TEST(test_bytes_may_come_one_by_one)
{
    OWN(fd) int fd = rig_dial(RIG_WRITER);
    static const char request[] = "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                                  "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    for (size_t i = 0; i < sizeof request - 1; i++) {
        rig_send(fd, request + i, 1);
        if (i % 10 == 0)
            sleep_ms(1);
    }
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    ck_assert_int_eq(a.status, 200);
    ck_assert_ptr_nonnull(strstr(a.body.s, "\"body\":5,"));
}
END_TEST

/* ---- bodies ---- */

START_TEST(test_body_at_the_bound_and_past_it)
{
    char body[RIG_BODY_MAX + 2];
    memset(body, 'x', sizeof body);
    body[RIG_BODY_MAX] = '\0';
    expect(RIG_WRITER, "PUT", "/v1/things/db", body, 200);
    body[RIG_BODY_MAX] = 'x';
    body[RIG_BODY_MAX + 1] = '\0';
    expect(RIG_WRITER, "PUT", "/v1/things/db", body, 413);
    expect(RIG_WRITER, "DELETE", "/v1/things/db", "x", 413); /* takes none */
    expect(RIG_WRITER, "DELETE", "/v1/things/db", "", 200);
    ck_assert_int_eq(SAY("DELETE /v1/things/db HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
                     413);
}
END_TEST

START_TEST(test_chunked_body_past_the_bound_is_cut)
{
    OWN(fd) int fd = rig_dial(RIG_WRITER);
    rig_say(fd, "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (int i = 0; i < 101; i++)
        rig_say(fd, "a\r\n0123456789\r\n");
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    ck_assert_int_eq(a.status, 413);
    ck_assert_str_eq(a.body.s, "{\"error\":{\"code\":\"too-large\",\"message\":\"the body is too large\"}}\n");
    ck_assert(rig_ended(fd));
}
END_TEST

START_TEST(test_B10_refused_before_the_body_is_sent)
{
    static const struct { uid_t uid; int status; } cases[] = {{RIG_READER, 403}, {RIG_NOBODY, 403}, {RIG_WRITER, 413}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWN(fd) int fd = rig_dial(cases[i].uid);
        rig_say(fd, "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nContent-Length: 16777216\r\n\r\n"); /* and no body */
        OWN(rig_answer) struct rig_answer a = rig_hear(fd);
        ck_assert_int_eq(a.status, cases[i].status);
        ck_assert(rig_ended(fd));
    }
}
END_TEST

START_TEST(test_large_body_arrives)
{
    OWN(str) char *body = malloc((16 << 20) + 1);
    memset(body, 'x', 16 << 20);
    body[16 << 20] = '\0';
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "POST", "/v1/things/db/big", body);
    ck_assert_int_eq(a.status, 200);
    ck_assert_ptr_nonnull(strstr(a.body.s, "\"body\":16777216,"));
}
END_TEST

/* ---- libcurl as a client ---- */

static size_t keep(char *p, size_t size, size_t n, void *arg)
{
    text_add_bytes(arg, p, size * n);
    return size * n;
}

START_TEST(test_libcurl_gets_puts_and_reuses_its_connection)
{
    CURL *curl = curl_easy_init();
    OWN(text) struct text got = {0};
    char body[RIG_BODY_MAX];
    long status = 0, connects = 0;
    memset(body, 'x', sizeof body);
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, rig_socket);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &got);
    curl_easy_setopt(curl, CURLOPT_URL, "http://vmsd/v1/things");
    ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
    ck_assert_str_eq(got.s, "{\"things\":[{\"name\":\"db\",\"health\":1}]}\n");

    curl_easy_setopt(curl, CURLOPT_URL, "http://vmsd/v1/things/db");
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "PUT");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)sizeof body);
    ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(curl, CURLINFO_NUM_CONNECTS, &connects);
    ck_assert_int_eq(status, 200);
    ck_assert_int_eq(connects, 0);
    curl_easy_cleanup(curl);
}
END_TEST

START_TEST(test_libcurl_hears_413_of_a_body_that_it_is_sending)
{
    CURL *curl = curl_easy_init();
    OWN(text) struct text got = {0};
    OWN(str) char *body = calloc(1, 8 << 20);
    long status = 0;
    curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, rig_socket);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, keep);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &got);
    curl_easy_setopt(curl, CURLOPT_URL, "http://vmsd/v1/things/db");
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, "PUT");
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, 8L << 20); /* so large that curl asks by Expect first */
    ck_assert_int_eq(curl_easy_perform(curl), CURLE_OK);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    ck_assert_int_eq(status, 413);
    curl_easy_cleanup(curl);
}
END_TEST

/* ---- clients that leave ---- */

/* Ten clients leave when their request is being handled, ten as soon as they have sent it; then none is left. */
static void ask_and_leave(const char *request, int64_t fds)
{
    for (int i = 0; i < 20; i++) {
        OWN(fd) int fd = rig_dial(RIG_WRITER);
        rig_say(fd, request);
        if (i < 10)
            rig_await("handled", i + 1);
    }
    rig_await("fds", fds);
}

START_TEST(test_abort_is_told_and_nothing_leaks)
{
    int64_t fds = rig_count("fds");
    ask_and_leave("GET /v1/never HTTP/1.1\r\nHost: x\r\n\r\n", fds);
    int64_t aborted = rig_count("aborted");
    ck_assert_int_ge(aborted, 10); /* the others may have been gone before they were handled */
    ck_assert_int_eq(aborted, rig_count("handled"));
    for (int i = 0; i < 20; i++) {
        OWN(fd) int fd = rig_dial(RIG_WRITER);
        rig_say(fd, "GET /v1/later HTTP/1.1\r\nHost: x\r\n\r\n"); /* answered into the void */
    }
    sleep_ms(150);
    rig_await("fds", fds);
    ck_assert_int_eq(rig_count("aborted"), aborted);
}
END_TEST

START_TEST(test_a_half_closed_client_still_gets_its_answer)
{
    OWN(fd) int fd = rig_dial(RIG_WRITER);
    rig_say(fd, "GET /v1/later HTTP/1.1\r\nHost: x\r\n\r\n");
    shutdown(fd, SHUT_WR);
    OWN(rig_answer) struct rig_answer a = rig_hear(fd);
    ck_assert_int_eq(a.status, 200);
    ck_assert_str_eq(a.body.s, "late\n");
}
END_TEST

START_TEST(test_leaving_at_every_byte)
{
    static const char request[] = "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde";
    int64_t fds = rig_count("fds");
    for (size_t n = 0; n < sizeof request; n++) {
        OWN(fd) int fd = rig_dial(RIG_WRITER);
        rig_send(fd, request, n);
        if (n % 3 == 0)
            sleep_ms(1);
    }
    rig_await("fds", fds);
    expect(RIG_WRITER, "GET", "/v1/things", NULL, 200);
}
END_TEST

START_TEST(test_server_ends_with_all_sorts_of_connections_open)
{
    /* rig_stop then sees that the server ends well and leaks nothing */
    static const char *const requests[] = {"", "GET /v1/th", "GET /v1/never HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "GET /v1/stream?first=1 HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab"};
    for (size_t i = 0; i < ARRAY_LEN(requests); i++)
        rig_say(rig_dial(RIG_WRITER), requests[i]);
    sleep_ms(20);
}
END_TEST

/* ---- streams ---- */

static bool read_until(int fd, const char *want)
{
    OWN(text) struct text t = {0};
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char chunk[65536];
    while (poll(&p, 1, 3000) > 0) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        if (n <= 0)
            return false;
        text_add_bytes(&t, chunk, (size_t)n);
        if (memmem(t.s, t.len, want, strlen(want)))
            return true;
    }
    return false;
}

static int subscribe(void)
{
    int fd = rig_dial(RIG_WRITER);
    rig_say(fd, "GET /v1/stream?first=1 HTTP/1.1\r\nHost: x\r\n\r\n");
    ck_assert(read_until(fd, "6\r\nfirst\n\r\n"));
    return fd;
}

START_TEST(test_stream_sends_at_once_and_ends)
{
    OWN(fd) int fd = subscribe();
    expect(RIG_WRITER, "POST", "/v1/emit?bytes=10", NULL, 200);
    ck_assert(read_until(fd, "\r\nxxxxxxxxxx\r\n"));
    expect(RIG_WRITER, "POST", "/v1/end", NULL, 200);
    ck_assert(read_until(fd, "0\r\n\r\n"));
    rig_await("gone", 1);
    ck_assert_int_eq(rig_count("drained"), 2);
    rig_say(fd, "GET /v1/stream?end=1 HTTP/1.1\r\nHost: x\r\n\r\n"); /* the connection lives on */
    ck_assert(read_until(fd, "0\r\n\r\n"));
    rig_await("gone", 2);
}
END_TEST

START_TEST(test_stream_whose_reader_leaves_is_gone)
{
    int64_t fds = rig_count("fds");
    int fd = subscribe();
    close(fd);
    rig_await("gone", 1);
    rig_await("fds", fds);
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "POST", "/v1/emit?bytes=10", NULL);
    ck_assert_str_eq(a.body.s, "{\"taken\":0}\n");
}
END_TEST

START_TEST(test_B9_reader_that_never_reads_is_cut_and_others_lose_nothing)
{
    OWN(fd) int lazy = subscribe();
    OWN(fd) int eager = subscribe();
    size_t sent = 0, got = 0;
    char chunk[65536];
    for (int i = 0; i < 40; i++) {
        OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "POST", "/v1/emit?bytes=65536", NULL);
        ck_assert_int_eq(a.status, 200);
        sent += 65536;
        struct pollfd p = {.fd = eager, .events = POLLIN};
        for (int quiet = 0; got < sent && !quiet;) {
            quiet = poll(&p, 1, 2000) <= 0;
            ssize_t n = quiet ? 0 : read(eager, chunk, sizeof chunk);
            for (ssize_t k = 0; k < n; k++)
                got += chunk[k] == 'x';
        }
        ck_assert_uint_eq(got, sent);
    }
    rig_await("gone", 1);
    ck_assert(rig_ended(lazy));
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "POST", "/v1/emit?bytes=1", NULL);
    ck_assert_str_eq(a.body.s, "{\"taken\":1}\n");
}
END_TEST

START_TEST(test_backlog_at_the_bound_and_past_it)
{
    OWN(fd) int fd = subscribe();
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "POST", "/v1/emit?bytes=1048576", NULL);
    ck_assert_str_eq(a.body.s, "{\"taken\":1}\n");
    size_t got = 0;
    char chunk[65536];
    while (got < 1048576) {
        ssize_t n = read(fd, chunk, sizeof chunk);
        ck_assert_int_gt(n, 0);
        for (ssize_t k = 0; k < n; k++)
            got += chunk[k] == 'x';
    }
    OWN(rig_answer) struct rig_answer b = rig_ask(RIG_WRITER, "POST", "/v1/emit?bytes=1048577", NULL);
    ck_assert_str_eq(b.body.s, "{\"taken\":0}\n");
    rig_await("gone", 1);
}
END_TEST

/* ---- upgrades ---- */

#define UPGRADE "POST /v1/upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: vmsd-test\r\n"

START_TEST(test_upgrade_echoes_early_and_late_bytes)
{
    int64_t fds = rig_count("fds");
    {
        OWN(fd) int fd = rig_dial(RIG_WRITER);
        rig_say(fd, UPGRADE "Content-Length: 4\r\n\r\nbodyearly\n");
        OWN(rig_answer) struct rig_answer a = rig_hear(fd);
        ck_assert_int_eq(a.status, 101);
        ck_assert_ptr_nonnull(strstr(a.head.s, "Upgrade: vmsd-test\r\n"));
        ck_assert(read_until(fd, "early\n"));
        for (int i = 0; i < 100; i++) {
            rig_say(fd, "late\n");
            ck_assert(read_until(fd, "late\n"));
        }
        shutdown(fd, SHUT_WR);
        ck_assert(rig_ended(fd));
    }
    rig_await("closed_takes", 1);
    rig_await("fds", fds);
}
END_TEST

START_TEST(test_upgrade_without_its_headers_is_refused)
{
    expect(RIG_WRITER, "POST", "/v1/upgrade", NULL, 400);
    ck_assert_int_eq(SAY("POST /v1/upgrade HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"), 400);
    ck_assert_int_eq(SAY("POST /v1/upgrade HTTP/1.1\r\nHost: x\r\nUpgrade: vmsd-test\r\n\r\n"), 400);
    rig_await("refused_takes", 3);
}
END_TEST

START_TEST(test_upgrade_by_one_who_leaves_at_once)
{
    ask_and_leave(UPGRADE "\r\n", rig_count("fds"));
    ck_assert_int_eq(rig_count("closed_takes") + rig_count("refused_takes"), rig_count("handled"));
}
END_TEST

/* ---- bounds ---- */

START_TEST(test_A5_slow_heads_and_idle_connections_are_cut)
{
    int64_t begin = now_ms();
    OWN(fd) int idle = rig_dial(RIG_READER);
    OWN(fd) int slow = rig_dial(RIG_READER);
    OWN(fd) int half = rig_dial(RIG_WRITER);
    struct pollfd p[] = {{.fd = idle, .events = POLLIN}, {.fd = slow, .events = POLLIN}};
    rig_say(half, "PUT /v1/things/db HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
    rig_say(slow, "GET /v1/things HTTP/1.1\r\nX: ");
    while (now_ms() - begin < HTTP_HEAD_MS + 3000 && (p[0].fd >= 0 || p[1].fd >= 0)) {
        rig_say(slow, "x");
        poll(p, 2, 500);
        for (int i = 0; i < 2; i++)
            if (p[i].revents)
                p[i].fd = -1;
    }
    ck_assert_int_lt(now_ms() - begin, HTTP_HEAD_MS + 2000);
    ck_assert_int_ge(now_ms() - begin, HTTP_HEAD_MS - 1000);
    ck_assert(rig_ended(idle));
    ck_assert(rig_ended(slow));
    ck_assert(rig_ended(half));
}
END_TEST

START_TEST(test_A5_at_most_64_connections_of_one_user)
{
    int fds[HTTP_PER_UID_MAX];
    for (int i = 0; i < HTTP_PER_UID_MAX; i++) {
        fds[i] = rig_dial(RIG_READER);
        if (i % 2)
            rig_say(fds[i], "GET /v1/stream HTTP/1.1\r\nHost: x\r\n\r\n");
    }
    OWN(fd) int more = rig_dial(RIG_READER);
    OWN(rig_answer) struct rig_answer a = rig_hear(more);
    ck_assert_int_eq(a.status, 503);
    OWN(json) json_t *j = json_from_text(a.body.s, a.body.len, &e);
    ck_assert_msg(j != NULL, "%s", e.text);
    ck_assert(rig_ended(more));
    expect(RIG_NOBODY, "GET", "/v1/free", NULL, 200); /* others are served */
    expect(RIG_WRITER, "GET", "/v1/things", NULL, 200);
    for (int i = 0; i < HTTP_PER_UID_MAX; i++)
        close(fds[i]);
    rig_await("gone", HTTP_PER_UID_MAX / 2);
    sleep_ms(20);
    expect(RIG_READER, "GET", "/v1/things", NULL, 200);
}
END_TEST

START_TEST(test_connections_in_all_are_bounded_and_root_keeps_some)
{
    int fds[HTTP_CONNECTIONS_MAX];
    int n = 0, status = 0;
    for (uid_t uid = 3000; uid < 3010 && status != 503; uid++)
        for (int i = 0; i < HTTP_PER_UID_MAX - 1 && status != 503; i++) {
            ck_assert_int_lt(n, HTTP_CONNECTIONS_MAX);
            fds[n] = rig_dial(uid);
            rig_say(fds[n], "GET /v1/free HTTP/1.1\r\nHost: x\r\n\r\n");
            OWN(rig_answer) struct rig_answer a = rig_hear(fds[n]);
            status = a.status;
            n++;
        }
    ck_assert_int_eq(status, 503);
    ck_assert_int_eq(n, HTTP_CONNECTIONS_MAX - 16 + 1);
    expect(RIG_WRITER, "GET", "/v1/things", NULL, 200);
    while (n)
        close(fds[--n]);
}
END_TEST

static void few_fds(void)
{
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){64, 1024});
    rig_start();
    setrlimit(RLIMIT_NOFILE, &(struct rlimit){1024, 1024});
}

START_TEST(test_L1_without_fds_the_server_waits_and_recovers)
{
    int fds[100];
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        fds[i] = rig_dial(RIG_WRITER); /* more than the server has fds; the others queue */
    sleep_ms(1000);
    for (size_t i = 0; i < ARRAY_LEN(fds); i++)
        close(fds[i]);
    int64_t begin = now_ms();
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "GET", "/v1/things", NULL);
    ck_assert_int_eq(a.status, 200);
    ck_assert_int_lt(now_ms() - begin, 1000);
}
END_TEST

static void end_without_spinning(void)
{
    struct rusage use;
    rig_stop();
    getrusage(RUSAGE_CHILDREN, &use);
    int64_t ms = (use.ru_utime.tv_sec + use.ru_stime.tv_sec) * 1000 +
                 (use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1000;
    ck_assert_int_lt(ms, 250); /* of more than 1000 that it was out of fds */
}

/* ---- http_listen ---- */

static char dir[64];
static char path[108];

static void listen_set_up(void)
{
    strcpy(dir, "/tmp/test_http.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/sock", dir);
}
static void listen_tear_down(void)
{
    unlink(path);
    rmdir(path);
    rmdir(dir);
}

static void refuse_listen(enum vm_errc code)
{
    int fd = -1;
    ck_assert_int_eq(http_listen(path, 0660, (gid_t)-1, &fd, &e), -1);
    ck_assert_int_eq(fd, -1);
    ck_assert_msg(e.code == code, "%s", e.text);
}

START_TEST(test_A8_listen_sets_mode_and_group_whatever_the_umask)
{
    static const mode_t masks[] = {0, 077, 0777};
    for (size_t i = 0; i < ARRAY_LEN(masks); i++) {
        struct stat st;
        int fd = -1;
        umask(masks[i]);
        ck_assert_msg(http_listen(path, 0660, 42, &fd, &e) == 0, "%s", e.text);
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq(st.st_mode & 07777, 0660);
        ck_assert_uint_eq(st.st_gid, 42);
        ck_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd); /* stale now: the next round replaces it */
    }
}
END_TEST

static atomic_bool watching;
static atomic_uint seen_modes;
static void *watch_modes(void *arg)
{
    struct stat st;
    (void)arg;
    while (atomic_load(&watching))
        if (stat(path, &st) == 0)
            atomic_fetch_or(&seen_modes, st.st_mode & 07777);
    return NULL;
}

START_TEST(test_A8_listen_is_never_open_to_others_not_even_for_a_moment)
{
    pthread_t watcher;
    umask(0);
    atomic_store(&watching, true);
    ck_assert_int_eq(pthread_create(&watcher, NULL, watch_modes, NULL), 0);
    for (int i = 0; i < 3000; i++) {
        int fd = -1;
        ck_assert_int_eq(http_listen(path, 0600, 42, &fd, &e), 0);
        close(fd);
        unlink(path);
    }
    atomic_store(&watching, false);
    pthread_join(watcher, NULL);
    ck_assert_uint_eq(atomic_load(&seen_modes), 0600);
}
END_TEST

START_TEST(test_G8_listen_refuses_where_another_answers)
{
    int fd = -1;
    ck_assert_int_eq(http_listen(path, 0600, (gid_t)-1, &fd, &e), 0);
    refuse_listen(VM_E_CONFLICT);
    ck_assert_ptr_nonnull(strstr(e.text, "another process answers"));
    close(fd);
}
END_TEST

START_TEST(test_A2_listen_leaves_alone_what_is_not_ours)
{
    struct stat st;
    char target[128];
    snprintf(target, sizeof target, "%s/target", dir);
    close(open(target, O_CREAT | O_WRONLY, 0600));
    ck_assert_int_eq(symlink(target, path), 0);
    refuse_listen(VM_E_CONFLICT);
    ck_assert_int_eq(lstat(path, &st), 0);
    ck_assert(S_ISLNK(st.st_mode));
    ck_assert_int_eq(stat(target, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    unlink(target);
    refuse_listen(VM_E_CONFLICT); /* dangling */
    unlink(path);

    ck_assert_int_eq(mkfifo(path, 0600), 0);
    refuse_listen(VM_E_CONFLICT);
    unlink(path);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    refuse_listen(VM_E_CONFLICT);
    rmdir(path);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    refuse_listen(VM_E_CONFLICT);
    unlink(path);

    int fd = -1; /* a stale socket of another user */
    ck_assert_int_eq(http_listen(path, 0600, (gid_t)-1, &fd, &e), 0);
    close(fd);
    ck_assert_int_eq(chown(path, RIG_NOBODY, (gid_t)-1), 0);
    refuse_listen(VM_E_CONFLICT);
    ck_assert_int_eq(lstat(path, &st), 0);
    unlink(path);

    ck_assert_int_eq(chown(dir, RIG_NOBODY, (gid_t)-1), 0); /* a directory of another user */
    refuse_listen(VM_E_DENIED);
    ck_assert_int_eq(chown(dir, 0, (gid_t)-1), 0);
    ck_assert_int_eq(chmod(dir, 0777), 0);
    refuse_listen(VM_E_DENIED);
    chmod(dir, 0700);
    snprintf(target, sizeof target, "%s.link", dir);
    ck_assert_int_eq(symlink(dir, target), 0);
    char through[sizeof target + 8];
    snprintf(through, sizeof through, "%s/sock", target);
    ck_assert_int_eq(http_listen(through, 0600, (gid_t)-1, &fd, &e), -1);
    ck_assert_int_eq(e.sys, ENOTDIR);
    unlink(target);
}
END_TEST

START_TEST(test_listen_path_length)
{
    int fd = -1;
    size_t n = strlen(path);
    memset(path + n, 'a', sizeof path - n);
    path[107] = '\0';
    ck_assert_msg(http_listen(path, 0600, (gid_t)-1, &fd, &e) == 0, "%s", e.text);
    close(fd);
    unlink(path);
    char longer[110];
    snprintf(longer, sizeof longer, "%sa", path);
    ck_assert_int_eq(http_listen(longer, 0600, (gid_t)-1, &fd, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "at most 107 bytes"));
    ck_assert_int_eq(http_listen("relative", 0600, (gid_t)-1, &fd, &e), -1);
    ck_assert_int_eq(http_listen("/", 0600, (gid_t)-1, &fd, &e), -1);
    ck_assert_int_eq(http_listen("/nowhere/at/all", 0600, (gid_t)-1, &fd, &e), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http");
    TCase *t = tcase_create("http");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, rig_start, rig_stop);
    tcase_add_test(t, test_B1_every_route_by_every_method_and_role);
    tcase_add_test(t, test_supplementary_groups_count);
    tcase_add_test(t, test_A3_role_is_the_one_of_connect);
    tcase_add_test(t, test_B6_forbidden_and_missing_look_the_same);
    tcase_add_test(t, test_405_names_the_methods);
    tcase_add_test(t, test_arguments_are_decoded_once);
    tcase_add_test(t, test_B2_only_canonical_paths);
    tcase_add_test(t, unknown_and_double_query_keys_are_refused);
    tcase_add_test(t, test_B2_long_targets);
    tcase_add_test(t, test_B4_malformed_requests);
    tcase_add_test(t, test_B2_a_nul_ends_the_path);
    tcase_add_test(t, test_B4_header_of_1_mib);
    tcase_add_test(t, test_B3_role_is_judged_per_request_of_a_pipeline);
    tcase_add_test(t, test_bytes_may_come_one_by_one);
    tcase_add_test(t, test_body_at_the_bound_and_past_it);
    tcase_add_test(t, test_chunked_body_past_the_bound_is_cut);
    tcase_add_test(t, test_B10_refused_before_the_body_is_sent);
    tcase_add_test(t, test_large_body_arrives);
    tcase_add_test(t, test_libcurl_gets_puts_and_reuses_its_connection);
    tcase_add_test(t, test_libcurl_hears_413_of_a_body_that_it_is_sending);
    tcase_add_test(t, test_abort_is_told_and_nothing_leaks);
    tcase_add_test(t, test_a_half_closed_client_still_gets_its_answer);
    tcase_add_test(t, test_leaving_at_every_byte);
    tcase_add_test(t, test_server_ends_with_all_sorts_of_connections_open);
    tcase_add_test(t, test_stream_sends_at_once_and_ends);
    tcase_add_test(t, test_stream_whose_reader_leaves_is_gone);
    tcase_add_test(t, test_B9_reader_that_never_reads_is_cut_and_others_lose_nothing);
    tcase_add_test(t, test_backlog_at_the_bound_and_past_it);
    tcase_add_test(t, test_upgrade_echoes_early_and_late_bytes);
    tcase_add_test(t, test_upgrade_without_its_headers_is_refused);
    tcase_add_test(t, test_upgrade_by_one_who_leaves_at_once);
    tcase_add_test(t, test_A5_slow_heads_and_idle_connections_are_cut);
    tcase_add_test(t, test_A5_at_most_64_connections_of_one_user);
    tcase_add_test(t, test_connections_in_all_are_bounded_and_root_keeps_some);
    suite_add_tcase(s, t);
    TCase *few = tcase_create("few fds");
    tcase_add_checked_fixture(few, few_fds, end_without_spinning);
    tcase_add_test(few, test_L1_without_fds_the_server_waits_and_recovers);
    suite_add_tcase(s, few);
    TCase *l = tcase_create("listen");
    tcase_add_checked_fixture(l, listen_set_up, listen_tear_down);
    tcase_add_test(l, test_A8_listen_sets_mode_and_group_whatever_the_umask);
    tcase_add_test(l, test_A8_listen_is_never_open_to_others_not_even_for_a_moment);
    tcase_add_test(l, test_G8_listen_refuses_where_another_answers);
    tcase_add_test(l, test_A2_listen_leaves_alone_what_is_not_ours);
    tcase_add_test(l, test_listen_path_length);
    suite_add_tcase(s, l);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
