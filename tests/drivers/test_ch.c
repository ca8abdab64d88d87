/* The cloud-hypervisor driver, its keeper and its shares over a double of the VMM (ch_double.c), so without KVM. Needs
 * root. What was said between both goes to the file named by $VMS_CH_TRAFFIC, for test_ch_openapi.py. */
#include "trial.h"

#include <drivers/keeper.h>
#include <drivers/shares.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
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

enum { FIRST_ID = 8000 };

static struct trial trial, *const t = &trial;
static struct drv_mount mounts[3];
static struct drv_tap tap;
static char paths[5][160];

/* A guest whose VMM does what the script says. */
static void guest_init(unsigned n, const char *script)
{
    static const char *const names[] = {"image", "kernel", "modules", "vol.img", "run/" TRIAL_INITRAMFS};
    static char name[16];

    snprintf(name, sizeof name, "trial-ch%u", n);
    trial_describe(t, "cloud-hypervisor", name, FIRST_ID + n);
    trial_make(t);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", t->dir, names[i]);
        trial_file(paths[i], i == 1 ? script : names[i]);
    }
    t->spec.kind = KIND_MICROVM;
    t->spec.memory = 256 << 20;
    t->spec.hypervisor = "cloud-hypervisor";
    t->g.image = paths[0];
    t->g.kernel = paths[1];
    t->g.modules = paths[2];
    t->g.initramfs = paths[4];
    t->g.cmdline = "quiet";
    mounts[0] = (struct drv_mount){.disk = true, .source = paths[3], .target = "/srv/vol", .mapped = true};
    t->g.mounts = mounts;
    t->g.n_mounts = 1;
}

/* Any open file will do: the double only looks whether one came. */
static void guest_tap(void)
{
    tap = (struct drv_tap){.fd = open("/dev/null", O_RDWR | O_CLOEXEC), .ifname = "tap0", .mac = "02:00:00:00:00:01"};
    t->g.taps = &tap;
    t->g.n_taps = 1;
}

static void share(size_t i, const char *target, bool read_only)
{
    mounts[i] = (struct drv_mount){.source = t->source, .target = target, .mapped = true, .read_only = read_only};
    t->g.n_mounts = i + 1;
}

static char *console(void)
{
    static char *text;
    char path[128];
    int fd;

    free(text);
    text = NULL;
    snprintf(path, sizeof path, "%s/console.log", t->log);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && path_read_fd(fd, path, 8 << 20, &text, NULL, NULL) == 0);
    close(fd);
    return text;
}

/* What is written there comes through a pipe and the keeper. */
static bool console_says(const char *words)
{
    for (int i = 0; i < 100; i++) {
        if (strstr(console(), words))
            return true;
        sleep_ms(20);
    }
    return false;
}

static void traffic_keep(void)
{
    const char *path = getenv("VMS_CH_TRAFFIC");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    const char *text = console();

    if (fd >= 0)
        ck_assert(path_write_all(fd, text, strlen(text), NULL) == 0);
    fd_drop(fd);
}

static void start_fails(enum vm_errc code, const char *words)
{
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(3000), &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == code && strstr(t->e.text, words) && !strchr(t->e.text, '\n'), "%d: %s", t->e.code, t->e.text);
    trial_gone(t);
}

static void over(void)
{
    struct drv_exit x;

    t->drv->stop(t->g.id, t->run, &t->p, deadline_in(5000), &t->e);
    OK(t->drv->reap(t->g.id, t->run, &x, &t->e));
    trial_done(t);
}

/* The end that comes by itself, once it is set off. */
static struct drv_exit own_end(void)
{
    struct drv_stats s;

    trial_start(t);
    t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e); /* vm.counters: what the script waits for */
    trial_wait_end(t);
    return trial_reap(t);
}

/* ---- life ---- */

