#include "keeper_mount.h"

#include "keeper_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <linux/openat2.h>
#include <linux/securebits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#endif

static int beneath(int dir, const char *rel, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };

    return (int)syscall(SYS_openat2, dir, rel, &how, sizeof how);
}

static int loop_attach(int file, char *dev, size_t size)
{
    struct loop_config config = {.fd = (uint32_t)file, .info.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO};
    int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);

    if (ctl < 0)
        keeper_fail("open /dev/loop-control: %s", strerror(errno));
    /* Others look for a free device at the same time: who comes second takes the next one. */
    for (int tries = 0; tries < 256; tries++) {
        int n = ioctl(ctl, LOOP_CTL_GET_FREE), fd;

        if (n < 0)
            keeper_fail("no free loop device: %s", strerror(errno));
        snprintf(dev, size, "/dev/loop%d", n);
        if ((fd = open(dev, O_RDWR | O_CLOEXEC)) < 0)
            keeper_fail("open %s: %s", dev, strerror(errno));
        if (ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            close(ctl);
            return fd;
        }
        if (errno != EBUSY)
            keeper_fail("attach to %s: %s", dev, strerror(errno));
        close(fd);
    }
    keeper_fail("no free loop device: every one was taken by others");
}

/* Blocks of the file system on a device, as its superblock tells; *size is that of one. 0: no ext4. */
static uint64_t ext4_blocks(int dev, uint64_t *size)
{
    uint8_t sb[1024];

#define LE32(at) ((uint32_t)sb[at] | (uint32_t)sb[(at) + 1] << 8 | (uint32_t)sb[(at) + 2] << 16 | (uint32_t)sb[(at) + 3] << 24)
    if (pread(dev, sb, sizeof sb, 1024) != (ssize_t)sizeof sb || (LE32(0x38) & 0xffff) != 0xef53 || LE32(0x18) > 6)
        return 0;
    *size = UINT64_C(1024) << LE32(0x18);
    return LE32(0x4) | (uint64_t)LE32(0x150) << 32;
#undef LE32
}

/* Lets the file system fill its image, which may have grown while nothing ran. A host that forbids it (it takes
 * CAP_SYS_RESOURCE) does not keep the guest down for that. */
static void ext4_fill(int loop, int mnt, const char *what)
{
    uint64_t bytes = 0, size, now = ext4_blocks(loop, &size), want;
    int top;

    if (!now || ioctl(loop, BLKGETSIZE64, &bytes) < 0 || (want = bytes / size) <= now)
        return;
    top = openat(mnt, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || (ioctl(top, EXT4_IOC_RESIZE_FS, &want) < 0 && errno != EPERM))
        keeper_fail("grow %s: %s", what, strerror(errno));
    close(top);
}

static int ext4_mount(int file, const char *what)
{
    char dev[32];
    int loop = loop_attach(file, dev, sizeof dev), fs = fs_open("ext4"), mnt;

    fs_set(fs, FSCONFIG_SET_STRING, "source", dev);
    fs_set(fs, FSCONFIG_SET_FLAG, "discard", NULL);
    fs_set(fs, FSCONFIG_SET_STRING, "errors", "remount-ro");
    mnt = fs_mount(fs, what, MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME);
    ext4_fill(loop, mnt, what);
    close(loop);
    close(file);
    return mnt;
}

static void layer_make(int disk, const char *name, mode_t mode, uint32_t owner)
{
    int fd;

    if (mkdirat(disk, name, mode) < 0 && errno != EEXIST)
        keeper_fail("root image: make %s/: %s", name, strerror(errno));
    if ((fd = beneath(disk, name, O_RDONLY | O_DIRECTORY)) < 0 || fchown(fd, owner, owner) < 0 || fchmod(fd, mode) < 0)
        keeper_fail("root image: prepare %s/: %s", name, strerror(errno));
    close(fd);
}

/* Paths in overlay's options are ours and hold no colon. Layers given as fds need a newer kernel than Debian 12's. */
static void root_mount(const struct plan *p, int image, int idmap)
{
    int disk = ext4_mount(KEEPER_FD_ROOT, "the root image"), fs;

    layer_make(disk, "upper", 0755, p->uid_base);
    layer_make(disk, "work", 0700, 0);
    mount_take(disk, KEEPER_DISK);
    mount_change(image, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV, idmap, "the image");
    mount_take(image, KEEPER_IMAGE);

    fs = fs_open("overlay");
    fs_set(fs, FSCONFIG_SET_STRING, "source", "vmsd");
    fs_set(fs, FSCONFIG_SET_STRING, "lowerdir", KEEPER_IMAGE);
    fs_set(fs, FSCONFIG_SET_STRING, "upperdir", KEEPER_DISK "/upper");
    fs_set(fs, FSCONFIG_SET_STRING, "workdir", KEEPER_DISK "/work");
    mount_take(fs_mount(fs, "the root of image and writable layer", MOUNT_ATTR_NODEV), KEEPER_ROOT);
}

/* D15: nspawn reaches these by path names, so none may lead elsewhere. A guest that made links of them does not start
 * again until it is rebuilt. */
