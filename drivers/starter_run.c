/* Programs that build, unpack and check: run to their end, and killed with the connection. */
#include "starter.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

#define CHECK_MEMORY_MAX ((rlim_t)4 << 30)

enum { ARGS_MAX = 4096, ENV_MAX = 64 };
enum { FD_IN, FD_OUT, FD_AT, FDS };

/* argv and environment of a request; they point into its words. */
struct words { char *argv[ARGS_MAX + 1], *env[ENV_MAX + 1]; size_t argc, envc; };

/* ---- what may be asked for ---- */

static bool begins(const char *word, const char *with)
{
    return !strncmp(word, with, strlen(with));
}

/* A recipe's own words are `customize`, which is a script of root in the new tree, and the names of packages; but not what
 * mmdebstrap or dpkg are to do with the host. */
static bool build_word(const char *w)
{
    static const char *const known[] = {"--variant=", "--components=", "--include=", "--dpkgopt=path-exclude=",
                                        "--dpkgopt=path-include="};
    static const char hook[] = "-hook=cp customize \"$1\"/.customize && env -u TMPDIR chroot \"$1\" /.customize && "
                               "rm \"$1\"/.customize";

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (begins(w, known[i]))
            return true;
    if (begins(w, "--customize"))
        return !strcmp(w + strlen("--customize"), hook);
    if (begins(w, "--extract"))
        return !strcmp(w + strlen("--extract"), hook);
    return *w && (*w != '-' || !w[1]);
}

static bool may_build(const struct words *w)
{
    const char *const first[] = {"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
                                 starter_programs.builder, "--mode=root", "--format=directory"};
    static const char *const variables[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                                            "LC_ALL=C.UTF-8", "TMPDIR=/", "http_proxy=", "https_proxy=", "no_proxy="};

    for (size_t i = 0; i < w->argc; i++)
        if (i < ARRAY_LEN(first) ? strcmp(w->argv[i], first[i]) != 0 : !build_word(w->argv[i]))
            return false;
    for (size_t i = 0, k; i < w->envc; i++) {
        for (k = 0; k < ARRAY_LEN(variables) && !begins(w->env[i], variables[k]); k++)
            ;
        if (k == ARRAY_LEN(variables))
            return false;
    }
    return w->argc > ARRAY_LEN(first);
}

static bool may_unpack(const struct words *w)
{
    return w->argc == 1 && !strcmp(w->argv[0], starter_programs.unpack);
}

static bool may_check(const struct words *w)
{
    return w->argc == 4 && !strcmp(w->argv[0], "e2fsck") && !strcmp(w->argv[1], "-f") && !strcmp(w->argv[2], "-p") &&
           !strcmp(w->argv[3], "/proc/self/fd/3");
}

static bool may_command(const struct words *w)
{
    return w->argc > 0;
}

/* argv, an empty word, environment. An argument may be empty, a variable is not: it is the last empty word that ends argv. */
static bool words_split(const struct request *r, struct words *w)
{
    char *at, *end = r->words + r->n_words, *split = NULL;

    for (at = r->words; at < end; at += strlen(at) + 1)
        if (!*at)
            split = at;
    for (at = r->words; split && at < split && w->argc < ARGS_MAX; at += strlen(at) + 1)
        w->argv[w->argc++] = at;
    if (!split || at++ != split)
        return false;
    for (; at < end && w->envc < ENV_MAX; at += strlen(at) + 1)
        w->env[w->envc++] = at;
    return at == end;
}

static int check(const struct request *r, struct words *w, struct stat *at, struct vm_err *e)
{
    static bool (*const may[])(const struct words *) = {
        [STARTER_BUILD] = may_build, [STARTER_UNPACK] = may_unpack, [STARTER_CHECK] = may_check,
        [STARTER_COMMAND] = may_command};
    bool disk = r->ask.verb == STARTER_CHECK, alone = r->ask.verb == STARTER_COMMAND;

    if (r->n_fds != (alone ? FD_AT : FDS) || !words_split(r, w) || !may[r->ask.verb](w))
        return vm_fail(e, VM_E_DENIED, "vms-starter runs no such program");
    if (alone)
        return 0;
    if (fstat(r->fds[FD_AT], at) < 0 || (disk ? !S_ISREG(at->st_mode) || !at->st_uid : !S_ISDIR(at->st_mode)))
        return vm_fail(e, VM_E_DENIED, disk ? "only disks of guests are checked" : "a program of images works in a directory");
    return 0;
}

