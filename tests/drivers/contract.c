/* What <vmsd/driver.h> promises, tried on one driver with real guests: test_contract DRIVER. docs/drivers.md has the
 * promises in words. Needs root, and what the driver needs (contract.h); else it is skipped and says why.
 *
 * Boots of a microVM are dear where processors are emulated. So most tests share one guest: the first of them starts it,
 * and each other one, a process of its own, adopts it. */
#include "contract.h"

#include "../../drivers/keeper.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SHARED = 0 };

static struct subject subject, *const s = &subject;
static struct trial *const t = &subject.t;

static bool boots_kernel(void)
{
    return t->drv->can & DRV_BOOTS_KERNEL;
}

/* ---- without a guest ---- */

START_TEST(test_probe)
{
    struct drv_report r;

    subject_describe(s, SHARED);
    t->drv->probe(&r);
    ck_assert(r.usable && *r.version);
    ck_assert(t->drv == driver_by_name(t->drv->name));
    ck_assert(!t->drv->netns == !!(t->drv->can & DRV_TAKES_TAPS));
    ck_assert(t->drv->start && t->drv->wait_booted && t->drv->adopt && t->drv->stop && t->drv->reap && t->drv->agent &&
              t->drv->stats && t->drv->limits && t->drv->grow);
}
END_TEST

static void assert_absent(void)
{
    struct drv_proc p;

    ck_assert_int_eq(t->drv->adopt(t->g.id, t->run, &p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_ABSENT, "%s", t->e.text);
}

/* N4: whoever ended it, to end it is done; and what it was cannot be told. */
START_TEST(test_nothing_there)
{
    pid_t pid = fork();

    if (pid == 0)
        for (;;)
            pause();
    subject_init(s, 1);
    OK(proc_id_of(pid, &t->p.keeper, &t->e));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    t->p.leader = pid;
    assert_absent();
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(20000), &t->e));
    ck_assert_int_lt(now_ms() - before, 5000);
    struct drv_exit x = trial_reap(t);
    ck_assert(x.kind == EXIT_UNKNOWN && *x.text);
    subject_done(s);
}
END_TEST

static void no_image(void) { t->g.image = "/var/tmp/vmsd-absent"; }
static void no_root(void) { ck_assert(unlink(t->root) == 0); }
static void no_volume(void) { ck_assert(unlink(s->disk) == 0); }
static void no_source(void) { s->mounts[1].source = "/var/tmp/vmsd-absent"; }
static void no_kernel(void) { t->g.kernel = "/var/tmp/vmsd-absent"; }

static void kernel_is_text(void)
{
    static char path[128];

    snprintf(path, sizeof path, "%s/kernel", t->dir);
    trial_file(path, "This is no kernel.\n");
    t->g.kernel = path;
}

static const struct { const char *named; void (*spoil)(void); bool kernel; } spoilt[] = {
    {"vmsd-absent", no_image, false}, {"root.img", no_root, false},   {"disk.img", no_volume, false},
    {"vmsd-absent", no_source, false}, {"vmsd-absent", no_kernel, true}, {"kernel", kernel_is_text, true},
};

/* One line that names it, and nothing left. */
START_TEST(test_failed_start)
{
    subject_init(s, 20 + (unsigned)_i);
    if (boots_kernel() || !spoilt[_i].kernel) {
        spoilt[_i].spoil();
        ck_assert_int_eq(subject_start(s, deadline_in(START_MS)), -1);
        ck_assert_msg(strstr(t->e.text, spoilt[_i].named) && !strchr(t->e.text, '\n'), "%s", t->e.text);
        assert_absent();
    }
    subject_done(s);
}
END_TEST

START_TEST(test_start_without_time)
{
    subject_init(s, 2);
    int64_t before = now_ms();
    ck_assert_int_eq(subject_start(s, deadline_in(0)), -1);
    ck_assert_msg(t->e.code == VM_E_TIMEOUT, "%s", t->e.text);
    ck_assert_int_lt(now_ms() - before, 15000); /* on an emulated host, what was begun takes its time to end */
    subject_done(s);
}
END_TEST

