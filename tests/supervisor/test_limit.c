/* Limits that held a guest: what the kernel counts of it, and what is told. */
#include "../../supervisor/usage.h"
#include "stubs.h"

#include <check.h>
#include <math.h>
#include <string.h>

static struct guest_spec spec = {
    .cpus = 0.5, .memory = 128 << 20, .limits = {.pids = 100, .io_read = 1 << 20, .io_write = 2 << 20}};
static struct world world = {.started_at = 1000};
static struct guest guest = {.w = &world, .name = (char *)"db", .spec = &spec};
static struct limits_seen seen;
static struct usage_sample before, now;

const struct usage_sample usage_unknown = {.inside_kills = UINT64_MAX,
    .stats = {.io_read = UINT64_MAX, .io_write = UINT64_MAX, .memory_kills = UINT64_MAX, .pids_refused = UINT64_MAX,
              .cpu_held_seconds = NAN}};

static void set_up(void)
{
    memset(&heard, 0, sizeof heard);
    memset(&seen, 0, sizeof seen);
    guest.started_at = 2000;
    before = usage_unknown;
    now = (struct usage_sample){.at = 100000, .boot = 7, .inside_kills = UINT64_MAX};
}

/* Ten seconds later, with the counters that the test says. */
static void look(void)
{
    limits_look(&guest, &seen, &before, &now);
    before = now;
    now.at += 10000;
}

START_TEST(test_D17_memory)
{
    look();
    ck_assert_uint_eq(heard.events, 0);
    now.stats.memory_kills = 1;
    look();
    ck_assert_uint_eq(heard.events, 1);
    ck_assert_str_eq(heard.event, "memory: more than 128M was wanted, so the kernel killed a process");
}
END_TEST

START_TEST(test_D17_memory_of_a_kernel_of_its_own)
{
    look(); /* its agent has not answered yet */
    now.inside_kills = 2;
    look();
    ck_assert_uint_eq(heard.events, 1);
    now.inside_kills = UINT64_MAX;
    look();
    now.inside_kills = 2;
    look();
    ck_assert_uint_eq(heard.events, 1);
}
END_TEST

START_TEST(test_D17_pids)
{
    now.stats.pids = 99;
    look();
    ck_assert_uint_eq(heard.events, 0);
    now.stats.pids_refused = 34;
    look();
    ck_assert_uint_eq(heard.events, 1);
    ck_assert_str_eq(heard.event, "limits.pids: it has 100 processes and threads, and may start no more");
    now.at += 60000;
    now.stats.pids = 100; /* a kernel that does not count them tells nothing more than this */
    look();
    ck_assert_uint_eq(heard.events, 2);
}
END_TEST

START_TEST(test_D17_cpus)
{
    now.stats.cpu_held_seconds = 3;
    look();
    now.stats.cpu_held_seconds += 4.9;
    look();
    ck_assert_uint_eq(heard.events, 0);
    now.stats.cpu_held_seconds += 5;
    look();
    ck_assert_uint_eq(heard.events, 1);
    ck_assert_str_eq(heard.event, "cpus: held to 0.5");
}
END_TEST

START_TEST(test_D17_io)
{
    now.stats.io_write = 1 << 30;
    look();
    now.stats.io_write += 17 << 20;
    look();
    ck_assert_uint_eq(heard.events, 0);
    now.stats.io_write += 18 << 20;
    look();
    ck_assert_uint_eq(heard.events, 1);
    ck_assert_str_eq(heard.event, "limits.io.write: held to 2.0M a second");
    now.stats.io_read += 9500 << 10;
    look();
    ck_assert_str_eq(heard.event, "limits.io.read: held to 1.0M a second");
    now.at -= 6000; /* a burst is no rate */
    now.stats.io_read += 100 << 20;
    look();
    ck_assert_uint_eq(heard.events, 2);
}
END_TEST

START_TEST(test_what_is_not_limited)
{
    static struct guest_spec free_of_limits = {.memory = 1 << 20};

    guest.spec = &free_of_limits;
    look();
    now.stats.pids = 5000;
    now.stats.io_read = now.stats.io_write = (uint64_t)1 << 40;
    look();
    guest.spec = &spec;
    ck_assert_uint_eq(heard.events, 0);
}
END_TEST

START_TEST(test_what_goes_on_is_told_once)
{
    for (int i = 0; i < 20; i++) {
        now.stats.memory_kills++;
        look();
    }
    ck_assert_uint_eq(heard.events, 1);
    for (int i = 0; i < 6; i++)
        look();
    now.stats.memory_kills++;
    look();
    ck_assert_uint_eq(heard.events, 2);
}
END_TEST

START_TEST(test_a_guest_that_was_running_before)
{
    guest.started_at = 500;
    now.stats.memory_kills = 3;
    now.stats.pids_refused = 9;
    now.stats.pids = 1;
    look();
    ck_assert_uint_eq(heard.events, 0);
    now.stats.memory_kills++;
    look();
    ck_assert_uint_eq(heard.events, 1);
}
END_TEST

START_TEST(test_another_boot_counts_anew)
{
    now.stats.memory_kills = 5;
    look();
    ck_assert_uint_eq(heard.events, 1);
    now.boot = 8;
    now.stats.memory_kills = 1;
    look();
    ck_assert_uint_eq(heard.events, 2);
    now = usage_unknown; /* and while it is down nothing counts */
    look();
    ck_assert_uint_eq(heard.events, 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("limit");
    TCase *c = tcase_create("limit");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, NULL);
    tcase_add_test(c, test_D17_memory);
    tcase_add_test(c, test_D17_memory_of_a_kernel_of_its_own);
    tcase_add_test(c, test_D17_pids);
    tcase_add_test(c, test_D17_cpus);
    tcase_add_test(c, test_D17_io);
    tcase_add_test(c, test_what_is_not_limited);
    tcase_add_test(c, test_what_goes_on_is_told_once);
    tcase_add_test(c, test_a_guest_that_was_running_before);
    tcase_add_test(c, test_another_boot_counts_anew);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