START_TEST(test_life)
{
    struct drv_stats s;
    char text[16] = "";
    int fd;

    guest_init(1, "on vm.boot say hello from the guest\n");
    guest_tap();
    trial_start(t);
    ck_assert(console_says("hello from the guest"));
    const char *said = console(), *create = strstr(said, "REQ PUT vm.create"), *net = strstr(said, "REQ PUT vm.add-net"),
               *boot = strstr(said, "REQ PUT vm.boot");
    ck_assert(create && net && boot && create < net && net < boot && strstr(net, "FD "));
    OK(t->drv->agent(&t->g, &t->p, deadline_in(3000), &fd, &t->e));
    ck_assert(write(fd, "ping", 4) == 4 && read(fd, text, sizeof text - 1) == 4);
    ck_assert_str_eq(text, "ping");
    close(fd);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &s, &t->e));
    ck_assert_uint_eq(s.io_read, 4196);
    ck_assert_uint_eq(s.io_write, 512);
    ck_assert_uint_eq(s.pids, UINT64_MAX);
    OK(t->drv->grow(&t->g, &t->p, paths[3], &t->e));
    ck_assert(console_says("REQ PUT vm.resize-disk"));
    ck_assert_int_eq(t->drv->grow(&t->g, &t->p, "/etc/hostname", &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_ABSENT);
    struct drv_exit x;
    ck_assert_int_eq(t->drv->reap(t->g.id, t->run, &x, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_CONFLICT);
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(3000), &t->p, &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_CONFLICT);
    trial_stop(t);
    traffic_keep();
    ck_assert_int_eq(trial_reap(t).kind, EXIT_POWEROFF);
    trial_stop(t); /* gone already is success */
    trial_done(t);
    close(tap.fd);
}
END_TEST

/* D14, D16: what the VMM is, and sees of the host. */
START_TEST(test_D14_jail)
{
    char want[80];

    guest_init(2, "on vm.boot look\n");
    trial_start(t);
    ck_assert(console_says("SEE socket"));
    char *see = console();
    ck_assert_msg(strstr(see, "SEE /dev:") && strstr(see, "SEE /run: vsock\n"), "%s", see);
    ck_assert_ptr_nonnull(strstr(see, "SEE /etc/passwd absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /proc/self/status absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /dev/mem absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /root absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /var/tmp absent\n"));
    ck_assert_ptr_nonnull(strstr(see, "SEE /sys absent\n"));
    /* 0, 1, 2, its API, its events, the call that it is serving, and its vsock. */
    snprintf(want, sizeof want, "SEE fds 7 uid %u pid 1 write 0\n", t->g.uid_base);
    ck_assert_msg(strstr(see, want) != NULL, "%s", see);
    char status[64], *text;
    snprintf(status, sizeof status, "/proc/%d/status", (int)t->p.leader);
    int fd = open(status, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && path_read_fd(fd, status, 64 << 10, &text, NULL, NULL) == 0);
    close(fd);
    ck_assert(strstr(text, "NoNewPrivs:\t1") && strstr(text, "CapPrm:\t0000000000000000") &&
              strstr(text, "CapBnd:\t0000000000000000") && strstr(text, "Groups:\t \n"));
    free(text);
    over();
}
END_TEST

START_TEST(test_adopt)
{
    struct drv_proc p;

    guest_init(3, "");
    trial_start(t);
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    ck_assert(p.keeper.pid == t->p.keeper.pid && p.leader == t->p.leader && p.phase == DRV_BOOTED);
    /* Nobody else's guest. */
    for (size_t i = 0; drivers()[i]; i++)
        if (drivers()[i] != t->drv) {
            ck_assert_int_eq(drivers()[i]->adopt(t->g.id, t->run, &p, &t->e), -1);
            ck_assert_int_eq(t->e.code, VM_E_ABSENT);
        }
    over();
}
END_TEST

START_TEST(test_G11_run_wiped)
{
    char path[128];
    struct drv_proc p;

    guest_init(4, "");
    trial_start(t);
    snprintf(path, sizeof path, "%s/state", t->run);
    ck_assert(unlink(path) == 0);
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    ck_assert(p.keeper.pid == t->p.keeper.pid && p.leader == t->p.leader && p.phase == DRV_BOOTED);
    over();
}
END_TEST

