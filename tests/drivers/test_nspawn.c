/* Containers as they are: started, stopped, killed, adopted. Needs root and a tree (trial.h). */
#include "trial.h"

#include "drivers/cgroup.h"
#include "drivers/keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/path.h>

static struct trial trial, *const t = &trial;

/* The agent program of these tests, tests/drivers/shell.c, runs what it reads up to the end, as a shell, and gives
 * back the output with the exit status as the last byte. */
static int guest_sh(const char *line, char *output, size_t size)
{
    char all[64 << 10];
    size_t n = 0;
    ssize_t got;
    int fd;

    OK(t->drv->agent(&t->g, &t->p, deadline_in(10000), &fd, &t->e));
    OK(path_write_all(fd, line, strlen(line), &t->e));
    shutdown(fd, SHUT_WR);
    while (n < sizeof all && (got = read(fd, all + n, sizeof all - n)) > 0)
        n += (size_t)got;
    close(fd);
    ck_assert_msg(n >= 1, "no answer to: %s", line);
    n--;
    if (output)
        snprintf(output, size, "%.*s", (int)n, all);
    return (unsigned char)all[n];
}

START_TEST(test_read_only_root)
{
    trial_init(t, "trial-ro", 4003);
    t->spec.security.read_only_root = true;
    trial_start(t);
    ck_assert_int_ne(guest_sh("echo x >/root/file", NULL, 0), 0);
    ck_assert_int_eq(guest_sh("echo x >/run/file", NULL, 0), 0);
    trial_stop(t);
    trial_reap(t);
    trial_done(t);
}
END_TEST

/* ---- the end, however it comes ---- */

static pid_t state_pid(const char *key)
{
    char path[128], line[128];
    int pid = 0;
    FILE *f;

    snprintf(path, sizeof path, "%s/state", t->run);
    ck_assert_ptr_nonnull(f = fopen(path, "r"));
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == '=')
            pid = atoi(line + strlen(key) + 1);
    fclose(f);
    ck_assert_int_gt(pid, 1);
    return pid;
}

static const struct { const char *whom; enum drv_exit_kind kind; } kills[] = {
    {"keeper", EXIT_KILLED}, {"nspawn", EXIT_KILLED}, {"leader", EXIT_CRASH}};

START_TEST(test_N5_killed)
{
    trial_init(t, "trial-kill", 4010 + (uint32_t)_i);
    trial_start(t);
    ck_assert(kill(state_pid(kills[_i].whom), SIGKILL) == 0);
    trial_wait_end(t);
    struct drv_exit x = trial_reap(t);
    ck_assert_int_eq(x.kind, kills[_i].kind);
    ck_assert_msg(*x.text, "no reason given");
    trial_done(t);
}
END_TEST

/* Without vmsd: the keeper's death alone takes all of the guest along. */
START_TEST(test_keeper_killed_alone)
{
    trial_init(t, "trial-alone", 4014);
    trial_start(t);
    pid_t nspawn = state_pid("nspawn"), leader = state_pid("leader");
    ck_assert(kill(t->p.keeper.pid, SIGKILL) == 0);
    for (int i = 0; i < 500 && (kill(leader, 0) == 0 || kill(nspawn, 0) == 0); i++)
        usleep(10000);
    struct trial_rest r = trial_audit(t);
    ck_assert_msg(!r.processes && !r.loops && !r.mounts, "%u processes, %u loops left", r.processes, r.loops);
    trial_reap(t);
    trial_done(t);
}
END_TEST

/* A boot that takes too long is told and left running; a guest that ignores the wish to stop is killed in time. */
START_TEST(test_N9_hangs)
{
    trial_init_tiny(t, "trial-hang", 4031, "hang");
    OK(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e));
    ck_assert_int_eq(t->p.phase, DRV_STARTED);
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(300), &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_TIMEOUT);
    ck_assert_int_gt(trial_audit(t).processes, 0);
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(500), &t->e));
    ck_assert_int_ge(now_ms() - before, 500);
    ck_assert_int_lt(now_ms() - before, 2500);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    trial_done(t);
}
END_TEST

