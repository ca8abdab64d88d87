/* killer PID N: kills PID with SIGKILL at its N-th point, counted over all its threads from now on. A point is the
 * entry or the exit of a system call that changes something outside. Says "ready" when it counts; after the kill, which
 * call it was. On SIGTERM, or when PID ends by itself, it says how many points there were. With N 0 it only counts. */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#define CALLS(X) \
    X(bind) X(clone) X(clone3) X(connect) X(fallocate) X(fchmod) X(fchmodat) X(fchown) X(fchownat) X(fdatasync) X(flock) \
    X(fsetxattr) X(fsync) X(ftruncate) X(ioctl) X(kill) X(linkat) X(memfd_create) X(mkdirat) X(mount) X(openat2) \
    X(pidfd_send_signal) X(pwrite64) X(renameat) X(renameat2) X(rmdir) X(sendmsg) X(sendto) X(setns) X(symlinkat) \
    X(syncfs) X(unlink) X(unlinkat) X(utimensat) X(write) X(writev)

struct call { long nr; const char *name; };
#define X(name) {SYS_##name, #name},
static const struct call calls[] = {CALLS(X)};
#undef X

static volatile sig_atomic_t asked_to_end;

static void on_term(int sig)
{
    (void)sig;
    asked_to_end = 1;
}

static const char *call_name(unsigned long long nr)
{
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        if ((unsigned long long)calls[i].nr == nr)
            return calls[i].name;
    return NULL;
}

static void seize(pid_t tid)
{
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE;

    if (ptrace(PTRACE_SEIZE, tid, NULL, options) < 0 || ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0)
        fprintf(stderr, "killer: thread %d: cannot be seized\n", (int)tid);
}

static void seize_all(pid_t pid)
{
    char path[40];
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    list = opendir(path);
    for (struct dirent *d; list && (d = readdir(list));)
        if (d->d_name[0] != '.')
            seize(atoi(d->d_name));
    if (list)
        closedir(list);
}

/* The system call at which the thread has just stopped, if it is one of ours. */
static const char *point_at(pid_t tid, bool *entry)
{
    struct __ptrace_syscall_info info;
    static unsigned long long last[1 << 16]; /* call that the thread is in; small ids wrap, which only miscounts */
    unsigned long long *in = &last[(unsigned)tid % (sizeof last / sizeof *last)];

    if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) <= 0)
        return NULL;
    *entry = info.op == PTRACE_SYSCALL_INFO_ENTRY;
    if (*entry)
        *in = info.entry.nr;
    return *entry || info.op == PTRACE_SYSCALL_INFO_EXIT ? call_name(*in) : NULL;
}

int main(int argc, char **argv)
{
    struct sigaction term = {.sa_handler = on_term}; /* no SA_RESTART: waitpid shall notice */
    pid_t pid = argc == 3 ? atoi(argv[1]) : 0;
    unsigned long n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0, seen = 0;
    int status;

    if (pid <= 0) {
        fputs("usage: killer PID N\n", stderr);
        return 2;
    }
    sigaction(SIGTERM, &term, NULL);
    seize_all(pid);
    puts("ready");
    fflush(stdout);
    while (!asked_to_end) {
        pid_t tid = waitpid(-1, &status, __WALL);
        int sig = 0;

        if (tid < 0 && errno == EINTR)
            continue;
        if (tid < 0)
            break;
        if (!WIFSTOPPED(status))
            continue;
        if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
            bool entry;
            const char *name = point_at(tid, &entry);

            if (name && ++seen == n) {
                kill(pid, SIGKILL);
                printf("killed %s %s\n", entry ? "before" : "after", name);
                return 0;
            }
        } else if (status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP) {
            sig = WSTOPSIG(status);
        }
        ptrace(PTRACE_SYSCALL, tid, NULL, sig);
    }
    printf("points %lu\n", seen);
    return 0;
}
