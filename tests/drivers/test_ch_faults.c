/* The cloud-hypervisor driver, its keeper and its shares over a double of the VMM: starts that fail, and every way to end.
 * Needs root. */
#include "ch_trial.h"

#include <dirent.h>
#include <drivers/shares.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/path.h>

/* The end that comes by itself, once it is set off. */
static struct drv_exit own_end(void)
{
    struct drv_stats s;

    trial_start(t);
    t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e); /* vm.counters: what the script waits for */
    trial_wait_end(t);
    return trial_reap(t);
}

/* ---- ends ---- */

static const struct {
    const char *script;
    enum drv_exit_kind kind;
    const char *words;
} ends[] = {
    {"on vm.counters event vm rebooting\n", EXIT_REBOOT, ""},
    {"on vm.counters event vm shutdown\non vm.counters die 0\n", EXIT_POWEROFF, ""},
    {"on vm.counters say [   1.5] Kernel panic - not syncing: VFS\non vm.counters say more\non vm.counters event guest panic panic\n",
     EXIT_PANIC, "Kernel panic - not syncing: VFS"},
    /* A kernel that could not tell of its panic. */
    {"on vm.counters say Kernel panic - not syncing: init\non vm.counters event vm rebooting\n", EXIT_PANIC,
     "Kernel panic - not syncing: init"},
    {"on vm.counters event guest panic panic\n", EXIT_PANIC, "its kernel panicked"},
    {"on vm.counters die 1\n", EXIT_CRASH, "the double was told to die"},
    {"on vm.counters fault 8\n", EXIT_CRASH, "signal 11"},
    /* Events that nobody knows, broken ones, and too many change nothing of what comes after. */
    {"on vm.boot event vm dancing\non vm.boot garbage\non vm.counters garbage\non vm.counters event vm rebooting\n", EXIT_REBOOT, ""},
    {"on vm.counters flood 2000\non vm.counters event vm rebooting\n", EXIT_REBOOT, ""},
    /* With a crash kernel the guest goes on by itself. */
    {"on vm.counters event guest panic crash_loaded\non vm.counters event vm rebooting\n", EXIT_REBOOT, ""},
};

START_TEST(test_N5_ends)
{
    struct drv_exit x;

    guest_init(10 + (unsigned)_i, ends[_i].script);
    x = own_end();
    ck_assert_msg(x.kind == ends[_i].kind, "%d: %s", x.kind, x.text);
    ck_assert_msg(strstr(x.text, ends[_i].words) != NULL, "%s", x.text);
    trial_done(t);
}
END_TEST

static unsigned open_files(void)
{
    DIR *d = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

/* D10, D12: however often it reboots, or takes its VMM down, nothing adds up. */
START_TEST(test_D10_D12_again_and_again)
{
    static const char *const scripts[] = {"on vm.counters event vm rebooting\n", "on vm.counters fault 11\n"};
    unsigned before = 0;

    guest_init(6 + (unsigned)_i, scripts[_i]);
    for (int i = 0; i < 30; i++) {
        struct drv_exit x = own_end();

        ck_assert_msg(x.kind == (_i ? EXIT_CRASH : EXIT_REBOOT), "%d: %s", x.kind, x.text);
        trial_gone(t);
        before = i == 2 ? open_files() : before; /* what is kept for the next time is there by then */
    }
    ck_assert_uint_eq(open_files(), before);
    trial_done(t);
}
END_TEST

static const struct { bool keeper; int sig; } kills[] = {{true, SIGKILL}, {false, SIGKILL}};

START_TEST(test_N5_killed)
{
    struct drv_exit x;

    guest_init(30 + (unsigned)_i, "");
    guest_share(1, "/srv/share", false);
    trial_start(t);
    kill(kills[_i].keeper ? t->p.keeper.pid : t->p.leader, kills[_i].sig);
    trial_wait_end(t);
    x = trial_reap(t);
    ck_assert_msg(x.kind == EXIT_KILLED, "%d: %s", x.kind, x.text);
    trial_done(t);
}
END_TEST

/* Asked to power off, it does not: killed when the time is over, and not before. */
START_TEST(test_stop_refused)
{
    guest_init(33, "on vm.power-button status 500 []\n");
    trial_start(t);
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(700), &t->e));
    ck_assert_int_ge(now_ms() - before, 700);
    ck_assert_int_lt(now_ms() - before, 3000);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    trial_done(t);
}
END_TEST

/* A VMM that hangs in a call: everybody else is answered in time, and it can be stopped. */
START_TEST(test_N9_hangs)
{
    struct drv_stats s;

    guest_init(34, "on vm.counters hang\n");
    trial_start(t);
    int64_t before = now_ms();
    OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
    t->spec.memory = 512 << 20;
    OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
    ck_assert_int_lt(now_ms() - before, 3000);
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(200), &t->e));
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    trial_done(t);
}
END_TEST

