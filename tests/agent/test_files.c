#include "rig.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct call c;
static char dir[64];

/* "path=DIR/name" in one of a few buffers that come round again. */
static const char *at(const char *name)
{
    static char buf[4][256];
    static unsigned next;
    char *s = buf[next++ % 4];
    snprintf(s, sizeof(buf[0]), "path=%s/%s", dir, name);
    return s;
}

static const char *path(const char *name)
{
    return at(name) + strlen("path=");
}

static int entries(const char *name)
{
    char cmd[300];
    int n = -1;
    snprintf(cmd, sizeof(cmd), "ls -A '%s' | wc -l", path(name));
    FILE *f = popen(cmd, "re");
    ck_assert(f && fscanf(f, "%d", &n) == 1);
    pclose(f);
    return n;
}

static void make(const char *name, const char *content)
{
    FILE *f = fopen(path(name), "we");
    ck_assert_ptr_nonnull(f);
    fputs(content, f);
    fclose(f);
}

static const char *content(const char *name)
{
    static char buf[256];
    memset(buf, 0, sizeof(buf));
    FILE *f = fopen(path(name), "re");
    ck_assert_ptr_nonnull(f);
    (void)!fread(buf, 1, sizeof(buf) - 1, f);
    fclose(f);
    return buf;
}

#define put(text, ...) (c.input = text, c.n_input = strlen(text), call_run(&c, "op=put", __VA_ARGS__))

START_TEST(test_put)
{
    struct stat st;
    ck_assert(put("hello", at("a/b/file")));
    ck_assert_str_eq(content("a/b/file"), "hello");
    ck_assert_int_eq(stat(path("a/b/file"), &st), 0);
    ck_assert_uint_eq(st.st_mode, S_IFREG | 0644);
    ck_assert_uint_eq(st.st_uid, 0);
    ck_assert(put("", at("a/b/file"), "mode=4750", "owner=daemon:adm"));
    ck_assert_str_eq(content("a/b/file"), "");
    ck_assert_int_eq(stat(path("a/b/file"), &st), 0);
    ck_assert_uint_eq(st.st_mode, S_IFREG | 04750);
    ck_assert_uint_eq(st.st_uid, 1);
    ck_assert_uint_eq(st.st_gid, 4);
    ck_assert_int_eq(stat(path("a"), &st), 0);
    ck_assert_uint_eq(st.st_mode, S_IFDIR | 0755);
    ck_assert_int_eq(entries("a/b"), 1);
}
END_TEST

START_TEST(test_put_replaces_a_link)
{
    struct stat st;
    make("target", "old");
    ck_assert_int_eq(symlink("target", path("link")), 0);
    ck_assert(put("new", at("link")));
    ck_assert_str_eq(content("target"), "old");
    ck_assert_str_eq(content("link"), "new");
    ck_assert_int_eq(lstat(path("link"), &st), 0);
    ck_assert(S_ISREG(st.st_mode));
}
END_TEST

START_TEST(test_put_refused)
{
    ck_assert_int_eq(mkdir(path("d"), 0755), 0);
    make("f", "");
    ck_assert(!put("x", at("d")));
    ck_assert_ptr_nonnull(strstr(c.r.error, "Is a directory"));
    ck_assert(!put("x", at("f/below")));
    ck_assert_ptr_nonnull(strstr(c.r.error, "Not a directory"));
    ck_assert(!put("x", at("d/..")));
    ck_assert(!put("x", at("d/.")));
    ck_assert(!put("x", "path=/"));
    ck_assert(!put("x", "path=relative"));
    ck_assert(!put("x", at("g"), "mode=0888"));
    ck_assert(!put("x", at("g"), "mode=10000"));
    ck_assert(!put("x", at("g"), "owner=no-such-user"));
    ck_assert(!put("x", at("g"), "owner=root:no-such-group"));
    ck_assert_str_eq(c.r.error, "no group 'no-such-group' in this guest");
    ck_assert_int_eq(entries("."), 2);
    ck_assert_int_eq(entries("d"), 0);
}
END_TEST

/* Nothing changes and nothing stays behind when the input does not come to its end: cancelled, or its host gone, or the
 * agent killed. */
static void begin_half_a_put(void)
{
    make("f", "old");
    c.input = NULL;
    call_begin(&c, "op=put", at("f"), NULL);
    agent_stream_write(c.s, "half", 4);
    rig_for(200);
    ck_assert_int_eq(entries("."), 2);
}

START_TEST(test_put_cancelled)
{
    begin_half_a_put();
    agent_stream_cancel(c.s);
    call_wait(&c);
    ck_assert_str_eq(content("f"), "old");
    ck_assert_int_eq(entries("."), 1);
}
END_TEST