/* ---- one guest for all ---- */

START_TEST(test_start)
{
    subject_init(s, SHARED);
    OK(subject_start(s, deadline_in(START_MS)));
    ck_assert_int_ge(t->p.phase, DRV_STARTED);
    ck_assert_int_gt(t->p.leader, 1);
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(1), &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_TIMEOUT, "%s", t->e.text);
    OK(t->drv->wait_booted(&t->g, &t->p, deadline_in(BOOT_MS), &t->e)); /* so it was left running */
    ck_assert_int_eq(t->p.phase, DRV_BOOTED);
    ck_assert(subject_answers(s));
}
END_TEST

static void shared_adopt(void)
{
    subject_adopt(s, SHARED);
}

START_TEST(test_adopted)
{
    struct drv_proc p;
    struct drv_exit x;
    OWN(fd) int keeper = proc_id_open(&t->p.keeper, &t->e);

    ck_assert_int_ge(keeper, 0);
    ck_assert_int_eq(t->p.phase, DRV_BOOTED);
    ck_assert_int_gt(t->p.leader, 1);
    OK(t->drv->wait_booted(&t->g, &t->p, deadline_in(5000), &t->e));
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(5000), &p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT, "%s", t->e.text);
    ck_assert_int_eq(t->drv->reap(t->g.id, t->run, &x, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT, "%s", t->e.text);
    ck_assert(subject_answers(s));
}
END_TEST

START_TEST(test_agent)
{
    char out[200];
    int fd;

    ck_assert_int_eq(subject_sh(s, "echo $(id -u) $(uname -s); hostname; exit 7", out, sizeof out), 7);
    ck_assert_str_eq(out, "0 Linux\ncontract-0\n");
    int64_t before = now_ms();
    if (t->drv->agent(&t->g, &t->p, deadline_in(0), &fd, &t->e) == 0)
        close(fd); /* some need no time for it */
    ck_assert_int_lt(now_ms() - before, 2000);
}
END_TEST

/* The tap is its nic, by the name and address that its setup says. */
START_TEST(test_nic)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(9)};
    char out[400];

    if (!(t->drv->can & DRV_TAKES_TAPS))
        return;
    ck_assert_int_eq(subject_sh(s, "cat /sys/class/net/host0/address", out, sizeof out), 0);
    ck_assert_str_eq(out, SUBJECT_MAC "\n");
    OWN(fd) int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    inet_pton(AF_INET, SUBJECT_HOST, &a.sin_addr);
    ck_assert(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 1) == 0);
    ck_assert_int_eq(subject_sh(s, "bash -c '>/dev/tcp/" SUBJECT_HOST "/9'", NULL, 0), 0);
}
END_TEST

START_TEST(test_A7_token)
{
    struct answer a;

    if (!*s->token)
        return;
    ck_assert(!subject_ask(s, "00000000000000000000000000000000", 3000, &a, "op=ping", NULL));
    ck_assert(!subject_ask(s, NULL, 3000, &a, "op=ping", NULL));
    ck_assert(subject_answers(s));
}
END_TEST

/* D3: whoever turns away from endless output has lost nothing, and neither has the next session. */
START_TEST(test_D3_endless_output)
{
    struct answer a;

    ck_assert(!subject_ask(s, s->token, 1000, &a, "op=exec", "arg=yes", NULL));
    ck_assert_int_eq(strncmp(a.output, "y\ny\n", 4), 0);
    ck_assert(subject_answers(s));
}
END_TEST

START_TEST(test_D11_console_flood)
{
    off_t total = 0;

    subject_sh(s, "timeout 4 yes 0123456789012345678901234567890123456789012345678901234567890123456789 >/dev/console", NULL, 0);
    for (int i = 0; i < 2; i++) {
        char path[128];
        struct stat st;

        snprintf(path, sizeof path, "%s/console.log%s", t->log, i ? ".1" : "");
        total += stat(path, &st) == 0 ? st.st_size : 0;
    }
    ck_assert_int_gt(total, 4 << 10);
    ck_assert_int_le(total, 4 << 20);
    ck_assert(subject_answers(s));
}
END_TEST

