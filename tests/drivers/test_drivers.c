/* What is pure in drivers/: command lines, the state file, the console's log, the table. */
#include "drivers/keeper.h"
#include "drivers/keeper_log.h"
#include "drivers/nspawn.h"
#include "drivers/version.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/driver.h>
#include <vmsd/path.h>

static struct vm_err e;

/* ---- argv ---- */

static void golden(const char *file, const struct guest_spec *spec)
{
    struct drv_guest g = {.id = 7, .uid_base = 524288, .spec = spec};
    OWN(strv) struct strv v = {0};
    OWN(text) struct text t = {0};
    OWN(str) char *want = NULL;
    OWN(fd) int dir = open("drivers", O_RDONLY | O_DIRECTORY);

    ck_assert_msg(nspawn_args(&g, &v, &e) == 0, "%s", e.text);
    for (size_t i = 0; i < v.n; i++)
        text_addf(&t, "%s\n", v.v[i]);
    ck_assert_msg(path_read(dir, file, 8192, &want, NULL, &e) == 0, "%s", e.text);
    ck_assert_str_eq(t.s, want);
}

START_TEST(test_args)
{
    const char *caps[] = {"CAP_NET_RAW", "+CAP_SYS_NICE", "-CAP_MKNOD"};
    struct guest_spec plain = {.name = "db"}, all = {.name = "web-1"};

    all.security = (struct spec_security){.no_new_privileges = true, .read_only_root = true, .capabilities = {caps, 3}};
    golden("args-plain.out", &plain);
    golden("args-all.out", &all);
}
END_TEST

