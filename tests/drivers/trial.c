#include "trial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

#define TRIALS "/var/tmp/vmsd-trial-"

static const char *tree_path(void)
{
    const char *tree = getenv("VMS_TEST_TREE");

    return tree ? tree : "/var/tmp/vmsd-test/tree";
}

const char *trial_missing(void)
{
    static char why[300];

    if (geteuid() != 0)
        return "not root";
    if (access("/usr/bin/systemd-nspawn", X_OK) < 0)
        return "systemd-nspawn is not installed";
    snprintf(why, sizeof why, "%s/usr/lib/systemd/systemd", tree_path());
    if (access(why, F_OK) < 0) {
        snprintf(why, sizeof why, "no Debian 12 tree with systemd at %s; set VMS_TEST_TREE", tree_path());
        return why;
    }
    return NULL;
}

void trial_image(const char *path, unsigned mib)
{
    char size[16];
    char *const argv[] = {"/usr/sbin/mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum_seed", "-F", (char *)path, size, NULL};
    struct vm_err e;

    snprintf(size, sizeof size, "%uM", mib);
    ck_assert_msg(child_must(argv, deadline_in(30000), NULL, &e) == 0, "%s", e.text);
}

void trial_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    ck_assert(fd >= 0 && path_write_all(fd, text, strlen(text), NULL) == 0);
    close(fd);
}

void trial_init(struct trial *t, const char *name, uint32_t id)
{
    *t = (struct trial){0};
    snprintf(t->dir, sizeof t->dir, TRIALS "%u", id);
    ck_assert_msg(mkdir(t->dir, 0700) == 0, "%s: %s", t->dir, strerror(errno));
    snprintf(t->run, sizeof t->run, "%s/run", t->dir);
    snprintf(t->log, sizeof t->log, "%s/log", t->dir);
    snprintf(t->root, sizeof t->root, "%s/root.img", t->dir);
    snprintf(t->source, sizeof t->source, "%s/source", t->dir);
    snprintf(t->tree, sizeof t->tree, "%s", tree_path());
    ck_assert(mkdir(t->run, 0700) == 0 && mkdir(t->log, 0700) == 0 && mkdir(t->source, 0755) == 0);
    trial_image(t->root, 256);
    t->spec = (struct guest_spec){.kind = KIND_CONTAINER, .name = name, .cpus = 1, .memory = 512 << 20};
    t->g = (struct drv_guest){.id = id, .uid_base = 0x10000 * (id % 1000 + 100), .spec = &t->spec, .image = t->tree,
                              .root = t->root, .run_dir = t->run, .log_dir = t->log};
    OK(drivers_init(AGENT_PROGRAM, KEEPER_PROGRAM, &t->e));
    t->drv = driver_for(&t->spec, &t->e);
    ck_assert_msg(t->drv != NULL, "%s", t->e.text);
}

void trial_init_tiny(struct trial *t, const char *name, uint32_t id, const char *what)
{
    static const char *const dirs[] = {"", "/usr", "/usr/lib", "/sbin", "/dev", "/proc", "/sys", "/run", "/tmp", "/etc"};
    char path[300], *program = NULL;
    size_t n;
    int fd = open(INIT_PROGRAM, O_RDONLY | O_CLOEXEC);

    trial_init(t, name, id);
    snprintf(t->tree, sizeof t->tree, "%s/tiny", t->dir);
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        snprintf(path, sizeof path, "%s%s", t->tree, dirs[i]);
        ck_assert(mkdir(path, 0755) == 0);
    }
    snprintf(path, sizeof path, "%s/usr/lib/os-release", t->tree);
    trial_file(path, "ID=tiny\n");
    snprintf(path, sizeof path, "%s/trial", t->tree);
    trial_file(path, what);
    ck_assert(fd >= 0 && path_read_fd(fd, "init", 16 << 20, &program, &n, NULL) == 0);
    close(fd);
    snprintf(path, sizeof path, "%s/sbin/init", t->tree);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
    ck_assert(fd >= 0 && path_write_all(fd, program, n, NULL) == 0);
    close(fd);
    free(program);
}

void trial_start(struct trial *t)
{
    OK(t->drv->start(&t->g, deadline_in(20000), &t->p, &t->e));
    OK(t->drv->wait_booted(&t->g, &t->p, deadline_in(60000), &t->e));
    ck_assert_int_eq(t->p.phase, DRV_BOOTED);
}

void trial_stop(struct trial *t)
{
    OK(t->drv->stop(t->g.id, t->run, &t->p, deadline_in(20000), &t->e));
}

void trial_wait_end(struct trial *t)
{
    int fd = proc_id_open(&t->p.keeper, NULL);
    struct pollfd p = {.fd = fd, .events = POLLIN};

    ck_assert_msg(fd < 0 || poll(&p, 1, 30000) == 1, "the keeper did not end");
    fd_drop(fd);
}

