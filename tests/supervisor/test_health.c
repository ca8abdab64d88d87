#include "../../supervisor/health.h"
#include "../../supervisor/probe.h"
#include "stubs.h"

#include <check.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <turn.h>
#include <vmsd/clock.h>

/* ---- probes that pass, fail or hang as the test says ---- */

struct probe {
    struct loop_timer *timer;
    probe_done_fn *done;
    void *arg;
    uint16_t port;
};
enum { PORTS = 8 };
static struct { enum outcome outcome; bool hang, broken; unsigned begun, open; char address[NET_ADDR]; const char *says; } port[PORTS];
static unsigned cancelled;
static bool agent_there;

static void probe_free(struct probe *p)
{
    port[p->port].open--;
    loop_timer_free(p->timer);
    free(p);
}

static void answer(void *arg)
{
    struct probe *p = arg;
    probe_done_fn *done = p->done;
    void *whose = p->arg;
    enum outcome o = port[p->port].outcome;
    const char *says = port[p->port].says;
    struct probe_said said = {says, says ? strlen(says) : 0};

    probe_free(p);
    done(o, o == OUTCOME_PASSED ? "" : "Connection refused", says ? &said : NULL, whose);
}

int probe_start(const struct probe_target *at, const struct spec_check *c, probe_done_fn *done, void *arg,
                struct probe **out, struct vm_err *e)
{
    struct probe *p;

    port[c->port].begun++;
    if (port[c->port].broken)
        return vm_fail(e, VM_E_SYSTEM, "no more file descriptors");
    ck_assert_uint_eq(port[c->port].open++, 0); /* a check never overlaps itself */
    strcpy(port[c->port].address, at->address);
    ck_assert_uint_eq(at->env->n, c->kind == CHECK_EXEC ? 3 : 0); /* where secrets are, VMS_NAME, COLOUR */
    p = calloc(1, sizeof *p);
    *p = (struct probe){.done = done, .arg = arg, .port = c->port};
    ck_assert_int_eq(loop_timer_new(at->loop, answer, p, &p->timer, NULL), 0);
    if (!port[c->port].hang)
        loop_timer_set(p->timer, 1, 0);
    *out = p;
    return 0;
}

void probe_cancel(struct probe *p)
{
    if (!p)
        return;
    cancelled++;
    probe_free(p);
}

bool agent_is_up(const struct agent *a)
{
    (void)a;
    return agent_there;
}

const struct network_spec *world_network(struct world *w, const char *name)
{
    (void)w, (void)name;
    return NULL;
}

void usage_soon(struct world *w)
{
    (void)w;
}

static char story[64]; /* s, h, u: what the guest became */
static char last_why[300];

void guest_health_changed(struct guest *g, enum health_state now, const char *why)
{
    ck_assert_int_eq(health_of(g), now);
    strncat(story, (const char *[]){"n", "s", "h", "u"}[now], sizeof story - strlen(story) - 1);
    snprintf(last_why, sizeof last_why, "%s", why ? why : "");
}

/* ---- a guest ---- */

static struct world world;
static struct guest guest;
static struct guest_spec spec;
static struct net_nic nic;
static struct spec_check checks[PORTS];

static struct spec_check tcp(uint16_t n)
{
    return (struct spec_check){
        .kind = CHECK_TCP, .port = n, .every_ms = 100, .timeout_ms = 50, .failures = 2, .successes = 1};
}

static void set_up(void)
{
    memset(port, 0, sizeof port);
    memset(&guest, 0, sizeof guest);
    memset(&world, 0, sizeof world);
    story[0] = '\0';
    cancelled = 0;
    agent_there = true;
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    strcpy(nic.address, "10.0.0.2");
    strcpy(nic.address6, "fd00::2");
    spec = (struct guest_spec){.health = checks};
    guest = (struct guest){.w = &world, .name = (char *)"db", .spec = &spec, .nics = &nic, .n_nics = 1,
                           .state = ST_RUNNING};
}

static void tear_down(void)
{
    health_stop(&guest);
    ck_assert_int_eq(health_of(&guest), guest_is_up(&guest) ? HEALTH_STARTING : HEALTH_NONE);
    loop_close(world.loop);
    for (int i = 0; i < PORTS; i++)
        ck_assert_uint_eq(port[i].open, 0);
}