/* ---- starts that fail ---- */

static const char *const steps[] = {"vm.create", "vm.add-net", "vm.boot"};

START_TEST(test_N5_dies_at_step)
{
    char script[200];

    snprintf(script, sizeof script, "on %s die 1\n", steps[_i]);
    guest_init(40 + (unsigned)_i, script);
    guest_tap();
    guest_start_fails(VM_E_BACKEND, "the double was told to die");
    trial_done(t);
    close(tap.fd);
}
END_TEST

static const struct { const char *what; enum vm_errc code; const char *words; } bad[] = {
    {"status 500 [\"Error from API\",\"The VM could not boot\",\"no such thing\"]", VM_E_BACKEND,
     "Error from API: The VM could not boot: no such thing"},
    {"status 500 plain words\x1b[2J", VM_E_BACKEND, "plain words\\x1B[2J"},
    {"status 400 {\"error\": \"broken\njson", VM_E_BACKEND, "says 400"},
    {"status 429 [\"busy\"]", VM_E_CONFLICT, "busy"},
    {"torn", VM_E_BACKEND, "broke off"},
    {"hang", VM_E_TIMEOUT, "did not answer in time"},
    {"endless", VM_E_BACKEND, "has no end"},
};

START_TEST(test_N6_bad_answers)
{
    char script[300];
    size_t step = (size_t)_i % ARRAY_LEN(steps), how = (size_t)_i / ARRAY_LEN(steps);

    snprintf(script, sizeof script, "on %s %s\n", steps[step], bad[how].what);
    guest_init(50 + (unsigned)_i, script);
    guest_tap();
    guest_start_fails(bad[how].code, bad[how].words);
    trial_done(t);
    close(tap.fd);
}
END_TEST

START_TEST(test_N7_failed_starts)
{
    guest_init(80, "on start die 1\n");
    guest_start_fails(VM_E_BACKEND, "the double was told to die");
    trial_file(paths[PATH_KERNEL], "on vm.boot fault 11\n");
    guest_start_fails(VM_E_BACKEND, "ended by signal 11");
    t->g.kernel = "/var/tmp/vmsd-absent";
    guest_start_fails(VM_E_SYSTEM, "vmsd-absent");
    t->g.kernel = paths[PATH_KERNEL];
    ck_assert(chmod(paths[PATH_KERNEL], 0600) == 0);
    guest_start_fails(VM_E_DENIED, "chmod o+r");
    ck_assert(chmod(paths[PATH_KERNEL], 0644) == 0);
    mounts[1] = (struct drv_mount){.source = paths[PATH_KERNEL], .target = "/srv/file"};
    t->g.n_mounts = 2;
    guest_start_fails(VM_E_INVALID, "only directories");
    mounts[1] = (struct drv_mount){.source = "/proc", .target = "/srv/proc"};
    guest_start_fails(VM_E_DENIED, "kernel");
    t->g.n_mounts = 1;
    setenv("VMS_CLOUD_HYPERVISOR", "/var/tmp/vmsd-absent", 1);
    guest_start_fails(VM_E_UNAVAILABLE, "cloud-hypervisor is not");
    setenv("VMS_CLOUD_HYPERVISOR", DOUBLE_PROGRAM, 1);
    trial_done(t);
}
END_TEST

/* Two guests on one writable disk: the second is refused. */
START_TEST(test_disk_locked)
{
    static struct trial other;
    char first[96];

    guest_init(81, "");
    snprintf(first, sizeof first, "%s", t->root);
    trial_start(t);
    other = trial;
    guest_init(82, "");
    t->g.root = first;
    guest_start_fails(VM_E_CONFLICT, "in use by another running guest");
    trial_done(t);
    trial = other;
    guest_over();
}
END_TEST

START_TEST(test_probe)
{
    struct drv_report r;

    guest_init(83, "");
    setenv("VMS_CLOUD_HYPERVISOR", OLD_PROGRAM, 1);
    t->drv->probe(&r);
    ck_assert(!r.usable && strstr(r.why, "v50") && strstr(r.hint, "v51"));
    setenv("VMS_CLOUD_HYPERVISOR", "/var/tmp/vmsd-absent", 1);
    t->drv->probe(&r);
    ck_assert(!r.usable && strstr(r.why, "vmsd-absent") && *r.hint);
    setenv("VMS_CLOUD_HYPERVISOR", DOUBLE_PROGRAM, 1);
    t->drv->probe(&r);
    ck_assert_str_eq(r.version, "cloud-hypervisor v53.0.0");
    trial_done(t);
}
END_TEST

