/* The libvirt driver's own ways, tried on small guests that are up in two seconds: how they end, what is left, and a
 * libvirtd that is killed, stopped or somebody else's. What all drivers promise is in contract.c. Run by contract.sh, in
 * namespaces with a libvirtd of their own. */
#include "trial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/image.h>
#include <vmsd/path.h>

enum { FIRST = 9000, BOOT_MS = 60000, ROOT_MIB = 16 };

static struct image_kernel kernel;
static struct small { struct trial t; char image[96], initramfs[160]; } small, other;
static struct trial *const t = &small.t;

/* ---- libvirtd, as an administrator sees it ---- */

static int run(char **output, const char *const *argv)
{
    return child_must((char *const *)argv, deadline_in(30000), output, &t->e);
}
#define VIRSH(...) (const char *const[]){"/usr/bin/virsh", "-q", "-c", "qemu:///system", __VA_ARGS__, NULL}

static void assert_no_domain(const struct trial *of)
{
    OWN(str) char *list = NULL;
    char name[32];

    snprintf(name, sizeof name, "vmsd-%u\n", of->g.id);
    ck_assert_msg(run(&list, VIRSH("list", "--all", "--name")) == 0, "%s", t->e.text);
    ck_assert_msg(!strstr(list, name), "%s is still there", name);
}

static pid_t libvirtd(void)
{
    OWN(fd) int fd = open("/run/libvirt/rig/libvirtd.pid", O_RDONLY | O_CLOEXEC);
    char text[32] = "";

    ck_assert(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
    return (pid_t)strtol(text, NULL, 10);
}

static void libvirtd_kill(void)
{
    pid_t pid = libvirtd();
    struct proc_id id;

    OK(proc_id_of(pid, &id, &t->e));
    kill(pid, SIGKILL);
    for (int fd; (fd = proc_id_open(&id, NULL)) >= 0; sleep_ms(5))
        close(fd);
}

static void libvirtd_again(void)
{
    OK(run(NULL, (const char *const[]){RIG, "libvirtd", NULL}));
}

/* ---- guests ---- */

static void small_init(struct small *s, const char *name, unsigned n)
{
    struct trial *st = &s->t;

    trial_describe(st, "libvirt", name, FIRST + n);
    trial_make(st);
    ck_assert(truncate(st->root, ROOT_MIB << 20) == 0);
    snprintf(s->image, sizeof s->image, "%s/image", st->dir);
    trial_file(s->image, "an image");
    ck_assert(truncate(s->image, 1 << 20) == 0);
    snprintf(s->initramfs, sizeof s->initramfs, "%s/" TRIAL_INITRAMFS, st->run);
    OWN(fd) int dir = open(st->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_msg(initramfs_write(dir, TRIAL_INITRAMFS, kernel.initramfs, "", &st->e) == 0, "%s", st->e.text);
    st->spec.kind = KIND_MICROVM;
    st->spec.memory = 128 << 20;
    st->spec.hypervisor = "qemu";
    st->g.image = s->image;
    st->g.kernel = kernel.kernel;
    st->g.initramfs = s->initramfs;
    st->g.cmdline = "quiet panic=-1";
}

static void boot(struct trial *of)
{
    ck_assert_msg(of->drv->start(&of->g, deadline_in(30000), &of->p, &of->e) == 0, "%s", of->e.text);
    ck_assert_msg(of->drv->wait_booted(&of->g, &of->p, deadline_in(BOOT_MS), &of->e) == 0, "%s", of->e.text);
    ck_assert_int_eq(of->p.phase, DRV_BOOTED);
}

/* Says a word to its init; the answer, one line, within a while; NULL: nothing came. */
static const char *tell(struct trial *of, const char *word)
{
    static char answer[400];
    size_t n = 0;
    OWN(fd) int fd = -1;

    ck_assert_msg(of->drv->agent(&of->g, &of->p, deadline_in(10000), &fd, &of->e) == 0, "%s", of->e.text);
    ck_assert(write(fd, word, strlen(word)) > 0 && write(fd, "\n", 1) == 1);
    for (struct pollfd p = {.fd = fd, .events = POLLIN}; n < sizeof answer - 1 && poll(&p, 1, 10000) == 1;) {
        ssize_t got = read(fd, answer + n, 1);

        if (got <= 0)
            break;
        if (answer[n] == '\n') {
            answer[n] = '\0';
            return answer;
        }
        n++;
    }
    return NULL;
}

static void assert_obeys(struct trial *of)
{
    const char *said = tell(of, "ping");

    ck_assert_msg(said && !strcmp(said, "pong"), "%s", said ? said : "nothing");
}

/* Nothing of it is left anywhere. */
static void small_done(struct trial *of)
{
    assert_no_domain(of);
    trial_done(of);
}

static void assert_absent(void)
{
    struct drv_proc p;

    ck_assert(t->drv->adopt(t->g.id, t->run, &p, &t->e) == -1 && t->e.code == VM_E_ABSENT);
}

static void stop_now(struct trial *of)
{
    ck_assert_msg(of->drv->stop(of->g.id, of->run, &of->p, deadline_in(0), &of->e) == 0, "%s", of->e.text);
    ck_assert_int_eq(trial_reap(of).kind, EXIT_KILLED);
}

/* ---- the life of one ---- */

START_TEST(test_life)
{
    char path[128];
    OWN(str) char *log = NULL;

    small_init(&small, "life", 0);
    boot(t);
    assert_obeys(t);
    ck_assert_str_eq(tell(t, "disks"), "vda image 2048 ro,vdb root 32768 rw,");
    snprintf(path, sizeof path, "%s/console.log", t->log);
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && path_read_fd(fd, path, 1 << 20, &log, NULL, NULL) == 0 && strstr(log, "init: obeys"));
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(0), &t->e), 0);
    tell(t, "poweroff");
    trial_wait_end(t);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_POWEROFF);
    small_done(t);
}
END_TEST

