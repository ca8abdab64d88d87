#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

/* Root without capabilities makes plain files of its own, and no more; with these two it may give them away. */
static void drop_capabilities(bool owners)
{
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        if (!owners || (cap != CAP_CHOWN && cap != CAP_FOWNER))
            prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

enum capable { ALL, OWNERS, NONE };

static _Noreturn void become(const char *const *argv, int dir, int pipe_end, int as, enum capable may)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* The directory is entered while it can be: it may lie behind one that only its owner may pass. */
    if (fchdir(dir) < 0 || dup2(pipe_end, as) < 0)
        _exit(126);
    if (may != ALL)
        drop_capabilities(may == OWNERS);
    execvp(argv[0], (char *const *)argv);
    _exit(127);
}

static int spawn(const char *const *argv, int dir, enum capable may, int *fd, pid_t *pid, struct vm_err *e)
{
    int ends[2], theirs = may == ALL ? 1 : 0; /* it packs, and writes */
    OWN(fd) int child_end = -1;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    child_end = ends[theirs];
    *pid = fork();
    if (*pid == 0)
        become(argv, dir, child_end, theirs, may);
    if (*pid < 0) {
        fd_drop(ends[!theirs]);
        return vm_fail_sys(e, "start tar");
    }
    *fd = ends[!theirs];
    return 0;
}

int tar_pack(int dir, const struct tar_owner *owner, int *out, pid_t *pid, struct vm_err *e)
{
    char user[32], group[32];
    const char *argv[8] = {"tar", "-cf", "-", "--numeric-owner"};
    size_t n = 4;

    if (owner) { /* the names that tar wants are not written */
        snprintf(user, sizeof user, "--owner=x:%u", owner->uid);
        snprintf(group, sizeof group, "--group=x:%u", owner->gid);
        argv[n++] = user;
        argv[n++] = group;
    }
    argv[n] = ".";
    return spawn(argv, dir, ALL, out, pid, e);
}

int tar_unpack(int dir, bool owners, int *in, pid_t *pid, struct vm_err *e)
{
    const char *argv[] = {"tar", "-xf", "-", "--no-same-permissions", "--numeric-owner",
                          owners ? "--same-owner" : "--no-same-owner", NULL};

    return spawn(argv, dir, owners ? OWNERS : NONE, in, pid, e);
}

int tar_wait(pid_t pid, struct vm_err *e)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return vm_fail_sys(e, "wait for tar");
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return vm_fail(e, VM_E_SYSTEM, "this host has no tar; install it to copy directories");
    return vm_fail(e, VM_E_SYSTEM, "tar failed on this host");
}
