/* A guest that is unhealthy is started anew by its policy: after the pause that the policy gives, if it still is. */
#include "stubs.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <turn.h>
#include <vmsd/clock.h>

enum { PAUSE_MS = 120 };

static struct world world;
static struct guest_spec spec;
static struct guest guest;
static enum health_state health;
static struct job *job;
static int64_t submitted_at;
static unsigned submitted;

/* ---- what guest.c needs of the rest ---- */

struct job *job_new(struct guest *g, enum job_verb verb)
{
    ck_assert_ptr_null(job);
    job = calloc(1, sizeof *job);
    *job = (struct job){.w = g->w, .verb = verb};
    return job;
}

void job_submit(struct job *j)
{
    ck_assert_ptr_eq(j, job);
    ck_assert_int_eq(j->verb, JOB_CONVERGE);
    ck_assert(j->restart && j->patient);
    submitted++;
    submitted_at = now_ms();
    free(job);
    job = NULL;
    loop_quit(world.loop);
}

enum health_state health_of(const struct guest *g) { (void)g; return health; }
const char *health_name(enum health_state s) { (void)s; return "health"; }
bool agent_is_up(const struct agent *a) { (void)a; return true; }
void health_stop(struct guest *g) { (void)g; }
void inside_drop(struct guest *g) { (void)g; }
void guest_drop_agent(struct guest *g, const char *why) { (void)g, (void)why; }
void guest_redial(struct guest *g) { (void)g; }
void jobs_poke(struct world *w) { (void)w; }
int net_link_remove(const char *name, struct vm_err *e) { (void)name, (void)e; return 0; }

/* ---- a guest ---- */

static void set_up(void)
{
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    spec = (struct guest_spec){.restart = {.policy = RESTART_ON_FAILURE, .backoff_min_ms = PAUSE_MS,
                                           .backoff_max_ms = 2 * PAUSE_MS, .give_up = 3, .give_up_window_ms = 60000}};
    guest = (struct guest){.w = &world, .name = (char *)"db", .spec = &spec, .up = true, .state = ST_RUNNING, .keeper_fd = -1};
    submitted = 0;
    heard.events = 0;
}

static void tear_down(void)
{
    loop_timer_free(guest.cure);
    loop_timer_free(guest.retry);
    free(guest.error);
    loop_close(world.loop);
}

static void falls_ill(void)
{
    health = HEALTH_UNHEALTHY;
    guest_health_changed(&guest, HEALTH_UNHEALTHY, "tcp 1: refused");
}

START_TEST(test_pause_grows)
{
    for (unsigned i = 1; i <= 3; i++) {
        int64_t began = now_ms(), pause = i == 1 ? PAUSE_MS : 2 * PAUSE_MS;

        falls_ill();
        ck_assert_uint_eq(submitted, i - 1);
        turn(world.loop, 5000);
        ck_assert_uint_eq(submitted, i);
        ck_assert_int_ge(submitted_at - began, pause);
        ck_assert_uint_eq(guest.restarts, i);
    }
    ck_assert_ptr_nonnull(strstr(heard.event, "tcp 1: refused"));
    ck_assert_ptr_null(guest.error);
    falls_ill();
    turn(world.loop, 3 * PAUSE_MS);
    ck_assert_uint_eq(submitted, 3);
    ck_assert_ptr_nonnull(strstr(guest.error, "given up"));
}
END_TEST

START_TEST(test_who_heals_is_left_alone)
{
    falls_ill();
    health = HEALTH_HEALTHY;
    guest_health_changed(&guest, HEALTH_HEALTHY, NULL);
    turn(world.loop, 2 * PAUSE_MS);
    ck_assert_uint_eq(submitted, 0);
}
END_TEST

/* Each has its own reason why the policy has nothing to say any more when the pause is over. */
static void wish_down(void) { guest.up = false; }
static void go(void) { guest.removing = true; }
static void stop(void) { guest.state = ST_STOPPING; }
static void work(void) { guest.job = (struct job *)&world; }
static void wait_for_work(void) { guest.next = (struct job *)&world; }
static void change_policy(void) { spec.restart.policy = RESTART_NO; }
static void (*const reasons[])(void) = {wish_down, go, stop, work, wait_for_work, change_policy};

START_TEST(test_who_is_not_the_policy_s)
{
    reasons[_i]();
    falls_ill();
    turn(world.loop, 2 * PAUSE_MS);
    ck_assert_uint_eq(submitted, 0);
}
END_TEST

START_TEST(test_who_is_not_the_policy_s_any_more)
{
    falls_ill();
    reasons[_i]();
    turn(world.loop, 2 * PAUSE_MS);
    ck_assert_uint_eq(submitted, 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("guest");
    TCase *t = tcase_create("unhealthy");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_pause_grows);
    tcase_add_test(t, test_who_heals_is_left_alone);
    tcase_add_loop_test(t, test_who_is_not_the_policy_s, 0, ARRAY_LEN(reasons));
    tcase_add_loop_test(t, test_who_is_not_the_policy_s_any_more, 0, ARRAY_LEN(reasons));
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