static void poweroff(void) { tell(t, "poweroff"); }
static void restart(void) { tell(t, "reboot"); }
static void panic(void) { tell(t, "exit"); }
static void kill_qemu(void) { kill(t->p.leader, SIGKILL); }
static void destroy(void)
{
    char name[32];

    snprintf(name, sizeof name, "vmsd-%u", t->g.id);
    OK(run(NULL, VIRSH("destroy", name)));
}

static const struct { void (*how)(void); enum drv_exit_kind kind; const char *says; } ends[] = {
    {poweroff, EXIT_POWEROFF, ""},           {restart, EXIT_REBOOT, ""},
    {panic, EXIT_PANIC, "init: obeys on fd"}, {kill_qemu, EXIT_KILLED, "QEMU was killed"},
    {destroy, EXIT_KILLED, "destroyed"},
};

/* N4, N5: each end is told from the others, and after each it starts again at once. */
START_TEST(test_N4_N5_ends)
{
    small_init(&small, "ends", 1);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        boot(t);
        ends[i].how();
        trial_wait_end(t);
        struct drv_exit x = trial_reap(t);
        ck_assert_msg(x.kind == ends[i].kind && strstr(x.text, ends[i].says), "%zu: %d: %s", i, x.kind, x.text);
        trial_gone(t);
    }
    small_done(t);
}
END_TEST

/* N9: its init does not know the power button. */
START_TEST(test_N9_does_not_listen)
{
    small_init(&small, "deaf", 2);
    boot(t);
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(1500), &t->e));
    ck_assert_int_ge(now_ms() - before, 1500);
    ck_assert_int_lt(now_ms() - before, 10000);
    assert_absent();
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    small_done(t);
}
END_TEST

START_TEST(test_panic_in_boot)
{
    small_init(&small, "panics", 3);
    t->g.cmdline = "quiet panic=-1 rdinit=/none root=/dev/none";
    OK(t->drv->start(&t->g, deadline_in(30000), &t->p, &t->e));
    ck_assert_int_eq(t->drv->wait_booted(&t->g, &t->p, deadline_in(BOOT_MS), &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_BACKEND && strstr(t->e.text, "Kernel panic - not syncing"), "%s", t->e.text);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_PANIC);
    small_done(t);
}
END_TEST

