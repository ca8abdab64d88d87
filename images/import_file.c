/* Images that are one file: a tarball is unpacked, a disk kept as it is. */
#include "images.h"
#include "unpack.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

#define FORMAT "vmsd import 1" /* change it when the same file gives another image */
#define TO_RAW "convert it to raw ('qemu-img convert -O raw')"

enum { SUM_BYTES = 1 << 20, RAW_SECTOR = 512 };

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
    char size[TEXT_HUMAN];
    struct stat st;

    if (from < 0)
        return -1;
    if (fstat(from, &st) < 0 || !S_ISREG(st.st_mode) || path_is_kernels(from))
        return vm_fail(e, VM_E_INVALID, "'%s' is no regular file", want->name);
    progress_tell(m->progress, "copying and checking '%s' (%s)", want->name,
                  text_human_size((uint64_t)st.st_size, size));
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
    OWN(fd) int disk = file_import(m, raw_check, e);
    char path[64];

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
    struct child_starter by = {.verb = STARTER_UNPACK, .at = tree, .in = tar};
    struct child_plan plan = {
        .argv = (char *[]){m->s->unpacker, NULL}, .on_output = lines_take, .arg = &l, .starter = &by,
    };
    if (child_run(&plan, m->deadline, &end, e) < 0)
        return -1;
    free(end.output);
    lines_end(&l);
    return end.status == 0 ? 0 : unpack_failed(&l, end.status, e);
}
