/* Our initramfs. Its layout is a contract with images/initramfs/:
 *
 *   /init, /vms-agent     programs
 *   /modules/NN-NAME.ko   what init loads, in order of name; one that finds no hardware of its own is no failure
 *   /dev /proc /sys /new  for init to mount upon
 *   /vmsd/setup           what this guest is, appended for each start
 *
 * It is not compressed: to unpack it would cost an emulated guest 25 ms, to read 2 MiB costs the host less than one. */
#include "cpio.h"
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

#define PREFIX "initramfs-"
#define SUFFIX ".img"

enum {
    PROGRAM_BYTES_MAX = 16 << 20, MODULE_BYTES_MAX = 64 << 20, SETUP_BYTES_MAX = 1 << 20, SUM_SHOWN = 16,
    BASE_KEPT_S = 3600, /* far longer than a guest takes from asking for it to having its copy */
};

struct program {
    char *bytes;
    size_t n;
};

static void program_done(struct program p)
{
    free(p.bytes);
}
OWN_DEFINE(program, struct program, program_done)

static int program_read(const char *path, struct program *p, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(path, O_RDONLY | O_NONBLOCK, e);

    if (fd < 0 || path_read_fd(fd, path, PROGRAM_BYTES_MAX, &p->bytes, &p->n, e) < 0)
        return vm_context(e, "is vmsd installed as a whole");
    return 0;
}

/* ---- the base, the same for all guests of a kernel ---- */

struct pack {
    struct cpio cpio;
    int boot;       /* directory of modules */
};

static int pack_module(const struct tree_entry *at, void *arg, struct vm_err *e)
{
    struct pack *p = arg;
    OWN(str) char *bytes = NULL;
    char name[KERNEL_MODULE_NAME + 16];
    size_t n = 0;

    if (!*at->path)
        return 0;
    snprintf(name, sizeof name, "modules/%s", at->path);
    if (path_read(p->boot, at->path, MODULE_BYTES_MAX, &bytes, &n, e) < 0)
        return -1;
    return cpio_file(&p->cpio, name, 0644, bytes, n, e);
}

static int pack_base(int to, int boot, const struct program *init, const struct program *agent, struct vm_err *e)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "new", "modules"};
    struct pack p = {.cpio = {.to = to}, .boot = boot};

    for (size_t i = 0; i < ARRAY_LEN(dirs); i++)
        if (cpio_dir(&p.cpio, dirs[i], 0755, e) < 0)
            return -1;
    if (cpio_file(&p.cpio, "init", 0755, init->bytes, init->n, e) < 0 ||
        cpio_file(&p.cpio, "vms-agent", 0755, agent->bytes, agent->n, e) < 0 ||
        tree_walk(boot, &(struct tree_visit){.enter = pack_module, .arg = &p}, e) < 0)
        return -1;
    return cpio_end(&p.cpio, e);
}

static int base_make(const struct image_store *s, const char *id, int dir, const char *name, const struct program *init,
                     const struct program *agent, struct vm_err *e)
{
    OWN(fd) int boot = path_open(dir, KERNEL_BOOT, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);
    char scratch[IMAGE_FILE];

    if (boot < 0 || image_scratch(s, id, scratch, e) < 0)
        return -1;
    OWN(fd) int to = path_open(s->images, scratch, PATH_BENEATH, O_WRONLY | O_CREAT | O_EXCL, 0600, e);
    if (to < 0)
        return -1;
    if (pack_base(to, boot, init, agent, e) < 0)
        goto undo;
    if (fsync(to) < 0 || renameat(s->images, scratch, dir, name) < 0 || fsync(dir) < 0) {
        vm_fail_sys(e, "write it");
        goto undo;
    }
    return 0;
undo:
    unlinkat(s->images, scratch, 0);
    return -1;
}

/* Named by what is in it beside the modules, which never change. */
static int base_name(const struct program *init, const struct program *agent, char name[static IMAGE_FILE],
                     struct vm_err *e)
{
    struct hash *h = hash_new();
    char sum[HASH_HEX];

