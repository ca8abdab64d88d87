/* Which job runs when: guests go down before what they depend on, and come up after it. Jobs are of this test's making:
 * they take a moment, and write down what they do. */
#include "../../supervisor/leave.h"
#include "stubs.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

enum { GUESTS = 4, STEP_MS = 10 };

static struct world world;
static struct options options = {.jobs = 8};
static struct guest guests[GUESTS], *list[GUESTS];
static struct guest_spec specs[GUESTS];
static struct text told; /* "-a" a stopped, "+a" it started; on the loop alone */
static const char *fails; /* guest whose start fails */
static unsigned ended;

/* ---- what the queue needs of the rest ---- */

struct guest *world_guest(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->n_guests; i++)
        if (!strcmp(w->guests[i]->name, name))
            return w->guests[i];
    return NULL;
}

void world_drop_guest(struct guest *g)
{
    for (size_t i = 0; i < world.n_guests; i++)
        if (world.guests[i] == g)
            world.guests[i] = world.guests[--world.n_guests];
}

struct job *job_new(struct guest *g, enum job_verb verb)
{
    struct job *j = calloc(1, sizeof *j);

    *j = (struct job){.w = g->w, .guest_id = g->id, .name = strdup(g->name), .verb = verb};
    return j;
}

void job_free(struct job *j)
{
    free(j->name);
    free(j);
}

int job_copy(struct job *j, struct guest *g, struct vm_err *e)
{
    (void)e;
    j->running = guest_is_up(g);
    j->rebuilding = g->rebuilding;
    return 0;
}

void job_uncopy(struct job *j) { (void)j; }
void job_tell(struct job *j, json_t *line) { (void)j, json_decref(line); }
const char *job_verb_name(enum job_verb v) { (void)v; return "verb"; }
const char *job_state_name(enum job_state s) { (void)s; return "state"; }
const char *plan_class_name(enum plan_class c) { (void)c; return "class"; }
enum health_state health_of(const struct guest *g) { return guest_is_up(g) ? HEALTH_HEALTHY : HEALTH_NONE; }
void guest_redial(struct guest *g) { (void)g; }
void guest_seek(struct guest *g) { (void)g; }
void guest_drop_agent(struct guest *g, const char *why) { (void)g, (void)why; }
void guest_restart_unhealthy(struct guest *g, const char *why) { (void)g, (void)why; }
void netsync_ask(struct world *w, void (*done)(const struct vm_err *e, void *arg), void *arg) { (void)w, (void)done, (void)arg; }

bool guest_feed(struct guest *g, enum life_event ev, const char *why)
{
    (void)why;
    if (ev == EV_JOB_FAILED)
        g->state = ST_FAILED;
    return true;
}

int store_job_end(struct store *s, int64_t job, const char *error, struct vm_err *e)
{
    (void)s, (void)job, (void)error, (void)e;
    return 0;
}

struct change { uint32_t id; enum life_state to; const char *mark; };

static void set_state(void *arg)
{
    const struct change *c = arg;
    struct guest *g = world_guest_by_id(&world, c->id);

    g->state = c->to;
    if (c->to == ST_STOPPED)
        g->job->stopped = true;
    if (c->to == ST_RUNNING)
        g->rebuilding = false;
    if (c->mark)
        text_addf(&told, "%s%s", c->mark, g->name);
    jobs_poke(&world);
}

static void become(struct job *j, enum life_state to, const char *mark)
{
    loop_call(j->w->loop, set_state, &(struct change){j->guest_id, to, mark});
    sleep_ms(STEP_MS);
}

int job_story(struct job *j, struct vm_err *e)
{
    if (j->verb != JOB_CONVERGE || (j->running && (j->restart || j->rebuilding))) {
        become(j, ST_STOPPING, NULL);
        become(j, ST_STOPPED, "-");
    }
    if (j->verb != JOB_CONVERGE || j->halting)
        return 0;
    become(j, ST_STARTING, NULL);
    if (fails && !strcmp(j->name, fails))
        return vm_fail(e, VM_E_BACKEND, "it does not start");
    become(j, ST_RUNNING, "+");
    return 0;
}

/* ---- a world: b depends on a, c on b; d on nobody ---- */

static void all_ended(struct watcher *x, struct job *j)
{
    (void)x, (void)j;
    ended++;
}
static struct watcher watcher = {.ended = all_ended};

