#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* musl has no names for these calls yet. */
static int sys_fsconfig(int fs, unsigned cmd, const char *key, const char *value)
{
    return (int)syscall(SYS_fsconfig, fs, cmd, key, value, 0);
}

static int sys_move_mount(int mount, int dir, const char *path, unsigned flags)
{
    return (int)syscall(SYS_move_mount, mount, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH | flags);
}

/* The kernel says why on the context's fd. */
static int fail_mount(int fs, const char *what, struct vm_err *e)
{
    char why[200];
    int cause = errno;
    ssize_t n = read(fs, why, sizeof(why) - 1);
    why[n > 0 ? n : 0] = '\0';
    why[strcspn(why, "\n")] = '\0';
    errno = cause;
    vm_fail_sys(e, "mount %s", what);
    if (n > 0 && e) {
        size_t at = strlen(e->text);
        snprintf(e->text + at, sizeof(e->text) - at, " (%s)", why);
    }
    return -1;
}

/* Of the many types that a disk of the user's may be few are worth their module in every initramfs. */
static int fs_open(const char *type)
{
    int fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
    if (fs >= 0 || errno != ENODEV)
        return fs;
    module_find(type);
    return (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);
}

int mount_make(const char *type, const struct mount_option *options, unsigned attributes, const char *what,
               struct vm_err *e)
{
    OWN(fd) int fs = fs_open(type);
    if (fs < 0)
        return vm_fail_sys(e, "mount %s: this kernel has no %s", what, type);
    for (; options->key; options++) {
        unsigned cmd = options->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;
        if (sys_fsconfig(fs, cmd, options->key, options->value) < 0)
            return fail_mount(fs, what, e);
    }
    if (sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0)
        return fail_mount(fs, what, e);
    int mount = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, attributes);
    return mount < 0 ? fail_mount(fs, what, e) : mount;
}

/* ext4: the options that containers' disks are mounted with as well. */
int mount_disk(const char *name, const char *type, bool read_only, const char *what, struct vm_err *e)
{
    char path[DISK_NAME + 8];
    struct mount_option options[5] = { { "source", path } };
    size_t n = 1;

    snprintf(path, sizeof(path), "/dev/%s", name);
    if (read_only) {
        options[n++] = (struct mount_option){ "ro", NULL };
    } else if (strcmp(type, "ext4") == 0) {
        options[n++] = (struct mount_option){ "discard", NULL };
        options[n++] = (struct mount_option){ "errors", "remount-ro" };
    }
    unsigned attributes = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOATIME | (read_only ? MOUNT_ATTR_RDONLY : 0);
    return mount_make(type, options, attributes, what, e);
}

int mount_put(int mount, const char *path, struct vm_err *e)
{
    if (mkdir(path, 0755) < 0 && errno != EEXIST)
        return vm_fail_sys(e, "make %s", path);
    if (sys_move_mount(mount, AT_FDCWD, path, 0) < 0)
        return vm_fail_sys(e, "mount on %s", path);
    return 0;
}

int mount_put_at(int mount, int target, const char *what, struct vm_err *e)
{
    if (sys_move_mount(mount, target, "", MOVE_MOUNT_T_EMPTY_PATH) < 0)
        return vm_fail_sys(e, "mount on %s", what);
    return 0;
}

int beneath(int dir, const char *path, int flags)
{
    struct open_how how = {
        .flags = (uint64_t)(flags | O_CLOEXEC),
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
    };
    return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

static int step_into(int dir, const char *name, const char *target, struct vm_err *e)
{
    if (mkdirat(dir, name, 0755) < 0 && errno != EEXIST)
        return vm_fail_sys(e, "make '%s' on the way to %.200s", name, target);
    int fd = beneath(dir, name, O_PATH | O_DIRECTORY);
    if (fd >= 0)
        return fd;
    if (errno == ELOOP)
        return vm_fail(e, VM_E_CONFLICT, "mount on %.200s: '%s' is a symbolic link in the guest; name the real path",
                       target, name);
    return vm_fail_sys(e, "mount on %.200s: enter '%s'", target, name);
}

int target_open(int root, const char *target, struct vm_err *e)
{
    OWN(fd) int dir = fcntl(root, F_DUPFD_CLOEXEC, 0);
    char name[NAME_MAX + 1];

    for (const char *at = target + strspn(target, "/"); *at; at += strspn(at, "/")) {
        size_t n = strcspn(at, "/");
        if (n > NAME_MAX)
            return vm_fail(e, VM_E_INVALID, "mount on %.200s: a name in it is too long", target);
        memcpy(name, at, n);
        name[n] = '\0';
        at += n;
        int next = step_into(dir, name, target, e);
        if (next < 0)
            return -1;
        fd_drop(dir);
        dir = next;
    }
    return take_fd(&dir);
}
