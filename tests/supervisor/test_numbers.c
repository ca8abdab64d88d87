#include "../../supervisor/numbers.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const everything[] = {"*"};
static const struct spec_list all = {(const char **)everything, 1};

/* What is kept, one a line; and behind it what is said of it. */
static char *told(const char *text, size_t n, const struct spec_list *wanted)
{
    struct numbers *x = numbers_read(text, n, wanted);
    struct text t = {0};

    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < x->n; i++) {
        ck_assert_uint_eq(strlen(x->v[i]->series), x->v[i]->n);
        text_addf(&t, "%s %.15g\n", x->v[i]->series, x->v[i]->value);
    }
    numbers_say(x, &t);
    numbers_free(x);
    return text_take(&t);
}

static const struct {
    const char *text, *want;
} cases[] = {
    {"", "no numbers"},
    {"# nothing\n\n   \n#", "no numbers"},
    {"queue 5", "queue 5\n1 number"},
    {"  queue\t 5 \r\nage 1.5e3\nneg -0.25\nplus +7\n", "queue 5\nage 1500\nneg -0.25\nplus 7\n4 numbers"},
    {"a:b_C9 1\n_ 2\n", "a:b_C9 1\n_ 2\n2 numbers"},
    /* as Prometheus and OpenMetrics have them */
    {"# HELP a b\n# TYPE a counter\na_total{x=\"1\"} 3 1700000000000\n# EOF\n", "a_total{x=\"1\"} 3\n1 number"},
    {"a{} 1\nb { x = \"1\" , y=\"\", } 2\n", "a 1\nb{x=\"1\"} 2\n2 numbers"},
    {"a_bucket{le=\"0.5\"} 3 # {trace=\"x\"} 0.4\n", "a_bucket{le=\"0.5\"} 3\n1 number"},
    {"a{z=\"1\",b=\"\\\\ \\\" \\n}\"} 1\n", "a{b=\"\\\\ \\\" \\n}\",z=\"1\"} 1\n1 number"},
    {"a{b=\"1\",a=\"2\"} 1\na{a=\"2\",b=\"1\"} 3\n", "a{a=\"2\",b=\"1\"} 1\n1 number; line 2 is left out: told before"},
    /* not known: nobody's fault */
    {"a NaN\nb +Inf\nc -Inf\nd 1\n", "d 1\n1 number"},
    {"a 1e999\n", "no numbers"},
    /* labels of ours are not theirs to give */
    {"a{guest=\"x\",number=\"y\",check=\"z\"} 1\n", "a{exported_check=\"z\",exported_guest=\"x\",exported_number=\"y\"} 1\n1 number"},
    {"a{guest=\"x\",exported_guest=\"y\"} 1\n", "no numbers; line 1 is left out: a label twice"},
    {"a{__name__=\"up\"} 1\n", "no numbers; line 1 is left out: labels that are not {name=\"value\", …}"},
    {"a{b=\"1\",b=\"2\"} 1\n", "no numbers; line 1 is left out: a label twice"},
    /* what is none */
    {"hello\n", "no numbers; line 1 is left out: its value is not a number"},
    {"<html>\n1 2\na 1\n", "a 1\n1 number; line 1 is left out: no \"name value\", and 1 more"},
    {"a-b 1\n", "no numbers; line 1 is left out: no \"name value\""},
    {"a 1 2 3\n", "no numbers; line 1 is left out: more than \"name value\""},
    {"a 1 x\n", "no numbers; line 1 is left out: more than \"name value\""},
    {"a 0x10\n", "no numbers; line 1 is left out: its value is not a number"},
    {"a infinity\n", "no numbers; line 1 is left out: its value is not a number"},
    {"a nan(7)\n", "no numbers; line 1 is left out: its value is not a number"},
    {"a 1,5\n", "no numbers; line 1 is left out: its value is not a number"},
    {"a 1e\n", "no numbers; line 1 is left out: its value is not a number"},
    {"a 11111111111111111111111111111111111111111\n", "no numbers; line 1 is left out: its value is not a number"},
    {"a{b=\"c} 1\n", "no numbers; line 1 is left out: a label without end"},
    {"a{b=\"c\\", "no numbers; line 1 is left out: a label with an unknown escape"},
    {"a{b=\"\\t\"} 1\n", "no numbers; line 1 is left out: a label with an unknown escape"},
    {"a{b=\"\x1b[31m\"} 1\n", "no numbers; line 1 is left out: a label with control characters or bad UTF-8"},
    {"a{b=\"\xff\"} 1\n", "no numbers; line 1 is left out: a label with control characters or bad UTF-8"},
    {"a{b=\"1\" c=\"2\"} 1\n", "no numbers; line 1 is left out: labels without end"},
    {"a{b=\"1\"", "no numbers; line 1 is left out: labels without end"},
    {"a{b=\"1\",", "no numbers; line 1 is left out: labels that are not {name=\"value\", …}"},
    {"a{=\"1\"} 1\n", "no numbers; line 1 is left out: labels that are not {name=\"value\", …}"},
    {"a{1b=\"1\"} 1\n", "no numbers; line 1 is left out: labels that are not {name=\"value\", …}"},
};