/* C4, C5: no name or capability becomes an option. */
START_TEST(test_C5_hostile_words)
{
    static const char *const names[] = {"", "-x", "--bind=/", "a b", "a\nb", "../x", "a/b", "A", "a.b", "x-",
                                        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    static const char *const caps[] = {"all", "", "-", "CAP_", "CAP_X,CAP_Y", "CAP_NET_RAW --bind=/", "cap_chown", "--CAP_X", "-all"};
    OWN(strv) struct strv v = {0};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        struct guest_spec s = {.name = names[i]};
        struct drv_guest g = {.uid_base = 524288, .spec = &s};

        ck_assert_msg(nspawn_args(&g, &v, &e) == -1 && e.code == VM_E_INVALID && v.n == 0, "taken: '%s'", names[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(caps); i++) {
        const char *list[] = {caps[i]};
        struct guest_spec s = {.name = "db", .security.capabilities = {list, 1}};
        struct drv_guest g = {.uid_base = 524288, .spec = &s};

        ck_assert_msg(nspawn_args(&g, &v, &e) == -1 && e.code == VM_E_INVALID && v.n == 0, "taken: '%s'", caps[i]);
    }
}
END_TEST

START_TEST(test_driver_for)
{
    struct guest_spec vm = {.name = "db", .kind = KIND_MICROVM, .hypervisor = "cloud-hypervisor"};
    const struct vm_driver *any;

    setenv("VMS_CLOUD_HYPERVISOR", "/var/tmp/vmsd-absent", 1);
    ck_assert_ptr_null(driver_for(&vm, &e));
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
    ck_assert_msg(strstr(e.text, "cloud-hypervisor cannot run 'db' here") && strstr(e.text, "vmsd-absent"), "%s", e.text);
    vm.hypervisor = "auto";
    any = driver_for(&vm, &e); /* on a host with libvirtd that one; else both reasons */
    ck_assert_msg(any ? !strcmp(any->name, "libvirt") : strstr(e.text, "vmsd-absent") && strstr(e.text, "; nor can libvirt"),
                  "%s", e.text);
    for (size_t i = 0; drivers()[i]; i++) {
        const struct vm_driver *d = drivers()[i];

        ck_assert(d->name && d->probe && d->start && d->wait_booted && d->adopt && d->stop && d->reap && d->agent &&
                  d->stats && d->limits && d->grow);
        ck_assert(!(d->can & DRV_TAKES_TAPS) == !!d->netns);
    }
}
END_TEST

/* ---- the state file ---- */

static char dir_path[32];
static int dir_fd = -1;

static void dir_make(void)
{
    strcpy(dir_path, "/tmp/vmsd-drivers-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir_path));
    ck_assert((dir_fd = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0);
}

static void dir_remove(void)
{
    OWN(fd) int tmp = open("/tmp", O_RDONLY | O_DIRECTORY);

    dir_fd = fd_drop(dir_fd);
    path_remove(tmp, dir_path + 5, NULL);
}

START_TEST(test_state_round)
{
    struct state a = {.phase = PHASE_ENDED, .end = END_CRASH, .status = 3, .keeper = {10, UINT64_MAX}, .nspawn = {11, 1},
                      .leader = {12, 2}, .boot = "4e9cf43a-53f1-4da6-b73b-15773bf45bff"}, b;
    OWN(str) char *text = NULL;
    struct stat st;

    memset(a.text, 'x', sizeof a.text - 1);
    state_write(dir_fd, &a);
    ck_assert(fstatat(dir_fd, keeper_files[KEEPS_NSPAWN], &st, 0) == 0 && (st.st_mode & 0777) == 0600 && st.st_size < STATE_BYTES_MAX);
    ck_assert(path_read(dir_fd, keeper_files[KEEPS_NSPAWN], STATE_BYTES_MAX, &text, NULL, &e) == 0);
    ck_assert(state_parse(text, &b));
    ck_assert(a.phase == b.phase && a.end == b.end && a.status == b.status && a.keeper.pid == b.keeper.pid &&
              a.keeper.start == b.keeper.start && a.leader.pid == 12 && !strcmp(a.boot, b.boot) &&
              !strcmp(a.text, b.text));
    /* Cut anywhere, it is either refused or nothing but its last texts are missing. */
    for (size_t n = strlen(text); n-- > 0;) {
        text[n] = '\0';
        if (state_parse(text, &b))
            ck_assert(b.phase == a.phase && b.end == a.end && b.keeper.pid == a.keeper.pid);
    }
}
END_TEST

START_TEST(test_state_refused)
{
    static const char *const bad[] = {"by=somebody\nphase=started\nend=none\nkeeper=4 0\n", "", "\n", "phase", "phase=started\n", "keeper=1 2\nphase=flying\nend=none\n",
                                      "phase=started\nend=none\nkeeper=0 0\n", "phase=started\nend=none\nkeeper=-4 0\n",
                                      "phase=started\nend=none\nkeeper=4 0 x\n", "phase=started\nend=none\nkeeper=4 0\nx\n"};
    struct state s;
    char line[16];

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!state_parse(bad[i], &s), "taken: '%s'", bad[i]);
    ck_assert(state_parse("phase=started\nend=none\nkeeper=4 0\n", &s));
    ck_assert(s.by == KEEPS_NSPAWN);
    ck_assert(state_parse("phase=started\nend=none\nkeeper=4 0\nnewer=key\n", &s)); /* G7: after an upgrade */
    ck_assert(state_parse("by=cloud-hypervisor\nphase=started\nend=panic\nkeeper=4 0\n", &s));
    ck_assert(s.by == KEEPS_VMM && s.end == END_PANIC);
    state_text(line, sizeof line, "a\x1b[2Jb\nc\xc2\x9b and more than fits", 30);
    ck_assert_str_eq(line, "a?[2Jb?c?? and "); /* P1 */
}
END_TEST

/* ---- the console ---- */

START_TEST(test_D11_log_bound)
{
    static char chunk[16 << 10];
    struct console_log l;
    struct stat now = {0}, old = {0};
    int wait = -1;

    memset(chunk, 'a', sizeof chunk);
    console_open(&l, dir_fd);
    for (int i = 0; i < 1000; i++)
        console_put(&l, chunk, sizeof chunk);
    ck_assert(fstatat(dir_fd, "console.log", &now, 0) == 0 && fstatat(dir_fd, "console.log.1", &old, 0) == 0);
    ck_assert(now.st_size <= LOG_FILE_MAX && old.st_size <= LOG_FILE_MAX && old.st_size > LOG_FILE_MAX / 2);
    close(l.fd);

    console_open(&l, dir_fd); /* it goes on where it was, not above the bound */
    ck_assert_int_eq(l.size, now.st_size);
    ck_assert_uint_eq(console_room(&l, 1000, &wait), LOG_BURST);
    l.tokens = 0;
    ck_assert_uint_eq(console_room(&l, 1000, &wait), 0);
    ck_assert_int_gt(wait, 0);
    ck_assert_uint_eq(console_room(&l, 2000, &wait), LOG_RATE);
    ck_assert_uint_eq(console_room(&l, 1000000, &wait), LOG_BURST);
    close(l.fd);
}
END_TEST

START_TEST(test_log_follows_no_link)
{
    struct console_log l;
    struct stat st;

    ck_assert(symlinkat("elsewhere", dir_fd, "console.log") == 0);
    console_open(&l, dir_fd);
    ck_assert_int_lt(l.fd, 0);
    console_put(&l, "x", 1); /* lost, as on a full disk */
    ck_assert(fstatat(dir_fd, "elsewhere", &st, AT_SYMLINK_NOFOLLOW) < 0);
}
END_TEST

START_TEST(test_tail)
{
    struct log_tail t = {0};
    char text[LOG_LINE_MAX * 3];
    const struct log_line *line;

    tail_put(&t, "one\r\ntwo\r\n\r\n", 12);
    line = tail_last(&t);
    ck_assert(line->n == 3 && !memcmp(line->s, "two", 3));
    tail_put(&t, "thr", 3);
    tail_put(&t, "ee", 2);
    line = tail_last(&t);
    ck_assert(line->n == 5 && !memcmp(line->s, "three", 5));
    memset(text, 'x', sizeof text);
    tail_put(&t, text, sizeof text);
    ck_assert_uint_eq(tail_last(&t)->n, LOG_LINE_MAX);
}
END_TEST

static void panics(const char *console, const char *told)
{
    struct log_tail t = {0};
    struct log_line line;

    tail_put(&t, console, strlen(console));
    line = tail_panic(&t);
    ck_assert_msg(line.n == strlen(told) && !memcmp(line.s, told, line.n), "%.*s", (int)line.n, line.s);
}

START_TEST(test_tail_panic)
{
    panics("hello\n[ 1.0] a warning\n", "");
    panics("hello\n[ 1.0] Kernel panic - not syncing: VFS: no root\n[ 1.1] more\n", "Kernel panic - not syncing: VFS: no root");
    panics("init: no disk vol7\n[ 1.0] late\n[ 1.1] Kernel panic - not syncing: Attempted to kill init!\nafter\n",
           "init: no disk vol7; Kernel panic - not syncing: Attempted to kill init!");
    panics("[ 1.1] Kernel panic - not syncing: Attempted to kill init!\n", "Kernel panic - not syncing: Attempted to kill init!");
}
END_TEST

static void program_make(const char *path, const char *says)
{
    char text[128], scratch[64];
    int n = snprintf(text, sizeof text, "#!/bin/sh\necho >>$0.runs\necho %s\n", says), fd;

    snprintf(scratch, sizeof scratch, "%s/new", dir_path);
    fd = open(scratch, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    ck_assert(fd >= 0 && write(fd, text, (size_t)n) == n && close(fd) == 0 && rename(scratch, path) == 0);
}

/* Asked once; and anew, when another file is in its place: an upgrade needs no restart of vmsd. */
START_TEST(test_version)
{
    struct version v = VERSION_UNKNOWN;
    char line[VERSION_LINE], path[64], runs[72];
    struct stat st;

    snprintf(path, sizeof path, "%s/program", dir_path);
    snprintf(runs, sizeof runs, "%s.runs", path);
    version_ask(&v, path, line);
    ck_assert_str_eq(line, "");
    program_make(path, "some v1");
    for (int i = 0; i < 3; i++) {
        version_ask(&v, path, line);
        ck_assert_str_eq(line, "some v1");
    }
    ck_assert(stat(runs, &st) == 0 && st.st_size == 1);
    program_make(path, "some v2");
    version_ask(&v, path, line);
    ck_assert_str_eq(line, "some v2");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("drivers");
    TCase *pure = tcase_create("pure"), *files = tcase_create("files");

    tcase_add_test(pure, test_args);
    tcase_add_test(pure, test_C5_hostile_words);
    tcase_add_test(pure, test_driver_for);
    tcase_add_test(pure, test_tail);
    tcase_add_test(pure, test_tail_panic);
    tcase_add_test(files, test_version);
    tcase_add_checked_fixture(files, dir_make, dir_remove);
    tcase_add_test(files, test_state_round);
    tcase_add_test(files, test_state_refused);
    tcase_add_test(files, test_D11_log_bound);
    tcase_add_test(files, test_log_follows_no_link);
    suite_add_tcase(s, pure);
    suite_add_tcase(s, files);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