START_TEST(test_put_host_gone)
{
    begin_half_a_put();
    agent_close(rig.agent);
    rig.agent = NULL;
    ck_assert_int_eq(rig_agent_ended(5000), 0);
    ck_assert_str_eq(content("f"), "old");
    ck_assert_int_eq(entries("."), 1);
}
END_TEST

START_TEST(test_put_agent_killed)
{
    begin_half_a_put();
    kill(rig.pid, SIGKILL);
    call_wait(&c);
    rig_agent_ended(1000);
    sleep_ms(100);
    ck_assert_str_eq(content("f"), "old");
}
END_TEST

START_TEST(test_put_is_atomic)
{
    make("f", "old");
    int fd = open(path("f"), O_RDONLY | O_CLOEXEC);
    ck_assert(put("new", at("f")));
    char was[4] = "";
    ck_assert_int_eq(read(fd, was, 3), 3);
    ck_assert_str_eq(was, "old"); /* another inode */
    close(fd);
    ck_assert_str_eq(content("f"), "new");
}
END_TEST

START_TEST(test_get)
{
    make("f", "content");
    ck_assert_int_eq(chmod(path("f"), 0640), 0);
    ck_assert_int_eq(chown(path("f"), 1, 4), 0);
    ck_assert(call_run(&c, "op=get", at("f")));
    ck_assert_str_eq(c.out.s, "content");
    ck_assert_uint_eq(c.r.file.size, 7);
    ck_assert_uint_eq(c.r.file.mode, 0640);
    ck_assert_uint_eq(c.r.file.uid, 1);
    ck_assert_uint_eq(c.r.file.gid, 4);
    ck_assert_int_eq(mkfifo(path("fifo"), 0600), 0);
    ck_assert(!call_run(&c, "op=get", at("fifo"))); /* without waiting for its writer */
    ck_assert(!call_run(&c, "op=get", at("")));
    ck_assert_ptr_nonnull(strstr(c.r.error, "is not a regular file"));
    ck_assert(!call_run(&c, "op=get", at("none")));
    ck_assert_ptr_nonnull(strstr(c.r.error, "No such file"));
    ck_assert(!call_run(&c, "op=get"));
    ck_assert(call_run(&c, "op=get", "path=/proc/self/status")); /* says size 0, and has some */
    ck_assert_uint_eq(c.r.file.size, c.out.len);
    ck_assert_uint_gt(c.out.len, 100);
}
END_TEST

START_TEST(test_mkdir)
{
    struct stat st;
    ck_assert(call_run(&c, "op=mkdir", at("x/y/z"), "mode=0700", "owner=daemon"));
    ck_assert_int_eq(stat(path("x/y/z"), &st), 0);
    ck_assert_uint_eq(st.st_mode, S_IFDIR | 0700);
    ck_assert_uint_eq(st.st_uid, 1);
    ck_assert_int_eq(stat(path("x/y"), &st), 0);
    ck_assert_uint_eq(st.st_mode, S_IFDIR | 0755);
    ck_assert_uint_eq(st.st_uid, 0);
    ck_assert(call_run(&c, "op=mkdir", at("x/y/z/"))); /* there: nothing was told to change */
    ck_assert_int_eq(stat(path("x/y/z"), &st), 0);
    ck_assert_uint_eq(st.st_mode, S_IFDIR | 0700);
    make("f", "");
    ck_assert(!call_run(&c, "op=mkdir", at("f")));
    ck_assert_int_eq(symlink("x", path("link")), 0);
    ck_assert(!call_run(&c, "op=mkdir", at("link")));
}
END_TEST

START_TEST(test_remove)
{
    ck_assert(call_run(&c, "op=mkdir", at("t/a/b/c")));
    make("t/a/f", "");
    make("kept", "kept");
    ck_assert_int_eq(symlink("..", path("t/a/up")), 0);
    ck_assert_int_eq(symlink("../kept", path("t/link")), 0);
    ck_assert(call_run(&c, "op=remove", at("t")));
    ck_assert_str_eq(content("kept"), "kept");
    ck_assert_int_eq(entries("."), 1);
    ck_assert(call_run(&c, "op=remove", at("t")));          /* absent: success */
    ck_assert(call_run(&c, "op=remove", at("t/deeper/f"))); /* its parents too */
    ck_assert(!call_run(&c, "op=remove", "path=/"));
    ck_assert(!call_run(&c, "op=remove", at(".")));
    ck_assert(call_run(&c, "op=remove", at("kept")));
    ck_assert_int_eq(entries("."), 0);
}
END_TEST

