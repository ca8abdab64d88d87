/* The life of a guest: every cell of the table, and the waits between restarts. */
#include <check.h>
#include <stdlib.h>
#include <vmsd/life.h>

START_TEST(every_cell_leads_somewhere)
{
    for (int at = 0; at < ST_COUNT; at++) {
        bool any = false;

        for (int ev = 0; ev < EV_COUNT; ev++) {
            struct life_cell go;

            if (!life_step((enum life_state)at, (enum life_event)ev, &go))
                continue;
            any = true;
            ck_assert_uint_lt(go.next, ST_COUNT);
            /* Whoever begins to run is followed, whoever ends is left: no state is entered without it. */
            if (go.next == ST_RUNNING && at != ST_RUNNING)
                ck_assert_int_eq(go.act, ACT_WATCH);
            if (at == ST_RUNNING && go.next != ST_RUNNING)
                ck_assert(go.act == ACT_LEAVE || go.act == ACT_RETRY);
        }
        ck_assert_msg(any, "%s is a dead end", life_state_name((enum life_state)at));
    }
}
END_TEST

START_TEST(refused_events)
{
    struct life_cell go;

    ck_assert(!life_step(ST_RUNNING, EV_PREPARE, &go)); /* what runs is not prepared */
    ck_assert(!life_step(ST_RUNNING, EV_REMOVED, &go));
    ck_assert(!life_step(ST_STOPPED, EV_UP, &go));
    ck_assert(!life_step(ST_ABSENT, EV_EXIT, &go));
}
END_TEST

START_TEST(any_state_can_be_stopped)
{
    struct life_cell go;

    for (int at = 0; at < ST_COUNT; at++) {
        if (at == ST_STOPPING)
            continue;
        ck_assert_msg(life_step((enum life_state)at, EV_STOP, &go), "%s", life_state_name((enum life_state)at));
        ck_assert_uint_eq(go.next, ST_STOPPING);
    }
}
END_TEST

static const struct spec_restart policy = {RESTART_ALWAYS, 1000, 60000, 10, 600000};

START_TEST(test_N5_backoff_doubles_and_gives_up)
{
    static const int64_t waits[] = {1000, 2000, 4000, 8000, 16000, 32000, 60000, 60000, 60000, 60000, -1};
    struct life_backoff b = {0};

    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++)
        ck_assert_int_eq(life_backoff_next(&b, &policy, 5000 + (int64_t)i * 1000, 100), waits[i]);
    ck_assert_int_eq(life_backoff_next(&b, &policy, 700000, 100), 60000); /* a new window */
}
END_TEST

START_TEST(a_stable_run_counts_anew)
{
    struct life_backoff b = {0};
    struct spec_restart never = policy;

    life_backoff_next(&b, &policy, 1, 1);
    life_backoff_next(&b, &policy, 2, 1);
    ck_assert_int_eq(life_backoff_next(&b, &policy, 3, LIFE_STABLE_MS), 1000);
    never.give_up = 0;
    b = (struct life_backoff){0};
    for (int i = 0; i < 1000; i++)
        ck_assert_int_gt(life_backoff_next(&b, &never, i + 1, 1), 0);
}
END_TEST

START_TEST(policies)
{
    struct spec_restart p = policy;

    ck_assert(life_restarts(&p, true) && life_restarts(&p, false));
    p.policy = RESTART_ON_FAILURE;
    ck_assert(!life_restarts(&p, true) && life_restarts(&p, false));
    p.policy = RESTART_NO;
    ck_assert(!life_restarts(&p, true) && !life_restarts(&p, false));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("life");
    TCase *t = tcase_create("life");
    SRunner *r;
    int failed;

    tcase_add_test(t, every_cell_leads_somewhere);
    tcase_add_test(t, refused_events);
    tcase_add_test(t, any_state_can_be_stopped);
    tcase_add_test(t, test_N5_backoff_doubles_and_gives_up);
    tcase_add_test(t, a_stable_run_counts_anew);
    tcase_add_test(t, policies);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