static void with(size_t n)
{
    spec.n_health = n;
    for (size_t i = 0; i < n; i++)
        checks[i] = tcp((uint16_t)(i + 1));
}

START_TEST(test_none_while_it_is_down)
{
    guest.state = ST_STOPPED;
    ck_assert_int_eq(health_of(&guest), HEALTH_NONE);
    guest.state = ST_RUNNING;
    ck_assert_int_eq(health_of(&guest), HEALTH_STARTING); /* its scripts run */
    health_stop(&guest);
}
END_TEST

START_TEST(test_agent_alone_is_healthy_at_once)
{
    health_start(&guest);
    ck_assert_str_eq(story, "h");
    ck_assert_int_eq(health_of(&guest), HEALTH_HEALTHY);
    health_start(&guest);
    ck_assert_str_eq(story, "h"); /* told once */
    guest.state = ST_STOPPED;
    ck_assert_int_eq(health_of(&guest), HEALTH_NONE);
}
END_TEST

START_TEST(test_healthy_when_all_pass)
{
    with(2);
    checks[1].start_period_ms = 60000;
    port[2].outcome = OUTCOME_FAILED;
    health_start(&guest);
    ck_assert_str_eq(story, "");
    turn(world.loop, 1300);
    ck_assert_str_eq(story, "");
    ck_assert_int_eq(health_of(&guest), HEALTH_STARTING);
    ck_assert_uint_ge(port[2].begun, 3); /* eager while it starts */
    port[2].outcome = OUTCOME_PASSED;
    turn(world.loop, 300);
    ck_assert_str_eq(story, "h");
    ck_assert_str_eq(port[1].address, "10.0.0.2");
}
END_TEST

START_TEST(test_unhealthy_at_the_threshold_and_back)
{
    with(1);
    health_start(&guest);
    turn(world.loop, 800);
    ck_assert_str_eq(story, "h");
    port[1].outcome = OUTCOME_FAILED;
    turn(world.loop, 500);
    ck_assert_str_eq(story, "hu");
    ck_assert_str_eq(last_why, "tcp 1: Connection refused");
    port[1].outcome = OUTCOME_PASSED;
    turn(world.loop, 300);
    ck_assert_str_eq(story, "huh");
}
END_TEST

START_TEST(test_a_job_at_work_excuses)
{
    struct job job = {.began = 0};

    with(1);
    guest.job = &job; /* the one that ends with health_start: it waits for health */
    health_start(&guest);
    turn(world.loop, 800);
    ck_assert_str_eq(story, "h");
    job.began = now_ms(); /* another one: its scripts restart things */
    port[1].outcome = OUTCOME_FAILED;
    turn(world.loop, 800);
    ck_assert_str_eq(story, "h");
    guest.job = NULL;
    turn(world.loop, 500);
    ck_assert_str_eq(story, "hu");
    story[0] = '\0';
    job.began = 0;
    guest.job = &job;
    port[1].outcome = OUTCOME_PASSED;
    turn(world.loop, 300);
    ck_assert_str_eq(story, "h");
    port[1].outcome = OUTCOME_FAILED;
    turn(world.loop, 500);
    ck_assert_str_eq(story, "hu");
}
END_TEST

START_TEST(test_hanging_ones_never_overlap)
{
    with(2);
    port[1].hang = true;
    health_start(&guest);
    turn(world.loop, 1300);
    ck_assert_uint_eq(port[1].begun, 1);
    ck_assert_uint_ge(port[2].begun, 3);
    health_stop(&guest);
    ck_assert_uint_ge(cancelled, 1);
}
END_TEST

START_TEST(test_the_host_s_own_trouble_is_not_the_guest_s)
{
    with(1);
    health_start(&guest);
    turn(world.loop, 800);
    port[1].broken = true;
    turn(world.loop, 800);
    ck_assert_str_eq(story, "h");
}
END_TEST

