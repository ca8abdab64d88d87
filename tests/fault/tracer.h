/* tracer.h: a process whose threads are stopped at each of their system calls, at its entry and at its exit. */
#ifndef TRACER_H
#define TRACER_H

#include <stdbool.h>
#include <sys/ptrace.h>
#include <sys/types.h>

struct tracer {
    long options; /* of ptrace, beside those that it needs */
    /* false: that was enough; the process is let go as it is */
    bool (*at_call)(pid_t tid, const struct __ptrace_syscall_info *info, void *arg);
    bool (*is_ours)(pid_t tid); /* asked of its children, and after each execve (PTRACE_O_TRACEEXEC): false lets it go */
    void *arg;
};

/* Says "ready" when it sees all that comes. Back when the process has ended or SIGTERM came; false: when at_call had enough. */
bool tracer_run(pid_t pid, const struct tracer *t);

#endif