    if (!h)
        return vm_no_memory(e);
    hash_add_str(h, "vmsd initramfs 1");
    hash_add(h, &init->n, sizeof init->n);
    hash_add(h, init->bytes, init->n);
    hash_add(h, agent->bytes, agent->n);
    hash_end(h, sum);
    snprintf(name, IMAGE_FILE, PREFIX "%.*s" SUFFIX, SUM_SHOWN, sum);
    return 0;
}

/* Its time tells when it was last asked for: initramfs_gc goes by that. */
static bool base_is_there(int dir, const char *name)
{
    return utimensat(dir, name, NULL, AT_SYMLINK_NOFOLLOW) == 0;
}

static int gc_base(const char *name, void *arg, struct vm_err *e)
{
    int dir = *(const int *)arg;
    struct stat st;

    if (strncmp(name, PREFIX, strlen(PREFIX)) || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
        wall_ms() / 1000 - st.st_mtim.tv_sec < BASE_KEPT_S)
        return 0;
    return unlinkat(dir, name, 0) < 0 && errno != ENOENT ? vm_fail_sys(e, "remove '%s'", name) : 0;
}

int initramfs_ensure(const struct image_store *s, const char *id, struct deadline d, char name[static IMAGE_FILE],
                     struct vm_err *e)
{
    OWN(program) struct program init = {0}, agent = {0};
    OWN(fd) int dir = path_open(s->images, id, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);
    OWN(fd) int lock = -1;
    int rc = 0;

    if (dir < 0 || program_read(s->init, &init, e) < 0 || program_read(s->agent, &agent, e) < 0 ||
        base_name(&init, &agent, name, e) < 0)
        return -1;
    if (base_is_there(dir, name))
        return 0;
    if (image_lock(s, id, d, &lock, e) < 0)
        return -1;
    if (!base_is_there(dir, name)) { /* nor did another make it meanwhile */
        rc = base_make(s, id, dir, name, &init, &agent, e);
        if (rc == 0)
            store_each(dir, false, gc_base, &dir, NULL); /* each version of vmsd makes one: those of others go */
    }
    image_unlock(s, id, &lock);
    return rc;
}

int initramfs_gc(const struct image_store *s, const char *id, struct vm_err *e)
{
    OWN(fd) int dir = path_open(s->images, id, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);

    return dir < 0 ? -1 : store_each(dir, false, gc_base, &dir, e);
}

/* ---- a guest's own ---- */

static int append_setup(int to, const char *setup, struct vm_err *e)
{
    struct cpio c = {.to = to};
    size_t n = strlen(setup);
    off_t end = lseek(to, 0, SEEK_END);

    if (end < 0)
        return vm_fail_sys(e, "seek");
    if (n > SETUP_BYTES_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "a setup of %zu bytes", n);
    /* The kernel takes an archive that is not compressed only where 4 divides its place; zeros before it are skipped. */
    if (path_write_all(to, "\0\0\0", (size_t)(-end & 3), e) < 0 || cpio_dir(&c, "vmsd", 0700, e) < 0 ||
        cpio_file(&c, "vmsd/setup", 0600, setup, n, e) < 0)
        return -1;
    return cpio_end(&c, e);
}

int initramfs_write(int dir, const char *name, const char *base, const char *setup, struct vm_err *e)
{
    OWN(fd) int from = -1;
    struct stat st;

    if (base && (from = path_open_host(base, O_RDONLY | O_NONBLOCK, e)) < 0)
        return vm_context(e, "initramfs");
    if (base && (fstat(from, &st) < 0 || !S_ISREG(st.st_mode)))
        return vm_fail(e, VM_E_INVALID, "initramfs '%s' is no regular file", base);
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return vm_fail_sys(e, "remove the last initramfs");
    OWN(fd) int to = path_open(dir, name, PATH_BENEATH, O_RDWR | O_CREAT | O_EXCL, 0600, e);
    if (to < 0)
        return -1;
    if ((base && copy_file(from, to, base, FOREVER, e) < 0) || append_setup(to, setup, e) < 0) {
        unlinkat(dir, name, 0);
        return vm_context(e, "initramfs of this guest");
    }
    return 0;
}
