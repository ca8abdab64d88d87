/* Access lists of drivers/acl.c, on the file system of /var/tmp. */
#include "trial.h"

#include "../../drivers/acl.h"
#include "../../drivers/libvirt.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { GUEST = 6553600, OTHER = GUEST + 65536 };

static char top[40], deep[64], file[80];
static struct vm_err e;
#define DONE(call) ck_assert_msg((call) == 0, "%s: %s", #call, e.text)

static void make(void)
{
    snprintf(top, sizeof top, "/var/tmp/vmsd-acl-XXXXXX");
    ck_assert(mkdtemp(top) != NULL);
    snprintf(deep, sizeof deep, "%s/deep", top);
    snprintf(file, sizeof file, "%s/file", deep);
    ck_assert(mkdir(deep, 0700) == 0);
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    ck_assert(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
}

static void drop(void)
{
    unlink(file);
    rmdir(deep);
    rmdir(top);
}

/* 0, or the errno with which that user is refused. */
static int try_read(uid_t uid, const char *path, int flags)
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        if (setgid(uid) < 0 || setuid(uid) < 0)
            _exit(255);
        _exit(open(path, flags | O_CLOEXEC) < 0 ? errno : 0);
    }
    ck_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static mode_t mode_of(const char *path)
{
    struct stat st;

    ck_assert(stat(path, &st) == 0);
    return st.st_mode & 07777;
}

static void open_all(uid_t uid, struct strv *places)
{
    DONE(acl_closed(file, uid, places, &e));
    for (size_t i = 0; i < places->n; i++)
        DONE(acl_open(places->v[i], uid, &e));
}

START_TEST(test_A8_only_that_user)
{
    OWN(strv) struct strv places = {0};

    ck_assert_int_eq(try_read(GUEST, file, O_RDONLY), EACCES);
    open_all(GUEST, &places);
    ck_assert_uint_eq(places.n, 3);
    ck_assert_str_eq(places.v[0], top);
    ck_assert_str_eq(places.v[2], file);
    ck_assert_int_eq(try_read(GUEST, file, O_RDONLY), 0);
    ck_assert_int_eq(try_read(GUEST, file, O_RDWR), EACCES);
    ck_assert_int_eq(try_read(GUEST, deep, O_RDONLY), EACCES); /* through, but not to look around */
    ck_assert_int_eq(try_read(OTHER, file, O_RDONLY), EACCES);
    ck_assert_uint_eq(mode_of(deep) & 07, 0);
}
END_TEST

START_TEST(test_taken_back)
{
    OWN(strv) struct strv mine = {0};
    OWN(strv) struct strv theirs = {0};
    OWN(strv) struct strv again = {0};

    open_all(GUEST, &mine);
    open_all(OTHER, &theirs);
    open_all(GUEST, &again); /* the same places, which nobody may know of any more */
    ck_assert_uint_eq(again.n, mine.n);
    for (size_t i = 0; i < mine.n; i++)
        DONE(acl_close(mine.v[i], GUEST, &e));
    ck_assert_int_eq(try_read(GUEST, file, O_RDONLY), EACCES);
    ck_assert_int_eq(try_read(OTHER, file, O_RDONLY), 0);
    for (size_t i = 0; i < theirs.n; i++) {
        DONE(acl_close(theirs.v[i], OTHER, &e));
        DONE(acl_close(theirs.v[i], OTHER, &e)); /* again is success */
        ck_assert_int_lt(getxattr(theirs.v[i], "system.posix_acl_access", NULL, 0), 0);
    }
    ck_assert_uint_eq(mode_of(top), 0700);
    ck_assert_uint_eq(mode_of(file), 0600);
    DONE(acl_close("/var/tmp/vmsd-absent/file", GUEST, &e));
}
END_TEST

START_TEST(test_open_already)
{
    OWN(strv) struct strv places = {0};

    ck_assert(chown(file, GUEST, GUEST) == 0 && chmod(deep, 0755) == 0);
    open_all(GUEST, &places);
    ck_assert_uint_eq(places.n, 1);
    ck_assert_str_eq(places.v[0], top);
}
END_TEST

/* Access lists have room for some hundreds of users; then it says so, and the others keep what they have. */
START_TEST(test_full)
{
    uid_t uid = GUEST;

    while (acl_open(deep, uid, &e) == 0 && uid < GUEST + 100000)
        uid++;
    ck_assert_uint_gt(uid, GUEST + 200);
    ck_assert_msg(e.sys == ENOSPC || e.sys == E2BIG || e.sys == ERANGE, "%s", e.text);
    ck_assert(strstr(e.text, deep) != NULL);
    for (uid_t u = GUEST; u < uid; u++)
        DONE(acl_close(deep, u, &e));
    ck_assert_uint_eq(mode_of(deep), 0700);
}
END_TEST

START_TEST(test_absent)
{
    OWN(strv) struct strv places = {0};

    ck_assert_int_eq(acl_closed("/var/tmp/vmsd-absent", GUEST, &places, &e), -1);
    ck_assert(e.sys == ENOENT && strstr(e.text, "vmsd-absent"));
}
END_TEST

/* The host went down under a guest of QEMU, and the runtime directory with it: what was open to it is closed again. */
START_TEST(test_host_went_down)
{
    OWN(virt_note) struct virt_note n = {.uid = GUEST};

    DONE(acl_closed(file, GUEST, &n.opened, &e));
    DONE(virt_note_write(top, &n, &e));
    for (size_t i = 0; i < n.opened.n; i++)
        DONE(acl_open(n.opened.v[i], GUEST, &e));
    ck_assert_int_eq(try_read(GUEST, file, O_RDONLY), 0);

    DONE(driver_settle(top, &e));
    ck_assert_int_eq(try_read(GUEST, file, O_RDONLY), EACCES);
    ck_assert(getxattr(file, "system.posix_acl_access", NULL, 0) < 0 && errno == ENODATA);
    ck_assert_int_eq(virt_note_read(top, &n, &e), -1);
    ck_assert_int_eq(e.code, VM_E_ABSENT);
    DONE(driver_settle(top, &e));
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        printf("skipped: not root\n");
        return 77;
    }
    Suite *s = suite_create("acl");
    TCase *c = tcase_create("acl");

    tcase_add_checked_fixture(c, make, drop);
    tcase_add_test(c, test_A8_only_that_user);
    tcase_add_test(c, test_taken_back);
    tcase_add_test(c, test_open_already);
    tcase_add_test(c, test_full);
    tcase_add_test(c, test_absent);
    tcase_add_test(c, test_host_went_down);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
