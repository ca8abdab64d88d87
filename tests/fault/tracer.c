#include "tracer.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

enum { OPTIONS = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE };

static volatile sig_atomic_t asked_to_end;

static void on_term(int sig)
{
    (void)sig;
    asked_to_end = 1;
}

static void seize_all(pid_t pid, long options)
{
    char path[40];
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    list = opendir(path);
    for (struct dirent *d; list && (d = readdir(list));) {
        pid_t tid = atoi(d->d_name);

        if (tid > 0 && (ptrace(PTRACE_SEIZE, tid, NULL, options) < 0 || ptrace(PTRACE_INTERRUPT, tid, NULL, NULL) < 0))
            fprintf(stderr, "thread %d: cannot be seized\n", (int)tid);
    }
    if (list)
        closedir(list);
}

/* What a process has started already. */
static void seize_children(pid_t pid, const struct tracer *t)
{
    char path[64];
    DIR *list;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    list = opendir(path);
    for (struct dirent *d; list && (d = readdir(list));) {
        int child;
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, atoi(d->d_name));
        f = fopen(path, "re");
        while (f && fscanf(f, "%d", &child) == 1)
            if (t->is_ours(child))
                seize_all(child, t->options | OPTIONS);
        if (f)
            fclose(f);
    }
    if (list)
        closedir(list);
}

/* Where a thread has stopped. False: that was enough. */
static bool stopped(const struct tracer *t, pid_t tid, int status)
{
    struct __ptrace_syscall_info info;
    int sig = 0;

    if (WSTOPSIG(status) == (SIGTRAP | 0x80)) {
        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, (void *)sizeof info, &info) > 0 && !t->at_call(tid, &info, t->arg))
            return false;
    } else if (status >> 16 == PTRACE_EVENT_EXEC && !t->is_ours(tid)) {
        ptrace(PTRACE_DETACH, tid, NULL, NULL);
        return true;
    } else if (status >> 16 == 0 && WSTOPSIG(status) != SIGTRAP) {
        sig = WSTOPSIG(status);
    }
    ptrace(PTRACE_SYSCALL, tid, NULL, sig);
    return true;
}

bool tracer_run(pid_t pid, const struct tracer *t)
{
    struct sigaction term = {.sa_handler = on_term}; /* no SA_RESTART: waitpid shall notice */
    int status;

    sigaction(SIGTERM, &term, NULL);
    seize_all(pid, t->options | OPTIONS);
    if (t->is_ours)
        seize_children(pid, t);
    puts("ready");
    fflush(stdout);
    while (!asked_to_end) {
        pid_t tid = waitpid(-1, &status, __WALL);

        if (tid < 0 && errno != EINTR)
            break;
        if (tid >= 0 && WIFSTOPPED(status) && !stopped(t, tid, status))
            return false;
    }
    return true;
}
