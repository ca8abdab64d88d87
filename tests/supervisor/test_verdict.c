#include "../../supervisor/verdict.h"

#include <check.h>

static const struct spec_check rule = {
    .every_ms = 10000, .timeout_ms = 2000, .start_period_ms = 60000, .failures = 3, .successes = 2};

/* One letter a result: + passed, - failed, x failed while excused, u unknown; the time goes on by step_ms before each.
 * Then one letter for the state after each: o, w, F. */
static const struct { const char *name, *results, *states; int64_t step_ms; } stories[] = {
    {"passes as often as asked",            "++",           "wo",           1000},
    {"start period forgives",               "-------++",    "wwwwwwwwo",    1000},
    {"no pass in the start period",         "---",          "wwF",          60000},
    {"a pass ends the start period",        "+---",         "wwwF",         1000},
    {"failures in a row only",              "++--+--+---",  "woooooooooF",  1000},
    {"comes back as slowly as asked",       "++---+-++",    "woooFFFFo",    1000},
    {"excused failures never count",        "++xxxxxxxx",   "wooooooooo",   1000},
    {"excused ones do not add to others",   "++--x-",       "wooooF",       1000},
    {"unknown says nothing",                "++--uu-",      "woooooF",      1000},
    {"unknown at first",                    "uuuuu",        "wwwww",        60000},
};

static char letter(enum verdict_state s)
{
    return "owF"[s];
}

START_TEST(test_stories)
{
    struct verdict v = verdict_new(1000);
    int64_t now = 1000;
    enum verdict_state was = v.state;
    const char *want = stories[_i].states;

    ck_assert_int_eq(v.state, VERDICT_WAITING);
    for (const char *p = stories[_i].results; *p; p++, want++) {
        enum outcome o = *p == '+' ? OUTCOME_PASSED : *p == 'u' ? OUTCOME_UNKNOWN : OUTCOME_FAILED;
        bool changed;

        now += stories[_i].step_ms;
        changed = verdict_add(&v, &rule, o, *p == 'x', now);
        ck_assert_msg(letter(v.state) == *want, "%s: after %d: %c", stories[_i].name,
                      (int)(p - stories[_i].results) + 1, letter(v.state));
        ck_assert(changed == (v.state != was));
        was = v.state;
    }
    ck_assert_int_eq(*want, '\0');
}
END_TEST

START_TEST(test_start_period_at_its_end)
{
    struct spec_check once = rule;
    struct verdict v = verdict_new(0);

    once.failures = 1;
    ck_assert(!verdict_add(&v, &once, OUTCOME_FAILED, false, 59999));
    ck_assert(verdict_add(&v, &once, OUTCOME_FAILED, false, 60000));
    ck_assert_int_eq(v.state, VERDICT_FAILING);
    ck_assert_uint_eq(v.failures, 1);
}
END_TEST

START_TEST(test_pause_stays_within_its_jitter)
{
    struct verdict v = verdict_new(0);
    struct spec_check fast = {.every_ms = 250, .start_period_ms = 60000}, one = {.every_ms = 1};
    int64_t low = INT64_MAX, high = 0;

    ck_assert_int_eq(verdict_pause(&v, &rule, 59999, 12345), 1000); /* eager while it starts */
    ck_assert_int_eq(verdict_pause(&v, &fast, 59999, 12345), 250);
    for (uint32_t roll = 0; roll < 100000; roll++) {
        int64_t p = verdict_pause(&v, &rule, 60000, roll * 2654435761u);

        low = p < low ? p : low;
        high = p > high ? p : high;
        ck_assert(verdict_pause(&v, &one, 60000, roll) == 1);
    }
    ck_assert_int_eq(low, 9000);
    ck_assert_int_eq(high, 11000);
    v.state = VERDICT_OK; /* in the start period too */
    ck_assert_int_ge(verdict_pause(&v, &rule, 1, 0), 9000);
}
END_TEST

START_TEST(test_first_pause_and_slack)
{
    int64_t low = INT64_MAX, high = 0;

    for (uint32_t roll = 0; roll < 100000; roll++) {
        int64_t p = verdict_first_pause(roll * 2654435761u);

        low = p < low ? p : low;
        high = p > high ? p : high;
    }
    ck_assert_int_eq(low, 100);
    ck_assert_int_eq(high, 500);
    ck_assert_int_eq(verdict_slack(-5), 0);
    ck_assert_int_eq(verdict_slack(0), 0);
    ck_assert_int_eq(verdict_slack(400), 100);
    ck_assert_int_eq(verdict_slack(4000), 1000);
    ck_assert_int_eq(verdict_slack(3600000), 1000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("verdict");
    TCase *c = tcase_create("verdict");
    SRunner *r;
    int failed;

    tcase_add_loop_test(c, test_stories, 0, sizeof stories / sizeof stories[0]);
    tcase_add_test(c, test_start_period_at_its_end);
    tcase_add_test(c, test_pause_stays_within_its_jitter);
    tcase_add_test(c, test_first_pause_and_slack);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
