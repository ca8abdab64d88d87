#include "trial.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>
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

static char *const starter[] = {STARTER_PROGRAM, "--keeper", KEEPER_PROGRAM, "--agent", AGENT_PROGRAM, NULL};

void trial_describe(struct trial *t, const char *driver, const char *name, uint32_t id)
{
    *t = (struct trial){0};
    snprintf(t->dir, sizeof t->dir, TRIALS "%u", id);
    snprintf(t->run, sizeof t->run, "%s/run", t->dir);
    snprintf(t->log, sizeof t->log, "%s/log", t->dir);
    snprintf(t->root, sizeof t->root, "%s/root.img", t->dir);
    snprintf(t->source, sizeof t->source, "%s/source", t->dir);
    snprintf(t->tree, sizeof t->tree, "%s", tree_path());
    t->spec = (struct guest_spec){.kind = KIND_CONTAINER, .name = name, .cpus = 1, .memory = 512 << 20};
    t->g = (struct drv_guest){.id = id, .uid_base = 0x10000 * (id - 3900), .spec = &t->spec, .image = t->tree,
                              .root = t->root, .run_dir = t->run, .log_dir = t->log};
    OK(drivers_init(KEEPER_PROGRAM, &t->e));
    starter_place((struct starter_place){.argv = starter});
    t->drv = driver_by_name(driver);
    ck_assert_msg(t->drv != NULL, "there is no driver %s", driver);
}

void trial_make(struct trial *t)
{
    ck_assert_msg(mkdir(t->dir, 0700) == 0, "%s: %s", t->dir, strerror(errno));
    ck_assert(mkdir(t->run, 0700) == 0 && mkdir(t->log, 0700) == 0 && mkdir(t->source, 0755) == 0);
    trial_image(t->root, 256);
}

void trial_init(struct trial *t, const char *name, uint32_t id)
{
    trial_describe(t, "nspawn", name, id);
    trial_make(t);
}

void trial_tiny(struct trial *t, const char *what)
{
    static const char *const dirs[] = {"", "/usr", "/usr/lib", "/sbin", "/dev", "/proc", "/sys", "/run", "/tmp", "/etc"};
    char path[300], *program = NULL;
    size_t n;
    int fd = open(INIT_PROGRAM, O_RDONLY | O_CLOEXEC);

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

void trial_init_tiny(struct trial *t, const char *name, uint32_t id, const char *what)
{
    trial_init(t, name, id);
    trial_tiny(t, what);
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

static char *slurp(const char *path, size_t *n)
{
    OWN(str) char *text = NULL;
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || path_read_fd(fd, path, 4 << 20, &text, n, NULL) < 0)
        return NULL;
    return TAKE(text);
}

/* A process is the guest's when its real uid lies in the guest's range, or its command line names the trial's files. */
static bool is_of(const struct trial *t, const char *pid)
{
    OWN(str) char *status = NULL, *words = NULL;
    char path[300];
    unsigned uid;
    size_t n;

    snprintf(path, sizeof path, "/proc/%s/status", pid);
    if (!(status = slurp(path, NULL)) || strstr(status, "\nState:\tZ")) /* ended: whose child it was has not looked yet */
        return false;
    const char *at = strstr(status, "\nUid:");
    if (at && sscanf(at, "\nUid: %u", &uid) == 1 && uid >= t->g.uid_base && uid < t->g.uid_base + 65536)
        return true;
    snprintf(path, sizeof path, "/proc/%s/cmdline", pid);
    return (words = slurp(path, &n)) && memmem(words, n, t->dir, strlen(t->dir));
}

static unsigned processes_of(const struct trial *t, char *who, size_t size)
{
    DIR *proc = opendir("/proc");
    unsigned n = 0;

    for (struct dirent *d; (d = readdir(proc));) {
        OWN(str) char *name = NULL;
        char path[300];

        if (d->d_name[0] < '0' || d->d_name[0] > '9' || !is_of(t, d->d_name))
            continue;
        n++;
        snprintf(path, sizeof path, "/proc/%s/stat", d->d_name);
        if ((name = slurp(path, NULL)))
            snprintf(who, size, "%.60s", name);
    }
    closedir(proc);
    if (t->p.keeper.pid) {
        OWN(fd) int fd = proc_id_open(&t->p.keeper, NULL);

        n += fd >= 0;
    }
    return n;
}

static unsigned loops_of(const struct trial *t)
{
    unsigned n = 0;

    for (int i = 0; i < 64; i++) {
        char path[64], *file;

        snprintf(path, sizeof path, "/sys/block/loop%d/loop/backing_file", i);
        if ((file = slurp(path, NULL)) && !strncmp(file, t->dir, strlen(t->dir)))
            n++;
        free(file);
    }
    return n;
}

/* But for what vmsd itself puts there. */
static unsigned files_of(const struct trial *t)
{
    DIR *dir = opendir(t->run);
    unsigned n = 0;

    for (struct dirent *d; dir && (d = readdir(dir));)
        n += strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && strcmp(d->d_name, TRIAL_INITRAMFS);
    if (dir)
        closedir(dir);
    return n;
}

/* Is that user let through to path by name? (linux/posix_acl_xattr.h: a version, then entries.) */
static bool lets_in(const char *path, uint32_t uid)
{
    struct { uint32_t version; struct { uint16_t tag, perm; uint32_t id; } entries[64]; } acl;
    ssize_t n = getxattr(path, "system.posix_acl_access", &acl, sizeof acl);

    for (ssize_t i = 0; (ssize_t)sizeof acl.version + (i + 1) * (ssize_t)sizeof acl.entries[0] <= n; i++)
        if (acl.entries[i].tag == 2 && acl.entries[i].id == uid) /* ACL_USER */
            return true;
    return false;
}

/* Files, and directories on the way to them, that the guest's user was let in to. */
static unsigned acls_of(const struct trial *t)
{
    const char *const files[] = {t->g.image, t->g.root, t->g.kernel, t->g.modules, t->g.initramfs};
    unsigned n = 0;

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        char path[1024];

        snprintf(path, sizeof path, "%s", files[i] ? files[i] : "");
        for (char *end; *path; *end = '\0') {
            n += lets_in(path, t->g.uid_base);
            end = strrchr(path, '/');
        }
    }
    return n;
}