/* A container's lock on a disk holds off QEMU, and QEMU's a container: each would destroy what the other writes. */
START_TEST(test_disk_locked)
{
    struct stat st;

    small_init(&small, "locked", 14);
    int fd = open(t->root, O_RDWR | O_CLOEXEC);
    ck_assert(fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0);
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(30000), &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_CONFLICT && strstr(t->e.text, "in use by another running guest"), "%s", t->e.text);
    ck_assert(fstat(fd, &st) == 0 && st.st_uid == 0);
    close(fd);
    boot(t);
    OWN(fd) int again = open(t->root, O_RDWR | O_CLOEXEC);
    ck_assert(again >= 0 && flock(again, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
    stop_now(t);
    ck_assert(flock(again, LOCK_EX | LOCK_NB) == 0);
    small_done(t);
}
END_TEST

/* ---- while it runs ---- */

START_TEST(test_grow_and_limits)
{
    OWN(str) char *told = NULL;
    struct drv_stats st;

    small_init(&small, "grows", 4);
    boot(t);
    ck_assert(truncate(t->root, 32 << 20) == 0);
    OK(t->drv->grow(&t->g, &t->p, t->root, &t->e));
    ck_assert_str_eq(tell(t, "disks"), "vda image 2048 ro,vdb root 65536 rw,");
    ck_assert(t->drv->grow(&t->g, &t->p, "/etc/hostname", &t->e) == -1 && t->e.code == VM_E_ABSENT);
    t->spec.limits.io_write = 7 << 20;
    OK(t->drv->limits(&t->g, &t->p, &t->e));
    char name[32];
    snprintf(name, sizeof name, "vmsd-%u", t->g.id);
    OK(run(&told, VIRSH("blkdeviotune", name, "vdb")));
    ck_assert_msg(strstr(told, "write_bytes_sec: 7340032") && strstr(told, "read_bytes_sec : 0"), "%s", told);
    t->spec.limits.io_write = 0;
    OK(t->drv->limits(&t->g, &t->p, &t->e));
    free(told);
    OK(run(&told, VIRSH("blkdeviotune", name, "vdb")));
    ck_assert_msg(strstr(told, "write_bytes_sec: 0"), "%s", told);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &st, &t->e));
    ck_assert(st.cpu_seconds > 0 && st.memory > 1 << 20 && st.memory_limit == t->spec.memory && st.io_read != UINT64_MAX);
    ck_assert(st.pids == UINT64_MAX && st.memory_peak >= st.memory);
    stop_now(t);
    small_done(t);
}
END_TEST

/* The line of the agent holds one. */
START_TEST(test_line_is_taken)
{
    int one, two, three;

    small_init(&small, "taken", 5);
    boot(t);
    OK(t->drv->agent(&t->g, &t->p, deadline_in(5000), &one, &t->e));
    while (t->drv->agent(&t->g, &t->p, deadline_in(300), &two, &t->e) == 0) /* the kernel lets a few wait */
        ck_assert_int_lt(two, 32);
    ck_assert_msg(t->e.code == VM_E_TIMEOUT, "%s", t->e.text);
    for (int fd = one; fd < 32; fd++)
        close(fd);
    OK(t->drv->agent(&t->g, &t->p, deadline_in(5000), &three, &t->e));
    close(three);
    assert_obeys(t);
    stop_now(t);
    ck_assert(t->drv->agent(&t->g, &t->p, deadline_in(1000), &one, &t->e) == -1 && t->e.code == VM_E_ABSENT);
    small_done(t);
}
END_TEST

static void *boot_other(void *arg)
{
    boot(&other.t);
    return arg;
}

START_TEST(test_two_at_once)
{
    pthread_t thread;

    small_init(&small, "one", 6);
    small_init(&other, "two", 7);
    ck_assert(pthread_create(&thread, NULL, boot_other, NULL) == 0);
    boot(t);
    pthread_join(thread, NULL);
    assert_obeys(t);
    assert_obeys(&other.t);
    stop_now(t);
    assert_obeys(&other.t);
    stop_now(&other.t);
    small_done(t);
    small_done(&other.t);
}
END_TEST

/* ---- starts that fail ---- */

static void assert_refused(enum vm_errc code, const char *says)
{
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == code && strstr(t->e.text, says) && !strchr(t->e.text, '\n'), "%s", t->e.text);
    assert_absent();
    trial_gone(t);
}

static int tap_open(const char *name)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
    ck_assert(fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0);
    return fd;
}

