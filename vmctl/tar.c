#include "tar.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

/* Root without capabilities makes plain files of its own, and no more. */
static void drop_capabilities(void)
{
    for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
        prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

static _Noreturn void become(char *const *argv, int dir, int pipe_end, int as, bool weak)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    /* The directory is entered while it can be: it may lie behind one that only its owner may pass. */
    if (fchdir(dir) < 0 || dup2(pipe_end, as) < 0)
        _exit(126);
    if (weak)
        drop_capabilities();
    execvp(argv[0], argv);
    _exit(127);
}

static int spawn(char *const *argv, int dir, bool pack, int *fd, pid_t *pid, struct vm_err *e)
{
    int ends[2], theirs = pack ? 1 : 0;
    OWN(fd) int child_end = -1;

    if (pipe2(ends, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    child_end = ends[theirs];
    *pid = fork();
    if (*pid == 0)
        become(argv, dir, child_end, theirs, !pack);
    if (*pid < 0) {
        fd_drop(ends[!theirs]);
        return vm_fail_sys(e, "start tar");
    }
    *fd = ends[!theirs];
    return 0;
}

int tar_pack(int dir, int *out, pid_t *pid, struct vm_err *e)
{
    static char *const argv[] = {"tar", "-cf", "-", "--owner=root:0", "--group=root:0", ".", NULL};

    return spawn(argv, dir, true, out, pid, e);
}

int tar_unpack(int dir, int *in, pid_t *pid, struct vm_err *e)
{
    static char *const argv[] = {"tar", "-xf", "-", "--no-same-owner", "--no-same-permissions", NULL};

    return spawn(argv, dir, false, in, pid, e);
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
