/* Images that are copied from a directory. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

#define FORMAT "vmsd import 1 directory" /* change it when the same source gives another tree */
#define CAPS_XATTR "security.capability"

enum { ID_KEPT_MAX = 65535, LINK_MAX_BYTES = 4096, CAPS_BYTES_MAX = 64 };

static int hash_entry(const struct tree_entry *at, void *hash, struct vm_err *e)
{
    const struct stat *st = &at->st;
    char line[200];

    (void)e;
    /* The times tell of changed content without reading it; the change time can't be set back. */
    snprintf(line, sizeof line, "%o %u %u %lld %llu %lld.%09ld %lld.%09ld", st->st_mode, st->st_uid, st->st_gid,
             (long long)st->st_size, (unsigned long long)st->st_ino, (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
             (long long)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
    hash_add_str(hash, at->path);
    hash_add_str(hash, line);
    return 0;
}

int directory_id(int dir, char id[static IMAGE_ID], struct vm_err *e)
{
    struct hash *h = hash_new();

    if (!h)
        return vm_no_memory(e);
    hash_add_str(h, FORMAT);
    int rc = tree_walk(dir, &(struct tree_visit){.enter = hash_entry, .arg = h}, e);
    hash_end(h, id);
    return rc;
}

/* The first name of a file that has several. */
struct linked {
    dev_t dev;
    ino_t ino;
    char *path;
};

struct copy {
    const struct image_make *make;
    int to;         /* the new root */
    void *links;    /* tsearch tree of struct linked */
};

static int by_inode(const void *left, const void *right)
{
    const struct linked *a = left, *b = right;

    if (a->dev != b->dev)
        return a->dev < b->dev ? -1 : 1;
    return a->ino == b->ino ? 0 : a->ino < b->ino ? -1 : 1;
}

static void linked_free(void *p)
{
    struct linked *l = p;

    free(l->path);
    free(l);
}

/* 1: made as another name of a file that is there already; 0: it must be copied. */
static int copy_as_link(struct copy *c, const struct tree_entry *at, struct vm_err *e)
{
    struct linked key = {.dev = at->st.st_dev, .ino = at->st.st_ino}, **found, *l;

    if (at->st.st_nlink < 2)
        return 0;
    if ((found = tfind(&key, &c->links, by_inode)))
        return linkat(c->to, (*found)->path, c->to, at->path, 0) < 0 ? vm_fail_sys(e, "link '%s'", at->path) : 1;
    if (!(l = malloc(sizeof *l)))
        return vm_no_memory(e);
    *l = key;
    if (!(l->path = strdup(at->path)) || !tsearch(l, &c->links, by_inode)) {
        linked_free(l);
        return vm_no_memory(e);
    }
    return 0;
}

static int copy_attributes(int from, int to, const struct tree_entry *at, struct vm_err *e)
{
    char caps[CAPS_BYTES_MAX];
    ssize_t n = S_ISREG(at->st.st_mode) ? fgetxattr(from, CAPS_XATTR, caps, sizeof caps) : -1;

    /* The owner first: a change of it clears the set-uid bits, and the mode the capabilities. */
    if (fchown(to, at->st.st_uid, at->st.st_gid) < 0 || fchmod(to, at->st.st_mode & 07777) < 0 ||
        (n > 0 && fsetxattr(to, CAPS_XATTR, caps, (size_t)n, 0) < 0) ||
        futimens(to, (struct timespec[]){at->st.st_atim, at->st.st_mtim}) < 0)
        return vm_fail_sys(e, "set attributes of '%s'", at->path);
    return 0;
}

static int copy_regular(struct copy *c, const struct tree_entry *at, struct vm_err *e)
{
    OWN(fd) int from = path_open(at->parent, at->name, PATH_BENEATH, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, e);
    OWN(fd) int to = -1;
    struct stat st;

    if (from < 0)
        return -1;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode) || st.st_ino != at->st.st_ino || st.st_dev != at->st.st_dev)
        return vm_fail(e, VM_E_CONFLICT, "'%s' was replaced while it was copied; try again", at->path);
    to = path_open(c->to, at->path, PATH_BENEATH, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, e);
    return to < 0 || copy_file(from, to, at->path, c->make->deadline, e) < 0 ? -1 : copy_attributes(from, to, at, e);
}

static int copy_symlink(struct copy *c, const struct tree_entry *at, struct vm_err *e)
{
    char target[LINK_MAX_BYTES];
    ssize_t n = readlinkat(at->parent, at->name, target, sizeof target);

    if (n < 0 || (size_t)n == sizeof target)
        return vm_fail_sys(e, "read link '%s'", at->path);
    target[n] = '\0';
    if (symlinkat(target, c->to, at->path) < 0 ||
        fchownat(c->to, at->path, at->st.st_uid, at->st.st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
        utimensat(c->to, at->path, (struct timespec[]){at->st.st_atim, at->st.st_mtim}, AT_SYMLINK_NOFOLLOW) < 0)
        return vm_fail_sys(e, "make link '%s'", at->path);
    return 0;
}

static int copy_enter(const struct tree_entry *at, void *arg, struct vm_err *e)
{
    struct copy *c = arg;

    if (!deadline_left(c->make->deadline))
        return vm_fail(e, VM_E_TIMEOUT, "'%s' is too large to be copied in time", c->make->src->want->name);
    if (at->st.st_uid > ID_KEPT_MAX || at->st.st_gid > ID_KEPT_MAX)
        return vm_fail(e, VM_E_INVALID, "'%s' belongs to %u:%u, outside 0..%d; give a tree with its ids unshifted",
                       at->path, at->st.st_uid, at->st.st_gid, ID_KEPT_MAX);
    if (S_ISDIR(at->st.st_mode))
        return *at->path && mkdirat(c->to, at->path, 0700) < 0 ? vm_fail_sys(e, "make '%s'", at->path) : 0;
    if (S_ISLNK(at->st.st_mode))
        return copy_symlink(c, at, e);
    if (!S_ISREG(at->st.st_mode))
        return 0; /* device nodes, fifos and sockets belong to a machine, not to an image */
    int linked = copy_as_link(c, at, e);
    return linked ? (linked < 0 ? -1 : 0) : copy_regular(c, at, e);
}

static int copy_leave(const struct tree_entry *at, void *arg, struct vm_err *e)
{
    struct copy *c = arg;
    OWN(fd) int to = path_open(c->to, *at->path ? at->path : ".", PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);

    return to < 0 ? -1 : copy_attributes(-1, to, at, e);
}

int directory_import(const struct image_make *m, struct vm_err *e)
{
    OWN(fd) int to = path_mkdirs(m->scratch, IMAGE_TREE, 0700, e);
    struct copy c = {.make = m, .to = to};

    if (to < 0)
        return -1;
    int rc = tree_walk(m->src->dir, &(struct tree_visit){.enter = copy_enter, .leave = copy_leave, .arg = &c}, e);
    tdestroy(c.links, linked_free);
    return rc;
}