/* L4: the tap is gone, or another program has it; and one that was handed over goes with the start that failed. */
START_TEST(test_L4_taps)
{
    struct drv_tap taps[] = {{.ifname = "virt8-0", .mac = "02:00:00:00:00:01"}, {.ifname = "virt8-1", .mac = "02:00:00:00:00:02"}};

    small_init(&small, "taps", 8);
    t->g.taps = taps;
    t->g.n_taps = ARRAY_LEN(taps);
    taps[0].fd = tap_open("virt8-0");
    taps[1].fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_refused(VM_E_SYSTEM, "virt8-1");
    ck_assert(!if_nametoindex("virt8-0"));
    close(taps[0].fd);
    t->g.n_taps = 1;
    taps[0].fd = tap_open("virt8-0");
    OWN(fd) int held = fcntl(taps[0].fd, F_DUPFD_CLOEXEC, 0);
    assert_refused(VM_E_BACKEND, "virt8-0");
    held = fd_drop(held);
    close(taps[0].fd);
    /* And one that works is QEMU's, and stays when ours is closed. */
    run(NULL, (const char *const[]){"/sbin/ip", "link", "delete", "virt8-0", NULL});
    taps[0].fd = tap_open("virt8-0");
    boot(t);
    close(taps[0].fd);
    ck_assert(if_nametoindex("virt8-0"));
    stop_now(t);
    OK(run(NULL, (const char *const[]){"/sbin/ip", "link", "delete", "virt8-0", NULL}));
    small_done(t);
}
END_TEST

/* Somebody else's domain of that name is left alone. */
START_TEST(test_name_taken)
{
    char xml[128], text[400], name[32];
    OWN(str) char *list = NULL;

    small_init(&small, "name", 9);
    snprintf(name, sizeof name, "vmsd-%u", t->g.id);
    snprintf(xml, sizeof xml, "%s/xml", t->dir);
    snprintf(text, sizeof text, "<domain type='qemu'><name>%s</name><memory unit='MiB'>64</memory>"
             "<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>", name);
    trial_file(xml, text);
    OK(run(NULL, VIRSH("define", xml)));
    assert_refused(VM_E_CONFLICT, name);
    OK(run(&list, VIRSH("list", "--all", "--name")));
    ck_assert(strstr(list, name));
    OK(run(NULL, VIRSH("undefine", name)));
    small_done(t);
}
END_TEST

/* G5, N2: vmsd was killed between the creation of the domain and the note of it. */
START_TEST(test_G5_found_without_note)
{
    struct drv_proc p;
    char path[128];

    small_init(&small, "found", 10);
    boot(t);
    snprintf(path, sizeof path, "%s/libvirt", t->run);
    ck_assert(unlink(path) == 0);
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    ck_assert(p.keeper.pid == t->p.keeper.pid && p.phase == DRV_STARTED);
    ck_assert(t->drv->start(&t->g, deadline_in(5000), &p, &t->e) == -1 && t->e.code == VM_E_CONFLICT);
    OK(t->drv->adopt(t->g.id, t->run, &t->p, &t->e));
    OK(t->drv->wait_booted(&t->g, &t->p, deadline_in(5000), &t->e));
    assert_obeys(t);
    ck_assert(t->drv->adopt(t->g.id, "/run/another", &p, &t->e) == -1 && t->e.code == VM_E_ABSENT);
    stop_now(t);
    /* Which files were opened to it, only the note knew; they are found again by the next start. */
    boot(t);
    stop_now(t);
    small_done(t);
}
END_TEST

/* ---- libvirtd ---- */

/* N2: the guest runs on, is known, and can be ended; and what was begun with one libvirtd goes on with the next. */
START_TEST(test_N1_N2_libvirtd_killed)
{
    struct drv_proc p;
    struct drv_stats st;
    struct drv_report r;

    small_init(&small, "orphan", 11);
    boot(t);
    libvirtd_kill();
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    ck_assert(p.keeper.pid == t->p.keeper.pid && p.phase == DRV_BOOTED);
    assert_obeys(t);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &st, &t->e));
    ck_assert(st.cpu_seconds > 0 && st.io_read == UINT64_MAX);
    ck_assert(t->drv->grow(&t->g, &t->p, t->root, &t->e) == -1 && t->e.code == VM_E_UNAVAILABLE);
    t->drv->probe(&r);
    ck_assert(!r.usable && *r.why && *r.hint);
    libvirtd_again();
    OK(t->drv->grow(&t->g, &t->p, t->root, &t->e));
    assert_obeys(t);
    libvirtd_kill();
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(1500), &t->e));
    ck_assert_int_ge(now_ms() - before, 1500);
    ck_assert_int_lt(now_ms() - before, 8000);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    trial_gone(t);
    libvirtd_again();
    boot(t);
    assert_obeys(t);
    stop_now(t);
    small_done(t);
}
END_TEST

