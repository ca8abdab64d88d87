#include "../../supervisor/profile.h"

#include <check.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static json_t *one(json_t *list, size_t i)
{
    ck_assert_uint_lt(i, json_array_size(list));
    return json_array_get(list, i);
}

START_TEST(test_md)
{
    OWN(json) json_t *list = profile_md("Personalities : [raid1] [raid6] [raid5] [raid4]\n"
                                        "md1 : active raid5 sdd1[3] sdc1[1](F) sdb1[0]\n"
                                        "      1953262592 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [U_U]\n"
                                        "      [=>...................]  recovery =  8.5% (83 / 976) finish=71.3min\n\n"
                                        "md0 : active raid1 sda1[0] sdb2[1]\n"
                                        "      976630464 blocks super 1.2 [2/2] [UU]\n"
                                        "      bitmap: 1/8 pages [4KB], 65536KB chunk\n\n"
                                        "md2 : inactive sde1[0](S)\n      976 blocks super 1.2\n\n"
                                        "unused devices: <none>\n");

    ck_assert_uint_eq(json_array_size(list), 3);
    ck_assert_str_eq(json_str(one(list, 0), "name", ""), "md1");
    ck_assert_str_eq(json_str(one(list, 0), "level", ""), "raid5");
    ck_assert_int_eq(json_int(one(list, 0), "disks", 0), 3);
    ck_assert_int_eq(json_int(one(list, 0), "working", 0), 2);
    ck_assert(json_flag(one(list, 0), "degraded", false));
    ck_assert(!json_flag(one(list, 1), "degraded", true));
    ck_assert_str_eq(json_str(one(list, 2), "state", ""), "inactive");
    ck_assert(json_flag(one(list, 2), "degraded", false));
    ck_assert(json_is_null(json_object_get(one(list, 2), "disks")));
}
END_TEST

START_TEST(test_md_without_arrays)
{
    static const char *const texts[] = {"", "Personalities : \nunused devices: <none>\n", "md", "md0", "md0 :", "\n\n"};
    OWN(json) json_t *list = profile_md(texts[_i]);

    ck_assert_uint_eq(json_array_size(list), 0);
}
END_TEST

START_TEST(test_zpools)
{
    OWN(json) json_t *list = profile_zpools("tank\tONLINE\t1000\t10\nold\tDEGRADED\t5\t4\nrubbish\n");

    ck_assert_uint_eq(json_array_size(list), 2);
    ck_assert(!json_flag(one(list, 0), "degraded", true));
    ck_assert_int_eq(json_int(one(list, 0), "used_bytes", 0), 10);
    ck_assert(json_flag(one(list, 1), "degraded", false));
    ck_assert_str_eq(json_str(one(list, 1), "state", ""), "DEGRADED");
}
END_TEST

static json_t *drive(const char *said)
{
    return profile_drive("/dev/sda", said, strlen(said));
}

START_TEST(test_drives)
{
    OWN(json) json_t *well = drive("{\"model_name\": \"X\", \"smart_status\": {\"passed\": true}, \"temperature\": {\"current\": 31},"
                                   " \"power_on_time\": {\"hours\": 9000}}");
    OWN(json) json_t *ill = drive("{\"smart_status\": {\"passed\": false}}");
    OWN(json) json_t *dumb = drive("{\"smartctl\": {\"messages\": [{\"string\": \"Unable to detect device type\"}]}}");
    OWN(json) json_t *rubbish = drive("smartctl: not found");

    ck_assert(json_is_true(json_object_get(well, "healthy")));
    ck_assert_int_eq(json_int(well, "celsius", 0), 31);
    ck_assert_int_eq(json_int(well, "hours", 0), 9000);
    ck_assert(json_is_null(json_object_get(well, "why")));
    ck_assert(json_is_false(json_object_get(ill, "healthy")));
    ck_assert(json_is_null(json_object_get(ill, "celsius")));
    ck_assert(json_is_null(json_object_get(dumb, "healthy")));
    ck_assert_str_eq(json_str(dumb, "why", ""), "Unable to detect device type");
    ck_assert_str_eq(json_str(rubbish, "why", ""), "it does not say how it is");
}
END_TEST