static void root_check(int root)
{
    static const char *const dirs[] = {"dev", "proc", "sys", "run", "tmp", "etc", "usr", "var"};

    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        int fd = beneath(root, dirs[i], O_PATH | O_DIRECTORY);

        if (fd < 0 && errno != ENOENT)
            keeper_fail("/%s in the guest is no directory: rebuild the guest", dirs[i]);
        if (fd >= 0)
            close(fd);
    }
}

/* Makes a directory or an empty file with the guest's root as its owner: a directory whose ids are mapped takes nobody
 * else. Without the secure bit, the change of the user would take our right to write where the owner is another. */
static int make_as(uint32_t owner, int dir, const char *name, bool file)
{
    int made;

    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP);
    setfsgid(owner);
    setfsuid(owner);
    made = file ? openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644)
                : mkdirat(dir, name, 0755);
    int cause = errno;
    setfsuid(0);
    setfsgid(0);
    prctl(PR_SET_SECUREBITS, 0);
    errno = cause;
    if (file && made >= 0)
        close(made);
    return made < 0 ? -1 : 0;
}

/* One step of the way to a mount's target. C2: a link anywhere on the way ends the start. Made if missing. */
static int step_into(int dir, const char *name, bool file, uint32_t owner, const char *target)
{
    int fd = beneath(dir, name, O_PATH | O_NOFOLLOW);
    struct stat st;

    if (fd < 0 && errno == ENOENT) {
        if (make_as(owner, dir, name, file) < 0)
            keeper_fail("target %s: make '%s': %s", target, name, strerror(errno));
        fd = beneath(dir, name, O_PATH | O_NOFOLLOW);
    }
    if (fd < 0 || fstat(fd, &st) < 0)
        keeper_fail("target %s: '%s' leads elsewhere (%s): name the real path", target, name, strerror(errno));
    if (file ? !S_ISREG(st.st_mode) : !S_ISDIR(st.st_mode))
        keeper_fail("target %s: '%s' is %s in the guest, but the source is %s", target, name,
                    S_ISDIR(st.st_mode) ? "a directory" : S_ISLNK(st.st_mode) ? "a symbolic link" : "another kind of file",
                    file ? "a file" : "a directory");
    return fd;
}

static int target_open(int root, const char *target, bool file, uint32_t owner)
{
    const char *at = target;
    int dir = fcntl(root, F_DUPFD_CLOEXEC, 0);

    while (*at) {
        char name[NAME_MAX + 1];
        size_t n = strcspn(at, "/");
        int next;

        if (n == 0) {
            at++;
            continue;
        }
        if (n > NAME_MAX)
            keeper_fail("target %s: a name in it is too long", target);
        memcpy(name, at, n);
        name[n] = '\0';
        at += n;
        next = step_into(dir, name, file && at[strspn(at, "/")] == '\0', owner, target);
        close(dir);
        dir = next;
    }
    return dir;
}

/* A disk is also mounted beside the root: there vmsd finds it again to grow it, whatever the guest does to the target. */
static int disk_mount(size_t n, int file, const char *target)
{
    char path[sizeof KEEPER_VOLUME + 8];
    int mnt = ext4_mount(file, target);

    snprintf(path, sizeof path, KEEPER_VOLUME "%zu", n);
    mount_put(mnt, path);
    return tree_clone(mnt, target);
}

static void target_mount(const struct plan *p, int root, size_t n, int mnt, int idmap)
{
    const struct plan_mount *m = &p->mounts[n];
    uint64_t set = MOUNT_ATTR_NODEV | (m->disk ? 0 : MOUNT_ATTR_NOSUID) | (m->read_only ? MOUNT_ATTR_RDONLY : 0);
    struct stat st;
    int at;

    if (m->disk)
        mnt = disk_mount(n, mnt, m->target);
    mount_change(mnt, set, m->mapped ? idmap : -1, m->target);
    if (fstat(mnt, &st) < 0)
        keeper_fail("target %s: %s", m->target, strerror(errno));
    at = target_open(root, m->target, S_ISREG(st.st_mode), p->uid_base);
    if (move_mount(mnt, "", at, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0)
        keeper_fail("mount on %s: %s", m->target, strerror(errno));
    close(at);
    close(mnt);
}

void mounts_enter(const struct plan *p, struct sources *s)
{
    s->idmap = idmap_open(p->uid_base);
    s->image = tree_clone(KEEPER_FD_IMAGE, "the image");
    for (size_t i = 0; i < p->n_mounts; i++) {
        s->mounts[i] = KEEPER_FD_MOUNTS + (int)i;
        if (!p->mounts[i].disk)
            s->mounts[i] = tree_clone(s->mounts[i], p->mounts[i].target);
    }
    mounts_private();
}

void mounts_make(const struct plan *p, const struct sources *s)
{
    int root;

    mkdir("/run/systemd", 0755);
    mount_take(scratch_mount("1m", "0700", MOUNT_ATTR_NODEV), KEEPER_DIR);

    root_mount(p, s->image, s->idmap);
    if ((root = open(KEEPER_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        keeper_fail("open " KEEPER_ROOT ": %s", strerror(errno));
    root_check(root);
    for (size_t i = 0; i < p->n_mounts; i++)
        target_mount(p, root, i, s->mounts[i], s->idmap);
    if (p->read_only)
        mount_change(root, MOUNT_ATTR_RDONLY, -1, "the root");
    close(root);
    close(s->idmap);
}
