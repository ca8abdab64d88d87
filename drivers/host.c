/* What this host offers to guests, whatever runs them. */
#include "nspawn.h"
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include <vmsd/path.h>

void host_probe_cgroups(struct drv_host *out)
{
    struct statfs fs;
    OWN(str) char *list = NULL;
    OWN(fd) int dir = path_open_host("/sys/fs/cgroup", O_RDONLY | O_DIRECTORY, NULL);

    snprintf(out->cgroup_root, sizeof out->cgroup_root, "/sys/fs/cgroup");
    if (dir < 0 || fstatfs(dir, &fs) < 0)
        return;
    out->cgroup2 = fs.f_type == CGROUP2_SUPER_MAGIC;
    if (out->cgroup2 && path_read(dir, "cgroup.controllers", 4096, &list, NULL, NULL) < 0)
        return;
    out->cgroup_memory = list ? word_in(list, "memory") : path_exists(dir, "memory");
    out->cgroup_cpu = list ? word_in(list, "cpu") : path_exists(dir, "cpu");
    out->cgroup_pids = list ? word_in(list, "pids") : path_exists(dir, "pids");
    out->cgroup_io = list ? word_in(list, "io") : path_exists(dir, "blkio");
}

static bool has_fs(const char *type)
{
    OWN(fd) int fs = fsopen(type, FSOPEN_CLOEXEC); /* loads the module if there is one */
    OWN(fd) int list = path_open_host("/proc/filesystems", O_RDONLY, NULL);
    OWN(str) char *known = NULL;
    char line[64];

    /* Where vmsd may not, vms-starter has loaded it. */
    snprintf(line, sizeof line, "\t%s\n", type);
    return fs >= 0 || (list >= 0 && path_read_fd(list, "/proc/filesystems", 64 << 10, &known, NULL, NULL) == 0 &&
                       strstr(known, line));
}

/* EINVAL: the call is known and dislikes the arguments, an empty path without a mount. */
static bool has_idmap(void)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)-1};

    return mount_setattr(-1, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 && errno != ENOSYS;
}

bool kvm_usable(char *why, size_t size)
{
    OWN(fd) int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    OWN(str) char *cpu = NULL;
    OWN(fd) int info = path_open_host("/proc/cpuinfo", O_RDONLY, NULL);

    if (kvm < 0) {
        snprintf(why, size, "/dev/kvm: %s", strerror(errno));
        return false;
    }
    if (ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
        snprintf(why, size, "/dev/kvm answers with an unknown version");
        return false;
    }
    /* A /dev/kvm without svm or vmx emulates every privileged instruction: no kernel gets far in it. */
    if (info < 0 || path_read_fd(info, "/proc/cpuinfo", 8 << 20, &cpu, NULL, NULL) < 0 ||
        (!word_in(cpu, "svm") && !word_in(cpu, "vmx"))) {
        snprintf(why, size, "/dev/kvm opens, but the processor shows neither svm nor vmx");
        return false;
    }
    return true;
}

void host_probe_mounts(struct drv_host *out)
{
    out->idmap = has_idmap();
    out->overlay = has_fs("overlay");
    out->loop = access("/dev/loop-control", R_OK | W_OK) == 0;
}

void drv_host_probe(struct drv_host *out)
{
    *out = (struct drv_host){.systemd = sd_booted() > 0};
    host_probe_cgroups(out);
    host_probe_mounts(out);
    out->kvm = kvm_usable(out->kvm_why, sizeof out->kvm_why);
}
