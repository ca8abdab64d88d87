#include "../../supervisor/usage.h"
#include "stubs.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <turn.h>
#include <vmsd/clock.h>

/* ---- a host that measures what the test says ---- */

static struct drv_stats stats;
static bool stats_fail, disk_there;
static unsigned asked;

static int fake_stats(uint32_t id, const char *run_dir, const struct drv_proc *p, struct drv_stats *out, struct vm_err *e)
{
    ck_assert_uint_eq(id, 7);
    ck_assert_str_eq(run_dir, "/nowhere/7");
    ck_assert_uint_ne(p->keeper.start, 0);
    asked++;
    if (stats_fail)
        return vm_fail(e, VM_E_SYSTEM, "gone");
    *out = stats;
    return 0;
}
static const struct vm_driver driver = {.name = "fake", .stats = fake_stats};

int root_usage(struct image_store *s, uint32_t guest_id, uint64_t *bytes)
{
    (void)s, (void)guest_id;
    *bytes = 1 << 20;
    return disk_there ? 0 : -1;
}

int net_stats(const char *ifname, struct net_stats *out, struct vm_err *e)
{
    if (strcmp(ifname, "vms7-0") && strcmp(ifname, "vms7-1"))
        return vm_fail(e, VM_E_ABSENT, "no such interface");
    *out = (struct net_stats){1, 2, 3, 4, 5, 6};
    return 0;
}

static unsigned kept;
int store_put_samples(struct store *s, const struct store_sample *v, size_t n, struct vm_err *e)
{
    (void)s, (void)v, (void)n, (void)e;
    kept++;
    return 0;
}

/* ---- a world of one guest ---- */

static struct world world;
static struct guest_spec spec;
static struct guest guest, *guests[] = {&guest};
static struct net_nic nics[] = {{.ifname = "vms7-0"}, {.ifname = "vms7-1"}, {.ifname = "gone"}};

static void set_up(void)
{
    memset(&heard, 0, sizeof heard);
    memset(&world, 0, sizeof world);
    asked = 0;
    stats_fail = false;
    disk_there = true;
    stats = (struct drv_stats){.cpu_seconds = 10.014, .memory = 1 << 20, .memory_peak = UINT64_MAX, .pids = 3,
                               .memory_limit = 1 << 30, .pressure_cpu = NAN, .pressure_memory = 0, .pressure_io = 1.236};
    guest = (struct guest){.w = &world, .id = 7, .name = (char *)"db", .spec = &spec, .state = ST_RUNNING, .driver = &driver,
                           .proc.keeper.start = 99, .nics = nics, .n_nics = 3};
    world.guests = guests;
    world.n_guests = 1;
    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    ck_assert_int_eq(usage_open(&world, NULL), 0);
}

static void tear_down(void)
{
    loop_close(world.loop);
    usage_close(&world);
    usage_drop(&guest);
}

static void round_trip(void)
{
    usage_soon(&world);
    turn(world.loop, 400);
}

static json_t *at(json_t *o, const char *group, const char *key)
{
    json_t *v = json_object_get(group ? json_object_get(o, group) : o, key);

    ck_assert_msg(v != NULL, "%s", key);
    return v;
}

START_TEST(test_null_for_what_is_not_known)
{
    OWN(json) json_t *o = usage_json(&guest);
    const char *key;
    json_t *v;

    ck_assert_uint_eq(json_object_size(o), 12);
    json_object_foreach (o, key, v)
        ck_assert_msg(json_is_null(v) || json_is_object(v), "%s", key);
    ck_assert_uint_eq(json_object_size(json_object_get(o, "net")), 6);
    json_object_foreach (json_object_get(o, "net"), key, v)
        ck_assert(json_is_null(v));
}
END_TEST