START_TEST(test_stats)
{
    struct drv_stats before, after;
    struct drv_host h;

    drv_host_probe(&h);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &before, &t->e));
    subject_sh(s, "timeout 2 sh -c 'while :; do :; done'", NULL, 0);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &after, &t->e));
    if (h.cgroup_cpu || boots_kernel())
        ck_assert_msg(after.cpu_seconds - before.cpu_seconds > 0.2 && after.cpu_seconds - before.cpu_seconds < 60,
                      "%g then %g", before.cpu_seconds, after.cpu_seconds);
    if (h.cgroup_memory || boots_kernel())
        ck_assert_msg(after.memory > 1 << 20 && after.memory < (uint64_t)2 << 30, "%llu", (unsigned long long)after.memory);
    if (after.memory_peak != UINT64_MAX && after.memory != UINT64_MAX)
        ck_assert_uint_ge(after.memory_peak, after.memory / 2);
}
END_TEST

START_TEST(test_limits)
{
    uint64_t memory = t->spec.memory;
    struct drv_stats st;
    char out[32];

    t->spec.limits.pids = 500;
    t->spec.cpus = t->drv->can & DRV_RESIZES ? 2 : 1;
    OK(t->drv->limits(&t->g, &t->p, &t->e));
    OK(t->drv->limits(&t->g, &t->p, &t->e)); /* again is nothing new */
    OK(t->drv->stats(t->g.id, t->run, &t->p, &st, &t->e));
    ck_assert(st.memory_limit == UINT64_MAX || st.memory_limit >= memory);
    if (t->drv->can & DRV_RESIZES) {
        struct answer a;

        ck_assert(subject_ask(s, s->token, 30000, &a, "op=setup", "hostname=contract-0", NULL) && a.r.ok);
        ck_assert_int_eq(subject_sh(s, "nproc", out, sizeof out), 0);
        ck_assert_str_eq(out, "2\n");
    }
    ck_assert(subject_answers(s));
}
END_TEST

START_TEST(test_mounts)
{
    char path[128], out[400];
    struct stat st;

    ck_assert_int_eq(subject_sh(s, "cat /srv/share/hello /srv/ro/hello; stat -c %u:%g /srv/share /srv/data /srv/ro/hello", out,
                                sizeof out), 0);
    ck_assert_str_eq(out, "from the host\nfrom the host\n0:0\n0:0\n0:0\n");
    ck_assert_int_eq(subject_sh(s, "echo in >/srv/share/in && chown games:games /srv/share/in && stat -c %U /srv/share/in; "
                                   "echo data >/srv/data/file", out, sizeof out), 0);
    ck_assert_str_eq(out, "games\n");
    snprintf(path, sizeof path, "%s/in", t->source);
    ck_assert(stat(path, &st) == 0);
    ck_assert_uint_eq(st.st_uid, 5);
    ck_assert_int_ne(subject_sh(s, "echo x >/srv/ro/new", NULL, 0), 0);
    ck_assert_int_ne(subject_sh(s, "mount -o remount,bind,rw /srv/ro; mount -o remount,rw /srv/ro; echo x >/srv/ro/new", NULL, 0), 0);
    snprintf(path, sizeof path, "%s/new", t->source);
    ck_assert(access(path, F_OK) < 0);
}
END_TEST

/* ---- who else may reach it ---- */

static void become(uid_t uid)
{
    if (setgroups(0, NULL) < 0 || setgid(uid) < 0 || setuid(uid) < 0)
        _exit(2);
}

static bool connects(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "%.100s", name);
    return connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno != EACCES;
}

