#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Early: what runs before the network, udev (which leaves a name alone that somebody gave) and programs that tell their
 * host's name finds all in place. */
static const char setup_unit[] =
    "[Unit]\n"
    "Description=Names, addresses and routes from vmsd\n"
    "DefaultDependencies=no\n"
    "Conflicts=shutdown.target\n"
    "Before=shutdown.target sysinit.target network-pre.target systemd-udevd.service systemd-udev-trigger.service\n"
    "Wants=network-pre.target\n"
    "[Service]\n"
    "Type=oneshot\n"
    "RemainAfterExit=yes\n"
    "ExecStart=/run/vmsd/vms-agent --setup /run/vmsd/setup\n";

/* After all that boots: vmsd takes an agent that answers for a guest that has booted. What it runs may be large, may be
 * killed for its memory without taking the agent along, and what it leaves behind survives a new start of the agent. */
static const char agent_unit[] =
    "[Unit]\n"
    "Description=Agent of vmsd\n"
    "After=multi-user.target vms-setup.service\n"
    "StartLimitIntervalSec=0\n"
    "[Service]\n"
    "ExecStart=/run/vmsd/vms-agent --listen%s\n"
    "Restart=always\n"
    "RestartSec=1\n"
    "KillMode=process\n"
    "OOMScoreAdjust=-900\n"
    "OOMPolicy=continue\n"
    "TasksMax=infinity\n";

/* ---- /run ---- */

static int make_dir(int at, const char *path, mode_t mode, struct vm_err *e)
{
    return mkdirat(at, path, mode) < 0 ? vm_fail_sys(e, "make /run/%s", path) : 0;
}

static int make_file(int at, const char *path, mode_t mode, const char *text, size_t n, struct vm_err *e)
{
    OWN(fd) int fd = openat(at, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 || write(fd, text, n) != (ssize_t)n) /* into memory: whole or not at all */
        return vm_fail_sys(e, "write /run/%s", path);
    return 0;
}

static int make_link(int at, const char *path, const char *to, struct vm_err *e)
{
    return symlinkat(to, at, path) < 0 ? vm_fail_sys(e, "make /run/%s", path) : 0;
}

static int copy_agent(int run, struct vm_err *e)
{
    struct stat st;
    OWN(fd) int from = open("/vms-agent", O_RDONLY | O_CLOEXEC);
    if (from < 0 || fstat(from, &st) < 0)
        return vm_fail_sys(e, "open /vms-agent in the initramfs");
    OWN(fd) int to = openat(run, "vmsd/vms-agent", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
    if (to < 0 || sendfile(to, from, NULL, (size_t)st.st_size) != st.st_size)
        return vm_fail_sys(e, "copy vms-agent to /run/vmsd");
    return 0;
}

static int make_units(int run, bool token, struct vm_err *e)
{
    char agent[sizeof(agent_unit) + 64];
    int n = snprintf(agent, sizeof(agent), agent_unit, token ? " --token /run/vmsd/token" : "");

    if (make_dir(run, "systemd", 0755, e) < 0 || make_dir(run, "systemd/system", 0755, e) < 0 ||
        make_dir(run, "systemd/system/sysinit.target.wants", 0755, e) < 0 ||
        make_dir(run, "systemd/system/multi-user.target.wants", 0755, e) < 0 ||
        make_file(run, "systemd/system/vms-setup.service", 0644, setup_unit, sizeof(setup_unit) - 1, e) < 0 ||
        make_file(run, "systemd/system/vms-agent.service", 0644, agent, (size_t)n, e) < 0 ||
        make_link(run, "systemd/system/sysinit.target.wants/vms-setup.service", "../vms-setup.service", e) < 0)
        return -1;
    return make_link(run, "systemd/system/multi-user.target.wants/vms-agent.service", "../vms-agent.service", e);
}

static int tmpfs_mount(int root, const char *target, const char *mode, const char *size, struct vm_err *e)
{
    const struct mount_option options[] = { { "source", "tmpfs" }, { "mode", mode }, { "size", size }, { 0 } };
    OWN(fd) int mount = mount_make("tmpfs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, target, e);
    if (mount < 0)
        return -1;
    OWN(fd) int at = target_open(root, target, e);
    if (at < 0 || mount_put_at(mount, at, target, e) < 0)
        return -1;
    return take_fd(&mount);
}

int run_fill(int root, const struct setup *s, const char *text, size_t n, struct vm_err *e)
{
    OWN(fd) int run = tmpfs_mount(root, "/run", "0755", "20%", e); /* size and mode that systemd gives it */
    if (run < 0 || make_dir(run, "vmsd", 0700, e) < 0 || make_file(run, "vmsd/setup", 0600, text, n, e) < 0)
        return -1;
    if (s->token && make_file(run, "vmsd/token", 0600, s->token, PROTO_TOKEN, e) < 0)
        return -1;
    return copy_agent(run, e) < 0 ? -1 : make_units(run, s->token, e);
}

/* ---- the way over ---- */

static const char *asked_init(void)
{
    static char cmdline[4096];
    OWN(fd) int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, cmdline, sizeof(cmdline) - 1);
    cmdline[n > 0 ? n : 0] = '\0';
    return cmdline_init(cmdline);
}

const char *find_init(int root)
{
    static const char *const usual[] = { "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd" };
    struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT };
    const char *asked = asked_init(), *const *names = asked ? &asked : usual;

    for (size_t i = 0; i < (asked ? 1 : ARRAY_LEN(usual)); i++) {
        OWN(fd) int fd = (int)syscall(SYS_openat2, root, names[i], &how, sizeof(how));
        if (fd >= 0)
            return names[i];
    }
    return NULL;
}

