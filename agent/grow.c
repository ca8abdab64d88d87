#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mount.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vmsd/own.h>

#ifndef EXT4_IOC_RESIZE_FS
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)
#endif

/* ---- which disk ---- */

static bool serial_is(const char *disk, const char *serial)
{
    char path[300], is[64] = "";
    snprintf(path, sizeof(path), "/sys/block/%s/serial", disk);
    OWN(file) FILE *f = fopen(path, "re");
    return f && fgets(is, sizeof(is), f) && strcspn(is, "\n") == strlen(serial) && strncmp(is, serial, strlen(serial)) == 0;
}

static int find_disk(const char *serial, char *path, size_t max, struct vm_err *e)
{
    OWN(dir) DIR *d = opendir("/sys/block");
    bool found = false;
    for (const struct dirent *de; d && !found && (de = readdir(d));) {
        if (de->d_name[0] != '.' && (found = serial_is(de->d_name, serial)))
            snprintf(path, max, "/dev/%s", de->d_name);
    }
    return found ? 0 : vm_fail(e, VM_E_ABSENT, "no disk '%.64s' in this guest", serial);
}

/* ---- how large ---- */

/* Blocks of the ext4 on a device and the size of one, as its superblock tells; false: it is none. */
static bool ext4_size(int disk, uint64_t *blocks, uint64_t *size)
{
    uint8_t sb[1024];
    if (pread(disk, sb, sizeof(sb), 1024) != (ssize_t)sizeof(sb) || sb[0x38] != 0x53 || sb[0x39] != 0xef ||
        le32_get(sb + 0x18) > 6)
        return false;
    *size = UINT64_C(1024) << le32_get(sb + 0x18);
    *blocks = le32_get(sb + 0x4) | (uint64_t)le32_get(sb + 0x150) << 32;
    return true;
}

/* The file system once more, mounted nowhere: it is the same one, wherever the guest has mounted or hidden it. */
static int mount_unseen(const char *disk, struct vm_err *e)
{
    OWN(fd) int fs = (int)syscall(SYS_fsopen, "ext4", FSOPEN_CLOEXEC);
    if (fs < 0 || syscall(SYS_fsconfig, fs, FSCONFIG_SET_STRING, "source", disk, 0) < 0 ||
        syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
        return vm_fail_sys(e, "open the file system on %s", disk);
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
    return mount < 0 ? vm_fail_sys(e, "open the file system on %s", disk) : mount;
}

int grow_disk(const char *serial, struct vm_err *e)
{
    uint64_t blocks, size, bytes = 0;
    char path[300];

    if (find_disk(serial, path, sizeof(path), e) < 0)
        return -1;
    OWN(fd) int disk = open(path, O_RDONLY | O_CLOEXEC);
    if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) < 0)
        return vm_fail_sys(e, "open %s", path);
    if (!ext4_size(disk, &blocks, &size))
        return vm_fail(e, VM_E_INVALID, "the disk '%.64s' holds no ext4", serial);
    uint64_t want = bytes / size;
    if (want <= blocks)
        return 0;
    OWN(fd) int mount = mount_unseen(path, e);
    if (mount < 0)
        return -1;
    OWN(fd) int top = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (top < 0 || ioctl(top, EXT4_IOC_RESIZE_FS, &want) < 0)
        return vm_fail_sys(e, "grow the file system on the disk '%.64s'", serial);
    return 0;
}

int op_grow(const struct request *rq, struct vm_err *e)
{
    const char *serial = request_get(rq, "disk");
    return serial && *serial ? grow_disk(serial, e) : vm_fail(e, VM_E_INVALID, "grow without disk=");
}