/* A6: all that a driver left in run_dir, tried by a user who stands before it; 1: something opened. */
static int try_all(uid_t uid)
{
    DIR *d = opendir(t->run);
    const struct dirent *de;
    int status;
    pid_t pid = fork();

    ck_assert(d != NULL);
    if (pid == 0) {
        if (chdir(t->run) < 0)
            _exit(2);
        become(uid);
        while ((de = readdir(d))) {
            const char *name = de->d_name;

            if (*name != '.' && (de->d_type == DT_SOCK ? connects(name) : open(name, O_RDONLY | O_CLOEXEC) >= 0)) {
                fprintf(stderr, "%s is open to user %u\n", name, uid);
                _exit(1);
            }
        }
        _exit(0);
    }
    closedir(d);
    ck_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(test_A6_sockets_of_others)
{
    enum { NOBODY = 65534 };
    char line[512];
    FILE *f = fopen("/proc/net/unix", "re");

    ck_assert_int_eq(try_all(NOBODY), 0);
    ck_assert_int_eq(try_all(t->g.uid_base + KEEPER_IDS), 0); /* of the next guest */
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) /* an abstract one is anybody's */
        ck_assert_msg(!strchr(line, '@') || !strstr(line, "vms"), "%s", line);
    fclose(f);
}
END_TEST

