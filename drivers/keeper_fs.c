#include "keeper_fs.h"

#include "keeper_core.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void write_map(pid_t pid, const char *name, uint32_t base)
{
    char path[40], map[40];
    int n = snprintf(map, sizeof map, "0 %u %d\n", base, KEEPER_IDS), fd;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, map, (size_t)n) != n)
        keeper_fail("map ids of the guest (%s): %s", path, strerror(errno));
    close(fd);
}

int idmap_open(uint32_t base)
{
    char path[32];
    pid_t pid;
    int fd;

    pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0)
        keeper_fail("make a user namespace: %s", strerror(errno));
    if (pid == 0)
        for (;;)
            pause();
    write_map(pid, "uid_map", base);
    write_map(pid, "gid_map", base);
    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        keeper_fail("open %s: %s", path, strerror(errno));
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return fd;
}

void fs_set(int fs, unsigned cmd, const char *key, const char *value)
{
    if (fsconfig(fs, cmd, key, value, 0) < 0)
        keeper_fail("file system option %s=%s: %s", key ? key : "", value ? value : "", strerror(errno));
}

/* The kernel says why a mount was refused on the context's fd; the last line counts. */
int fs_mount(int fs, const char *what, unsigned attributes)
{
    char why[200] = "";
    int mnt = -1;

    if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
    if (mnt < 0) {
        int cause = errno;
        ssize_t n = read(fs, why, sizeof why - 1);

        why[n > 0 ? n : 0] = '\0';
        keeper_fail("mount %s: %s%s%s", what, strerror(cause), n > 0 ? "; " : "", why);
    }
    close(fs);
    return mnt;
}

int fs_open(const char *type)
{
    int fs = fsopen(type, FSOPEN_CLOEXEC);

    if (fs < 0)
        keeper_fail("this kernel has no %s: %s", type, strerror(errno));
    return fs;
}

void mount_put(int mnt, const char *path)
{
    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        keeper_fail("make %s: %s", path, strerror(errno));
    if (move_mount(mnt, "", AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH) < 0)
        keeper_fail("mount on %s: %s", path, strerror(errno));
}

void mount_take(int mnt, const char *path)
{
    mount_put(mnt, path);
    close(mnt);
}

void mount_change(int mnt, uint64_t set, int idmap, const char *what)
{
    struct mount_attr attr = {.attr_set = set, .propagation = MS_PRIVATE};

    if (idmap >= 0) {
        attr.attr_set |= MOUNT_ATTR_IDMAP;
        attr.userns_fd = (uint64_t)idmap;
    }
    if (mount_setattr(mnt, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        keeper_fail(idmap >= 0 ? "%s: its file system cannot map ids: %s" : "%s: set mount attributes: %s", what,
                    strerror(errno));
}

int tree_clone(int dir, const char *what)
{
    int mnt = open_tree(dir, "", AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

    if (mnt < 0)
        keeper_fail("take %s: %s", what, strerror(errno));
    close(dir);
    return mnt;
}

void mounts_private(void)
{
    if (unshare(CLONE_NEWNS) < 0)
        keeper_fail("make a mount namespace: %s", strerror(errno));
    /* Nothing that is mounted here gets out; what the host unmounts goes away here too, so no guest holds it busy. */
    if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
        keeper_fail("make mounts private: %s", strerror(errno));
}

int scratch_mount(const char *size, const char *mode, unsigned attributes)
{
    int fs = fs_open("tmpfs");

    fs_set(fs, FSCONFIG_SET_STRING, "mode", mode);
    fs_set(fs, FSCONFIG_SET_STRING, "size", size);
    return fs_mount(fs, "a scratch tmpfs", MOUNT_ATTR_NOSUID | attributes);
}
