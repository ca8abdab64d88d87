/* denier PID N CHOICE: has the N-th system call that could fail fail, counted over all threads of PID, and over what it
 * forks, vms-starter and vms-keeper. It is not made; its caller sees an error that the call may have, one of several by CHOICE. Says
 * "ready" when it counts; then which call failed, how, and whose. On SIGTERM, or when PID ends, it says how many points there were. With
 * N 0 it only counts.
 *
 * Files and netlink may fail; sockets of clients and agents, pipes and eventfds do so in other ways, which other cases
 * have. */
#include "tracer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

/* Of the descriptor that is the first argument: a regular file; a netlink socket; or whatever it is. */
enum what { ANY, ON_FILE, ON_NETLINK };
enum { ERRNOS = 3 };

#define CALLS(X) \
    X(openat, ANY, EMFILE, ENOMEM, EIO) X(openat2, ANY, EMFILE, ENOMEM, EIO) X(read, ON_FILE, EIO, EIO, EIO) \
    X(pread64, ON_FILE, EIO, EIO, EIO) X(write, ON_FILE, ENOSPC, EIO, EDQUOT) X(pwrite64, ON_FILE, ENOSPC, EIO, EIO) \
    X(fsync, ANY, EIO, ENOSPC, EIO) X(fdatasync, ANY, EIO, EIO, ENOSPC) X(getdents64, ANY, EIO, ENOMEM, EIO) \
    X(ftruncate, ANY, EIO, ENOSPC, EIO) X(fallocate, ANY, ENOSPC, EIO, ENOSPC) X(copy_file_range, ANY, ENOSPC, EIO, EIO) \
    X(renameat, ANY, EIO, ENOSPC, EIO) X(renameat2, ANY, EIO, ENOSPC, EIO) X(linkat, ANY, EIO, ENOSPC, EMLINK) \
    X(symlinkat, ANY, ENOSPC, EIO, EIO) X(unlinkat, ANY, EIO, EBUSY, EIO) X(mkdirat, ANY, ENOSPC, EIO, EMLINK) \
    X(mknodat, ANY, ENOSPC, EIO, EPERM) X(fchmod, ANY, EIO, EPERM, EIO) X(fchown, ANY, EIO, EPERM, EDQUOT) \
    X(fchownat, ANY, EIO, EPERM, EDQUOT) X(fsetxattr, ANY, ENOSPC, EDQUOT, EOPNOTSUPP) X(setxattr, ANY, ENOSPC, EDQUOT, EIO) \
    X(flock, ANY, ENOLCK, ENOMEM, EINTR) X(mount, ANY, ENOMEM, EBUSY, EIO) X(umount2, ANY, EBUSY, EIO, ENOMEM) \
    X(move_mount, ANY, ENOMEM, EBUSY, ENOENT) X(open_tree, ANY, EMFILE, ENOMEM, EPERM) X(fsopen, ANY, ENOMEM, EMFILE, EPERM) \
    X(fsconfig, ANY, ENOMEM, EIO, EBUSY) X(fsmount, ANY, ENOMEM, EMFILE, EBUSY) X(mount_setattr, ANY, EBUSY, ENOMEM, EPERM) \
    X(clone, ANY, EAGAIN, ENOMEM, EAGAIN) X(clone3, ANY, EAGAIN, ENOMEM, EAGAIN) X(vfork, ANY, EAGAIN, ENOMEM, EAGAIN) \
    X(fork, ANY, EAGAIN, ENOMEM, EAGAIN) X(execve, ANY, ENOMEM, EIO, EMFILE) X(unshare, ANY, ENOSPC, ENOMEM, EPERM) \
    X(setns, ANY, ENOMEM, EPERM, EMFILE) X(ioctl, ANY, ENOMEM, EBUSY, EIO) X(socket, ANY, EMFILE, ENOBUFS, ENOMEM) \
    X(connect, ANY, ECONNREFUSED, EAGAIN, ENOMEM) X(bind, ANY, EADDRINUSE, ENOMEM, EACCES) X(listen, ANY, EADDRINUSE, EADDRINUSE, EADDRINUSE) \
    X(sendmsg, ON_NETLINK, ENOBUFS, EPERM, ENOMEM) X(sendto, ON_NETLINK, ENOBUFS, EPERM, ENOMEM) \
    X(recvmsg, ON_NETLINK, ENOBUFS, ENOMEM, EIO) X(recvfrom, ON_NETLINK, ENOBUFS, ENOMEM, EIO) \
    X(socketpair, ANY, EMFILE, ENOMEM, ENFILE) X(pipe2, ANY, EMFILE, ENFILE, EMFILE) X(memfd_create, ANY, EMFILE, ENOMEM, EMFILE) \
    X(pidfd_open, ANY, EMFILE, ENOMEM, EINVAL) X(epoll_ctl, ANY, ENOMEM, ENOSPC, ENOMEM) X(dup3, ANY, EMFILE, EBUSY, EMFILE) \
    X(fcntl, ANY, EMFILE, EMFILE, ENOLCK) X(setsockopt, ANY, ENOMEM, EPERM, ENOMEM) X(statx, ANY, EIO, ENOMEM, EACCES) \
    X(chdir, ANY, EIO, ENOMEM, EACCES) X(setsid, ANY, EPERM, EPERM, EPERM) X(prctl, ANY, EINVAL, EPERM, EINVAL)

