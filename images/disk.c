/* Sparse ext4 images. One empty file system per kind and size is made by mke2fs and kept as a template; every disk
 * starts as a copy of the few hundred KiB that are not a hole in it. Files come into being without a name and get one
 * when they are whole, so a crash leaves nothing to sweep up. */
#include "images.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/path.h>

#define DISK_MIN (64ull << 20)
#define DISK_MAX (8ull << 40)
#define MIB (1ull << 20)

enum {
    BLOCK = 4096,
    JOURNAL_MIB = 16,
    GROW_TIMES = 16, /* growth that the layout prepares for; past it the kernel takes a slower path */
    MKFS_MS = 60000,
    DRAFT_PATH = 32,
};

static const char *const kind_names[] = {[DISK_ROOT] = "root", [DISK_VOLUME] = "volume"};
/* For debugfs: a volume must look empty to programs that insist on it, such as initdb. */
static const char *const kind_content[] = {
    [DISK_ROOT] = "rmdir lost+found\nmkdir upper\nmkdir work\n",
    [DISK_VOLUME] = "rmdir lost+found\n",
};

/* A file of dir without a name yet, but with a path for whoever has it open. */
static int disk_draft(int dir, char path[static DRAFT_PATH], struct vm_err *e)
{
    int fd = path_open(dir, ".", PATH_BENEATH, O_TMPFILE | O_RDWR, 0600, e);

    if (fd >= 0)
        snprintf(path, DRAFT_PATH, "/proc/self/fd/%d", fd);
    return fd;
}

/* Gives a draft its name, durably. Another one of that name that was faster stays: both have the same content. */
static int disk_publish(int fd, const char *path, int dir, const char *file, struct vm_err *e)
{
    if (fdatasync(fd) < 0)
        return vm_fail_sys(e, "write '%s'", file);
    if (linkat(AT_FDCWD, path, dir, file, AT_SYMLINK_FOLLOW) < 0 && errno != EEXIST)
        return vm_fail_sys(e, "name '%s'", file);
    return fsync(dir) < 0 ? vm_fail_sys(e, "write '%s'", file) : 0;
}

static int keep_open(void *fd)
{
    return fcntl(*(const int *)fd, F_SETFD, 0) < 0 ? errno : 0;
}

/* Runs a program of e2fsprogs that is to open the draft by its path. */
static int run_on(int draft, char *const *argv, const char *input, struct lines *said, struct vm_err *e)
{
    struct child_plan plan = {
        .argv = argv, .input = input, .n_input = strlen(input), .on_output = lines_take, .arg = said,
        .prepare = keep_open, .prepare_arg = &draft,
    };
    struct child_end end;

    if (child_run(&plan, deadline_in(MKFS_MS), &end, e) < 0)
        return -1;
    free(end.output);
    lines_end(said);
    return end.status ? vm_fail(e, VM_E_BACKEND, "%s: %.250s", argv[0], said->last) : 0;
}

/* debugfs ends with 0 whatever happened, but of a command that failed it says "NAME: WHY". */
static void note_refusal(const char *line, void *refused)
{
    if (!strncmp(line, "rmdir:", 6) || !strncmp(line, "mkdir:", 6))
        *(bool *)refused = true;
}

static int template_format(int draft, char *path, enum disk_kind kind, uint64_t size, struct vm_err *e)
{
    char journal[32], extended[160];
    bool refused = false;
    struct lines mkfs_said = {0}, debugfs_said = {.progress = {.line = note_refusal, .arg = &refused}};

    snprintf(journal, sizeof journal, "size=%d", JOURNAL_MIB);
    /* prezeroed: the kernel would otherwise write zeros over all inode tables, and fill every hole that they are in. */
    snprintf(extended, sizeof extended,
             "resize=%llu,nodiscard,lazy_itable_init=1,lazy_journal_init=1,assume_storage_prezeroed=1,root_owner=0:0",
             (unsigned long long)size / BLOCK * GROW_TIMES);
    char *const mkfs[] = {"mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-J", journal, "-E", extended,
                          path, NULL};
    char *const debugfs[] = {"debugfs", "-w", path, NULL};
    if (run_on(draft, mkfs, "", &mkfs_said, e) < 0 || run_on(draft, debugfs, kind_content[kind], &debugfs_said, e) < 0)
        return -1;
    if (refused)
        return vm_fail(e, VM_E_BACKEND, "debugfs can't lay out an empty file system; is e2fsprogs complete?");
    return 0;
}