/* A keeper that answers nothing any more does not keep the guest alive. */
START_TEST(test_keeper_stopped)
{
    trial_init_tiny(t, "trial-sigstop", 4032, "hang");
    OK(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e));
    ck_assert(kill(t->p.keeper.pid, SIGSTOP) == 0);
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(100), &t->e));
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    trial_done(t);
}
END_TEST

/* G3, N9: a vmsd that was killed while it stopped a guest asks again, and so does the host that goes down: the guest has its time
 * all the same. */
START_TEST(test_asked_again)
{
    static const int asks[] = {SIGTERM, SIGTERM, KEEPER_SIG_HOST_DOWN, SIGTERM};

    trial_init_tiny(t, "trial-again", 4033, "hang");
    OK(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e));
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        ck_assert(kill(t->p.keeper.pid, asks[i]) == 0);
        sleep_ms(200);
    }
    ck_assert_msg(kill(state_pid("leader"), 0) == 0, "it was killed by a second word");
    ck_assert(kill(t->p.keeper.pid, SIGQUIT) == 0);
    trial_wait_end(t);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    trial_done(t);
}
END_TEST

/* L6: a state file whose pid is now someone else's. */
START_TEST(test_L6_recycled_pid)
{
    struct drv_proc p;
    char path[128], text[400];
    pid_t innocent = fork();

    if (innocent == 0)
        for (;;)
            pause();
    trial_init_tiny(t, "trial-l6", 4041, "hang");
    snprintf(path, sizeof path, "%s/state", t->run);
    snprintf(text, sizeof text, "phase=booted\nkeeper=%d 7\nnspawn=%d 7\nleader=%d 7\nboot=x\nend=none\nstatus=0\ntext=\n",
             innocent, innocent, innocent);
    trial_file(path, text);
    ck_assert_int_eq(t->drv->adopt(t->g.id, t->run, &p, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_ABSENT);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    ck_assert_int_eq(waitpid(innocent, NULL, WNOHANG), 0);
    kill(innocent, SIGKILL);
    waitpid(innocent, NULL, 0);
    trial_done(t);
}
END_TEST

/* G11: with run_dir wiped the guest is found by its cgroup, where it has one; and its image stays locked, so no second
 * one can start on it. */
START_TEST(test_G11_run_wiped)
{
    struct drv_proc p;
    char path[128];

    trial_init_tiny(t, "trial-g11", 4042, "hang");
    OK(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e));
    snprintf(path, sizeof path, "%s/state", t->run);
    ck_assert(unlink(path) == 0);
    if (t->drv->adopt(t->g.id, t->run, &p, &t->e) == 0)
        ck_assert_int_eq(p.keeper.pid, t->p.keeper.pid);
    else
        ck_assert_int_eq(t->e.code, VM_E_ABSENT);
    t->g.id++; /* even under another name */
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(5000), &p, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_CONFLICT);
    t->g.id--;
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(100), &t->e));
    trial_reap(t);
    trial_done(t);
}
END_TEST

/* ---- volumes and binds ---- */