/* ---- shares ---- */

static void children_of(pid_t parent, pid_t *out, size_t n)
{
    char path[64], text[512] = "", *at = text, *word;
    int fd;
    size_t i = 0;

    memset(out, 0, n * sizeof *out);
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && read(fd, text, sizeof text - 1) >= 0);
    close(fd);
    while ((word = strsep(&at, " ")) && i < n)
        if (*word)
            out[i++] = (pid_t)strtol(word, NULL, 10);
}

/* A virtiofsd dies: the guest does as well, and that is the reason. */
START_TEST(test_share_dies)
{
    pid_t pids[3];
    struct drv_exit x;

    guest_init(100, "");
    guest_share(1, "/srv/share", false);
    guest_share(2, "/srv/ro", true);
    trial_start(t);
    children_of(t->p.keeper.pid, pids, 3);
    for (int i = 0; i < 3; i++)
        if (pids[i] != t->p.leader) {
            kill(pids[i], SIGKILL);
            break;
        }
    trial_wait_end(t);
    x = trial_reap(t);
    ck_assert_msg(x.kind == EXIT_CRASH && strstr(x.text, "virtiofsd of /srv/share ended: killed"), "%d: %s", x.kind, x.text);
    trial_done(t);
}
END_TEST

/* Somebody who uses shares, as QEMU would: the guest's user, connected to one of them. */
static pid_t user_start(const char *path, struct proc_id *id)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int ready[2];
    char byte;
    pid_t pid;

    snprintf(a.sun_path, sizeof a.sun_path, "%.107s", path);
    ck_assert(pipe(ready) == 0 && chmod(t->dir, 0711) == 0);
    if ((pid = fork()) == 0) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        if (setresgid(t->g.uid_base, t->g.uid_base, t->g.uid_base) < 0 ||
            setresuid(t->g.uid_base, t->g.uid_base, t->g.uid_base) < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
            write(ready[1], "", 1) != 1)
            _exit(1);
        pause();
        _exit(0);
    }
    ck_assert(read(ready[0], &byte, 1) == 1 && proc_id_of(pid, id, NULL) == 0);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

START_TEST(test_shares_alone)
{
    OWN(shares) struct shares s = SHARES_NONE;
    char path[SHARES_SOCKET], why[200];
    struct proc_id user;
    pid_t pid, pids[1];
    int status;

    guest_init(101, "");
    guest_share(1, "/srv/share", false);
    for (int dies = 0; dies < 2; dies++) {
        OK(shares_start(&t->g, deadline_in(5000), &s, &t->e));
        shares_socket(t->run, 1, path);
        pid = user_start(path, &user);
        OK(shares_give(&s, &user, &t->e));
        children_of(s.keeper.pid, pids, 1);
        sleep_ms(100);
        kill(dies ? pids[0] : pid, SIGKILL);
        ck_assert(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status));
        OK(shares_reap(t->g.id, t->run, why, sizeof why, &t->e));
        ck_assert_msg(dies ? strstr(why, "virtiofsd of /srv/share ended") != NULL : !*why, "%s", why);
        trial_gone(t);
    }
    /* Nobody was told of: they end with whoever started them. */
    OK(shares_start(&t->g, deadline_in(5000), &s, &t->e));
    s.tell = fd_drop(s.tell);
    OK(shares_reap(t->g.id, t->run, why, sizeof why, &t->e));
    trial_done(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cloud-hypervisor, faults");
    TCase *c = tcase_create("double"), *v = tcase_create("virtiofsd");

    tcase_set_timeout(c, 60);
    tcase_add_loop_test(c, test_N5_ends, 0, ARRAY_LEN(ends));
    tcase_add_loop_test(c, test_D10_D12_again_and_again, 0, 2);
    tcase_add_test(c, test_stop_refused);
    tcase_add_test(c, test_N9_hangs);
    tcase_add_loop_test(c, test_N5_dies_at_step, 0, ARRAY_LEN(steps));
    tcase_add_loop_test(c, test_N6_bad_answers, 0, (int)(ARRAY_LEN(bad) * ARRAY_LEN(steps)));
    tcase_add_test(c, test_N7_failed_starts);
    tcase_add_test(c, test_disk_locked);
    tcase_add_test(c, test_probe);
    suite_add_tcase(s, c);
    tcase_set_timeout(v, 60);
    tcase_add_loop_test(v, test_N5_killed, 0, ARRAY_LEN(kills));
    tcase_add_test(v, test_share_dies);
    tcase_add_test(v, test_shares_alone);
    return suite_run(s, v);
}
