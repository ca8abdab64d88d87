#include <check.h>
#include <string.h>
#include <supervisor/plumb/http_target.h>

static struct vm_err e;

START_TEST(test_matching)
{
    static const struct { const char *raw, *pattern; bool is; } cases[] = {
        {"/", "/", true}, {"/a", "/", false}, {"/", "/a", false}, {"/a", "/a", true}, {"/a/b", "/a", false},
        {"/a", "/a/b", false}, {"/a/b", "/a/{x}", true}, {"/a/b/c", "/a/{x}/c", true}, {"/a/b/d", "/a/{x}/c", false},
        {"/ab", "/a", false}, {"/a", "/ab", false}, {"/a", "/{x}", true}, {"/a?b=c", "/a", true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct http_target t;
        ck_assert_int_eq(target_parse(cases[i].raw, &t, &e), 0);
        ck_assert_msg(target_matches(&t, cases[i].pattern) == cases[i].is, "%s %s", cases[i].raw, cases[i].pattern);
        target_done(t);
    }
}
END_TEST

START_TEST(test_arguments)
{
    struct http_target t;
    ck_assert_int_eq(target_parse("/v1/db/x%3Ay?a=1&b&a=2+3&%61=%25", &t, &e), 0);
    ck_assert_str_eq(target_arg(&t, "/v1/{name}/{id}", "name"), "db");
    ck_assert_str_eq(target_arg(&t, "/v1/{name}/{id}", "id"), "x:y");
    ck_assert_ptr_null(target_arg(&t, "/v1/{name}/{id}", "nam"));
    ck_assert_ptr_null(target_arg(&t, "/v1/{name}/{id}", "v1"));
    ck_assert_str_eq(target_query(&t, "a", 0), "1");
    ck_assert_str_eq(target_query(&t, "a", 1), "2 3");
    ck_assert_str_eq(target_query(&t, "a", 2), "%");
    ck_assert_ptr_null(target_query(&t, "a", 3));
    ck_assert_str_eq(target_query(&t, "b", 0), "");
    ck_assert_ptr_null(target_query(&t, "c", 0));
    target_done(t);
}
END_TEST

START_TEST(test_B2_every_byte_in_a_path)
{
    for (int c = 1; c < 256; c++) {
        char raw[] = {'/', 'a', (char)c, 'b', '\0'}, encoded[16];
        struct http_target t;
        bool alnum = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        bool unreserved = alnum || strchr("-._~", c);
        bool allowed = unreserved || strchr(":@+,=", c);
        int rc = target_parse(raw, &t, &e);
        ck_assert_msg((rc == 0) == (allowed || strchr("/?", c)), "%#x", (unsigned)c);
        if (rc == 0)
            target_done(t);
        snprintf(encoded, sizeof encoded, "/a%%%02xb", (unsigned)c);
        rc = target_parse(encoded, &t, &e);
        ck_assert_msg((rc == 0) == (allowed && !unreserved), "%s", encoded); /* one spelling for each path */
        if (rc == 0)
            target_done(t);
    }
}
END_TEST

START_TEST(test_bounds)
{
    struct http_target t;
    char raw[HTTP_TARGET_MAX + 2] = "";
    for (int i = 0; i < HTTP_SEGMENTS_MAX; i++)
        strcat(raw, "/a");
    ck_assert_int_eq(target_parse(raw, &t, &e), 0);
    target_done(t);
    strcat(raw, "/a");
    ck_assert_int_eq(target_parse(raw, &t, &e), -1);
    strcpy(raw, "/a?a");
    for (int i = 1; i < HTTP_QUERY_MAX; i++)
        strcat(raw, "&a");
    ck_assert_int_eq(target_parse(raw, &t, &e), 0);
    target_done(t);
    strcat(raw, "&a");
    ck_assert_int_eq(target_parse(raw, &t, &e), -1);
    memset(raw, 'a', sizeof raw - 1);
    raw[0] = '/';
    ck_assert_int_eq(target_parse(raw, &t, &e), -1);
    raw[HTTP_TARGET_MAX] = '\0';
    ck_assert_int_eq(target_parse(raw, &t, &e), 0);
    target_done(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_target");
    TCase *t = tcase_create("http_target");
    tcase_add_test(t, test_matching);
    tcase_add_test(t, test_arguments);
    tcase_add_test(t, test_B2_every_byte_in_a_path);
    tcase_add_test(t, test_bounds);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