START_TEST(test_without_agent_exec_waits)
{
    static const char *argv[] = {"true", NULL}, *env[] = {"COLOUR=blue"};

    spec.name = "db";
    spec.env = (struct spec_list){env, 1};
    spec.n_health = 1;
    checks[0] = tcp(3);
    checks[0].kind = CHECK_EXEC;
    checks[0].exec = (struct spec_list){argv, 1};
    agent_there = false;
    health_start(&guest);
    turn(world.loop, 1300);
    ck_assert_str_eq(story, "");
    ck_assert_uint_eq(port[3].begun, 0);
    agent_there = true;
    turn(world.loop, 1300); /* the agent is looked at every second while the guest starts */
    ck_assert_str_eq(story, "h");
}
END_TEST

START_TEST(test_without_address)
{
    with(1);
    nic.address[0] = '\0';
    health_start(&guest);
    turn(world.loop, 800);
    ck_assert_str_eq(port[1].address, "fd00::2");
    ck_assert_str_eq(story, "h");
    guest.n_nics = 0;
    turn(world.loop, 500);
    ck_assert_str_eq(story, "hu");
    ck_assert_str_eq(last_why, "tcp 1: the guest has no address");
}
END_TEST

/* What a changed spec leaves as it was goes on as it was. */
START_TEST(test_results_survive_a_new_spec)
{
    OWN(json) json_t *before = NULL, *after = NULL;

    with(2);
    port[2].hang = true;
    health_start(&guest);
    turn(world.loop, 800);
    ck_assert_str_eq(story, "");
    before = health_json(&guest);
    ck_assert_str_eq(json_str(json_array_get(before, 1), "state", ""), "ok");
    checks[0] = tcp(3); /* in place of tcp 1 … */
    checks[1] = tcp(1); /* … which is second now */
    port[3].hang = true;
    health_start(&guest);
    memset(checks, 0xa5, sizeof checks); /* the spec may go */
    after = health_json(&guest);
    ck_assert_str_eq(json_str(json_array_get(after, 1), "check", ""), "tcp 3");
    ck_assert_str_eq(json_str(json_array_get(after, 1), "state", ""), "waiting");
    ck_assert_str_eq(json_str(json_array_get(after, 2), "state", ""), "ok");
    ck_assert_str_eq(json_str(json_array_get(after, 2), "since", "x"), json_str(json_array_get(before, 1), "since", "y"));
    ck_assert_uint_eq(port[2].open, 0);
    turn(world.loop, 300);
}
END_TEST

START_TEST(test_shown_as_the_api_says)
{
    static const char *argv[] = {"pg_isready", "-q\x1b[31m", NULL};
    OWN(json) json_t *list = NULL;
    static const char *const names[] = {"agent", "tcp 1", "http :80/health", "exec pg_isready -q\\x1B[31m", "units"};
    static const char *const keys[] = {"check", "state", "since", "last_at", "duration", "failures", "message", "numbers"};

    with(4);
    checks[1] = (struct spec_check){.kind = CHECK_HTTP, .port = 80, .path = "/health", .every_ms = 1000};
    checks[2] = (struct spec_check){.kind = CHECK_EXEC, .exec = {argv, 2}, .every_ms = 1000};
    checks[3] = (struct spec_check){.kind = CHECK_UNITS, .every_ms = 1000};
    health_start(&guest);
    list = health_json(&guest);
    ck_assert_uint_eq(json_array_size(list), 5);
    for (size_t i = 0; i < 5; i++) {
        const json_t *c = json_array_get(list, i);

        ck_assert_str_eq(json_str(c, "check", ""), names[i]);
        ck_assert_str_eq(json_str(c, "state", ""), i ? "waiting" : "ok");
        ck_assert_uint_eq(json_object_size(c), ARRAY_LEN(keys));
        for (size_t k = 0; k < ARRAY_LEN(keys); k++)
            ck_assert_msg(json_object_get(c, keys[k]) != NULL, "%s", keys[k]);
    }
    ck_assert(json_is_null(json_object_get(json_array_get(list, 1), "last_at")));
    ck_assert_int_eq(strlen(json_str(json_array_get(list, 0), "last_at", "")), 24);
}
END_TEST

static const json_t *numbers_of(const json_t *list, size_t check)
{
    return json_object_get(json_array_get(list, check), "numbers");
}

