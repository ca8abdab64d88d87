#include "../../supervisor/measures.h"
#include "../../supervisor/profile.h"
#include "stubs.h"

#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <turn.h>
#include <vmsd/clock.h>

static struct world world;
static atomic_int looks;
static atomic_bool hang, none;

json_t *profile_measures(void)
{
    looks++;
    while (hang)
        sleep_ms(5);
    return none ? NULL : json_pack("{si}", "look", looks);
}

/* A busy machine gets to it when it can. */
static void turn_until(bool (*there)(void))
{
    for (int i = 0; i < 500 && !there(); i++)
        turn(world.loop, 20);
}

static bool looked(void)
{
    return looks > 0;
}

static bool known(void)
{
    return measures_last(&world);
}

static void set_up(void)
{
    world = (struct world){0};
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    ck_assert_ptr_null(measures_last(&world));
    ck_assert_int_eq(measures_open(&world, NULL), 0);
}

static void tear_down(void)
{
    loop_drain(world.loop);
    measures_close(&world);
    measures_close(&world);
    ck_assert_ptr_null(measures_last(&world));
    loop_close(world.loop);
}

START_TEST(test_looked_at_once_it_starts)
{
    ck_assert_ptr_null(measures_last(&world));
    turn_until(known);
    ck_assert_int_eq(json_int(measures_last(&world), "look", 0), 1);
    ck_assert_int_eq(looks, 1); /* the next one is seconds away */
}
END_TEST

START_TEST(test_a_disk_that_hangs_holds_up_nothing_else)
{
    hang = true;
    turn_until(looked);
    turn(world.loop, 100); /* the loop turns, or the test ends by its time */
    ck_assert_int_eq(looks, 1);
    ck_assert_ptr_null(measures_last(&world));
    hang = false;
    turn_until(known);
    ck_assert_int_eq(json_int(measures_last(&world), "look", 0), 1);
}
END_TEST

START_TEST(test_not_known)
{
    none = true;
    turn_until(looked);
    turn(world.loop, 100);
    ck_assert_int_eq(looks, 1);
    ck_assert_ptr_null(measures_last(&world));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("measures");
    TCase *c = tcase_create("measures");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, test_looked_at_once_it_starts);
    tcase_add_test(c, test_a_disk_that_hangs_holds_up_nothing_else);
    tcase_add_test(c, test_not_known);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