/* D16, D19: what the guest's root makes in a share acts on nobody, inside or outside. */
START_TEST(test_D16_D19_share)
{
    char path[128], out[200];
    struct stat st;

    ck_assert_int_eq(subject_sh(s, "cd /srv/share && cp /usr/bin/id root && chmod 4755 root && setpriv --reuid 65534 ./root -u", out,
                                sizeof out), 0);
    ck_assert_str_eq(out, "65534\n");
    ck_assert_int_ne(subject_sh(s, "cd /srv/share && mknod null c 1 3 && echo x >null", NULL, 0), 0);
    ck_assert_int_eq(subject_sh(s, "cd /srv/share && rm -f root null && ln -s ../log out && ln -s / top && ls top/", NULL, 0), 0);
    snprintf(path, sizeof path, "%s/top", t->source);
    ck_assert(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
    ck_assert_int_ne(subject_sh(s, "ls /srv/share/out/console.log", NULL, 0), 0);
    ck_assert_int_eq(subject_sh(s, "rm /srv/share/out /srv/share/top", NULL, 0), 0);
}
END_TEST

static unsigned long blocks(const char *dir)
{
    char line[64], out[64];

    snprintf(line, sizeof line, "stat -f -c %%b %s", dir);
    ck_assert_int_eq(subject_sh(s, line, out, sizeof out), 0);
    return strtoul(out, NULL, 10);
}

static bool grow(const char *file, off_t size, const char *serial)
{
    struct answer a;

    ck_assert(truncate(file, size) == 0);
    if (t->drv->grow(&t->g, &t->p, file, &t->e) < 0) {
        ck_assert_msg(!boots_kernel() && t->e.sys == EPERM, "%s", t->e.text); /* a host without CAP_SYS_RESOURCE */
        return false;
    }
    if (boots_kernel())
        ck_assert_msg(subject_ask(s, s->token, 60000, &a, "op=grow", serial, NULL) && a.r.ok, "%s", a.r.error);
    return true;
}

START_TEST(test_grow)
{
    unsigned long data = blocks("/srv/data"), root = blocks("/");

    ck_assert(!grow(s->disk, 64 << 20, "disk=vol0") || blocks("/srv/data") > data + data / 2);
    ck_assert(!grow(t->root, 512 << 20, "disk=root") || blocks("/") > root + root / 2);
    ck_assert_int_eq(t->drv->grow(&t->g, &t->p, "/etc/hostname", &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_ABSENT, "%s", t->e.text);
}
END_TEST

/* ---- a neighbour that comes and goes ---- */

static struct subject shared;

static void neighbour_init(unsigned n)
{
    subject_adopt(&shared, SHARED);
    subject_init(s, n);
}

/* Nothing of it is left, and the shared guest never noticed. */
static void neighbour_done(void)
{
    struct drv_proc p;

    assert_absent();
    subject_done(s);
    OK(t->drv->adopt(shared.t.g.id, shared.t.run, &p, &t->e));
    ck_assert(p.keeper.pid == shared.t.p.keeper.pid && p.keeper.start == shared.t.p.keeper.start);
    ck_assert(subject_answers(&shared));
}

static const struct { const char *container, *microvm; enum drv_exit_kind kind, kind_microvm; } ends[] = {
    {"systemctl reboot", "systemctl reboot", EXIT_REBOOT, EXIT_REBOOT},
    {"systemctl exit 3", "echo c >/proc/sysrq-trigger", EXIT_CRASH, EXIT_PANIC},
    {"systemctl poweroff", "systemctl poweroff", EXIT_POWEROFF, EXIT_POWEROFF},
};

/* It ends by itself in each way, and runs again on the same root, where all that was written still is. */
START_TEST(test_ends_itself)
{
    char out[64];

    neighbour_init(30);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        subject_boot(s);
        ck_assert_int_eq(subject_sh(s, "cat /root/mark; echo kept >/root/mark; sync", out, sizeof out), 0);
        ck_assert_msg(!i || !strcmp(out, "kept\n"), "%s", out);
        ck_assert_int_ne(subject_sh(&shared, "test -e /root/mark", NULL, 0), 0);
        subject_sh(s, boots_kernel() ? ends[i].microvm : ends[i].container, NULL, 0);
        trial_wait_end(t);
        struct drv_exit x = trial_reap(t);
        ck_assert_msg(x.kind == (boots_kernel() ? ends[i].kind_microvm : ends[i].kind), "%s: %d: %s", ends[i].container,
                      x.kind, x.text);
        ck_assert_msg(x.kind == EXIT_POWEROFF || x.kind == EXIT_REBOOT || *x.text, "no reason given");
        trial_gone(t);
    }
    neighbour_done();
}
END_TEST

/* N5, D12: kill -9 of the process by which the guest is known, and of its leader. */
START_TEST(test_N5_killed)
{
    neighbour_init(40 + (unsigned)_i);
    OK(subject_start(s, deadline_in(START_MS)));
    pid_t victim = _i ? t->p.leader : t->p.keeper.pid;
    ck_assert(kill(victim, SIGKILL) == 0);
    trial_wait_end(t);
    struct drv_exit x = trial_reap(t);
    ck_assert_msg(x.kind == EXIT_KILLED || (_i && x.kind == EXIT_CRASH), "%d: %s", x.kind, x.text);
    ck_assert_msg(*x.text, "no reason given");
    neighbour_done();
}
END_TEST

static const struct { const char *what; int64_t grace_ms; } stops[] = {{"at once", 0}, {"before it listens", 300}};

/* N9: a guest that does not listen is ended when its time is over. */
START_TEST(test_N9_stop_in_boot)
{
    neighbour_init(50 + (unsigned)_i);
    OK(subject_start(s, deadline_in(START_MS)));
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(stops[_i].grace_ms), &t->e));
    ck_assert_int_lt(now_ms() - before, stops[_i].grace_ms + 10000);
    assert_absent();
    struct drv_exit x = trial_reap(t);
    ck_assert_msg(x.kind == EXIT_KILLED || (stops[_i].grace_ms && x.kind == EXIT_POWEROFF), "%s: %d: %s", stops[_i].what,
                  x.kind, x.text);
    neighbour_done();
}
END_TEST

static void panics(void) { t->g.cmdline = "panic=-1 rdinit=/none"; }
static void wants_disk(void) { s->fault = "mount=vol7 /srv/none"; }
static void init_exits(void) { trial_tiny(t, "exit 9"); }

static const struct { void (*spoil)(void); bool kernel; const char *says; enum drv_exit_kind kind; } bad_boots[] = {
    {init_exits, false, "init says no", EXIT_CRASH},
    {panics, true, "panic", EXIT_PANIC},
    {wants_disk, true, "vol7", EXIT_UNKNOWN},
};