static double first_of(const json_t *list, size_t check)
{
    return json_num(json_array_get(numbers_of(list, check), 0), "value", -1);
}

/* A check has the numbers of its last result, those that it asked for; what they say and how is nothing to its health. */
START_TEST(test_numbers)
{
    static const char *some[] = {"queue"};
    OWN(json) json_t *good = NULL, *bad = NULL, *ill = NULL, *later = NULL;

    with(2);
    checks[0].numbers = (struct spec_list){some, 1};
    port[1].says = "queue 5\nother 6\n";
    health_start(&guest);
    turn(world.loop, 800);
    good = health_json(&guest);
    ck_assert(json_is_null(numbers_of(good, 0)));
    ck_assert_uint_eq(json_array_size(numbers_of(good, 1)), 1);
    ck_assert(first_of(good, 1) == 5);
    ck_assert_str_eq(json_str(json_array_get(good, 1), "message", ""), "1 number");
    ck_assert(json_is_null(numbers_of(good, 2)));

    port[1].says = "queue 6\nqueue of bread\n";
    turn(world.loop, 400);
    bad = health_json(&guest);
    ck_assert_str_eq(story, "h");
    ck_assert(first_of(bad, 1) == 6);
    ck_assert_str_eq(json_str(json_array_get(bad, 1), "message", ""), "1 number; line 2 is left out: its value is not a number");

    port[1].says = "queue 7\n";
    port[1].outcome = OUTCOME_FAILED;
    turn(world.loop, 800);
    ill = health_json(&guest);
    ck_assert_str_eq(story, "hu");
    ck_assert(first_of(ill, 1) == 7);
    ck_assert_str_eq(last_why, "tcp 1: Connection refused");

    checks[1] = tcp(3); /* another one changes: its numbers stay … */
    port[1].hang = true;
    health_start(&guest);
    later = health_json(&guest);
    ck_assert(first_of(later, 1) == 7);
    some[0] = "age"; /* … but not if others are wanted now; each has its own copy of what was */
    health_start(&guest);
    json_decref(later);
    later = health_json(&guest);
    ck_assert_uint_eq(json_array_size(numbers_of(later, 1)), 0);
}
END_TEST

/* No two checks have the same name, so that series in metrics are never the same. */
START_TEST(test_names_are_unique)
{
    static const char *const want[] = {"agent", "tcp 1", "tcp 1 #2", "tcp 2", "tcp 1 #3"};
    struct health_view c;
    size_t i;

    with(4);
    checks[0] = checks[1] = checks[3] = tcp(1);
    checks[2] = tcp(2);
    health_start(&guest);
    for (i = 0; health_look(&guest, i, &c); i++)
        ck_assert_str_eq(c.name, want[i]);
    ck_assert_uint_eq(i, ARRAY_LEN(want));
    ck_assert(!health_look(&guest, 99, &c));
}
END_TEST

#ifndef __SANITIZE_ADDRESS__
START_TEST(test_memory_of_a_guest)
{
    size_t before = mallinfo2().uordblks;

    with(PORTS - 1);
    health_start(&guest);
    turn(world.loop, 800);
    ck_assert_uint_lt(mallinfo2().uordblks - before, 8192);
}
END_TEST
#endif

int main(void)
{
    Suite *s = suite_create("health");
    TCase *c = tcase_create("health");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 20);
    tcase_add_test(c, test_none_while_it_is_down);
    tcase_add_test(c, test_agent_alone_is_healthy_at_once);
    tcase_add_test(c, test_healthy_when_all_pass);
    tcase_add_test(c, test_unhealthy_at_the_threshold_and_back);
    tcase_add_test(c, test_a_job_at_work_excuses);
    tcase_add_test(c, test_hanging_ones_never_overlap);
    tcase_add_test(c, test_the_host_s_own_trouble_is_not_the_guest_s);
    tcase_add_test(c, test_without_agent_exec_waits);
    tcase_add_test(c, test_without_address);
    tcase_add_test(c, test_results_survive_a_new_spec);
    tcase_add_test(c, test_shown_as_the_api_says);
    tcase_add_test(c, test_numbers);
    tcase_add_test(c, test_names_are_unique);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(c, test_memory_of_a_guest);
#endif
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
