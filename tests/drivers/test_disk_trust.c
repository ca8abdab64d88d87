/* drivers/disk_trust.c: a volume that a microVM had, before a container gets it. */
#include "trial.h"

#include "../../drivers/disk_trust.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/starter.h>

enum { GUEST = 6553600, SUPERBLOCK = 1024, GROUPS = 4096, CHECK_MS = 20000 };

static char path[40];
static int fd = -1;
static struct vm_err e;

static char *const starter[] = {STARTER_PROGRAM, NULL};

static void make(void)
{
    char *const mkfs[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", path, NULL};

    starter_place((struct starter_place){.argv = starter});
    snprintf(path, sizeof path, "/var/tmp/vmsd-trust-XXXXXX");
    ck_assert((fd = mkostemp(path, O_CLOEXEC)) >= 0);
    ck_assert(ftruncate(fd, 64 << 20) == 0);
    ck_assert_msg(child_must(mkfs, deadline_in(CHECK_MS), NULL, &e) == 0, "%s", e.text);
    ck_assert(fchown(fd, GUEST, GUEST) == 0 && fchmod(fd, 0600) == 0);
}

static void drop(void)
{
    close(fd);
    unlink(path);
}

static uid_t owner(void)
{
    struct stat st;

    ck_assert(fstat(fd, &st) == 0);
    return st.st_uid;
}

static void damage(off_t at, size_t n)
{
    char rubbish[4096];

    memset(rubbish, 0xa5, sizeof rubbish);
    ck_assert(pwrite(fd, rubbish, n, at) == (ssize_t)n);
}

START_TEST(test_H8_whole_disk_becomes_root_s)
{
    ck_assert_msg(disk_trust(fd, path, deadline_in(CHECK_MS), &e) == 0, "%s", e.text);
    ck_assert_uint_eq(owner(), 0);
}
END_TEST

START_TEST(test_H8_damage_of_a_guest_is_not_mounted)
{
    damage(GROUPS, 4096); /* descriptors of the groups: where they send the kernel is the guest's to say */
    damage(SUPERBLOCK + 0x28, 8);
    ck_assert_int_eq(disk_trust(fd, path, deadline_in(CHECK_MS), &e), -1);
    ck_assert_int_eq(e.code, VM_E_CONFLICT);
    ck_assert_msg(strstr(e.text, path) && strstr(e.text, "e2fsck"), "%s", e.text);
    ck_assert_uint_eq(owner(), GUEST); /* so it is looked at again */
}
END_TEST

START_TEST(test_H8_no_file_system_at_all)
{
    ck_assert(ftruncate(fd, 0) == 0 && ftruncate(fd, 64 << 20) == 0);
    ck_assert_int_eq(disk_trust(fd, path, deadline_in(CHECK_MS), &e), -1);
    ck_assert_uint_eq(owner(), GUEST);
}
END_TEST

/* What only the host wrote is not read again at each start. */
START_TEST(test_disk_of_root_is_taken_as_it_is)
{
    damage(GROUPS, 4096);
    ck_assert(fchown(fd, 0, 0) == 0);
    ck_assert_msg(disk_trust(fd, path, deadline_in(CHECK_MS), &e) == 0, "%s", e.text);
}
END_TEST

START_TEST(test_no_time_for_it)
{
    ck_assert_int_eq(disk_trust(fd, path, deadline_in(0), &e), -1);
    ck_assert_int_eq(e.code, VM_E_TIMEOUT);
    ck_assert_msg(strstr(e.text, "e2fsck -fp") != NULL, "%s", e.text);
    ck_assert_uint_eq(owner(), GUEST);
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        printf("skipped: not root\n");
        return 77;
    }
    Suite *s = suite_create("disk_trust");
    TCase *t = tcase_create("disk_trust");

    tcase_add_checked_fixture(t, make, drop);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_H8_whole_disk_becomes_root_s);
    tcase_add_test(t, test_H8_damage_of_a_guest_is_not_mounted);
    tcase_add_test(t, test_H8_no_file_system_at_all);
    tcase_add_test(t, test_disk_of_root_is_taken_as_it_is);
    tcase_add_test(t, test_no_time_for_it);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
