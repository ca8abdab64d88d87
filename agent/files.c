#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/own.h>

/* What path=, mode= and owner= say. parent is open, name its last component. */
struct target {
    int parent;
    char *path;                    /* as given, without slashes at its end; parent and name are cut out of it */
    const char *name;
    bool has_mode, has_owner;
    mode_t mode;
    struct owner owner;
};

static int target_attributes(const struct request *rq, struct target *t, struct vm_err *e)
{
    const char *mode = request_get(rq, "mode"), *owner = request_get(rq, "owner");
    char *end;
    if (mode) {
        unsigned long m = strtoul(mode, &end, 8);
        if (*mode < '0' || *mode > '7' || *end || m > 07777)
            return vm_fail(e, VM_E_INVALID, "mode=%.20s is no octal mode up to 7777", mode);
        t->mode = (mode_t)m;
        t->has_mode = true;
    }
    t->has_owner = owner;
    return owner ? owner_find(owner, &t->owner, e) : 0;
}

/* mkdir -p; returns an fd of the last one. The guest's own links are followed on the way, as everything here does. */
static int open_directory(const char *path, bool make, struct vm_err *e)
{
    OWN(fd) int at = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    char part[256];

    for (const char *p = path + strspn(path, "/"); *p; p += strspn(p, "/")) {
        size_t n = strcspn(p, "/");
        if (n >= sizeof(part))
            return vm_fail(e, VM_E_INVALID, "'%.200s': a name in it is longer than 255 bytes", path);
        memcpy(part, p, n);
        part[n] = '\0';
        p += n;
        if (make && mkdirat(at, part, 0755) < 0 && errno != EEXIST)
            return vm_fail_sys(e, "make directory '%.200s'", path);
        int next = openat(at, part, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (next < 0)
            return vm_fail_sys(e, "open directory '%.200s'", path);
        fd_drop(at);
        at = next;
    }
    return take_fd(&at);
}

static int target_open(const struct request *rq, bool make_parents, struct target *t, struct vm_err *e)
{
    const char *path = request_get(rq, "path");
    if (!path || *path != '/')
        return vm_fail(e, VM_E_INVALID, "path=%.200s is not absolute", path ? path : "");
    if (!(t->path = strdup(path)))
        return vm_no_memory(e);
    for (size_t n = strlen(t->path); n > 0 && t->path[n - 1] == '/';)
        t->path[--n] = '\0';
    char *slash = strrchr(t->path, '/');
    if (!slash || strcmp(slash, "/.") == 0 || strcmp(slash, "/..") == 0)
        return vm_fail(e, VM_E_INVALID, "'%.200s' names no file", path);
    *slash = '\0';
    t->name = slash + 1;
    if (target_attributes(rq, t, e) < 0)
        return -1;
    t->parent = open_directory(t->path, make_parents, e);
    return t->parent < 0 ? -1 : 0;
}

static void target_done(struct target t)
{
    fd_drop(t.parent);
    free(t.path);
}
OWN_DEFINE(target, struct target, target_done)

static int set_attributes(int fd, const struct target *t, mode_t mode, struct vm_err *e)
{
    if (t->has_owner && fchown(fd, t->owner.uid, t->owner.gid) < 0)
        return vm_fail_sys(e, "give '%.200s' to its owner", t->name);
    if (fchmod(fd, mode) < 0) /* after fchown, which drops setuid */
        return vm_fail_sys(e, "set the mode of '%.200s'", t->name);
    return 0;
}

/* Copies until the end of `from`; the number of bytes, or -1. */
static int64_t copy(int from, int to, const char *what, struct vm_err *e)
{
    static char buf[64 << 10];
    int64_t total = 0;
    for (;;) {
        ssize_t n = read(from, buf, sizeof(buf));
        if (n < 0)
            return vm_fail_sys(e, "read '%.200s'", what);
        if (n == 0)
            return total;
        for (ssize_t at = 0, w; at < n; at += w) {
            if ((w = write(to, buf + at, (size_t)(n - at))) < 0)
                return vm_fail_sys(e, "write '%.200s'", what);
        }
        total += n;
    }
}

/* ---- put ---- */

static struct { int parent; char name[32]; } scratch = { .parent = -1 };

static void scratch_remove(void)
{
    if (scratch.parent >= 0)
        unlinkat(scratch.parent, scratch.name, 0);
    scratch.parent = -1;
}

static void on_cancel(int sig)
{
    (void)sig;
    scratch_remove();
    _exit(1);
}

static int scratch_open(const struct target *t, struct vm_err *e)
{
    uint32_t random;
    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        return vm_fail_sys(e, "take random bytes");
    snprintf(scratch.name, sizeof(scratch.name), ".vms-put-%08x", (unsigned)random);
    int fd = openat(t->parent, scratch.name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return vm_fail_sys(e, "make a file in '%.200s/'", t->path);
    scratch.parent = t->parent;
    return fd;
}

static int put_content(const struct target *t, struct vm_err *e)
{
    OWN(fd) int fd = scratch_open(t, e);
    if (fd < 0 || copy(0, fd, t->name, e) < 0)
        return -1;
    if (!op_input_whole())
        return vm_fail(e, VM_E_UNAVAILABLE, "the host went away in the middle of '%.200s'", t->name);
    if (set_attributes(fd, t, t->has_mode ? t->mode : 0644, e) < 0)
        return -1;
    if (fsync(fd) < 0 || renameat(t->parent, scratch.name, t->parent, t->name) < 0)
        return vm_fail_sys(e, "put '%.200s/%.200s'", t->path, t->name);
    scratch.parent = -1;
    OWN(fd) int dir = openat(t->parent, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        fsync(dir);
    return 0;
}

int op_put(const struct request *rq, struct vm_err *e)
{
    OWN(target) struct target t = { .parent = -1 };
    signal(SIGTERM, on_cancel);
    if (target_open(rq, true, &t, e) < 0)
        return -1;
    int rc = put_content(&t, e);
    scratch_remove();
    return rc;
}

/* ---- get ---- */

int op_get(const struct request *rq, struct vm_err *e)
{
    const char *path = request_get(rq, "path");
    struct stat st;

    if (!path || *path != '/')
        return vm_fail(e, VM_E_INVALID, "path=%.200s is not absolute", path ? path : "");
    /* O_NONBLOCK: a fifo would wait for its writer. */
    OWN(fd) int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return vm_fail_sys(e, "open '%.200s'", path);
    if (!S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%.200s' is not a regular file", path);
    int64_t size = copy(fd, 1, path, e);
    if (size < 0)
        return -1;
    op_tell("size", "%lld", (long long)size);
    op_tell("mode", "%04o", (unsigned)st.st_mode & 07777);
    op_tell("uid", "%u", (unsigned)st.st_uid);
    op_tell("gid", "%u", (unsigned)st.st_gid);
    return 0;
}

/* ---- mkdir ---- */

int op_mkdir(const struct request *rq, struct vm_err *e)
{
    OWN(target) struct target t = { .parent = -1 };
    if (target_open(rq, true, &t, e) < 0)
        return -1;
    bool is_new = mkdirat(t.parent, t.name, 0700) == 0;
    if (!is_new && errno != EEXIST)
        return vm_fail_sys(e, "make directory '%.200s/%.200s'", t.path, t.name);
    OWN(fd) int fd = openat(t.parent, t.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0)
        return vm_fail_sys(e, "open directory '%.200s/%.200s'", t.path, t.name);
    return set_attributes(fd, &t, t.has_mode ? t.mode : is_new ? 0755 : st.st_mode & 07777, e);
}

/* ---- remove ---- */

static int remove_at(int parent, const char *name, dev_t dev, struct vm_err *e);

static int remove_content(int dir, const char *name, dev_t dev, struct vm_err *e)
{
    OWN(dir) DIR *d = dir_take(dir);
    if (!d)
        return vm_fail_sys(e, "read directory '%.200s'", name);
    for (const struct dirent *de; (de = readdir(d));) {
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0)
            continue;
        if (remove_at(dirfd(d), de->d_name, dev, e) < 0)
            return -1;
    }
    return 0;
}

/* Each level holds one fd, so a tree deeper than RLIMIT_NOFILE is refused with a clear error. */
static int remove_at(int parent, const char *name, dev_t dev, struct vm_err *e)
{
    struct stat st;
    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return vm_fail_sys(e, "remove '%.200s'", name);
    int dir = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0 || fstat(dir, &st) < 0) {
        fd_drop(dir);
        return vm_fail_sys(e, "remove '%.200s'", name);
    }
    if (st.st_dev != dev) {
        fd_drop(dir);
        return vm_fail(e, VM_E_CONFLICT, "'%.200s' is another file system; unmount it first", name);
    }
    if (remove_content(dir, name, dev, e) < 0)
        return vm_context(e, "%.100s", name);
    if (unlinkat(parent, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        return vm_fail_sys(e, "remove directory '%.200s'", name);
    return 0;
}

int op_remove(const struct request *rq, struct vm_err *e)
{
    OWN(target) struct target t = { .parent = -1 };
    struct stat st;
    if (target_open(rq, false, &t, e) < 0)
        return e->sys == ENOENT ? 0 : -1;
    if (fstat(t.parent, &st) < 0)
        return vm_fail_sys(e, "remove '%.200s'", t.name);
    return remove_at(t.parent, t.name, st.st_dev, e);
}