START_TEST(test_os_release)
{
    OWN(json) json_t *os = profile_os_release("NAME=Debian\nPRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\nID=debian");
    OWN(json) json_t *none = profile_os_release("");

    ck_assert_str_eq(json_str(os, "name", ""), "Debian GNU/Linux 12 (bookworm)");
    ck_assert_str_eq(json_str(os, "version", ""), "12");
    ck_assert_str_eq(json_str(os, "id", ""), "debian");
    ck_assert(json_is_null(json_object_get(none, "name")));
}
END_TEST

START_TEST(test_pressure)
{
    OWN(json) json_t *some = profile_pressure("some avg10=1.50 avg60=0 avg300=0 total=1\nfull avg10=9 avg60=0 avg300=0 total=0\n");
    OWN(json) json_t *none = profile_pressure(NULL), *other = profile_pressure("some avg10=nan");

    ck_assert(json_number_value(some) > 1.4 && json_number_value(some) < 1.6);
    ck_assert(json_is_null(none) && json_is_null(other));
}
END_TEST

/* Of this machine: what is not known has its reason. */
START_TEST(test_all_of_it)
{
    static const char *const lists[] = {"md", "btrfs", "zfs", "smart"};
    OWN(json) json_t *p = profile_json(NULL);

    ck_assert(json_int(json_object_get(p, "memory"), "total_bytes", 0) > 0);
    ck_assert(json_int(json_object_get(p, "cpu"), "count", 0) > 0);
    ck_assert_uint_gt(json_array_size(json_object_get(p, "file_systems")), 0);
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        char why[16];

        snprintf(why, sizeof why, "%s_why", lists[i]);
        ck_assert_msg(json_is_array(json_object_get(p, lists[i])) != (json_str(p, why, NULL) != NULL), "%s", lists[i]);
    }
}
END_TEST

START_TEST(test_measures)
{
    OWN(json) json_t *m = profile_measures();
    const json_t *load = json_object_get(m, "load"), *memory = json_object_get(m, "memory");

    ck_assert(json_num(load, "1m", -1) >= 0 && json_num(load, "5m", -1) >= 0 && json_num(load, "15m", -1) >= 0);
    ck_assert_int_gt(json_int(memory, "total_bytes", 0), json_int(memory, "available_bytes", INT64_MAX));
    ck_assert(json_is_object(json_object_get(m, "pressure")) && json_is_array(json_object_get(m, "file_systems")));
}
END_TEST

/* In a mount namespace of its own: who is mounted below another cannot be asked. */
START_TEST(test_one_place_is_told_once)
{
    char dir[] = "/tmp/vmsd-profile-XXXXXX";
    unsigned times = 0;
    json_t *fs;
    size_t i;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
    ck_assert(mount("/dev/one", dir, "tmpfs", 0, "size=64k") == 0 && mount("/dev/two", dir, "tmpfs", 0, "size=64k") == 0);

    OWN(json) json_t *all = profile_file_systems();
    json_array_foreach(all, i, fs)
        times += !strcmp(json_str(fs, "target", ""), dir);
    ck_assert_uint_eq(times, 1);
    ck_assert(umount(dir) == 0 && umount(dir) == 0 && rmdir(dir) == 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("profile");
    TCase *t = tcase_create("profile");
    tcase_add_test(t, test_md);
    tcase_add_loop_test(t, test_md_without_arrays, 0, 6);
    tcase_add_test(t, test_zpools);
    tcase_add_test(t, test_drives);
    tcase_add_test(t, test_os_release);
    tcase_add_test(t, test_pressure);
    tcase_add_test(t, test_all_of_it);
    tcase_add_test(t, test_measures);
    tcase_add_test(t, test_one_place_is_told_once);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