/* ---- in the child ---- */

/* It reads an enemy's bytes: with no more rights than the VMM had that wrote them, and less. */
static int become_checker(uid_t uid)
{
    struct rlimit none = {0, 0}, memory = {CHECK_MEMORY_MAX, CHECK_MEMORY_MAX};

    return unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
                   setrlimit(RLIMIT_AS, &memory) < 0 || syscall(SYS_setgroups, 0, NULL) < 0 ||
                   syscall(SYS_setresgid, uid, uid, uid) < 0 || syscall(SYS_setresuid, uid, uid, uid) < 0 ||
                   prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0
               ? -1
               : 0;
}

static int prepare(const struct request *r, const struct stat *at)
{
    switch (r->ask.verb) {
    case STARTER_BUILD:
        umask(022); /* what it makes is for all users of a guest */
        return fchdir(r->fds[FD_AT]);
    case STARTER_UNPACK:
        return fchdir(r->fds[FD_AT]);
    case STARTER_CHECK:
        return become_checker(at->st_uid);
    default:
        return 0;
    }
}

struct report { int error; bool at_exec; };

static __attribute__((noreturn)) void program_main(const struct request *r, const struct words *w, const struct stat *at, int report,
                                           pid_t parent)
{
    struct report why = {0};
    bool checks = r->ask.verb == STARTER_CHECK;

    if (setsid() >= 0 && dup2(r->fds[FD_IN], 0) >= 0 && dup2(r->fds[FD_OUT], 1) >= 0 && dup2(r->fds[FD_OUT], 2) >= 0 &&
        prepare(r, at) == 0 &&
        /* After a change of uid, which clears it. The parent may have died before it was set. */
        prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && getppid() == parent && close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) == 0 &&
        (report = fcntl(report, F_DUPFD_CLOEXEC, STARTER_DISK_FD + 1)) >= 0 &&
        (!checks || (dup2(r->fds[FD_AT], STARTER_DISK_FD) >= 0 && fcntl(STARTER_DISK_FD, F_SETFD, 0) == 0))) {
        execvpe(w->argv[0], w->argv, w->env);
        why.at_exec = true;
    }
    why.error = errno ? errno : ESRCH;
    (void)!write(report, &why, sizeof why);
    _exit(127);
}

/* ---- in the request's process ---- */

/* Not reaped as long as somebody may signal it by its pid or session. */
static void follow(const struct request *r, pid_t pid, int pidfd)
{
    struct pollfd p[] = {{.fd = r->conn, .events = POLLIN}, {.fd = pidfd, .events = POLLIN}};
    siginfo_t end;
    int status;

    while (poll(p, 2, -1) < 0 || (!p[0].revents && !p[1].revents))
        ;
    if (!p[1].revents) {
        kill(-pid, SIGKILL); /* its own session; what is in others has unshare, or dies with it */
        waitpid(pid, NULL, 0);
        return;
    }
    if (waitid(P_PIDFD, (id_t)pidfd, &end, WEXITED | WNOWAIT) < 0)
        return;
    status = end.si_code == CLD_EXITED ? (end.si_status & 0xff) << 8 : end.si_status | (end.si_code == CLD_DUMPED ? 0x80 : 0);
    starter_tell(r->conn, (struct starter_told){.pid = pid, .status = status});
    while (poll(p, 1, -1) < 0)
        ;
    waitpid(pid, NULL, 0);
}

int starter_run(const struct request *r, struct vm_err *e)
{
    static struct words w;
    struct report why = {0};
    struct stat at;
    pid_t pid, parent = getpid();
    int pair[2], pidfd;

    if (check(r, &w, &at, e) < 0)
        return -1;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "make a pipe");
    if ((pid = fork()) < 0)
        return vm_fail_sys(e, "fork for '%s'", w.argv[0]);
    if (pid == 0)
        program_main(r, &w, &at, pair[1], parent);
    close(pair[1]);
    for (size_t i = 0; i < r->n_fds; i++)
        close(r->fds[i]); /* or its output would never end */
    pidfd = pidfd_open(pid, 0);
    if (pidfd < 0 || read(pair[0], &why, sizeof why) != 0) {
        if (why.error)
            errno = why.error;
        vm_fail_sys(e, why.at_exec ? "run '%s'" : "prepare to run '%s'", w.argv[0]);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        return -1;
    }
    starter_tell(r->conn, (struct starter_told){.pid = pid});
    follow(r, pid, pidfd);
    return 0;
}