/* An open template; made when there is none. */
static int template_open(struct image_store *s, enum disk_kind kind, uint64_t size, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    char name[64], path[DRAFT_PATH];
    struct vm_err why = {0};

    snprintf(name, sizeof name, "%s-%lluM.img", kind_names[kind], (unsigned long long)(size / MIB));
    fd = path_open(s->templates, name, PATH_BENEATH, O_RDONLY | O_NOFOLLOW, 0, &why);
    if (fd >= 0 || why.sys != ENOENT) {
        if (fd < 0 && e)
            *e = why;
        return take_fd(&fd);
    }
    if ((fd = disk_draft(s->templates, path, e)) < 0)
        return -1;
    if (ftruncate(fd, (off_t)size) < 0)
        return vm_fail_sys(e, "make an empty disk of %llu MiB", (unsigned long long)(size / MIB));
    if (template_format(fd, path, kind, size, e) < 0 || disk_publish(fd, path, s->templates, name, e) < 0)
        return -1;
    return take_fd(&fd);
}

static int disk_make(struct image_store *s, int dir, const char *file, enum disk_kind kind, uint64_t size,
                     struct vm_err *e)
{
    OWN(fd) int from = template_open(s, kind, size, e);
    OWN(fd) int to = -1;
    char path[DRAFT_PATH];

    if (from < 0 || (to = disk_draft(dir, path, e)) < 0)
        return -1;
    if (copy_file(from, to, file, FOREVER, e) < 0)
        return -1;
    return disk_publish(to, path, dir, file, e);
}

static int disk_grow(int fd, uint64_t have, uint64_t size, const char *what, struct vm_err *e)
{
    char was[TEXT_HUMAN], wanted[TEXT_HUMAN];

    if (size < have)
        return vm_fail(e, VM_E_CONFLICT,
                       "%s has %s and can't shrink to %s; give a size of at least %s, or remove it first", what,
                       text_human_size(have, was), text_human_size(size, wanted), was);
    if (size > have && (ftruncate(fd, (off_t)size) < 0 || fsync(fd) < 0))
        return vm_fail_sys(e, "grow %s", what);
    return 0;
}

int disk_ensure(struct image_store *s, int dir, const char *file, enum disk_kind kind, uint64_t size, const char *what,
                struct vm_err *e)
{
    struct vm_err why = {0};
    struct stat st;
    char asked[TEXT_HUMAN];

    if (size < DISK_MIN || size > DISK_MAX)
        return vm_fail(e, VM_E_INVALID, "%s: a size of %s is outside 64M..8T", what, text_human_size(size, asked));
    size = (size + MIB - 1) / MIB * MIB;
    OWN(fd) int fd = path_open(dir, file, PATH_BENEATH, O_RDWR | O_NOFOLLOW | O_NONBLOCK, 0, &why);
    if (fd < 0 && why.sys == ENOENT) {
        if (disk_make(s, dir, file, kind, size, e) < 0)
            return vm_context(e, "%s", what);
        return 0;
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        return vm_fail(e, VM_E_SYSTEM, "%s: %s", what, fd < 0 ? why.text : strerror(errno));
    if (!S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_CONFLICT, "%s: '%s' is no regular file; move away what lies there", what, file);
    return disk_grow(fd, (uint64_t)st.st_size, size, what, e);
}

/* The superblock was last written by whoever had the disk, so its numbers are only ever compared. */
bool disk_outgrown(int dir, const char *file)
{
    struct {
        uint32_t inodes, blocks, reserved, free_blocks, free_inodes, first, log_block;
        uint8_t pad1[0x38 - 0x1c];
        uint16_t magic;
        uint8_t pad2[0x150 - 0x3a];
        uint32_t blocks_high;
    } sb;
    OWN(fd) int fd = path_open(dir, file, PATH_BENEATH, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0, NULL);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || pread(fd, &sb, sizeof sb, 1024) != sizeof sb)
        return false;
    if (le16toh(sb.magic) != 0xef53 || le32toh(sb.log_block) > 6)
        return false;
    uint64_t blocks = (uint64_t)le32toh(sb.blocks_high) << 32 | le32toh(sb.blocks);
    uint64_t block = 1024ull << le32toh(sb.log_block);
    return blocks < (uint64_t)st.st_size / block;
}

int disk_usage(int dir, const char *file, uint64_t *bytes)
{
    struct stat st;

    if (fstatat(dir, file, &st, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISREG(st.st_mode))
        return -1;
    *bytes = (uint64_t)st.st_blocks * 512;
    return 0;
}
