#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/capability.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

/* Host ids that nobody else uses: the end of the range that systemd's registry leaves unassigned. */
#define SANDBOX_BASE 0x7ffe0000u
#define SANDBOX_IDS 65536u
#define MEMORY_MAX (1ul << 30)

static int write_map(pid_t pid, const char *which, struct vm_err *e)
{
    char path[64], map[64];
    int n = snprintf(map, sizeof map, "0 %u %u\n", SANDBOX_BASE, SANDBOX_IDS);

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, which);
    OWN(fd) int fd = open(path, O_WRONLY | O_CLOEXEC);
    return fd < 0 || write(fd, map, (size_t)n) != n ? vm_fail_sys(e, "write %s", path) : 0;
}

/* A user namespace can only be made together with a process; this one waits until it has been looked at. */
static int make_userns(struct vm_err *e)
{
    char path[64];
    int fd = -1;
    pid_t parent = getpid(), pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, 0);

    if (pid < 0)
        return vm_fail_sys(e, "make a user namespace");
    if (pid == 0) {
        if (prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent)
            pause();
        _exit(0);
    }
    if (write_map(pid, "uid_map", e) == 0 && write_map(pid, "gid_map", e) == 0) {
        snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
        if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
            vm_fail_sys(e, "open '%s'", path);
    }
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    return fd;
}

/* The current directory becomes "/", seen through the map of ids, and every other mount is gone. This is done while
 * still root of the host, so that the mount namespace stays out of reach of the user namespace. */
static int enter_tree(int userns, struct vm_err *e)
{
    struct mount_attr attr = {
        .attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC,
        .userns_fd = (uint64_t)userns,
    };

    if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0 ||
        mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return vm_fail_sys(e, "make namespaces");
    OWN(fd) int tree = open_tree(AT_FDCWD, ".", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    if (tree < 0)
        return vm_fail_sys(e, "clone the mount of the tree");
    if (mount_setattr(tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
        return vm_fail_sys(e, "map ids of the tree; does the file system of the state directory know idmapped mounts");
    if (move_mount(tree, "", AT_FDCWD, ".", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(tree) < 0 ||
        syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return vm_fail_sys(e, "enter the tree");
    return 0;
}

static int drop_privileges(int userns, pid_t parent, struct vm_err *e)
{
    static const cap_value_t kept[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID, CAP_SETFCAP};
    cap_t caps;

    if (setns(userns, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        return vm_fail_sys(e, "enter the user namespace");
    if (!(caps = cap_init()))
        return vm_no_memory(e);
    bool set = cap_set_flag(caps, CAP_PERMITTED, ARRAY_LEN(kept), kept, CAP_SET) == 0 &&
               cap_set_flag(caps, CAP_EFFECTIVE, ARRAY_LEN(kept), kept, CAP_SET) == 0 && cap_set_proc(caps) == 0;
    cap_free(caps);
    if (!set || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return vm_fail_sys(e, "drop capabilities");
    /* The change of uid cleared it, and the parent may have died meanwhile. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0 || getppid() != parent)
        return vm_fail_sys(e, "tie the process to its parent");
    return 0;
}

static int limit_resources(struct vm_err *e)
{
    static const struct { int which; rlim_t max; } limits[] = {
        {RLIMIT_AS, MEMORY_MAX}, {RLIMIT_NOFILE, 64}, {RLIMIT_NPROC, 0}, {RLIMIT_CORE, 0}, {RLIMIT_MEMLOCK, 0},
    };

    for (size_t i = 0; i < ARRAY_LEN(limits); i++)
        if (setrlimit(limits[i].which, &(struct rlimit){limits[i].max, limits[i].max}) < 0)
            return vm_fail_sys(e, "limit resources");
    return 0;
}

/* What unpacking takes, found by tracing it; anything else ends the process. */
static int filter_calls(struct vm_err *e)
{
    static const int allowed[] = {
        SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(lseek), SCMP_SYS(pwrite64), SCMP_SYS(close), SCMP_SYS(fcntl),
        SCMP_SYS(openat), SCMP_SYS(newfstatat), SCMP_SYS(fstat), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(symlink),
        SCMP_SYS(linkat), SCMP_SYS(link), SCMP_SYS(unlink), SCMP_SYS(rmdir), SCMP_SYS(unlinkat), SCMP_SYS(ftruncate),
        SCMP_SYS(fchown), SCMP_SYS(lchown), SCMP_SYS(fchownat), SCMP_SYS(fchmod), SCMP_SYS(chmod), SCMP_SYS(fchmodat),
        SCMP_SYS(utimensat), SCMP_SYS(fsetxattr), SCMP_SYS(lsetxattr), SCMP_SYS(chdir), SCMP_SYS(fchdir),
        SCMP_SYS(umask), SCMP_SYS(geteuid), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk),
        SCMP_SYS(getrandom), SCMP_SYS(clock_gettime), SCMP_SYS(rt_sigreturn), SCMP_SYS(exit_group),
    };
    scmp_filter_ctx f = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc = f ? 0 : -ENOMEM;

    for (size_t i = 0; rc == 0 && i < ARRAY_LEN(allowed); i++)
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, allowed[i], 0);
    if (rc == 0) /* memory, but none to run code in */
        rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
    if (rc == 0)
        rc = seccomp_load(f);
    seccomp_release(f);
    errno = -rc;
    return rc < 0 ? vm_fail_sys(e, "filter system calls") : 0;
}

int sandbox_enter(struct vm_err *e)
{
    pid_t parent = getppid();
    OWN(fd) int userns = make_userns(e);

    if (userns < 0 || enter_tree(userns, e) < 0 || drop_privileges(userns, parent, e) < 0)
        return -1;
    userns = fd_drop(userns);
    if (close_range(3, ~0u, 0) < 0)
        return vm_fail_sys(e, "close files");
    return limit_resources(e) < 0 || filter_calls(e) < 0 ? -1 : 0;
}