struct call { long nr; const char *name; enum what on; int errnos[ERRNOS]; };
#define X(name, on, ...) {SYS_##name, #name, on, {__VA_ARGS__}},
static const struct call calls[] = {CALLS(X)};
#undef X

static pid_t process_of(pid_t tid)
{
    char path[40], line[128];
    pid_t pid = tid;
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/status", (int)tid);
    f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "Tgid:", 5))
            pid = atoi(line + 5);
    if (f)
        fclose(f);
    return pid;
}

static void name_of(pid_t tid, char out[static 32])
{
    char path[40];
    FILE *f;

    snprintf(path, sizeof path, "/proc/%d/comm", (int)tid);
    out[0] = '\0';
    if ((f = fopen(path, "re"))) {
        if (fgets(out, 32, f))
            out[strcspn(out, "\n")] = '\0';
        fclose(f);
    }
}

static bool is_netlink(pid_t tid, int fd)
{
    int pidfd = (int)syscall(SYS_pidfd_open, process_of(tid), 0), domain = 0, copy = -1;
    socklen_t n = sizeof domain;

    if (pidfd >= 0 && (copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0)) >= 0 &&
        getsockopt(copy, SOL_SOCKET, SO_DOMAIN, &domain, &n) < 0)
        domain = 0;
    if (copy >= 0)
        close(copy);
    if (pidfd >= 0)
        close(pidfd);
    return domain == AF_NETLINK;
}

static bool is_file(pid_t tid, int fd)
{
    char path[64];
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)tid, fd);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

#ifdef __x86_64__
static void replace_call(pid_t tid)
{
    struct user_regs_struct r;

    if (ptrace(PTRACE_GETREGS, tid, NULL, &r) == 0) {
        r.orig_rax = -1ULL;
        ptrace(PTRACE_SETREGS, tid, NULL, &r);
    }
}

static void replace_result(pid_t tid, int error)
{
    struct user_regs_struct r;

    if (ptrace(PTRACE_GETREGS, tid, NULL, &r) == 0) {
        r.rax = (unsigned long long)-(long long)error;
        ptrace(PTRACE_SETREGS, tid, NULL, &r);
    }
}
static const bool can = true;
#else /* nobody has written it */
static void replace_call(pid_t tid) { (void)tid; }
static void replace_result(pid_t tid, int error) { (void)tid, (void)error; }
static const bool can = false;
#endif

/* The call that the thread is about to make, if it is one of ours. */
static const struct call *point_at(pid_t tid, const struct __ptrace_syscall_info *info)
{
    if (info->op != PTRACE_SYSCALL_INFO_ENTRY)
        return NULL;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        const struct call *c = &calls[i];

        if ((unsigned long long)c->nr != info->entry.nr)
            continue;
        if (c->nr == SYS_fcntl && info->entry.args[1] != 1030) /* only F_DUPFD_CLOEXEC */
            return NULL;
        if (c->nr == SYS_epoll_ctl && info->entry.args[1] != EPOLL_CTL_ADD) /* the others take nothing that could be missing */
            return NULL;
        if ((c->on == ON_FILE && !is_file(tid, (int)info->entry.args[0])) ||
            (c->on == ON_NETLINK && !is_netlink(tid, (int)info->entry.args[0])))
            return NULL;
        return c;
    }
    return NULL;
}

/* Of what vmsd forks, what becomes another program than its keeper is left alone. */
static bool is_ours(pid_t tid)
{
    char name[32];

    name_of(tid, name);
    return !strcmp(name, "vms-keeper") || !strcmp(name, "vms-starter") || !strcmp(name, "vmsd") || !strcmp(name, "vmsd-nth");
}

struct plan {
    unsigned long n, seen;
    unsigned choice;
    pid_t failing; /* thread that is in the call that fails */
    int error;
};

static bool at_call(pid_t tid, const struct __ptrace_syscall_info *info, void *arg)
{
    struct plan *p = arg;
    const struct call *c;
    char name[32];

    if (p->failing == tid) {
        replace_result(tid, p->error);
        p->failing = 0;
        return true;
    }
    if (!(c = point_at(tid, info)) || ++p->seen != p->n)
        return true;
    p->failing = tid;
    p->error = c->errnos[p->choice % ERRNOS];
    replace_call(tid);
    name_of(tid, name);
    printf("failed %s %s %s\n", c->name, strerrorname_np(p->error), name);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    pid_t pid = argc == 4 ? atoi(argv[1]) : 0;
    struct plan p = {0};
    struct tracer t = {PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC, at_call, is_ours, &p};

    if (pid <= 0) {
        fputs("usage: denier PID N CHOICE\n", stderr);
        return 2;
    }
    if (!can) {
        puts("cannot: it knows the registers of x86-64 alone");
        return 77;
    }
    p.n = strtoul(argv[2], NULL, 10);
    p.choice = (unsigned)atoi(argv[3]);
    tracer_run(pid, &t);
    printf("points %lu\n", p.seen);
    return 0;
}