/* It starts, but never comes up: the last words on its console say why. */
START_TEST(test_ends_in_boot)
{
    neighbour_init(60 + (unsigned)_i);
    if (bad_boots[_i].kernel == boots_kernel()) {
        bad_boots[_i].spoil();
        OK(subject_start(s, deadline_in(START_MS)));
        ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(BOOT_MS), &t->e), -1);
        ck_assert_msg(t->e.code == VM_E_BACKEND && strstr(t->e.text, bad_boots[_i].says) && !strchr(t->e.text, '\n'), "%s",
                      t->e.text);
        trial_wait_end(t);
        struct drv_exit x = trial_reap(t);
        ck_assert_msg(x.kind == bad_boots[_i].kind || bad_boots[_i].kind == EXIT_UNKNOWN, "%d: %s", x.kind, x.text);
    }
    neighbour_done();
}
END_TEST

START_TEST(test_stop_asked)
{
    struct answer a;
    int64_t before = now_ms();

    /* What only has a power button may have nobody who sees it pressed, so vmsd has the agent ask first. */
    if (boots_kernel())
        ck_assert_msg(subject_ask(s, s->token, 30000, &a, "op=poweroff", NULL) ? a.r.ok : a.r.lost, "%s", a.r.error);
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(60000), &t->e));
    ck_assert_int_lt(now_ms() - before, 60000);
    assert_absent();
    struct drv_exit x = trial_reap(t);
    ck_assert_msg(x.kind == EXIT_POWEROFF, "%d: %s", x.kind, x.text);
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(60000), &t->e));
    subject_done(s);
}
END_TEST

static Suite *suite(const char *driver)
{
    Suite *all = suite_create(driver);
    TCase *none = tcase_create("none"), *start = tcase_create("start"), *one = tcase_create("shared"),
          *two = tcase_create("neighbour"), *stop = tcase_create("stop");

    tcase_add_test(none, test_probe);
    tcase_add_test(none, test_nothing_there);
    tcase_add_loop_test(none, test_failed_start, 0, ARRAY_LEN(spoilt));
    tcase_add_test(none, test_start_without_time);
    tcase_add_test(start, test_start);
    tcase_add_test(one, test_adopted);
    tcase_add_test(one, test_agent);
    tcase_add_test(one, test_nic);
    tcase_add_test(one, test_A7_token);
    tcase_add_test(one, test_D3_endless_output);
    tcase_add_test(one, test_D11_console_flood);
    tcase_add_test(one, test_stats);
    tcase_add_test(one, test_limits);
    tcase_add_test(one, test_mounts);
    tcase_add_test(one, test_A6_sockets_of_others);
    tcase_add_test(one, test_D16_D19_share);
    tcase_add_test(one, test_grow);
    tcase_add_test(two, test_ends_itself);
    tcase_add_loop_test(two, test_N5_killed, 0, 2);
    tcase_add_loop_test(two, test_N9_stop_in_boot, 0, ARRAY_LEN(stops));
    tcase_add_loop_test(two, test_ends_in_boot, 0, ARRAY_LEN(bad_boots));
    tcase_add_test(stop, test_stop_asked);
    tcase_add_checked_fixture(one, shared_adopt, NULL);
    tcase_add_checked_fixture(stop, shared_adopt, NULL);
    TCase *const in_order[] = {none, start, one, two, stop};
    for (size_t i = 0; i < ARRAY_LEN(in_order); i++) {
        tcase_set_timeout(in_order[i], 600);
        suite_add_tcase(all, in_order[i]);
    }
    return all;
}

int main(int argc, char **argv)
{
    const char *why = argc == 2 ? subjects_prepare(argv[1]) : "say which driver";

    if (why) {
        printf("skipped: %s: %s\n", argc == 2 ? argv[1] : "test_contract", why);
        return 77;
    }
    SRunner *r = srunner_create(suite(argv[1]));
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    trial_sweep(subjects_first());
    return failed != 0;
}