START_TEST(test_remove_stays_in_its_file_system)
{
    char cmd[400];
    ck_assert(call_run(&c, "op=mkdir", at("t/mnt")));
    /* Now in a mount namespace of its own, in which something is mounted below. */
    snprintf(cmd, sizeof(cmd), "mount -t tmpfs none '%s' && touch '%s/f'", path("t/mnt"), path("t/mnt"));
    rig_stop();
    rig_start_after(cmd);
    ck_assert(!call_run(&c, "op=remove", at("t")));
    ck_assert_ptr_nonnull(strstr(c.r.error, "another file system"));
    ck_assert(call_run(&c, "op=get", at("t/mnt/f")));
}
END_TEST

START_TEST(test_usage)
{
    static const char *const keys[] = { "memory_total=", "memory_available=", "swap_total=", "swap_free=", "oom_kills=",
                                        "load1=", "load5=", "load15=", "uptime=", "kernel=", "processes=", "cpus=", "fs=/ " };
    ck_assert(call_run(&c, "op=usage"));
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        const char *found = strstr(c.out.s, keys[i]);
        ck_assert_msg(found && (found == c.out.s || found[-1] == '\n'), "no %s in:\n%s", keys[i], c.out.s);
    }
    ck_assert_uint_gt(strtoull(strstr(c.out.s, "memory_total=") + 13, NULL, 10), 64 << 20);
}
END_TEST

START_TEST(test_units_without_systemd)
{
    rig_stop();
    rig_start_after("mount -t tmpfs none /run");
    ck_assert(!call_run(&c, "op=units"));
    ck_assert_str_eq(c.r.error, "systemd does not run in this guest, so it has no units");
}
END_TEST

/* systemd and its systemctl, as far as the agent sees them. */
static void start_with_systemctl(const char *script)
{
    char before[600];
    make("systemctl", script);
    chmod(path("systemctl"), 0755);
    snprintf(before, sizeof(before), "mount -t tmpfs none /run && mkdir -p /run/systemd/system && "
             "mount -t tmpfs none /usr/local/sbin && cp %s /usr/local/sbin/", path("systemctl"));
    rig_stop();
    rig_start_after(before);
}

START_TEST(test_units)
{
    start_with_systemctl("#!/bin/sh\n"
                         "[ $1 = is-system-running ] && { echo degraded; exit 1; }\n"
                         "[ \"$1 $2\" = 'list-units --failed' ] || exit 9\n"
                         "echo 'a.service loaded failed failed A thing'\necho 'b@1.mount  loaded failed failed B'\n");
    ck_assert(call_run(&c, "op=units"));
    ck_assert_str_eq(c.out.s, "state=degraded\nfailed=a.service\nfailed=b@1.mount\n");
}
END_TEST

START_TEST(test_units_broken)
{
    start_with_systemctl("#!/bin/sh\n[ $1 = is-system-running ] && exit 1\necho 'Failed to connect to bus' >&2; exit 1\n");
    ck_assert(!call_run(&c, "op=units"));
    ck_assert_str_eq(c.r.error, "systemctl: Failed to connect to bus");
}
END_TEST

START_TEST(test_power)
{
    start_with_systemctl("#!/bin/sh\necho $* >> /run/asked\n[ $2 = poweroff ] || { echo no reboot today; exit 1; }\n");
    ck_assert(call_run(&c, "op=poweroff"));
    ck_assert(!call_run(&c, "op=reboot"));
    ck_assert_str_eq(c.r.error, "reboot: no reboot today");
    ck_assert(call_run(&c, "op=get", "path=/run/asked"));
    ck_assert_str_eq(c.out.s, "--no-block poweroff\n--no-block reboot\n");
}
END_TEST

static void set_up(void)
{
    c = (struct call){ 0 };
    snprintf(dir, sizeof(dir), "/tmp/vmsd-files-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    umask(022);
    rig_start();
}

static void tear_down(void)
{
    char cmd[80];
    rig_stop();
    call_done(&c);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
    ck_assert_int_eq(system(cmd), 0);
}

static void add(TCase *t)
{
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_put);
    tcase_add_test(t, test_put_replaces_a_link);
    tcase_add_test(t, test_put_refused);
    tcase_add_test(t, test_put_cancelled);
    tcase_add_test(t, test_put_host_gone);
    tcase_add_test(t, test_put_agent_killed);
    tcase_add_test(t, test_put_is_atomic);
    tcase_add_test(t, test_get);
    tcase_add_test(t, test_mkdir);
    tcase_add_test(t, test_remove);
    tcase_add_test(t, test_remove_stays_in_its_file_system);
    tcase_add_test(t, test_usage);
    tcase_add_test(t, test_units_without_systemd);
    tcase_add_test(t, test_units);
    tcase_add_test(t, test_units_broken);
    tcase_add_test(t, test_power);
}

int main(void)
{
    return run_suite("agent-files", add);
}
