#include <vmsd/path.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vmsd/own.h>

enum { REMOVE_DEPTH = 64, REMOVE_MOVES_MAX = 1000000 };

static int open2(int dir, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC | (flags & O_PATH ? 0 : O_NOCTTY)),
        .mode = flags & (O_CREAT | O_TMPFILE) ? mode : 0,
        .resolve = resolve,
    };
    int fd;

    /* EAGAIN: a rename raced with "..", which the kernel cannot then prove harmless; trying again is what it asks for. */
    for (int tries = 0; tries < 32; tries++) {
        fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            return fd;
    }
    return fd;
}

int path_open(int dir, const char *rel, enum path_how how, int flags, mode_t mode, struct vm_err *e)
{
    uint64_t resolve = RESOLVE_NO_MAGICLINKS | (how == PATH_IN_ROOT ? RESOLVE_IN_ROOT : RESOLVE_BENEATH);
    int fd = open2(dir, rel, flags, mode, resolve);

    return fd < 0 ? vm_fail_sys(e, "open '%s'", rel) : fd;
}

/* PrivateTmp= in the unit: who names such a file sees it, and vmsd does not. */
static bool is_hidden(const char *abs)
{
    return errno == ENOENT && getenv("INVOCATION_ID") && (!strncmp(abs, "/tmp/", 5) || !strncmp(abs, "/var/tmp/", 9));
}

int path_open_host(const char *abs, int flags, struct vm_err *e)
{
    int fd;

    if (abs[0] != '/')
        return vm_fail(e, VM_E_INVALID, "'%s' is not an absolute path", abs);
    fd = open2(AT_FDCWD, abs, flags, 0, RESOLVE_NO_MAGICLINKS);
    if (fd < 0 && is_hidden(abs))
        return vm_fail_sys(e, "open '%s', which systemd hides from vmsd, as all of /tmp and /var/tmp; put it elsewhere", abs);
    return fd < 0 ? vm_fail_sys(e, "open '%s'", abs) : fd;
}

static int mkdirs(int dir, const char *path, mode_t mode, uint64_t resolve, struct vm_err *e)
{
    OWN(fd) int at = -1;
    OWN(str) char *copy = strdup(path);
    char *rest = copy, *part;

    if (!copy)
        return vm_no_memory(e);
    at = open2(dir, ".", O_PATH | O_DIRECTORY, 0, 0);
    if (at < 0)
        return vm_fail_sys(e, "open directory of '%s'", path);
    while ((part = strsep(&rest, "/"))) {
        int next;

        if (!*part || !strcmp(part, "."))
            continue;
        if (mkdirat(at, part, mode) < 0 && errno != EEXIST)
            return vm_fail_sys(e, "make directory '%s' of '%s'", part, path);
        next = open2(at, part, O_DIRECTORY | O_RDONLY, 0, resolve);
        if (next < 0)
            return vm_fail_sys(e, "open directory '%s' of '%s'", part, path);
        fd_drop(at);
        at = next;
    }
    return take_fd(&at);
}

int path_mkdirs(int dir, const char *rel, mode_t mode, struct vm_err *e)
{
    return mkdirs(dir, rel, mode, RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH, e);
}

int path_mkdirs_host(const char *abs, mode_t mode, struct vm_err *e)
{
    OWN(fd) int root = -1;

    if (abs[0] != '/')
        return vm_fail(e, VM_E_INVALID, "'%s' is not an absolute path", abs);
    root = path_open_host("/", O_PATH | O_DIRECTORY, e);
    return root < 0 ? -1 : mkdirs(root, abs, mode, RESOLVE_NO_MAGICLINKS, e);
}