START_TEST(test_resize)
{
    guest_init(5, "");
    trial_start(t);
    t->spec.memory = 512 << 20;
    OK(t->drv->limits(&t->g, &t->p, &t->e));
    ck_assert(console_says("BODY {\"desired_ram\":536870912}"));
    OK(t->drv->limits(&t->g, &t->p, &t->e)); /* nothing to do */
    t->spec.memory = 128 << 20;
    ck_assert_int_eq(t->drv->limits(&t->g, &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT && strstr(t->e.text, "restart"), "%s", t->e.text);
    t->spec.memory = 512 << 20;
    t->spec.cpus = 200;
    ck_assert_int_eq(t->drv->limits(&t->g, &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT && strstr(t->e.text, "cpus"), "%s", t->e.text);
    traffic_keep();
    over();
}
END_TEST

/* A VMM in an enemy's hands does not talk its cgroup into more memory than it has. */
START_TEST(test_N6_claims_memory)
{
    struct drv_stats before, after;

    guest_init(9, "on vm.info status 200 {\"config\":{\"cpus\":{\"boot_vcpus\":1,\"max_vcpus\":4},\"memory\":"
                  "{\"size\":268435456,\"hotplug_size\":1e16,\"hotplugged_size\":1e15}}}\n");
    trial_start(t);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &before, &t->e));
    t->drv->limits(&t->g, &t->p, &t->e);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &after, &t->e));
    ck_assert_uint_eq(after.memory_limit, before.memory_limit);
    over();
}
END_TEST

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
    share(1, "/srv/share", false);
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
    start_fails(VM_E_BACKEND, "the double was told to die");
    trial_done(t);
    close(tap.fd);
}
END_TEST

START_TEST(test_N6_bad_answers)
{
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
    char script[300];
    size_t step = (size_t)_i % ARRAY_LEN(steps), how = (size_t)_i / ARRAY_LEN(steps);

    snprintf(script, sizeof script, "on %s %s\n", steps[step], bad[how].what);
    guest_init(50 + (unsigned)_i, script);
    guest_tap();
    start_fails(bad[how].code, bad[how].words);
    trial_done(t);
    close(tap.fd);
}
END_TEST

START_TEST(test_N7_failed_starts)
{
    guest_init(80, "on start die 1\n");
    start_fails(VM_E_BACKEND, "the double was told to die");
    trial_file(paths[1], "on vm.boot fault 11\n");
    start_fails(VM_E_BACKEND, "ended by signal 11");
    t->g.kernel = "/var/tmp/vmsd-absent";
    start_fails(VM_E_SYSTEM, "vmsd-absent");
    t->g.kernel = paths[1];
    ck_assert(chmod(paths[1], 0600) == 0);
    start_fails(VM_E_DENIED, "chmod o+r");
    ck_assert(chmod(paths[1], 0644) == 0);
    mounts[1] = (struct drv_mount){.source = paths[1], .target = "/srv/file"};
    t->g.n_mounts = 2;
    start_fails(VM_E_INVALID, "only directories");
    mounts[1] = (struct drv_mount){.source = "/proc", .target = "/srv/proc"};
    start_fails(VM_E_DENIED, "kernel");
    t->g.n_mounts = 1;
    setenv("VMS_CLOUD_HYPERVISOR", "/var/tmp/vmsd-absent", 1);
    start_fails(VM_E_UNAVAILABLE, "cloud-hypervisor is not");
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
    start_fails(VM_E_CONFLICT, "in use by another running guest");
    trial_done(t);
    trial = other;
    over();
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

/* ---- the agent ---- */

START_TEST(test_never_answers)
{
    guest_init(90, "on agent status 1\n");
    OK(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e));
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(500), &t->e), -1);
    ck_assert_int_eq(t->e.code, VM_E_TIMEOUT);
    ck_assert_int_eq(t->p.phase, DRV_STARTED);
    kill(t->p.leader, SIGKILL);
    trial_wait_end(t);
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(5000), &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_BACKEND && strstr(t->e.text, "killed"), "%s", t->e.text);
    over();
}
END_TEST