START_TEST(test_mounts)
{
    char disk[128], file[128], out[400];
    struct stat st;

    trial_init(t, "trial-mounts", 4060);
    snprintf(disk, sizeof disk, "%s/disk.img", t->dir);
    trial_image(disk, 32);
    snprintf(file, sizeof file, "%s/file", t->dir);
    trial_file(file, "from the host\n");
    struct drv_mount mounts[] = {
        {.disk = true, .source = disk, .target = "/srv/data/inner", .mapped = true}, /* sorted after its parent */
        {.source = t->source, .target = "/srv/data", .mapped = true},
        {.source = t->source, .target = "/srv/ro", .mapped = true, .read_only = true},
        {.source = t->source, .target = "/srv/raw"},
        {.source = file, .target = "/srv/colon:comma,=file"},
    };
    t->g.mounts = mounts;
    t->g.n_mounts = ARRAY_LEN(mounts);
    trial_start(t);
    ck_assert_int_eq(guest_sh("stat -c %u /srv/data /srv/data/inner /srv/raw; cat /srv/colon*", out, sizeof out), 0);
    ck_assert_str_eq(out, "0\n0\n65534\nfrom the host\n");
    ck_assert_int_eq(guest_sh("echo a >/srv/data/a && echo b >/srv/data/inner/b", NULL, 0), 0);
    ck_assert_int_ne(guest_sh("echo c >/srv/ro/c", NULL, 0), 0);
    ck_assert_int_ne(guest_sh("mount -o remount,bind,rw /srv/ro && echo c >/srv/ro/c", NULL, 0), 0);
    ck_assert_int_ne(guest_sh("echo d >/srv/raw/d", NULL, 0), 0);
    ck_assert_int_eq(guest_sh("grep -E ' /srv/(data|ro|raw) ' /proc/self/mountinfo | grep -vc nosuid,nodev", out,
                              sizeof out), 1);
    snprintf(file, sizeof file, "%s/a", t->source);
    ck_assert(stat(file, &st) == 0);
    ck_assert_uint_eq(st.st_uid, 0);
    trial_stop(t);
    trial_reap(t);
    trial_start(t);
    ck_assert_int_eq(guest_sh("cat /srv/data/inner/b", out, sizeof out), 0);
    ck_assert_str_eq(out, "b\n");
    trial_stop(t);
    trial_reap(t);
    trial_done(t);
}
END_TEST

/* Start must fail and leave nothing. */
static void refused(const struct drv_mount *m, enum vm_errc code, const char *word)
{
    t->g.mounts = m;
    t->g.n_mounts = 1;
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == code && strstr(t->e.text, word), "%s: %s", m->target, t->e.text);
    trial_gone(t);
}

/* Makes links in the guest's own writable layer, as its root could, and starts it again. */
START_TEST(test_C2_target_is_link)
{
    char path[160];
    struct stat st;

    trial_init(t, "trial-c2", 4061);
    trial_start(t);
    ck_assert_int_eq(guest_sh("ln -s /proc /srv/proc; ln -s / /srv/up; ln -s /var/tmp /srv/host; mkdir /srv/dir; "
                                 "ln -s dir /srv/inside; touch /srv/afile", NULL, 0), 0);
    trial_stop(t);
    trial_reap(t);
    static const char *const links[] = {"/srv/proc", "/srv/proc/1", "/srv/up/etc", "/srv/host/vmsd-c2", "/srv/inside/x"};
    for (size_t i = 0; i < ARRAY_LEN(links); i++)
        refused(&(struct drv_mount){.source = t->source, .target = links[i], .mapped = true}, VM_E_BACKEND, "link");
    refused(&(struct drv_mount){.source = t->source, .target = "/srv/afile"}, VM_E_BACKEND, "a directory");
    snprintf(path, sizeof path, "%s/f", t->dir);
    trial_file(path, "x");
    refused(&(struct drv_mount){.source = path, .target = "/srv/dir"}, VM_E_BACKEND, "a file");
    ck_assert(stat("/var/tmp/vmsd-c2", &st) < 0 && errno == ENOENT);
    trial_done(t);
}
END_TEST

START_TEST(test_C3_refused_sources)
{
    char sock[160];

    trial_init_tiny(t, "trial-c3", 4062, "hang");
    snprintf(sock, sizeof sock, "%s/fifo", t->dir);
    ck_assert(mkfifo(sock, 0600) == 0);
    refused(&(struct drv_mount){.source = sock, .target = "/srv/x"}, VM_E_INVALID, "neither");
    refused(&(struct drv_mount){.source = "/proc", .target = "/srv/x"}, VM_E_DENIED, "kernel");
    refused(&(struct drv_mount){.source = "/sys/kernel", .target = "/srv/x"}, VM_E_DENIED, "kernel");
    refused(&(struct drv_mount){.source = "/dev", .target = "/srv/x"}, VM_E_DENIED, "kernel");
    refused(&(struct drv_mount){.source = t->run, .target = "/srv/x"}, VM_E_DENIED, "vmsd's own");
    refused(&(struct drv_mount){.source = "/", .target = "/srv/x"}, VM_E_DENIED, "vmsd's own");
    refused(&(struct drv_mount){.source = "/proc/self/fd/0", .target = "/srv/x"}, VM_E_SYSTEM, "open");
    refused(&(struct drv_mount){.source = "/var/tmp/vmsd-absent", .target = "/srv/x"}, VM_E_SYSTEM, "No such file");
    refused(&(struct drv_mount){.source = t->source, .target = "/srv/../etc"}, VM_E_INVALID, "plain");
    refused(&(struct drv_mount){.source = t->source, .target = "/"}, VM_E_INVALID, "plain");
    refused(&(struct drv_mount){.source = t->source, .target = "/run/x"}, VM_E_INVALID, "/run");
    trial_done(t);
}
END_TEST