int path_read_fd(int fd, const char *what, size_t max, char **out, size_t *n, struct vm_err *e)
{
    OWN(str) char *data = NULL;
    size_t len = 0, cap = 0;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", what);
    if (!S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%s' is not a regular file", what);
    for (;;) {
        ssize_t got;

        if (len == cap) { /* /proc files have size 0: grow as they come */
            size_t want = cap ? cap * 2 : (st.st_size > 0 ? (size_t)st.st_size + 1 : 4096);
            char *grown;

            if (len > max)
                return vm_fail(e, VM_E_TOO_LARGE, "'%s' is larger than %zu bytes", what, max);
            if (want > max + 2)
                want = max + 2;
            if (!(grown = realloc(data, want)))
                return vm_no_memory(e);
            data = grown;
            cap = want;
        }
        got = read(fd, data + len, cap - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return vm_fail_sys(e, "read '%s'", what);
        if (got == 0)
            break;
        len += (size_t)got;
        if (len > max)
            return vm_fail(e, VM_E_TOO_LARGE, "'%s' is larger than %zu bytes", what, max);
    }
    data[len] = '\0'; /* got 0 with room left: len < cap */
    *out = TAKE(data);
    if (n)
        *n = len;
    return 0;
}

int path_read(int dir, const char *rel, size_t max, char **out, size_t *n, struct vm_err *e)
{
    /* O_NONBLOCK: a fifo in place of the file must not hold us up before fstat says so. */
    OWN(fd) int fd = path_open(dir, rel, PATH_BENEATH, O_RDONLY | O_NONBLOCK, 0, e);

    return fd < 0 ? -1 : path_read_fd(fd, rel, max, out, n, e);
}

int path_write_all(int fd, const void *p, size_t n, struct vm_err *e)
{
    const char *at = p;

    while (n) {
        ssize_t put = write(fd, at, n);

        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return vm_fail_sys(e, "write");
        at += put;
        n -= (size_t)put;
    }
    return 0;
}

/* Opens the directory that holds rel and points *name at its last part. */
static int open_parent(int dir, const char *rel, const char **name, struct vm_err *e)
{
    const char *slash = strrchr(rel, '/');
    char parent[PATH_MAX];

    *name = slash ? slash + 1 : rel;
    if (!**name || !strcmp(*name, "..") || !strcmp(*name, ".") || (slash && (size_t)(slash - rel) >= sizeof parent))
        return vm_fail(e, VM_E_INVALID, "'%s' is no path of a file", rel);
    snprintf(parent, sizeof parent, "%.*s", slash ? (int)(slash - rel) : 1, slash ? rel : ".");
    return path_open(dir, parent, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);
}

/* A file without a name, where the file system has such; else by the name of `scratch`, which a crash would leave. */
static int open_draft(int parent, char *scratch, size_t size, mode_t mode, bool *named, struct vm_err *e)
{
    uint32_t salt = 0;
    int fd = path_open(parent, ".", PATH_BENEATH, O_TMPFILE | O_WRONLY, mode, NULL);

    *named = fd < 0;
    if (fd >= 0)
        return fd;
    if (getrandom(&salt, sizeof salt, 0) < 0)
        return vm_fail_sys(e, "random name for '%s'", scratch);
    snprintf(scratch + strlen(scratch), size - strlen(scratch), "%08x", salt);
    return path_open(parent, scratch, PATH_BENEATH, O_WRONLY | O_CREAT | O_EXCL, mode, e);
}

/* Names a whole draft by its scratch name, which one writer after the other uses: what a crash left there goes with the
 * next. */
static int name_draft(int fd, int parent, const char *scratch)
{
    char self[32];

    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, self, parent, scratch, AT_SYMLINK_FOLLOW) == 0)
        return 0;
    if (errno != EEXIST || (unlinkat(parent, scratch, 0) < 0 && errno != ENOENT))
        return -1;
    return linkat(AT_FDCWD, self, parent, scratch, AT_SYMLINK_FOLLOW);
}

