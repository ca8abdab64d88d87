#include "nspawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <systemd/sd-daemon.h>
#include <vmsd/path.h>

enum { AGENT_BYTES_MAX = 32 << 20, INOTIFY_INSTANCES = 65536 };

static const struct vm_driver *const table[] = {&nspawn_driver, NULL};

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* D13: what runs in a guest is this copy. Nobody, root included, can write to it. */
static int sealed_copy(const char *program, struct vm_err *e)
{
    OWN(fd) int from = path_open_host(program, O_RDONLY, e);
    OWN(fd) int to = -1;
    OWN(str) char *bytes = NULL;
    size_t n;

    if (from < 0 || path_read_fd(from, program, AGENT_BYTES_MAX, &bytes, &n, e) < 0)
        return -1;
    to = memfd_create("vms-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (to < 0 && errno == EINVAL) /* before Linux 6.3 every memfd may be executed */
        to = memfd_create("vms-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (to < 0)
        return vm_fail_sys(e, "memfd for %s", program);
    if (path_write_all(to, bytes, n, e) < 0)
        return -1;
    if (fchmod(to, 0555) < 0 ||
        fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return vm_fail_sys(e, "seal the copy of %s", program);
    return take_fd(&to);
}

/* Each guest's init and its services open seven inotify instances, and all guests together count as root's: the
 * kernel's default of 128 ends at 18 guests, with an init that does not come up. Borne where it cannot be raised. */
static void inotify_raise(void)
{
    OWN(str) char *text = NULL;
    OWN(fd) int dir = path_open_host("/proc/sys/fs/inotify", O_PATH | O_DIRECTORY, NULL);
    OWN(fd) int fd = dir < 0 ? -1 : path_open(dir, "max_user_instances", PATH_BENEATH, O_RDWR, 0, NULL);
    char want[16];
    int n = snprintf(want, sizeof want, "%d", INOTIFY_INSTANCES);

    if (fd < 0 || path_read_fd(fd, "max_user_instances", 64, &text, NULL, NULL) < 0 || strtol(text, NULL, 10) >= INOTIFY_INSTANCES)
        return;
    if (pwrite(fd, want, (size_t)n, 0) < 0)
        errno = 0;
}

int drivers_init(const char *agent_program, const char *keeper_program, struct vm_err *e)
{
    struct nspawn_programs p;
    OWN(fd) int agent = sealed_copy(agent_program, e);

    if (agent < 0)
        return -1;
    if ((size_t)snprintf(p.keeper, sizeof p.keeper, "%s", keeper_program) >= sizeof p.keeper)
        return vm_fail(e, VM_E_INVALID, "the path of vms-keeper is too long");
    if (agent_filter_make(&p.filter, e) < 0)
        return -1;
    p.agent = take_fd(&agent);
    fd_drop(nspawn_programs.agent);
    free(nspawn_programs.filter.filter);
    nspawn_programs = p;
    inotify_raise();
    return 0;
}

const struct vm_driver *const *drivers(void)
{
    return table;
}

const struct vm_driver *driver_for(const struct guest_spec *g, struct vm_err *e)
{
    struct drv_report r;

    for (size_t i = 0; table[i]; i++) {
        if (table[i]->kind != g->kind)
            continue;
        table[i]->probe(&r);
        if (r.usable)
            return table[i];
        vm_fail(e, VM_E_UNAVAILABLE, "%s cannot run '%s' here: %s; %s", table[i]->name, g->name, r.why, r.hint);
        return NULL;
    }
    vm_fail(e, VM_E_UNAVAILABLE, "'%s': kind microvm has no driver in this version of vmsd; use kind: container",
            g->name);
    return NULL;
}

/* ---- what the host offers ---- */

static bool word_in(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = text; (at = strstr(at, word)); at += n)
        if ((at == text || at[-1] == ' ') && (at[n] == ' ' || at[n] == '\n' || !at[n]))
            return true;
    return false;
}

static void probe_cgroups(struct drv_host *out)
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
    out->cgroup_memory = out->cgroup2 ? word_in(list, "memory") : path_exists(dir, "memory");
    out->cgroup_cpu = out->cgroup2 ? word_in(list, "cpu") : path_exists(dir, "cpu");
    out->cgroup_pids = out->cgroup2 ? word_in(list, "pids") : path_exists(dir, "pids");
    out->cgroup_io = out->cgroup2 ? word_in(list, "io") : path_exists(dir, "blkio");
}

static bool has_fs(const char *type)
{
    OWN(fd) int fs = fsopen(type, FSOPEN_CLOEXEC); /* loads the module if there is one */

    return fs >= 0;
}

/* EINVAL: the call is known and dislikes the arguments, an empty path without a mount. */
static bool has_idmap(void)
{
    struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP, .userns_fd = (uint64_t)-1};

    return mount_setattr(-1, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0 && errno != ENOSYS;
}

static bool probe_kvm(char *why, size_t size)
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
    probe_cgroups(out);
    host_probe_mounts(out);
    out->kvm = probe_kvm(out->kvm_why, sizeof out->kvm_why);
}
