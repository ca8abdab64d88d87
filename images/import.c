/* Images that somebody else made: a directory is copied, a tarball unpacked, a disk kept as it is. */
#include "images.h"
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <string.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

#define FORMAT "vmsd import 1" /* change it when the same source gives another tree */
#define CAPS_XATTR "security.capability"

#define TO_RAW "convert it to raw ('qemu-img convert -O raw')"

enum {
    ID_KEPT_MAX = 65535, LINK_MAX_BYTES = 4096, CAPS_BYTES_MAX = 64, SUM_BYTES = 1 << 20,
    RAW_SECTOR = 512,
};

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
    return to < 0 || copy_file(from, to, at->path, FOREVER, e) < 0 ? -1 : copy_attributes(from, to, at, e);
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
    OWN(fd) int to = path_mkdirs(scratch, IMAGE_TREE, 0700, e);
    struct copy c = {.to = to};

    if (to < 0)
        return -1;
    int rc = tree_walk(dir, &(struct tree_visit){.enter = copy_enter, .leave = copy_leave, .arg = &c}, e);
    tdestroy(c.links, linked_free);
    return rc;
}

/* ---- files ---- */

static bool is_sha256(const char *s)
{
    return s && strlen(s) == IMAGE_ID - 1 && strspn(s, "0123456789abcdef") == IMAGE_ID - 1;
}

static int sum_id(const char *format, const char *what, const char *sha256, char id[static IMAGE_ID], struct vm_err *e)
{
    struct hash *h;

    if (!is_sha256(sha256))
        return vm_fail(e, VM_E_INVALID,
                       "%s needs its 'sha256', 64 digits of 0-9 and a-f; 'sha256sum FILE' tells it", what);
    if (!(h = hash_new()))
        return vm_no_memory(e);
    hash_add_str(h, format);
    hash_add_str(h, sha256);
    hash_end(h, id);
    return 0;
}

/* What the kernel makes up while it is read has no content to keep, and no end. */
static bool is_kernels_own(int fd)
{
    static const long made_up[] = {PROC_SUPER_MAGIC,   SYSFS_MAGIC,         DEBUGFS_MAGIC,       TRACEFS_MAGIC,
                                   SECURITYFS_MAGIC,   CGROUP_SUPER_MAGIC,  CGROUP2_SUPER_MAGIC, BPF_FS_MAGIC,
                                   EFIVARFS_MAGIC,     PSTOREFS_MAGIC,      DEVPTS_SUPER_MAGIC};
    struct statfs fs;

    if (fstatfs(fd, &fs) < 0)
        return true;
    for (size_t i = 0; i < ARRAY_LEN(made_up); i++)
        if (fs.f_type == made_up[i])
            return true;
    return false;
}

static int check_sum(int fd, const struct spec_image *want, struct deadline d, struct vm_err *e)
{
    OWN(mem) void *buffer = malloc(SUM_BYTES);
    struct hash *h = buffer ? hash_new() : NULL;
    char sum[HASH_HEX];
    ssize_t n;

    if (!h)
        return vm_no_memory(e);
    for (off_t at = 0; (n = pread(fd, buffer, SUM_BYTES, at)) > 0 && deadline_left(d); at += n)
        hash_add(h, buffer, (size_t)n);
    hash_end(h, sum);
    if (n < 0)
        return vm_fail_sys(e, "read '%s'", want->name);
    if (n > 0)
        return vm_fail(e, VM_E_TIMEOUT, "'%s' is too large to be read in time", want->name);
    if (strcmp(sum, want->sha256))
        return vm_fail(e, VM_E_INVALID, "'%s' has the SHA-256 %s, not %s; fetch it again, or correct the spec",
                       want->name, sum, want->sha256);
    return 0;
}

/* A copy that nobody else can write to: what is hashed is what is used. It has no name yet, and without one goes with
 * its fd. check: a first look at it, before much time is spent; may be NULL. */
static int file_import(const struct image_make *m, int (*check)(int fd, const char *what, struct vm_err *e),
                       struct vm_err *e)
{
    const struct spec_image *want = m->src->want;
    OWN(fd) int from = path_open_host(want->name, O_RDONLY | O_NONBLOCK, e);
    OWN(fd) int to = -1;
    struct stat st;