struct trial_rest trial_audit(const struct trial *t)
{
    static const char *const roots[] = {"/sys/fs/cgroup/vmsd",         "/sys/fs/cgroup/unified/vmsd",
                                        "/sys/fs/cgroup/systemd/vmsd", "/sys/fs/cgroup/memory/vmsd",
                                        "/sys/fs/cgroup/cpu/vmsd",     "/sys/fs/cgroup/pids/vmsd",
                                        "/sys/fs/cgroup/cpuacct/vmsd", "/sys/fs/cgroup/blkio/vmsd"};
    struct trial_rest r = {.loops = loops_of(t), .files = files_of(t), .acls = acls_of(t)};
    char *mounts = slurp("/proc/self/mountinfo", NULL);

    r.processes = processes_of(t, r.who, sizeof r.who);

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
    ck_assert_msg(!r.processes && !r.mounts && !r.loops && !r.cgroups && !r.files && !r.acls,
                  "left behind: %u processes (%s), %u mounts, %u loop devices, %u cgroups, %u files, %u ACLs", r.processes,
                  r.who, r.mounts, r.loops, r.cgroups, r.files, r.acls);
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

void trial_sweep(uint32_t first)
{
    DIR *dir = opendir("/var/tmp");

    for (struct dirent *d; (d = readdir(dir));) {
        char path[300], run[310];
        struct drv_proc p;
        unsigned id;

        if (sscanf(d->d_name, "vmsd-trial-%u", &id) != 1 || id < first || id >= first + 1000)
            continue;
        snprintf(path, sizeof path, "/var/tmp/%s", d->d_name);
        snprintf(run, sizeof run, "%s/run", path);
        for (const struct vm_driver *const *drv = drivers(); *drv; drv++) {
            if ((*drv)->adopt(id, run, &p, NULL) == 0)
                (*drv)->stop(id, run, &p, deadline_in(0), NULL);
            (*drv)->reap(id, run, &(struct drv_exit){0}, NULL);
        }
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
    closedir(dir);
}
