/* killer PID N: kills PID with SIGKILL at its N-th point, counted over all its threads from now on. A point is the
 * entry or the exit of a system call that changes something outside. Says "ready" when it counts; after the kill, which
 * call it was. On SIGTERM, or when PID ends by itself, it says how many points there were. With N 0 it only counts. */
#include "tracer.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>

#define CALLS(X) \
    X(bind) X(clone) X(clone3) X(connect) X(fallocate) X(fchmod) X(fchmodat) X(fchown) X(fchownat) X(fdatasync) X(flock) \
    X(fsetxattr) X(fsync) X(ftruncate) X(ioctl) X(kill) X(linkat) X(memfd_create) X(mkdirat) X(mount) X(openat2) \
    X(pidfd_send_signal) X(pwrite64) X(renameat) X(renameat2) X(rmdir) X(sendmsg) X(sendto) X(setns) X(symlinkat) \
    X(syncfs) X(unlink) X(unlinkat) X(utimensat) X(write) X(writev)

struct call { long nr; const char *name; };
#define X(name) {SYS_##name, #name},
static const struct call calls[] = {CALLS(X)};
#undef X

static const char *call_name(unsigned long long nr)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if ((unsigned long long)calls[i].nr == nr)
            return calls[i].name;
    return NULL;
}

struct plan {
    pid_t pid;
    unsigned long n, seen;
};

static bool at_call(pid_t tid, const struct __ptrace_syscall_info *info, void *arg)
{
    static unsigned long long last[1 << 16]; /* call that the thread is in; small ids wrap, which only miscounts */
    unsigned long long *in = &last[(unsigned)tid % (sizeof last / sizeof *last)];
    bool entry = info->op == PTRACE_SYSCALL_INFO_ENTRY;
    struct plan *p = arg;
    const char *name;

    if (entry)
        *in = info->entry.nr;
    name = entry || info->op == PTRACE_SYSCALL_INFO_EXIT ? call_name(*in) : NULL;
    if (!name || ++p->seen != p->n)
        return true;
    kill(p->pid, SIGKILL);
    printf("killed %s %s\n", entry ? "before" : "after", name);
    return false;
}

int main(int argc, char **argv)
{
    struct plan p = {.pid = argc == 3 ? atoi(argv[1]) : 0};
    struct tracer t = {.at_call = at_call, .arg = &p};

    if (p.pid <= 0) {
        fputs("usage: killer PID N\n", stderr);
        return 2;
    }
    p.n = strtoul(argv[2], NULL, 10);
    if (tracer_run(p.pid, &t))
        printf("points %lu\n", p.seen);
    return 0;
}