START_TEST(test_D8_lines)
{
    OWN(str) char *got = told(cases[_i].text, strlen(cases[_i].text), &all);

    ck_assert_str_eq(got, cases[_i].want);
}
END_TEST

START_TEST(test_D8_nul)
{
    OWN(str) char *name = told("a\0b 1\n", 6, &all), *value = told("a 1\0002\n", 6, &all),
                   *label = told("a{b=\"\0\"} 1\n", 11, &all), *blank = told("a\0 1\n", 5, &all);

    ck_assert_str_eq(name, "no numbers; line 1 is left out: its value is not a number");
    ck_assert_str_eq(value, "no numbers; line 1 is left out: its value is not a number");
    ck_assert_str_eq(label, "no numbers; line 1 is left out: a label with control characters or bad UTF-8");
    ck_assert_str_eq(blank, "no numbers; line 1 is left out: its value is not a number");
}
END_TEST

/* Others are passed over unread. */
START_TEST(test_wanted)
{
    static const char *const some[] = {"queue", "pg_*"};
    struct spec_list wanted = {(const char **)some, 2};
    const char text[] = "queue 1\nqueue_age 2\npg_ 3\npg_size{db=\"a\"} 4\npg 5\nother{ nonsense\n";
    OWN(str) char *got = told(text, strlen(text), &wanted);

    ck_assert_str_eq(got, "queue 1\npg_ 3\npg_size{db=\"a\"} 4\n3 numbers");
}
END_TEST

/* Names, labels, series, numbers and bad lines: each at its bound and one past it. */
START_TEST(test_bounds)
{
    char name[NUMBER_NAME_MAX + 2] = "", line[2000];
    struct text t = {0};
    struct numbers *x;

    for (int past = 0; past < 2; past++) {
        memset(name, 'n', NUMBER_NAME_MAX + past);
        snprintf(line, sizeof line, "%s 1\n", name);
        x = numbers_read(line, strlen(line), &all);
        ck_assert_uint_eq(x->n, !past);
        numbers_free(x);

        t = (struct text){0};
        for (int i = 0; i < NUMBER_LABELS_MAX + past; i++)
            text_addf(&t, "%sl%d=\"1\"", i ? "," : "a{", i);
        text_add(&t, "} 1\n");
        x = numbers_read(t.s, t.len, &all);
        ck_assert_uint_eq(x->n, !past);
        numbers_free(x);
        text_done(t);

        snprintf(line, sizeof line, "a{b=\"%0*d\"} 1\n", NUMBER_SERIES_MAX - 7 + past, 0); /* a{b=""} is 7 */
        x = numbers_read(line, strlen(line), &all);
        ck_assert_uint_eq(x->n, !past);
        ck_assert(past || x->v[0]->n == NUMBER_SERIES_MAX);
        numbers_free(x);

        t = (struct text){0};
        for (int i = 0; i < NUMBERS_MAX + past; i++)
            text_addf(&t, "n%d 1\n", i);
        x = numbers_read(t.s, t.len, &all);
        ck_assert_uint_eq(x->n, NUMBERS_MAX);
        ck_assert_uint_eq(x->surplus, past);
        numbers_free(x);
        text_done(t);
    }
    t = (struct text){0};
    for (int i = 0; i < 50000; i++)
        text_add(&t, "?\n");
    text_add(&t, "a 1\n");
    x = numbers_read(t.s, t.len, &all);
    ck_assert_uint_eq(x->n, 0);
    ck_assert_uint_eq(x->bad, 100);
    numbers_free(x);
    text_done(t);
}
END_TEST

START_TEST(test_json)
{
    const char text[] = "size{db=\"a\\\"b\\\\n\\n\",x=\"{,}\"} 1.5\nplain 2\n";
    struct numbers *x = numbers_read(text, strlen(text), &all);
    OWN(json) json_t *list = numbers_json(x), *none = numbers_json(NULL), *want = NULL;

    want = json_loads("[{\"name\": \"size\", \"labels\": {\"db\": \"a\\\"b\\\\n\\n\", \"x\": \"{,}\"}, \"value\": 1.5},"
                      " {\"name\": \"plain\", \"labels\": {}, \"value\": 2.0}]", 0, NULL);
    ck_assert(json_equal(list, want));
    ck_assert_uint_eq(json_array_size(none), 0);
    numbers_free(x);
    numbers_free(NULL);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("numbers");
    TCase *c = tcase_create("numbers");
    SRunner *r;
    int failed;

    tcase_add_loop_test(c, test_D8_lines, 0, sizeof cases / sizeof cases[0]);
    tcase_add_test(c, test_D8_nul);
    tcase_add_test(c, test_wanted);
    tcase_add_test(c, test_bounds);
    tcase_add_test(c, test_json);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