/* D15: the directories that nspawn reaches by name, turned into links by the guest's root. */
START_TEST(test_D15_links_for_dev)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "run", "tmp", "etc"};
    char path[300], cmd[400];

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        trial_init_tiny(t, "trial-d15", 4063 + (uint32_t)i, "hang");
        snprintf(path, sizeof path, "%s/%s", t->tree, dirs[i]);
        snprintf(cmd, sizeof cmd, "/%s is no directory", dirs[i]);
        ck_assert(rmdir(path) == 0 && symlink("/var/tmp", path) == 0);
        ck_assert_int_eq(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e), -1);
        ck_assert_msg(strstr(t->e.text, dirs[i]) && strstr(t->e.text, "no directory"), "%s", t->e.text);
        trial_done(t);
    }
    ck_assert(access("/var/tmp/null", F_OK) < 0);
}
END_TEST

/* What only nspawn or the file system would complain of: one line that names it, and nothing left. */
START_TEST(test_failed_starts)
{
    trial_init_tiny(t, "trial-fail", 4070, "hang");
    t->g.image = t->source; /* empty: no os-release */
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e), -1);
    ck_assert_msg(strstr(t->e.text, "os-release") != NULL, "%s", t->e.text);
    trial_gone(t);
    t->g.image = t->tree;
    ck_assert(truncate(t->root, 0) == 0 && truncate(t->root, 1 << 20) == 0);
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e), -1);
    ck_assert_msg(strstr(t->e.text, "the root image") != NULL, "%s", t->e.text);
    trial_done(t);
}
END_TEST

/* ---- the guest from outside ---- */

START_TEST(test_D13_D14_agent)
{
    char out[4000];

    trial_init(t, "trial-agent", 4080);
    t->spec.security.no_new_privileges = true;
    trial_start(t);
    ck_assert_int_eq(guest_sh("readlink /proc/$PPID/exe; ls /proc/$PPID/fd | tr '\\n' ' '", out, sizeof out), 0);
    ck_assert_str_eq(out, "/memfd:vms-agent (deleted)\n0 1 2 3 ");
    ck_assert_int_ne(guest_sh("echo x >/proc/$PPID/exe", NULL, 0), 0);
    ck_assert_msg(guest_sh("a=$(grep -E 'CapBnd|NoNew' /proc/1/status); "
                                 "b=$(grep -E 'CapBnd|NoNew' /proc/$PPID/status); test \"$a\" = \"$b\" || "
                                 "{ echo \"$a\"; echo \"$b\"; false; }", out, sizeof out) == 0, "%s", out);
    ck_assert_int_eq(guest_sh("for n in cgroup ipc mnt net pid user uts; do "
                                 "test $(readlink /proc/1/ns/$n) = $(readlink /proc/$PPID/ns/$n) || echo $n; done", out,
                              sizeof out), 0);
    ck_assert_str_eq(out, "");
    /* J2: neither the keeper's nor vmsd's favour with the OOM killer goes to the guest, nor can its root take it. */
    ck_assert_int_eq(guest_sh("cat /proc/1/oom_score_adj /proc/self/oom_score_adj; "
                                 "echo -500 >/proc/self/oom_score_adj 2>/dev/null; cat /proc/self/oom_score_adj", out,
                              sizeof out), 0);
    ck_assert_str_eq(out, "0\n0\n0\n");
    ck_assert_int_eq(guest_sh("tr '\\0' '\\n' </proc/$PPID/environ | cut -d= -f1 | tr '\\n' ' '", out, sizeof out), 0);
    ck_assert_str_eq(out, "PATH HOME LANG ");
    ck_assert_int_eq(guest_sh("dmesg && echo read the kernel log; grep Seccomp: /proc/$PPID/status", out, sizeof out), 0);
    ck_assert_msg(strstr(out, "not permitted\n") && strstr(out, "Seccomp:\t2\n") && !strstr(out, "kernel log\n"), "%s", out);
    trial_stop(t);
    trial_reap(t);
    trial_done(t);
}
END_TEST

