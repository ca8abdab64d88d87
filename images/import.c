/* Images that somebody else made: a directory is copied, a tarball unpacked. */
#include "images.h"
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

#define FORMAT "vmsd import 1" /* change it when the same source gives another tree */
#define CAPS_XATTR "security.capability"

enum { ID_KEPT_MAX = 65535, LINK_MAX_BYTES = 4096, CAPS_BYTES_MAX = 64 };

/* ---- directories ---- */

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
    hash_add_str(h, FORMAT " directory");
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
    return to < 0 || copy_file(from, to, at->path, e) < 0 ? -1 : copy_attributes(from, to, at, e);
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

int directory_import(int dir, int scratch, struct vm_err *e)
{
    OWN(fd) int to = path_mkdirs(scratch, "tree", 0700, e);
    struct copy c = {.to = to};

    if (to < 0)
        return -1;
    int rc = tree_walk(dir, &(struct tree_visit){.enter = copy_enter, .leave = copy_leave, .arg = &c}, e);
    tdestroy(c.links, linked_free);
    return rc;
}

/* ---- tarballs ---- */

static bool is_sha256(const char *s)
{
    return s && strlen(s) == IMAGE_ID - 1 && strspn(s, "0123456789abcdef") == IMAGE_ID - 1;
}

int tar_id(const char *sha256, char id[static IMAGE_ID], struct vm_err *e)
{
    struct hash *h;

    if (!is_sha256(sha256))
        return vm_fail(e, VM_E_INVALID,
                       "a tarball needs its 'sha256', 64 digits of 0-9 and a-f; 'sha256sum FILE' tells it");
    if (!(h = hash_new()))
        return vm_no_memory(e);
    hash_add_str(h, FORMAT " tar");
    hash_add_str(h, sha256);
    hash_end(h, id);
    return 0;
}

/* A copy that nobody else can write to: what is hashed is what is unpacked. It has no name and goes with its fd. */
static int tar_private(const char *path, const char *sha256, int scratch, struct vm_err *e)
{
    OWN(fd) int from = path_open_host(path, O_RDONLY | O_NONBLOCK, e);
    OWN(fd) int to = -1;
    char sum[HASH_HEX];
    struct stat st;

    if (from < 0)
        return -1;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%s' is no regular file", path);
    to = path_open(scratch, ".", PATH_BENEATH, O_TMPFILE | O_RDWR, 0600, e);
    if (to < 0 || copy_file(from, to, path, e) < 0 || hash_fd(to, sum, e) < 0)
        return -1;
    if (strcmp(sum, sha256))
        return vm_fail(e, VM_E_INVALID, "'%s' has the SHA-256 %s, not %s; fetch it again, or correct the spec", path,
                       sum, sha256);
    if (lseek(to, 0, SEEK_SET) < 0)
        return vm_fail_sys(e, "rewind '%s'", path);
    return take_fd(&to);
}

struct handover {
    int tar, tree;
};

static int hand_over(void *arg)
{
    const struct handover *h = arg;

    return dup2(h->tar, STDIN_FILENO) < 0 || fchdir(h->tree) < 0 ? errno : 0;
}

static int unpack_failed(const struct lines *l, int status, struct vm_err *e)
{
    static const enum vm_errc codes[] = {[UNPACK_REFUSED] = VM_E_INVALID, [UNPACK_BROKEN] = VM_E_SYSTEM,
                                         [UNPACK_FULL] = VM_E_SYSTEM};

    if (!WIFEXITED(status))
        return vm_fail(e, VM_E_INVALID,
                       "the unpacker was stopped by signal %d: the archive made it do what it must not",
                       WTERMSIG(status));
    int code = WEXITSTATUS(status);
    if (code == UNPACK_DONE || (size_t)code >= ARRAY_LEN(codes))
        return vm_fail(e, VM_E_SYSTEM, "the unpacker ended with status %d", code);
    vm_fail(e, codes[code], "%.300s", l->last);
    if (e && code == UNPACK_FULL)
        e->sys = ENOSPC;
    return -1;
}

int tar_import(const struct image_store *s, const struct spec_image *want, int scratch, struct image_progress p,
               struct deadline d, struct vm_err *e)
{
    struct lines l = {.progress = p};
    struct child_end end;

    if (!s->unpacker)
        return vm_fail(e, VM_E_UNAVAILABLE, "tarballs can't be imported: vms-unpack is not installed beside vmsd");
    OWN(fd) int tree = path_mkdirs(scratch, "tree", 0755, e);
    OWN(fd) int tar = tree < 0 ? -1 : tar_private(want->name, want->sha256, scratch, e);
    if (tar < 0)
        return -1;
    struct handover h = {.tar = tar, .tree = tree};
    struct child_plan plan = {
        .argv = (char *[]){s->unpacker, NULL}, .on_output = lines_take, .arg = &l,
        .prepare = hand_over, .prepare_arg = &h,
    };
    if (child_run(&plan, d, &end, e) < 0)
        return -1;
    free(end.output);
    lines_end(&l);
    return end.status == 0 ? 0 : unpack_failed(&l, end.status, e);
}
