/* Root trees: walked, measured, and checked before anything boots from them. */
#include "images.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { TREE_DEPTH_MAX = 256 };

/* ---- walking ---- */

struct walk {
    const struct tree_visit *visit;
    dev_t dev;
    char path[PATH_MAX];
};

static int not_dots(const struct dirent *d)
{
    return strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int walk_dir(struct walk *w, int dir, size_t len, unsigned depth, struct vm_err *e);

static int walk_entry(struct walk *w, int dir, const char *name, size_t len, unsigned depth, struct vm_err *e)
{
    const struct tree_visit *v = w->visit;
    struct tree_entry at = {.parent = dir, .name = name, .path = w->path};
    int n = snprintf(w->path + len, sizeof w->path - len, "%s%s", len ? "/" : "", name);

    if (n < 0 || (size_t)n >= sizeof w->path - len)
        return vm_fail(e, VM_E_TOO_LARGE, "path is longer than %d bytes: '%.100s...'", PATH_MAX, w->path);
    if (fstatat(dir, name, &at.st, AT_SYMLINK_NOFOLLOW) < 0)
        return vm_fail_sys(e, "look at '%s'", w->path);
    if (v->enter(&at, v->arg, e) < 0)
        return -1;
    if (!S_ISDIR(at.st.st_mode))
        return 0;
    if (at.st.st_dev == w->dev) {
        OWN(fd) int sub = path_open(dir, name, PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, e);
        if (sub < 0 || walk_dir(w, sub, len + (size_t)n, depth + 1, e) < 0)
            return -1;
    }
    return v->leave ? v->leave(&at, v->arg, e) : 0;
}

static int walk_dir(struct walk *w, int dir, size_t len, unsigned depth, struct vm_err *e)
{
    struct dirent **list = NULL;
    int n, rc = 0;

    if (depth > TREE_DEPTH_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "nested deeper than %d directories: '%.100s...'", TREE_DEPTH_MAX, w->path);
    if ((n = scandirat(dir, ".", &list, not_dots, by_name)) < 0)
        return vm_fail_sys(e, "list '%s'", w->path);
    for (int i = 0; i < n; i++) {
        if (rc == 0)
            rc = walk_entry(w, dir, list[i]->d_name, len, depth, e);
        w->path[len] = '\0';
        free(list[i]);
    }
    free(list);
    return rc;
}

int tree_walk(int root, const struct tree_visit *v, struct vm_err *e)
{
    struct walk w = {.visit = v};
    struct tree_entry at = {.parent = root, .name = ".", .path = w.path};

    if (fstat(root, &at.st) < 0)
        return vm_fail_sys(e, "look at a directory");
    w.dev = at.st.st_dev;
    if (v->enter(&at, v->arg, e) < 0 || walk_dir(&w, root, 0, 0, e) < 0)
        return -1;
    w.path[0] = '\0';
    return v->leave ? v->leave(&at, v->arg, e) : 0;
}

bool path_is_dir(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

struct usage {
    dev_t dev;
    uint64_t bytes;
};

/* No list of what is there is made, for a guest may put millions of files into a directory; and it may be at work there: what goes
 * meanwhile takes no room. fd is taken. */
static int usage_add(struct usage *u, int fd, unsigned depth, struct vm_err *e)
{
    OWN(dir) DIR *d = fd < 0 ? NULL : dir_take(fd);
    struct stat st;

    if (!d)
        return errno == ENOENT || errno == ENOTDIR || errno == ELOOP ? 0 : vm_fail_sys(e, "list a directory");
    if (depth > TREE_DEPTH_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "nested deeper than %d directories", TREE_DEPTH_MAX);
    for (const struct dirent *x; (errno = 0, x = readdir(d));) {
        if (!not_dots(x) || fstatat(dirfd(d), x->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            continue;
        u->bytes += (uint64_t)st.st_blocks * 512;
        if (!S_ISDIR(st.st_mode) || st.st_dev != u->dev)
            continue;
        int sub = path_open(dirfd(d), x->d_name, PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, NULL);
        if (usage_add(u, sub, depth + 1, e) < 0)
            return -1;
    }
    return errno ? vm_fail_sys(e, "list a directory") : 0;
}

int tree_usage(int dir, const char *name, uint64_t *bytes, struct vm_err *e)
{
    OWN(fd) int root = path_open(dir, name, PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, e);
    struct stat st;

    if (root < 0)
        return -1;
    if (fstat(root, &st) < 0)
        return vm_fail_sys(e, "look at a directory");

    struct usage u = {st.st_dev, (uint64_t)st.st_blocks * 512};
    if (usage_add(&u, take_fd(&root), 0, e) < 0)
        return -1;
    *bytes = u.bytes;
    return 0;
}

/* ---- a tree that boots ---- */

/* Read as the guest will read it: an absolute link means the tree's own root. */
static bool has_file(int tree, const char *path, mode_t bits)
{
    OWN(fd) int fd = path_open(tree, path, PATH_IN_ROOT, O_PATH, 0, NULL);
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & bits) == bits;
}

/* What a host mounts upon must be the tree's own directory; a link there would lead the mount elsewhere. */
static int own_directory(int tree, const char *name, mode_t mode, struct vm_err *e)
{
    struct stat st;

    if (mkdirat(tree, name, 0700) == 0)
        return fchmodat(tree, name, mode, 0) < 0 ? vm_fail_sys(e, "make '/%s'", name) : 0;
    if (errno != EEXIST || fstatat(tree, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return vm_fail_sys(e, "make '/%s'", name);
    return S_ISDIR(st.st_mode) ? 0
                               : vm_fail(e, VM_E_INVALID, "'/%s' is no directory; a root tree needs a real one", name);
}

int tree_finish(int dir, struct vm_err *e)
{
    static const struct { const char *name; mode_t mode; } needed[] = {
        {"dev", 0755}, {"etc", 0755}, {"proc", 0755}, {"run", 0755}, {"sys", 0755}, {"tmp", 01777}, {"var", 0755},
    };
    static const char *const inits[] = {"sbin/init", "usr/lib/systemd/systemd", "lib/systemd/systemd"};
    OWN(fd) int tree = path_open(dir, "tree", PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, e);
    bool boots = false;

    if (tree < 0)
        return -1;
    if (!has_file(tree, "etc/os-release", 0) && !has_file(tree, "usr/lib/os-release", 0))
        return vm_fail(e, VM_E_INVALID, "no /etc/os-release or /usr/lib/os-release in it, so it is no root tree that "
                                        "systemd-nspawn takes; is the system one directory further down?");
    for (size_t i = 0; i < ARRAY_LEN(inits); i++)
        boots = boots || has_file(tree, inits[i], S_IXUSR);
    if (!boots)
        return vm_fail(e, VM_E_INVALID, "no /sbin/init or /usr/lib/systemd/systemd in it: nothing to boot; "
                                        "install an init system (systemd-sysv) into it");
    /* Nodes in /dev are the builder's; each guest gets its own. */
    if (own_directory(tree, "dev", 0755, e) < 0 || path_remove(tree, "dev", e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        if (own_directory(tree, needed[i].name, needed[i].mode, e) < 0)
            return -1;
    if (fchown(tree, 0, 0) < 0 || fchmod(tree, 0755) < 0)
        return vm_fail_sys(e, "set mode of the root directory");
    return 0;
}