/* Does the scratch name lead to it, and not to another writer's? */
static bool is_draft(int fd, int parent, const char *scratch)
{
    struct stat draft, there;

    return fstat(fd, &draft) == 0 && fstatat(parent, scratch, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           draft.st_ino == there.st_ino && draft.st_dev == there.st_dev;
}

/* Two writers at once: each has a whole file, and whichever is renamed last stays. That the scratch name is gone means
 * that the other one was faster. */
static int put_draft(int parent, const char *scratch, const char *name, bool named)
{
    return renameat(parent, scratch, parent, name) < 0 && (named || errno != ENOENT) ? -1 : 0;
}

int path_write(int dir, const char *rel, const void *p, size_t n, mode_t mode, struct vm_err *e)
{
    OWN(fd) int parent = -1, fd = -1;
    const char *name;
    char scratch[NAME_MAX];
    bool named;

    if ((parent = open_parent(dir, rel, &name, e)) < 0)
        return -1;
    snprintf(scratch, sizeof scratch, ".%.200s.new", name);
    if ((fd = open_draft(parent, scratch, sizeof scratch, mode, &named, e)) < 0)
        return -1;
    if (path_write_all(fd, p, n, e) < 0) {
        vm_context(e, "write '%s'", rel);
        goto undo;
    }
    if (fchmod(fd, mode) < 0 || fsync(fd) < 0 || (!named && name_draft(fd, parent, scratch) < 0) ||
        put_draft(parent, scratch, name, named) < 0) {
        vm_fail_sys(e, "write '%s'", rel);
        goto undo;
    }
    if (fsync(parent) < 0)
        return vm_fail_sys(e, "write '%s'", rel);
    return 0;
undo:
    if (is_draft(fd, parent, scratch))
        unlinkat(parent, scratch, 0);
    return -1;
}

struct removal {
    const char *what;
    int top;        /* the directory that goes last */
    unsigned moved; /* up to it, ever */
};

/* A guest decides how deep its directories lie in each other, and each level takes a descriptor and stack of ours. What lies
 * too deep comes up to the top, where all is to go, and is removed from there. */
static int move_up(struct removal *r, int dir, const char *name, struct vm_err *e)
{
    char up[32];

    while (r->moved < REMOVE_MOVES_MAX) {
        snprintf(up, sizeof up, ".deep.%u", r->moved++);
        if (renameat(dir, name, r->top, up) == 0 || errno == ENOENT)
            return 0;
        if (errno != ENOTEMPTY && errno != EEXIST && errno != ENOTDIR) /* one of that name is there */
            return vm_fail_sys(e, "remove '%s'", r->what);
    }
    return vm_fail(e, VM_E_SYSTEM, "remove '%s': directories lie too deep in each other", r->what);
}

/* A mount point below is an error and not entered: the thing mounted there belongs to somebody else. */
static int remove_at(struct removal *r, int dir, const char *name, dev_t dev, unsigned depth, struct vm_err *e)
{
    OWN(dir) DIR *list = NULL;
    struct stat st;
    int fd;

    if (unlinkat(dir, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return vm_fail_sys(e, "remove '%s'", r->what);
    if (depth == REMOVE_DEPTH)
        return move_up(r, dir, name, e);
    fd = open2(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, RESOLVE_NO_MAGICLINKS | RESOLVE_BENEATH);
    if (fd < 0)
        return errno == ENOENT ? 0 : vm_fail_sys(e, "remove '%s'", r->what);
    if (fstat(fd, &st) < 0 || (dev && st.st_dev != dev)) {
        fd_drop(fd);
        return vm_fail(e, VM_E_CONFLICT, "remove '%s': something is mounted at '%s'", r->what, name);
    }
    if (!(list = dir_take(fd)))
        return vm_no_memory(e);
    if (depth == 0)
        r->top = fd;
    for (struct dirent *d; (d = readdir(list));)
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && remove_at(r, fd, d->d_name, st.st_dev, depth + 1, e) < 0)
            return -1;
    return unlinkat(dir, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? vm_fail_sys(e, "remove '%s'", r->what) : 0;
}

int path_remove(int dir, const char *rel, struct vm_err *e)
{
    OWN(fd) int parent = -1;
    struct removal r = {.what = rel, .top = -1};
    const char *name;
    struct vm_err why = {0};
    unsigned before;
    int rc = 0;

    if ((parent = open_parent(dir, rel, &name, &why)) < 0)
        rc = why.sys == ENOENT ? 0 : -1;
    else
        do {
            before = r.moved;
            rc = remove_at(&r, parent, name, 0, 0, &why);
        } while (rc < 0 && why.sys == ENOTEMPTY && r.moved != before); /* what came up is there */
    if (rc < 0 && e)
        *e = why;
    return rc;
}

bool path_exists(int dir, const char *rel)
{
    OWN(fd) int fd = path_open(dir, rel, PATH_BENEATH, O_PATH | O_NOFOLLOW, 0, NULL);

    return fd >= 0;
}

bool path_is_kernels(int fd)
{
    static const unsigned long made_up[] = {
        PROC_SUPER_MAGIC,  SYSFS_MAGIC,      CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, DEBUGFS_MAGIC,       TRACEFS_MAGIC,
        SECURITYFS_MAGIC,  BPF_FS_MAGIC,     EFIVARFS_MAGIC,     PSTOREFS_MAGIC,      DEVPTS_SUPER_MAGIC,  NSFS_MAGIC,
    };
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(made_up); i++)
        if ((unsigned long)fs.f_type == made_up[i])
            return true;
    return false;
}