START_TEST(test_stats_and_limits)
{
    struct drv_stats s;
    char out[64];

    trial_init(t, "trial-stats", 4081);
    trial_start(t);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
    struct drv_host h;
    drv_host_probe(&h);
    ck_assert(!h.cgroup_memory || (s.memory > 1 << 20 && s.memory < 512 << 20 && s.memory_limit == 512 << 20));
    ck_assert(!h.cgroup_pids || (s.pids > 1 && s.pids < 200));
    t->spec.memory = 256 << 20;
    t->spec.limits.pids = 40;
    OK(t->drv->limits(&t->g, &t->p, &t->e));
    OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
    ck_assert(!h.cgroup_memory || s.memory_limit == 256 << 20);
    /* D17: also what the agent runs is held by the limit. */
    if (h.cgroup_pids) {
        guest_sh("for i in $(seq 60); do sleep 3 & done 2>/dev/null; echo", out, sizeof out);
        OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
        ck_assert_uint_le(s.pids, 40);
    }
    trial_stop(t);
    trial_reap(t);
    trial_done(t);
}
END_TEST

/* What a host's cgroups do not have is borne, also when limits change. Version 2, as it is where version 1 has the controllers. */
START_TEST(test_limits_without_controllers)
{
    struct drv_host h = {0};
    struct cgroup c;
    dev_t device = makedev(7, 0);

    ck_assert(unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
              mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 0, NULL) == 0);
    drv_host_probe(&h);
    ck_assert(h.cgroup2);
    if (h.cgroup_io)
        return;
    trial_describe(t, "nspawn", "trial-poor", 4083);
    cgroup_of(t->g.id, &c);
    OK(cgroup_make(&c, 0, &t->e));
    OK(cgroup_limits(&c, &t->spec, &device, 1, &t->e));
    OK(cgroup_remove(&c, &t->e));
}
END_TEST

START_TEST(test_netns)
{
    struct stat guest, host;
    int fd;

    trial_init_tiny(t, "trial-net", 4082, "hang");
    OK(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e));
    OK(t->drv->netns(&t->p, &fd, &t->e));
    ck_assert(fstat(fd, &guest) == 0 && stat("/proc/self/ns/net", &host) == 0 && guest.st_ino != host.st_ino);
    close(fd);
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(100), &t->e));
    ck_assert_int_eq(t->drv->netns(&t->p, &fd, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_ABSENT);
    trial_reap(t);
    trial_done(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("nspawn");
    TCase *c = tcase_create("containers");

    tcase_set_timeout(c, 120);
    tcase_add_test(c, test_read_only_root);
    tcase_add_loop_test(c, test_N5_killed, 0, ARRAY_LEN(kills));
    tcase_add_test(c, test_keeper_killed_alone);
    tcase_add_test(c, test_N9_hangs);
    tcase_add_test(c, test_keeper_stopped);
    tcase_add_test(c, test_asked_again);
    tcase_add_test(c, test_L6_recycled_pid);
    tcase_add_test(c, test_G11_run_wiped);
    tcase_add_test(c, test_mounts);
    tcase_add_test(c, test_C2_target_is_link);
    tcase_add_test(c, test_C3_refused_sources);
    tcase_add_test(c, test_D15_links_for_dev);
    tcase_add_test(c, test_failed_starts);
    tcase_add_test(c, test_D13_D14_agent);
    tcase_add_test(c, test_stats_and_limits);
    tcase_add_test(c, test_limits_without_controllers);
    tcase_add_test(c, test_netns);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    const char *why = trial_missing();

    if (why) {
        printf("skipped: %s\n", why);
        return 77;
    }
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    trial_sweep(4000);
    return failed != 0;
}
