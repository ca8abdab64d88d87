#include "nspawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include <vmsd/path.h>

#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#endif

/* The loop device beneath an open file system, if it stands on that file; else -1. */
static int loop_of(int top, const struct stat *file)
{
    struct loop_info64 info;
    struct stat st;
    char dev[32];
    OWN(fd) int fd = -1;

    if (fstat(top, &st) < 0 || major(st.st_dev) != 7)
        return -1;
    snprintf(dev, sizeof dev, "/dev/loop%u", minor(st.st_dev));
    if ((fd = open(dev, O_RDWR | O_CLOEXEC)) < 0 || ioctl(fd, LOOP_GET_STATUS64, &info) < 0)
        return -1;
    return info.lo_inode == file->st_ino && info.lo_device == file->st_dev ? take_fd(&fd) : -1;
}

static int fs_grow(int top, int loop, const char *source, struct vm_err *e)
{
    struct statfs fs;
    uint64_t size;

    if (ioctl(loop, LOOP_SET_CAPACITY, 0) < 0 || ioctl(loop, BLKGETSIZE64, &size) < 0 || fstatfs(top, &fs) < 0)
        return vm_fail_sys(e, "grow '%s'", source);
    size /= (uint64_t)fs.f_bsize;
    return ioctl(top, EXT4_IOC_RESIZE_FS, &size) < 0 ? vm_fail_sys(e, "grow the file system in '%s'", source) : 0;
}

/* The keeper's mounts are looked at through /proc/KEEPER/root; which of them is meant, its loop device tells. */
int nspawn_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e)
{
    OWN(fd) int file = path_open_host(source, O_PATH, e);
    OWN(fd) int keeper = -1;
    struct stat st;

    (void)g;
    if (file < 0)
        return -1;
    if (fstat(file, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", source);
    if ((keeper = proc_id_open(&p->keeper, e)) < 0)
        return vm_context(e, "grow '%s'", source);
    for (int i = -1; i < KEEPER_MOUNTS_MAX; i++) {
        char path[96];
        OWN(fd) int top = -1;
        OWN(fd) int loop = -1;

        snprintf(path, sizeof path, i < 0 ? "/proc/%d/root" KEEPER_DISK : "/proc/%d/root" KEEPER_VOLUME "%d",
                 (int)p->keeper.pid, i);
        if ((top = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 && (loop = loop_of(top, &st)) >= 0)
            return fs_grow(top, loop, source, e);
    }
    return vm_fail(e, VM_E_ABSENT, "grow '%s': it is not mounted in this guest", source);
}