    if (from < 0)
        return -1;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode) || is_kernels_own(from))
        return vm_fail(e, VM_E_INVALID, "'%s' is no regular file", want->name);
    to = path_open(m->scratch, ".", PATH_BENEATH, O_TMPFILE | O_RDWR, 0600, e);
    if (to < 0 || copy_file(from, to, want->name, m->deadline, e) < 0 || (check && check(to, want->name, e) < 0) ||
        check_sum(to, want, m->deadline, e) < 0)
        return -1;
    return take_fd(&to);
}

/* ---- disks ---- */

int raw_id(const char *sha256, char id[static IMAGE_ID], struct vm_err *e)
{
    return sum_id(FORMAT " disk", "a disk", sha256, id, e);
}

/* Formats that name other files of the host, or that only a program can read, told by their first bytes. */
static int raw_check(int fd, const char *what, struct vm_err *e)
{
    static const struct { size_t at, n; const char *magic, *name, *remedy; } foreign[] = {
        {0, 4, "QFI\xfb", "a qcow2 disk", TO_RAW},
        {0, 4, "QED", "a QED disk", TO_RAW},
        {0, 4, "KDMV", "a VMDK disk", TO_RAW},
        {0, 4, "COWD", "a VMDK disk", TO_RAW},
        {0, 21, "# Disk DescriptorFile", "a VMDK descriptor", TO_RAW},
        {0, 8, "vhdxfile", "a VHDX disk", TO_RAW},
        {0, 8, "conectix", "a VHD disk", TO_RAW},
        {64, 4, "\x7f\x10\xda\xbe", "a VDI disk", TO_RAW},
        {0, 2, "\x1f\x8b", "compressed by gzip", "decompress it first"},
        {0, 6, "\xfd" "7zXZ", "compressed by xz", "decompress it first"},
        {0, 4, "\x28\xb5\x2f\xfd", "compressed by zstd", "decompress it first"},
        {0, 3, "BZh", "compressed by bzip2", "decompress it first"},
    };
    char head[RAW_SECTOR] = "";
    struct stat st;

    if (fstat(fd, &st) < 0 || pread(fd, head, sizeof head, 0) < 0)
        return vm_fail_sys(e, "look at '%s'", what);
    for (size_t i = 0; i < ARRAY_LEN(foreign); i++)
        if (!memcmp(head + foreign[i].at, foreign[i].magic, foreign[i].n))
            return vm_fail(e, VM_E_INVALID, "'%s' is %s, not a raw disk; %s", what, foreign[i].name, foreign[i].remedy);
    if (st.st_size < RAW_SECTOR || st.st_size % RAW_SECTOR)
        return vm_fail(e, VM_E_INVALID, "'%s' is no raw disk: its size is no multiple of %d bytes", what, RAW_SECTOR);
    return 0;
}

int raw_import(const struct image_make *m, struct vm_err *e)
{
    char path[64];
    OWN(fd) int disk = file_import(m, raw_check, e);

    if (disk < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/self/fd/%d", disk);
    if (fchmod(disk, 0644) < 0 || linkat(AT_FDCWD, path, m->scratch, IMAGE_DISK_FILE, AT_SYMLINK_FOLLOW) < 0)
        return vm_fail_sys(e, "name the disk");
    return 0;
}

/* ---- tarballs ---- */

int tar_id(const char *sha256, char id[static IMAGE_ID], struct vm_err *e)
{
    return sum_id(FORMAT " tar", "a tarball", sha256, id, e);
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

int tar_import(const struct image_make *m, struct vm_err *e)
{
    struct lines l = {.progress = m->progress};
    struct child_end end;

    if (!m->s->unpacker)
        return vm_fail(e, VM_E_UNAVAILABLE, "tarballs can't be imported: vms-unpack is not installed beside vmsd");
    OWN(fd) int tree = path_mkdirs(m->scratch, IMAGE_TREE, 0755, e);
    OWN(fd) int tar = tree < 0 ? -1 : file_import(m, NULL, e);
    if (tar < 0)
        return -1;
    struct handover h = {.tar = tar, .tree = tree};
    struct child_plan plan = {
        .argv = (char *[]){m->s->unpacker, NULL}, .on_output = lines_take, .arg = &l,
        .prepare = hand_over, .prepare_arg = &h,
    };
    if (child_run(&plan, m->deadline, &end, e) < 0)
        return -1;
    free(end.output);
    lines_end(&l);
    return end.status == 0 ? 0 : unpack_failed(&l, end.status, e);
}