START_TEST(test_a_round)
{
    OWN(json) json_t *o = NULL, *again = NULL;

    round_trip();
    o = usage_json(&guest);
    ck_assert_double_eq_tol(json_real_value(at(o, NULL, "cpu_seconds")), 10.01, 1e-9);
    ck_assert(json_is_null(at(o, NULL, "cpu_percent"))); /* takes two */
    ck_assert_int_eq(json_integer_value(at(o, NULL, "memory_bytes")), 1 << 20);
    ck_assert(json_is_null(at(o, NULL, "memory_peak_bytes")));
    ck_assert_int_eq(json_integer_value(at(o, NULL, "disk_bytes")), 1 << 20);
    ck_assert_int_eq(json_integer_value(at(o, "net", "tx_drops")), 12);
    ck_assert(json_is_null(at(o, "pressure", "cpu")));
    ck_assert_double_eq_tol(json_real_value(at(o, "pressure", "io")), 1.24, 1e-9);
    ck_assert_uint_ge(heard.dirty, 1);

    heard.dirty = 0;
    stats.cpu_seconds += 0.2;
    round_trip();
    again = usage_json(&guest);
    ck_assert_double_gt(json_real_value(at(again, NULL, "cpu_percent")), 1);
    ck_assert_uint_eq(heard.dirty, 1);
    disk_there = false;
    guest.state = ST_STOPPED;
    round_trip();
    json_decref(again);
    again = usage_json(&guest);
    ck_assert(json_is_null(at(again, NULL, "disk_bytes")));
    ck_assert(json_is_null(at(again, NULL, "cpu_seconds")));
}
END_TEST

START_TEST(test_nothing_visible_is_not_told)
{
    round_trip();
    round_trip(); /* cpu_percent becomes known */
    heard.dirty = 0;
    stats.memory += 1000;
    round_trip();
    ck_assert_uint_eq(heard.dirty, 0);
    for (int i = 0; i < 3; i++) { /* what creeps is told in the end */
        stats.memory += 100 << 10;
        round_trip();
    }
    ck_assert_uint_eq(heard.dirty, 1);
}
END_TEST

START_TEST(test_another_boot_is_another_count)
{
    OWN(json) json_t *o = NULL;

    round_trip();
    stats.cpu_seconds = 0.5;
    guest.proc.keeper.start = 100;
    o = usage_json(&guest);
    ck_assert(json_is_null(at(o, NULL, "cpu_seconds"))); /* of the boot before */
    round_trip();
    ck_assert(isnan(usage_last(&guest)->cpu_percent));
    ck_assert_double_eq(usage_last(&guest)->stats.cpu_seconds, 0.5);
    stats_fail = true;
    round_trip();
    ck_assert(isnan(usage_last(&guest)->stats.cpu_seconds));
    ck_assert_uint_eq(usage_last(&guest)->net.rx_bytes, 2);
}
END_TEST

START_TEST(test_percent)
{
    struct usage_sample a = {.at = 1000, .boot = 1, .stats.cpu_seconds = 5}, b = {.at = 3000, .boot = 1, .stats.cpu_seconds = 8};

    ck_assert_double_eq_tol(usage_cpu_percent(&a, &b), 150, 1e-9);
    ck_assert(isnan(usage_cpu_percent(&b, &a)));
    ck_assert(isnan(usage_cpu_percent(&a, &a)));
    ck_assert(isnan(usage_cpu_percent(&usage_unknown, &b)));
    b.stats.cpu_seconds = 4;
    ck_assert(isnan(usage_cpu_percent(&a, &b)));
    b.stats.cpu_seconds = NAN;
    ck_assert(isnan(usage_cpu_percent(&a, &b)));
}
END_TEST

START_TEST(test_what_a_guest_says_of_its_memory)
{
    static const char said[] = "memory_total=1000\nmemory_available=12x\nload1=0.5\nmemory_total=7\nuptime=\nlong=123456789012345678901234";
    uint64_t v = 0;

    ck_assert(inside_number(said, "memory_total", &v) && v == 1000);
    ck_assert(!inside_number(said, "memory_available", &v));
    ck_assert(!inside_number(said, "memory", &v));
    ck_assert(!inside_number(said, "uptime", &v));
    ck_assert(!inside_number(said, "long", &v));
    ck_assert(!inside_number("", "memory_total", &v));
    ck_assert_uint_eq(v, 1000);
}
END_TEST

START_TEST(test_guest_that_goes_meanwhile)
{
    usage_soon(&world);
    turn(world.loop, 150);
    world.n_guests = 0; /* the round may be under way, or begins without guests */
    turn(world.loop, 300);
    ck_assert_ptr_null(guest.usage);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("usage");
    TCase *c = tcase_create("usage");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 20);
    tcase_add_test(c, test_null_for_what_is_not_known);
    tcase_add_test(c, test_a_round);
    tcase_add_test(c, test_nothing_visible_is_not_told);
    tcase_add_test(c, test_another_boot_is_another_count);
    tcase_add_test(c, test_percent);
    tcase_add_test(c, test_what_a_guest_says_of_its_memory);
    tcase_add_test(c, test_guest_that_goes_meanwhile);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