/* While it boots it panics: noticed at once, and told. */
START_TEST(test_panic_in_boot)
{
    guest_init(91, "on agent say Kernel panic - not syncing: no root\non agent event guest panic panic\non agent status 1\n");
    OK(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e));
    int64_t before = now_ms();
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(20000), &t->e), -1);
    ck_assert_int_lt(now_ms() - before, 5000);
    ck_assert_msg(t->e.code == VM_E_BACKEND && strstr(t->e.text, "Kernel panic - not syncing: no root"), "%s", t->e.text);
    over();
}
END_TEST

/* A hostile VMM leads its vsock elsewhere: nobody follows. */
START_TEST(test_D7_vsock_link)
{
    static const char *const places[] = {"/run/systemd/private", "../../../../../../var/tmp/vmsd-trial-8092/sock", "vsock2"};
    char script[100];
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd, listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        snprintf(script, sizeof script, "on vm.boot link %s\n", places[i]);
        guest_init(92, script);
        snprintf(a.sun_path, sizeof a.sun_path, "%s/sock", t->dir);
        if (i == 0)
            ck_assert(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 4) == 0);
        OK(t->drv->start(&t->g, deadline_in(5000), &t->p, &t->e));
        ck_assert_int_eq(t->drv->agent(&t->g, &t->p, deadline_in(500), &fd, &t->e), -1);
        ck_assert_msg(strstr(t->e.text, "vsock") != NULL, "%s", t->e.text);
        ck_assert(accept(listener, NULL, NULL) < 0 && errno == EAGAIN);
        over();
    }
    close(listener);
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
    share(1, "/srv/share", false);
    share(2, "/srv/ro", true);
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
    share(1, "/srv/share", false);
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

static Suite *suite(bool shares)
{
    Suite *s = suite_create("cloud-hypervisor");
    TCase *c = tcase_create("double"), *v = tcase_create("virtiofsd");

    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_life);
    tcase_add_test(c, test_D14_jail);
    tcase_add_test(c, test_adopt);
    tcase_add_test(c, test_G11_run_wiped);
    tcase_add_test(c, test_resize);
    tcase_add_test(c, test_N6_claims_memory);
    tcase_add_loop_test(c, test_N5_ends, 0, ARRAY_LEN(ends));
    tcase_add_loop_test(c, test_D10_D12_again_and_again, 0, 2);
    tcase_add_test(c, test_stop_refused);
    tcase_add_test(c, test_N9_hangs);
    tcase_add_loop_test(c, test_N5_dies_at_step, 0, ARRAY_LEN(steps));
    tcase_add_loop_test(c, test_N6_bad_answers, 0, 7 * ARRAY_LEN(steps));
    tcase_add_test(c, test_N7_failed_starts);
    tcase_add_test(c, test_disk_locked);
    tcase_add_test(c, test_probe);
    tcase_add_test(c, test_never_answers);
    tcase_add_test(c, test_panic_in_boot);
    tcase_add_test(c, test_D7_vsock_link);
    suite_add_tcase(s, c);
    tcase_set_timeout(v, 60);
    tcase_add_loop_test(v, test_N5_killed, 0, ARRAY_LEN(kills));
    tcase_add_test(v, test_share_dies);
    tcase_add_test(v, test_shares_alone);
    if (shares)
        suite_add_tcase(s, v);
    return s;
}

int main(void)
{
    if (geteuid() != 0) {
        printf("skipped: not root\n");
        return 77;
    }
    bool shares = shares_program(NULL) != NULL;

    if (!shares)
        printf("without a virtiofsd: the tests of shares are left out\n");
    setenv("VMS_CLOUD_HYPERVISOR", DOUBLE_PROGRAM, 1);
    if (getenv("VMS_CH_TRAFFIC"))
        unlink(getenv("VMS_CH_TRAFFIC"));
    SRunner *r = srunner_create(suite(shares));
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    trial_sweep(FIRST_ID);
    return failed != 0;
}