static void set_up(void)
{
    static const char *deps[GUESTS][2] = {{NULL}, {"a"}, {"b"}, {NULL}};
    static const char *const names[] = {"a", "b", "c", "d"};

    memset(guests, 0, sizeof guests);
    fails = NULL;
    ended = 0;
    world = (struct world){.options = &options, .guests = list, .n_guests = GUESTS};
    ck_assert_int_eq(loop_open(8, &world.loop, NULL), 0);
    for (size_t i = 0; i < GUESTS; i++) {
        specs[i] = (struct guest_spec){.depends_on = {deps[i], deps[i][0] != NULL}};
        guests[i] = (struct guest){.w = &world, .id = (uint32_t)i + 1, .name = (char *)names[i], .spec = &specs[i],
                                   .state = ST_RUNNING, .up = true};
        list[i] = &guests[i];
    }
}

static void tear_down(void)
{
    loop_close(world.loop);
    for (size_t i = 0; i < GUESTS; i++)
        free(guests[i].error);
    text_done(told);
    told = (struct text){0};
}

static void want(size_t i, enum job_verb verb, bool restart)
{
    struct job *j = job_new(&guests[i], verb);

    j->restart = restart;
    j->watcher = &watcher;
    if (verb != JOB_CONVERGE)
        guests[i].up = false;
    guests[i].removing = verb == JOB_REMOVE;
    job_submit(j);
}

static void look(void *arg)
{
    bool busy = false;

    for (size_t i = 0; i < world.n_guests; i++)
        busy |= world.guests[i]->job || world.guests[i]->next;
    if (busy)
        loop_timer_set(*(struct loop_timer **)arg, STEP_MS, 0);
    else
        loop_quit(world.loop);
}

/* A turn of the loop. */
static void spin(void)
{
    loop_post(world.loop, (void (*)(void *))loop_quit, world.loop);
    loop_run(world.loop, NULL);
    sleep_ms(1);
}

static const char *run(void)
{
    struct loop_timer *t = NULL;

    ck_assert_int_eq(loop_timer_new(world.loop, look, &t, &t, NULL), 0);
    loop_timer_set(t, 1, 0);
    ck_assert_int_eq(loop_run(world.loop, NULL), 0);
    loop_timer_free(t);
    return told.s ? told.s : "";
}

START_TEST(test_stop_in_reverse)
{
    for (size_t i = 0; i < GUESTS; i++)
        want(i, _i ? JOB_REMOVE : JOB_STOP, false);
    ck_assert_ptr_nonnull(strstr(run(), "-c"));
    ck_assert_ptr_nonnull(strstr(strstr(told.s, "-c"), "-b"));
    ck_assert_ptr_nonnull(strstr(strstr(told.s, "-b"), "-a"));
    ck_assert_uint_eq(ended, GUESTS);
}
END_TEST

/* Down from the top, up from the bottom; who is in neither is not waited for. */
START_TEST(test_restart)
{
    want(0, JOB_CONVERGE, true);
    want(1, JOB_CONVERGE, true);
    want(2, JOB_CONVERGE, true);
    ck_assert_str_eq(run(), "-c-b-a+a+b+c");
    ck_assert_uint_eq(ended, 3);
}
END_TEST

START_TEST(test_rebuild_of_one_below_a_stop)
{
    guests[0].rebuilding = true;
    want(0, JOB_CONVERGE, false);
    want(1, JOB_STOP, false);
    ck_assert_str_eq(run(), "-b-a+a");
}
END_TEST

START_TEST(test_dependents_that_stay_up_are_not_touched)
{
    want(0, JOB_CONVERGE, true);
    ck_assert_str_eq(run(), "-a+a");
    want(2, JOB_CONVERGE, true);
    ck_assert_str_eq(run(), "-a+a-c+c");
}
END_TEST

/* Nobody waits for a guest that is down already, or that waits for others without end. */
START_TEST(test_who_is_not_waited_for)
{
    struct job *j = job_new(&guests[1], JOB_CONVERGE);

    guests[2].state = ST_STOPPED;
    want(2, JOB_STOP, false);
    j->restart = j->patient = true;
    specs[1].depends_on = (struct spec_list){(const char *[]){"a", "d", NULL}, 2};
    guests[3].state = ST_FAILED; /* b waits for d, and nobody starts d */
    job_submit(j);
    want(0, JOB_STOP, false);
    while (guests[0].state == ST_RUNNING && !ended)
        spin();
    want(3, JOB_CONVERGE, false);
    want(0, JOB_CONVERGE, false);
    guests[0].up = true;
    run();
    ck_assert_ptr_nonnull(strstr(told.s, "-a"));
    ck_assert_ptr_nonnull(strstr(told.s, "+d"));
    ck_assert_ptr_nonnull(strstr(strstr(told.s, "+d"), "+b"));
}
END_TEST

/* Specs of different applies may go round: then there is no order, and no waiting for ever either. */
START_TEST(test_circle)
{
    specs[0].depends_on = (struct spec_list){(const char *[]){"c", NULL}, 1};
    for (size_t i = 0; i < 3; i++)
        want(i, JOB_STOP, false);
    ck_assert_uint_eq(strlen(run()), 6);
    ck_assert_uint_eq(ended, 3);
}
END_TEST

