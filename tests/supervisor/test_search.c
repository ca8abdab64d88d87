/* Who runs a guest is asked of every driver, and nobody's silence is taken for a no. */
#include "stubs.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <turn.h>

enum { GUESTS = 5, AGAIN_MS = 5000 };

/* ---- drivers that say what the test says, by the guest's id ---- */

enum answer { NO, SILENT, HALF, YES };
static enum answer answers[2][GUESTS];

static int adopt(enum answer a, struct drv_proc *out, struct vm_err *e)
{
    if (a == NO)
        return vm_fail(e, VM_E_ABSENT, "not mine");
    if (a == SILENT)
        return vm_fail(e, VM_E_SYSTEM, "no file descriptor is left");
    *out = (struct drv_proc){.leader = 42, .phase = a == HALF ? DRV_STARTED : DRV_BOOTED};
    return 0;
}
static int adopt_first(uint32_t id, const char *run, struct drv_proc *out, struct vm_err *e)
{
    (void)run;
    return adopt(answers[0][id], out, e);
}
static int adopt_second(uint32_t id, const char *run, struct drv_proc *out, struct vm_err *e)
{
    (void)run;
    return adopt(answers[1][id], out, e);
}
static const struct vm_driver first = {.name = "first", .adopt = adopt_first}, second = {.name = "second", .adopt = adopt_second};

const struct vm_driver *const *drivers(void)
{
    static const struct vm_driver *const all[] = {&first, &second, NULL};

    return all;
}

/* ---- what search.c needs of the rest ---- */

static char story[GUESTS][64], removed[64];

bool guest_feed(struct guest *g, enum life_event ev, const char *why)
{
    (void)why;
    strcat(story[g->id], ev == EV_ADOPT ? "adopted " : ev == EV_DOWN ? "down " : "? ");
    g->state = ev == EV_ADOPT ? ST_RUNNING : ST_STOPPED;
    return true;
}
void guest_watch_keeper(struct guest *g) { strcat(story[g->id], "watched "); }
void guest_resume(struct guest *g) { strcat(story[g->id], g->cut ? "resumed-cut " : "resumed "); }
int net_link_remove(const char *name, struct vm_err *e)
{
    (void)e;
    strcat(strcat(removed, name), " ");
    return 0;
}

START_TEST(test_driver_find)
{
    static const struct { enum answer first, second; enum vm_errc code; const struct vm_driver *who; } cases[] = {
        {NO, NO, VM_E_ABSENT, NULL},         {YES, NO, VM_E_OK, &first},   {NO, HALF, VM_E_OK, &second},
        {SILENT, NO, VM_E_UNAVAILABLE, NULL}, {NO, SILENT, VM_E_UNAVAILABLE, NULL}, {SILENT, YES, VM_E_OK, &second},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        const struct vm_driver *who = NULL;
        struct drv_proc proc = {0};
        struct vm_err e = {0};

        answers[0][0] = cases[i].first;
        answers[1][0] = cases[i].second;
        ck_assert_int_eq(driver_find(0, "/nowhere", &who, &proc, &e), cases[i].code == VM_E_OK ? 0 : -1);
        ck_assert_int_eq(e.code, cases[i].code);
        ck_assert_ptr_eq(who, cases[i].who);
        ck_assert_int_eq(proc.leader, who ? 42 : 0);
        if (cases[i].code == VM_E_UNAVAILABLE)
            ck_assert_ptr_nonnull(strstr(e.text, "no file descriptor is left"));
    }
}
END_TEST

static void quit(void *loop)
{
    loop_quit(loop);
}

/* All at once, for it is asked after seconds: 0 runs, 1 ended, 2 was cut off in its start, 3 nobody can tell, 4 has a job. */
START_TEST(test_seek)
{
    static struct guest guests[GUESTS], *list[GUESTS];
    struct world world = {.guests = list, .n_guests = GUESTS};
    struct net_nic nic = {.ifname = "vms1-0"};
    struct loop_timer *t;

    ck_assert_int_eq(loop_open(2, &world.loop, NULL), 0);
    for (unsigned i = 0; i < GUESTS; i++) {
        list[i] = &guests[i];
        guests[i] = (struct guest){.w = &world, .id = i, .name = (char *)"db", .state = ST_UNKNOWN, .nics = &nic, .n_nics = i == 1};
        answers[0][i] = NO;
    }
    answers[1][0] = answers[1][4] = YES;
    answers[1][1] = NO;
    answers[1][2] = HALF;
    answers[1][3] = SILENT;
    for (unsigned i = 0; i < GUESTS; i++)
        guest_seek(&guests[i]);
    struct loop_timer *waits = guests[3].retry;
    guest_seek(&guests[3]); /* it is sought already */
    ck_assert_ptr_eq(guests[3].retry, waits);
    guests[4].job = (struct job *)&world;
    ck_assert_int_eq(loop_timer_new(world.loop, quit, world.loop, &t, NULL), 0);
    loop_timer_set(t, AGAIN_MS + 1500, 0);
    ck_assert_int_eq(loop_run(world.loop, NULL), 0);

    ck_assert_str_eq(story[0], "adopted watched resumed ");
    ck_assert_ptr_eq(guests[0].driver, &second);
    ck_assert_int_eq(guests[0].proc.leader, 42);
    ck_assert_str_eq(story[1], "down resumed ");
    ck_assert_str_eq(removed, "vms1-0 ");
    ck_assert_str_eq(story[2], "down resumed-cut ");
    ck_assert_str_eq(story[3], "");
    ck_assert_int_eq(guests[3].state, ST_UNKNOWN);
    ck_assert_ptr_nonnull(guests[3].retry);
    ck_assert_str_eq(story[4], "");
    ck_assert_ptr_null(guests[4].retry);
    loop_timer_free(guests[3].retry);
    loop_timer_free(t);
    loop_close(world.loop);
}
END_TEST

/* No thread is to be had for it, say. */
START_TEST(test_search_that_cannot_begin)
{
    struct guest guest = {.name = (char *)"db", .state = ST_UNKNOWN}, *list[] = {&guest};
    struct world world = {.guests = list, .n_guests = 1};

    guest.w = &world;
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    loop_drain(world.loop);
    guest_seek(&guest);
    turn(world.loop, AGAIN_MS + 1500);
    ck_assert_int_eq(guest.state, ST_UNKNOWN);
    ck_assert_ptr_nonnull(guest.retry);
    loop_timer_free(guest.retry);
    loop_close(world.loop);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("search");
    TCase *t = tcase_create("search");
    tcase_set_timeout(t, 30);
    tcase_add_test(t, test_driver_find);
    tcase_add_test(t, test_seek);
    tcase_add_test(t, test_search_that_cannot_begin);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
