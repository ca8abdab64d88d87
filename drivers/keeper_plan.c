#include "keeper_plan.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

/* udev looks at every loop device, so one may outlive its guest for a moment, and the lock with it. */
enum { LOCK_MS = 2000 };

static int lock_wait(int fd, struct deadline d)
{
    struct deadline soon = deadline_in(LOCK_MS);
    int rc;

    while ((rc = flock(fd, LOCK_EX | LOCK_NB)) < 0 && errno == EWOULDBLOCK && deadline_left(soon) && deadline_left(d))
        sleep_ms(5);
    return rc;
}

/* An ext4 image, locked: two file systems on one image destroy it. The lock belongs to the open file, which the loop
 * device keeps, so it ends with the device and not with a process. */
int plan_disk_open(const char *path, struct deadline d, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK, e);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", path);
    if (!S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%s' is not a regular file, so no disk image", path);
    if (lock_wait(fd, d) < 0)
        return errno == EWOULDBLOCK ? vm_fail(e, VM_E_CONFLICT, "'%s' is in use by another running guest", path)
                                    : vm_fail_sys(e, "lock '%s'", path);
    return take_fd(&fd);
}

static bool same_file(const struct stat *a, const char *path)
{
    struct stat b;
    OWN(fd) int fd = path_open_host(path, O_PATH, NULL);

    return fd >= 0 && fstat(fd, &b) == 0 && a->st_dev == b.st_dev && a->st_ino == b.st_ino;
}

/* C3: is the source path itself or one of its parents? */
static bool holds(const struct stat *source, const char *path)
{
    char parent[PATH_MAX];

    snprintf(parent, sizeof parent, "%s", path);
    for (char *cut = parent + strlen(parent); cut; cut = strrchr(parent, '/')) {
        *cut = '\0';
        if (same_file(source, *parent ? parent : "/"))
            return true;
    }
    return false;
}

int plan_tree_open(const struct drv_guest *g, const struct drv_mount *m, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(m->source, O_PATH, e);
    struct stat st;

    if (fd < 0)
        return vm_context(e, "mount on %s", m->target);
    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", m->source);
    if (!S_ISDIR(st.st_mode) && !S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%s' is neither directory nor regular file; only these go into a guest",
                       m->source);
    if (path_is_kernels(fd) || same_file(&st, "/dev"))
        return vm_fail(e, VM_E_DENIED, "'%s' belongs to the kernel and is not given to guests", m->source);
    if (S_ISDIR(st.st_mode) && (holds(&st, g->run_dir) || holds(&st, g->root) || holds(&st, g->log_dir)))
        return vm_fail(e, VM_E_DENIED, "'%s' contains vmsd's own files; name a directory that holds only data",
                       m->source);
    return take_fd(&fd);
}

void plan_add(struct plan_draft *d, const char *fmt, ...)
{
    char word[PATH_MAX + 32];
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(word, sizeof word, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof word)
        d->text.failed = true; /* longer than any path */
    else
        text_add_bytes(&d->text, word, (size_t)n + 1);
}

static int guest_check(const struct drv_guest *g, struct vm_err *e)
{
    if (g->n_mounts > KEEPER_MOUNTS_MAX)
        return vm_fail(e, VM_E_INVALID, "%zu volumes and binds are too many, at most %d", g->n_mounts,
                       KEEPER_MOUNTS_MAX);
    if (g->uid_base < KEEPER_IDS)
        return vm_fail(e, VM_E_INVALID, "host ids from %u on are not a guest's", g->uid_base);
    return 0;
}

void plan_draft_done(struct plan_draft d)
{
    text_done(d.text);
    kept_plan_done(d.plan);
}

int plan_take_fd(struct plan_draft *d, int fd)
{
    if (fd < 0 || d->plan.n == KEEPER_FDS_MAX) /* the latter never: guest_check was before */
        return -1;
    d->plan.fds[d->plan.n++] = fd;
    return 0;
}

int plan_begin(struct plan_draft *d, const struct drv_guest *g, const struct cgroup *c, struct vm_err *e)
{
    int dir = O_RDONLY | O_DIRECTORY;

    if (guest_check(g, e) < 0)
        return -1;
    if (!(d->plan.fds = calloc(KEEPER_FDS_MAX, sizeof *d->plan.fds)))
        return vm_no_memory(e);
    d->plan.fds[d->plan.n++] = -1; /* KEEPER_FD_PLAN, by plan_end */
    if (plan_take_fd(d, path_open_host(g->run_dir, dir, e)) < 0 || plan_take_fd(d, path_open_host(g->log_dir, dir, e)) < 0)
        return -1;
    plan_add(d, "uid_base=%u", g->uid_base);
    if (*c->guest)
        plan_add(d, "into=%s", c->guest);
    for (int i = 0; i < V1_COUNT; i++)
        if (*c->v1[i])
            plan_add(d, "cgroup=%s", c->v1[i]);
    return 0;
}

static int text_seal(const struct text *t, struct vm_err *e)
{
    OWN(fd) int fd = memfd_create("vmsd-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (fd < 0)
        return vm_fail_sys(e, "memfd");
    if (path_write_all(fd, t->s, t->len, e) < 0)
        return -1;
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return vm_fail_sys(e, "seal a memfd");
    return take_fd(&fd);
}

int plan_end(struct plan_draft *d, struct kept_plan *out, struct vm_err *e)
{
    if (d->text.failed)
        return vm_no_memory(e);
    if ((d->plan.fds[0] = text_seal(&d->text, e)) < 0)
        return -1;
    *out = d->plan;
    d->plan = (struct kept_plan){0};
    return 0;
}

int plan_file(struct plan_draft *d, const char *flags, const char *path, int fd)
{
    if (plan_take_fd(d, fd) < 0)
        return -1;
    plan_add(d, "file=%s,%s", flags, path);
    return 0;
}

int plan_program(struct plan_draft *d, const char *flags, const char *path, const char *program, struct vm_err *e)
{
    return plan_file(d, flags, path, path_open_host(program, O_PATH, e));
}

/* Where dynamic linkers look without being told. Nothing in there is secret, and all of it read-only. */
int plan_libraries(struct plan_draft *d, const char *flags, struct vm_err *e)
{
    static const char *const dirs[] = {"/lib", "/lib64", "/usr/lib", "/usr/lib64", "/nix/store"};

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (access(dirs[i], F_OK) == 0 && plan_program(d, flags, dirs[i], dirs[i], e) < 0)
            return -1;
    return 0;
}