/* A million million ways lead from the top to the bottom, and each guest is looked at once. */
START_TEST(test_many_ways)
{
    enum { WIDE = 2, HIGH = 40, ALL = WIDE * HIGH };
    static struct guest many[ALL], *all[ALL];
    static struct guest_spec spec[ALL];
    static char names[ALL][4];
    static const char *level[HIGH][WIDE];

    world.guests = all;
    world.n_guests = ALL;
    for (size_t i = 0; i < ALL; i++) {
        size_t high = i / WIDE;

        snprintf(names[i], sizeof names[i], "%02zu", i);
        level[high][i % WIDE] = names[i];
        if (high)
            spec[i].depends_on = (struct spec_list){level[high - 1], WIDE};
        many[i] = (struct guest){.w = &world, .id = (uint32_t)i + 1, .name = names[i], .spec = &spec[i], .state = ST_STOPPED, .up = true};
        all[i] = &many[i];
    }
    for (size_t i = 0; i < ALL; i++) {
        struct job *j = job_new(&many[i], JOB_CONVERGE);

        j->watcher = &watcher;
        job_submit(j);
    }
    ck_assert_uint_eq(strlen(run()), ALL * strlen("+00"));
    ck_assert_uint_eq(ended, ALL);
}
END_TEST

/* What was taken down for the sake of order, and cannot start for what it depends on fails, comes back when that does. */
START_TEST(test_comes_back)
{
    fails = "a";
    want(0, JOB_CONVERGE, true);
    want(1, JOB_CONVERGE, true);
    for (int i = 0; i < 1000 && ended < 2; i++)
        spin();
    ck_assert_uint_eq(ended, 2);
    ck_assert_str_eq(told.s, "-b-a");
    ck_assert_ptr_nonnull(strstr(guests[1].error, "depends on 'a'"));
    fails = NULL;
    want(0, JOB_CONVERGE, false);
    ck_assert_str_eq(run(), "-b-a+a+b");
}
END_TEST

START_TEST(test_comes_back_though_asked_again)
{
    fails = "a";
    want(0, JOB_CONVERGE, true);
    want(1, JOB_CONVERGE, true);
    for (int i = 0; i < 1000 && !(guests[1].next && guests[1].next->halted); i++)
        spin();
    want(1, JOB_CONVERGE, true);
    for (int i = 0; i < 1000 && ended < 3; i++)
        spin();
    ck_assert_str_eq(told.s, "-b-a");
    fails = NULL;
    want(0, JOB_CONVERGE, false);
    ck_assert_str_eq(run(), "-b-a+a+b");
}
END_TEST

/* No job begins while a worker still finds out how its guest ended. */
START_TEST(test_ending)
{
    guests[3].ending = true;
    want(3, JOB_CONVERGE, true);
    for (int i = 0; i < 20; i++)
        spin();
    ck_assert_ptr_nonnull(guests[3].next);
    guests[3].ending = false;
    jobs_poke(&world);
    ck_assert_str_eq(run(), "-d+d");
}
END_TEST

static size_t place(const char *mark)
{
    const char *at = strstr(told.s, mark);

    ck_assert_msg(at, "no %s in %s", mark, told.s);
    return (size_t)(at - told.s);
}

/* The host goes down: all stop in order, the loop ends, and whoever would start one is not heard any more. */
START_TEST(test_leave)
{
    want(3, JOB_CONVERGE, true);
    ck_assert(leave(&world));
    ck_assert_int_eq(loop_run(world.loop, NULL), 0);
    ck_assert(place("-c") < place("-b") && place("-b") < place("-a"));
    place("-d");
    want(0, JOB_CONVERGE, false);
    for (int i = 0; i < 20; i++)
        spin();
    ck_assert_uint_eq(strlen(told.s), 8);
    loop_timer_free(world.leaving);
    world.leaving = NULL;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("queue");
    TCase *c = tcase_create("queue");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 20);
    tcase_add_loop_test(c, test_stop_in_reverse, 0, 2);
    tcase_add_test(c, test_restart);
    tcase_add_test(c, test_rebuild_of_one_below_a_stop);
    tcase_add_test(c, test_dependents_that_stay_up_are_not_touched);
    tcase_add_test(c, test_who_is_not_waited_for);
    tcase_add_test(c, test_circle);
    tcase_add_test(c, test_many_ways);
    tcase_add_test(c, test_comes_back);
    tcase_add_test(c, test_comes_back_though_asked_again);
    tcase_add_test(c, test_ending);
    tcase_add_test(c, test_leave);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
