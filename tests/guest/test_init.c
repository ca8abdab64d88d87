/* The pure parts of vms-init: what vmsd said, what a superblock tells. */
#include <check.h>
#include <string.h>

#include "images/initramfs/init.h"

#define TOKEN "0123456789abcdef0123456789ABCDEF"

static char text[SETUP_MAX + 100];
static struct setup s;
static struct vm_err e;

static int parse(const char *from)
{
    e = (struct vm_err){ 0 };
    strcpy(text, from);
    return setup_parse(text, strlen(from), &s, &e);
}

START_TEST(test_setup)
{
    ck_assert_msg(parse("hostname=db\n\nmount=vol0 /var/lib/a b\nmount=share1 /srv ro\nroot=ro\ntoken=" TOKEN "\nfuture=x=y") == 0,
                  "%s", e.text);
    ck_assert_uint_eq(s.n_mounts, 2);
    ck_assert_str_eq(s.mounts[0].tag, "share1");
    ck_assert_str_eq(s.mounts[0].target, "/srv");
    ck_assert(s.mounts[0].share && s.mounts[0].read_only);
    ck_assert_str_eq(s.mounts[1].tag, "vol0");
    ck_assert_str_eq(s.mounts[1].target, "/var/lib/a b");
    ck_assert(!s.mounts[1].share && !s.mounts[1].read_only);
    ck_assert_str_eq(s.token, TOKEN);
    ck_assert(s.read_only_root);
    ck_assert(parse("") == 0 && s.n_mounts == 0 && !s.token && !s.read_only_root);
}
END_TEST

START_TEST(test_parents_before_children)
{
    ck_assert(parse("mount=vol0 /a/b/c\nmount=vol1 /a\nmount=vol2 /a/b\n") == 0);
    ck_assert_str_eq(s.mounts[0].target, "/a");
    ck_assert_str_eq(s.mounts[1].target, "/a/b");
    ck_assert_str_eq(s.mounts[2].target, "/a/b/c");
}
END_TEST

START_TEST(test_setup_refused)
{
    static const struct { const char *text, *error; } rows[] = {
        { "a=b\nnonsense", "line 2: 'nonsense' is not KEY=VALUE" },
        { "=x", "line 1: '=x' is not KEY=VALUE" },
        { "token=0123", "line 1: token= does not have 32 hex digits" },
        { "token=" TOKEN "0", "line 1: token= does not have 32 hex digits" },
        { "token=0123456789abcdef0123456789abcdeg", "line 1: token= does not have 32 hex digits" },
        { "root=rw", "line 1: root=rw is not root=ro" },
        { "mount=vol0", "line 1: mount=vol0 is not TAG TARGET [ro]" },
        { "mount= /srv", "line 1: mount= /srv is not TAG TARGET [ro]" },
        { "mount=vol012345678901234567 /a", "line 1: mount=vol012345678901234567 /a is not TAG TARGET [ro]" },
        { "mount=vol0 srv", "line 1: mount=vol0: target 'srv' is no plain absolute path" },
        { "mount=vol0 /", "line 1: mount=vol0: target '/' is no plain absolute path" },
        { "mount=vol0  ro", "line 1: mount=vol0: target ' ro' is no plain absolute path" },
        { "mount=vol0 /srv/", "line 1: mount=vol0: target '/srv/' is no plain absolute path" },
        { "mount=vol0 /srv//a", "line 1: mount=vol0: target '/srv//a' is no plain absolute path" },
        { "mount=vol0 /srv/../etc", "line 1: mount=vol0: target '/srv/../etc' is no plain absolute path" },
        { "mount=vol0 /srv/..", "line 1: mount=vol0: target '/srv/..' is no plain absolute path" },
        { "mount=vol0 /./srv", "line 1: mount=vol0: target '/./srv' is no plain absolute path" },
        { "mount=vol0 /srv\nmount=vol1 /srv ro", "target '/srv' is given twice" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ck_assert_msg(parse(rows[i].text) < 0, "%s", rows[i].text);
        ck_assert_str_eq(e.text, rows[i].error);
    }
    memcpy(text, "a=b\0c=d", 8);
    ck_assert(setup_parse(text, 7, &s, &e) < 0);
}
END_TEST

START_TEST(test_targets_that_guests_mount_themselves)
{
    static const char *const refused[] = { "/dev", "/dev/x", "/proc", "/sys/fs", "/run", "/run/vmsd", "/tmp", "/tmp/a" };
    static const char *const fine[] = { "/device", "/srv/dev", "/running", "/tmpfiles", "/var/run", "/..a", "/a..", "/.a" };
    char line[80];
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        snprintf(line, sizeof(line), "mount=vol0 %s", refused[i]);
        ck_assert_msg(parse(line) < 0, "%s", line);
    }
    for (size_t i = 0; i < ARRAY_LEN(fine); i++) {
        snprintf(line, sizeof(line), "mount=vol0 %s", fine[i]);
        ck_assert_msg(parse(line) == 0, "%s", line);
    }
}
END_TEST

START_TEST(test_mounts_bound)
{
    char many[SETUP_MAX] = "";
    for (int i = 0, n = 0; i < SETUP_MOUNTS_MAX; i++)
        n += snprintf(many + n, sizeof(many) - (size_t)n, "mount=vol%d /srv/%d\n", i, i);
    ck_assert_msg(parse(many) == 0, "%s", e.text);
    ck_assert_uint_eq(s.n_mounts, SETUP_MOUNTS_MAX);
    strcat(many, "mount=vol99 /srv/99\n");
    ck_assert(parse(many) < 0);
    ck_assert_str_eq(e.text, "line 65: more than 64 mounts");
}
END_TEST

START_TEST(test_superblocks)
{
    static const struct { size_t at; const char *magic, *type; } rows[] = {
        { 1024, "\xe2\xe1\xf5\xe0", "erofs" }, { 1080, "\x53\xef", "ext4" }, { 0, "hsqs", "squashfs" }, { 0, "XFSB", "xfs" },
        { 65600, "_BHRfS_M", "btrfs" },
    };
    static uint8_t p[SUPERBLOCKS];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        size_t end = rows[i].at + strlen(rows[i].magic);
        memset(p, 0, sizeof(p));
        ck_assert_ptr_null(superblock_type(p, sizeof(p)));
        memcpy(p + rows[i].at, rows[i].magic, strlen(rows[i].magic));
        ck_assert_str_eq(superblock_type(p, sizeof(p)), rows[i].type);
        ck_assert_str_eq(superblock_type(p, end), rows[i].type);
        ck_assert_ptr_null(superblock_type(p, end - 1));
    }
}
END_TEST

START_TEST(test_command_line)
{
    static const struct { const char *line, *init; } rows[] = {
        { "quiet panic=-1\n", NULL },         { "init=/bin/sh", "/bin/sh" },  { "a rdinit=/x init=/a  init=/b\n", "/b" },
        { "noinit=/x init=relative", NULL }, { "", NULL },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        strcpy(text, rows[i].line);
        const char *init = cmdline_init(text);
        ck_assert(!init == !rows[i].init);
        if (init)
            ck_assert_str_eq(init, rows[i].init);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("init");
    TCase *t = tcase_create("init");
    tcase_add_test(t, test_setup);
    tcase_add_test(t, test_parents_before_children);
    tcase_add_test(t, test_setup_refused);
    tcase_add_test(t, test_targets_that_guests_mount_themselves);
    tcase_add_test(t, test_mounts_bound);
    tcase_add_test(t, test_superblocks);
    tcase_add_test(t, test_command_line);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