struct drv_exit trial_reap(struct trial *t)
{
    struct drv_exit x;

    OK(t->drv->reap(t->g.id, t->run, &x, &t->e));
    return x;
}

/* ---- what is left ---- */

static char *slurp(const char *path)
{
    OWN(str) char *text = NULL;
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || path_read_fd(fd, path, 4 << 20, &text, NULL, NULL) < 0)
        return NULL;
    return TAKE(text);
}

/* A process is the guest's when its real uid lies in the guest's range, or it is its keeper or nspawn. */
static unsigned processes_of(const struct trial *t)
{
    DIR *proc = opendir("/proc");
    unsigned n = 0;

    for (struct dirent *d; (d = readdir(proc));) {
        char path[300];
        unsigned uid;
        char *at, *status;

        if (d->d_name[0] < '0' || d->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/status", d->d_name);
        if (!(status = slurp(path)))
            continue;
        if ((at = strstr(status, "\nUid:")) && sscanf(at, "\nUid: %u", &uid) == 1 && uid >= t->g.uid_base &&
            uid < t->g.uid_base + 65536)
            n++;
        free(status);
    }
    closedir(proc);
    if (t->p.keeper.pid) {
        int fd = proc_id_open(&t->p.keeper, NULL);

        n += fd >= 0;
        fd_drop(fd);
    }
    return n;
}

static unsigned loops_of(const struct trial *t)
{
    unsigned n = 0;

    for (int i = 0; i < 64; i++) {
        char path[64], *file;

        snprintf(path, sizeof path, "/sys/block/loop%d/loop/backing_file", i);
        if ((file = slurp(path)) && !strncmp(file, t->dir, strlen(t->dir)))
            n++;
        free(file);
    }
    return n;
}

struct trial_rest trial_audit(const struct trial *t)
{
    static const char *const roots[] = {"/sys/fs/cgroup/vmsd",         "/sys/fs/cgroup/unified/vmsd",
                                        "/sys/fs/cgroup/systemd/vmsd", "/sys/fs/cgroup/memory/vmsd",
                                        "/sys/fs/cgroup/cpu/vmsd",     "/sys/fs/cgroup/pids/vmsd",
                                        "/sys/fs/cgroup/cpuacct/vmsd", "/sys/fs/cgroup/blkio/vmsd"};
    struct trial_rest r = {.processes = processes_of(t), .loops = loops_of(t)};
    char *mounts = slurp("/proc/self/mountinfo");

    r.mounts = strstr(mounts, t->dir) != NULL || strstr(mounts, "/run/systemd/nspawn") != NULL;
    free(mounts);
    for (size_t i = 0; i < ARRAY_LEN(roots); i++) {
        char path[128];

        snprintf(path, sizeof path, "%s/%u", roots[i], t->g.id);
        r.cgroups += access(path, F_OK) == 0;
    }
    return r;
}

void trial_gone(struct trial *t)
{
    struct trial_rest r = trial_audit(t);

    /* udev may still have the loop device open, to look at it. */
    for (int i = 0; i < 300 && r.loops; i++) {
        sleep_ms(10);
        r = trial_audit(t);
    }
    ck_assert_msg(!r.processes && !r.mounts && !r.loops && !r.cgroups,
                  "left behind: %u processes, %u mounts, %u loop devices, %u cgroups", r.processes, r.mounts, r.loops,
                  r.cgroups);
}

static int remove_one(const char *path, const struct stat *st, int flag, struct FTW *f)
{
    (void)st, (void)flag, (void)f;
    return remove(path);
}

void trial_done(struct trial *t)
{
    trial_gone(t);
    /* What was killed may still be on its way out, and its mounts with it. */
    struct deadline d = deadline_in(10000);
    while (nftw(t->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && deadline_left(d))
        sleep_ms(50);
    ck_assert_msg(access(t->dir, F_OK) < 0, "%s: %s", t->dir, strerror(errno));
}

void trial_sweep(void)
{
    DIR *dir = opendir("/var/tmp");

    for (struct dirent *d; (d = readdir(dir));) {
        char path[300], run[310];
        struct drv_proc p;
        unsigned id;

        if (sscanf(d->d_name, "vmsd-trial-%u", &id) != 1)
            continue;
        snprintf(path, sizeof path, "/var/tmp/%s", d->d_name);
        snprintf(run, sizeof run, "%s/run", path);
        if ((*drivers())->adopt(id, run, &p, NULL) == 0)
            (*drivers())->stop(id, run, &p, deadline_in(0), NULL);
        (*drivers())->reap(id, run, &(struct drv_exit){0}, NULL);
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
    closedir(dir);
}

/* The agent program of these tests, tests/drivers/shell.c, runs what it reads up to the end, as a shell, and gives
 * back the output with the exit status as the last byte. */
int trial_sh(struct trial *t, const char *line, char *output, size_t size)
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