/* The initramfs is memory that nobody needs any more. Mounts on it are left alone. */
static void free_memory(int dir, dev_t dev)
{
    DIR *d = fdopendir(dir);
    for (const struct dirent *de; d && (de = readdir(d));) {
        struct stat st;
        if (strcmp(de->d_name, ".") == 0 || strcmp(de->d_name, "..") == 0 ||
            fstatat(dirfd(d), de->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_dev != dev)
            continue;
        if (S_ISDIR(st.st_mode)) {
            int sub = openat(dirfd(d), de->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (sub >= 0)
                free_memory(sub, dev);
        }
        unlinkat(dirfd(d), de->d_name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
    }
    if (d)
        closedir(d);
}

static int move_kernel_mounts(int root, struct vm_err *e)
{
    static const char *const dirs[] = { "/proc", "/sys", "/dev" };
    for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
        OWN(fd) int target = target_open(root, dirs[i], e);
        if (target < 0)
            return -1;
        if (syscall(SYS_move_mount, AT_FDCWD, dirs[i], target, "", MOVE_MOUNT_T_EMPTY_PATH) < 0)
            return vm_fail_sys(e, "move %s to the new root", dirs[i]);
    }
    return 0;
}

static int make_read_only(int root, struct vm_err *e)
{
    struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
    OWN(fd) int tmp = tmpfs_mount(root, "/tmp", "1777", "50%", e);
    if (tmp < 0)
        return -1;
    return syscall(SYS_mount_setattr, root, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0
               ? vm_fail_sys(e, "make the root read-only") : 0;
}

int hand_over(int root, bool read_only, char **argv, struct vm_err *e)
{
    const char *init = find_init(root);
    struct stat st;

    if (!init)
        return vm_fail(e, VM_E_ABSENT, "find an init in the image: it has neither /sbin/init nor /usr/lib/systemd/systemd, "
                       "or not what init= of the command line names");
    if (read_only && make_read_only(root, e) < 0)
        return -1;
    if (move_kernel_mounts(root, e) < 0)
        return -1;
    int old = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (old >= 0 && fstat(old, &st) == 0)
        free_memory(old, st.st_dev);
    if (fchdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 || chdir("/") < 0)
        return vm_fail_sys(e, "enter the new root");
    argv[0] = (char *)init;
    execv(init, argv);
    return vm_fail_sys(e, "run %s of the image", init);
}