/* N2: vmsd had its agent shut it down, and then libvirtd was restarted: nobody cuts that short, and who waits is told of it. */
START_TEST(test_N2_shuts_down_without_libvirtd)
{
    small_init(&small, "alone", 15);
    boot(t);
    libvirtd_kill();
    OWN(fd) int fd = -1;
    OK(t->drv->agent(&t->g, &t->p, deadline_in(10000), &fd, &t->e));
    ck_assert(write(fd, "shutdown\n", 9) == 9);
    int64_t before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(60000), &t->e));
    ck_assert_int_lt(now_ms() - before, 30000);
    assert_absent();
    ck_assert_int_eq(trial_reap(t).kind, EXIT_POWEROFF);
    libvirtd_again();
    small_done(t);
}
END_TEST

/* N3: every op keeps to its time, and what libvirtd does too late is taken back. */
START_TEST(test_N3_libvirtd_stopped)
{
    struct drv_report r;
    struct drv_stats st;
    struct drv_proc p;
    int64_t before;

    small_init(&small, "waits", 12);
    small_init(&other, "late", 13);
    boot(t);
    kill(libvirtd(), SIGSTOP);
    before = now_ms();
    t->drv->probe(&r);
    ck_assert_int_lt(now_ms() - before, 3000);
    OK(t->drv->stats(t->g.id, t->run, &t->p, &st, &t->e));
    OK(t->drv->adopt(t->g.id, t->run, &p, &t->e));
    assert_obeys(t);
    ck_assert_int_lt(now_ms() - before, 6000);
    before = now_ms();
    ck_assert_int_eq(other.t.drv->start(&other.t.g, deadline_in(1000), &other.t.p, &t->e), -1);
    ck_assert_msg(t->e.code == VM_E_TIMEOUT || t->e.code == VM_E_UNAVAILABLE, "%s", t->e.text);
    ck_assert_int_lt(now_ms() - before, 8000);
    before = now_ms();
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(1000), &t->e));
    ck_assert_int_lt(now_ms() - before, 8000);
    ck_assert_int_eq(trial_reap(t).kind, EXIT_KILLED);
    kill(libvirtd(), SIGCONT);
    sleep_ms(2000);
    trial_gone(&other.t);
    boot(t);
    stop_now(t);
    small_done(t);
    small_done(&other.t);
}
END_TEST

/* ---- */

static const char *prepare(void)
{
    static struct vm_err e;
    OWN(strv) struct strv recipes = {0};
    const char *cache = getenv("VMSD_CACHE");
    struct image_store *store;

    if (geteuid() != 0)
        return "not root";
    if (access("/run/libvirt/rig/libvirtd.pid", F_OK) < 0)
        return "no libvirtd for tests; run me by contract.sh";
    strv_add(&recipes, RECIPES);
    if (image_store_open(cache ? cache : "/var/tmp/vmsd-test", &recipes, &store, &e) < 0)
        return e.text;
    int rc = image_store_set_boot(store, INIT_PROGRAM, INIT_PROGRAM, &e);
    if (rc == 0)
        rc = kernel_ensure(store, (struct image_progress){0}, deadline_in(600000), &kernel, &e);
    image_store_close(store);
    return rc < 0 ? e.text : NULL;
}

int main(void)
{
    const char *why = prepare();
    Suite *s = suite_create("libvirt");
    TCase *life = tcase_create("life"), *c = tcase_create("domains"), *daemon = tcase_create("libvirtd");

    if (why) {
        printf("skipped: %s\n", why);
        return 77;
    }
    tcase_add_test(life, test_life);
    tcase_add_test(c, test_N4_N5_ends);
    tcase_add_test(c, test_N9_does_not_listen);
    tcase_add_test(c, test_panic_in_boot);
    tcase_add_test(c, test_disk_locked);
    tcase_add_test(c, test_grow_and_limits);
    tcase_add_test(c, test_line_is_taken);
    tcase_add_test(c, test_two_at_once);
    tcase_add_test(c, test_L4_taps);
    tcase_add_test(c, test_name_taken);
    tcase_add_test(c, test_G5_found_without_note);
    tcase_add_test(daemon, test_N1_N2_libvirtd_killed);
    tcase_add_test(daemon, test_N2_shuts_down_without_libvirtd);
    tcase_add_test(daemon, test_N3_libvirtd_stopped);
    TCase *const in_order[] = {life, c, daemon};
    for (size_t i = 0; i < ARRAY_LEN(in_order); i++) {
        tcase_set_timeout(in_order[i], 120);
        suite_add_tcase(s, in_order[i]);
    }
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    trial_sweep(FIRST);
    return failed != 0;
}
