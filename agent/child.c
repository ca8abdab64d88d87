#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

static const struct op ops[] = {
    { "exec",     false, op_exec },
    { "put",      true,  op_put },
    { "get",      false, op_get },
    { "mkdir",    false, op_mkdir },
    { "remove",   false, op_remove },
    { "usage",    false, op_usage },
    { "units",    false, op_units },
    { "setup",    false, op_setup },
    { "grow",     false, op_grow },
    { "poweroff", false, op_poweroff },
    { "reboot",   false, op_reboot },
    { "ping",     false, op_ping },
};

const struct op *op_find(const char *name)
{
    for (size_t i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    }
    return NULL;
}

/* ---- in the child ---- */

static struct { size_t n; char words[FRAME_TEXT_MAX - 64]; } told;

void op_tell(const char *key, const char *fmt, ...)
{
    char value[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(value, sizeof(value), fmt, ap);
    va_end(ap);
    pairs_add(told.words, sizeof(told.words), &told.n, key, value);
}

bool op_input_whole(void)
{
    char byte;
    return read(REPORT_FD, &byte, 1) == 1;
}

/* An agent that is killed can't clean up; the kernel then does, at least with the leader of each group. Whether it was
 * killed before, only its socket tells: getppid is 0 for a parent in another pid namespace. */
void op_die_with_agent(void)
{
    struct pollfd p = { .fd = REPORT_FD };
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    poll(&p, 1, 0);
    if (p.revents & POLLHUP)
        _exit(1);
}

int op_ping(const struct request *rq, struct vm_err *e)
{
    (void)rq, (void)e;
    return 0;
}

/* vmsd protects itself from the kernel's memory killer; what it runs for a guest has no such claim. */
static void reset_oom_score(void)
{
    OWN(fd) int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "0", 1);
}

static void reset_signals(void)
{
    sigset_t none;
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static _Noreturn void child_main(const struct op *op, const struct request *rq, const int fds[4], bool pty)
{
    struct vm_err e = { 0 };

    setsid();
    reset_signals();
    for (int i = 0; i <= REPORT_FD; i++)
        dup2(fds[i], i);
    if (pty)
        ioctl(0, TIOCSCTTY, 0);
    fcntl(REPORT_FD, F_SETFD, FD_CLOEXEC);
    syscall(SYS_close_range, REPORT_FD + 1, ~0u, 0); /* without it, ops hold other streams' pipes open; no harm */
    op_die_with_agent();
    reset_oom_score();
    int rc = op->run(rq, &e);
    if (rc < 0)
        op_tell("error", "%s", e.text);
    send(REPORT_FD, told.words, told.n, MSG_NOSIGNAL);
    _exit(rc < 0);
}

/* ---- in the agent ---- */

static int add_flags(int fd, int flags)
{
    return fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | flags);
}

static int pipe_pair(int *agents, int *childs, bool agent_writes, struct vm_err *e)
{
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "make a pipe");
    *agents = p[agent_writes];
    *childs = p[!agent_writes];
    add_flags(*agents, O_NONBLOCK);
    return 0;
}

/* TIOCGPTPEER opens the slave without a path, which a program in the guest could have replaced. */
static int open_terminal(const char *size, struct child *c, int fds[4], struct vm_err *e)
{
    unsigned rows, cols;
    int locked = 0;

    if (sscanf(size, "%ux%u", &rows, &cols) != 2 || rows > 9999 || cols > 9999)
        return vm_fail(e, VM_E_INVALID, "pty=%.40s is not ROWSxCOLS", size);
    struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
    c->out = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
    if (c->out < 0)
        return vm_fail_sys(e, "open /dev/ptmx");
    if ((c->in = fcntl(c->out, F_DUPFD_CLOEXEC, 0)) < 0 || ioctl(c->out, TIOCSPTLCK, &locked) < 0 ||
        (fds[0] = ioctl(c->out, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC)) < 0)
        return vm_fail_sys(e, "make a terminal");
    ioctl(c->out, TIOCSWINSZ, &w);
    if ((fds[1] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0)) < 0 || (fds[2] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0)) < 0)
        return vm_fail_sys(e, "make a terminal");
    c->pty = true;
    return 0;
}

static int open_pipes(const struct request *rq, struct child *c, int fds[4], struct vm_err *e)
{
    if (c->input || request_get(rq, "stdin")) {
        if (pipe_pair(&c->in, &fds[0], true, e) < 0)
            return -1;
    } else if ((fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0) {
        return vm_fail_sys(e, "open /dev/null");
    }
    if (pipe_pair(&c->out, &fds[1], false, e) < 0)
        return -1;
    if (!request_get(rq, "merge"))
        return pipe_pair(&c->err, &fds[2], false, e);
    if ((fds[2] = fcntl(fds[1], F_DUPFD_CLOEXEC, 0)) < 0)
        return vm_fail_sys(e, "make a pipe");
    return 0;
}

/* Not a pipe: the child's end also hears that the input is whole (child_end_input). */
static int open_report(struct child *c, int fds[4], struct vm_err *e)
{
    int p[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p) < 0)
        return vm_fail_sys(e, "make a pair of sockets");
    c->report = p[0];
    fds[REPORT_FD] = p[1];
    add_flags(c->report, O_NONBLOCK);
    return 0;
}

static int child_fork(const struct op *op, const struct request *rq, const int fds[4], struct child *c,
                      struct vm_err *e)
{
    c->pid = fork();
    if (c->pid == 0)
        child_main(op, rq, fds, c->pty);
    if (c->pid < 0)
        return vm_fail_sys(e, "start a process");
    c->pidfd = (int)syscall(SYS_pidfd_open, c->pid, 0);
    if (c->pidfd < 0) {
        vm_fail_sys(e, "follow a process (Linux 5.3 is needed)");
        kill(c->pid, SIGKILL);
        waitpid(c->pid, NULL, 0);
        return -1;
    }
    fcntl(c->pidfd, F_SETFD, FD_CLOEXEC);
    return 0;
}

int child_start(const struct op *op, const struct request *rq, struct child *out, struct vm_err *e)
{
    struct child c = { .input = op->input, .pidfd = -1, .in = -1, .out = -1, .err = -1, .report = -1 };
    int fds[4] = { -1, -1, -1, -1 };
    const char *pty = request_get(rq, "pty");

    int rc = pty ? open_terminal(pty, &c, fds, e) : open_pipes(rq, &c, fds, e);
    if (rc == 0)
        rc = open_report(&c, fds, e);
    if (rc == 0)
        rc = child_fork(op, rq, fds, &c, e);
    for (int i = 0; i <= REPORT_FD; i++)
        fd_drop(fds[i]);
    if (rc == 0)
        *out = c;
    else
        child_close(&c);
    return rc;
}

void child_end_input(struct child *c)
{
    if (c->pty)
        (void)!write(c->in, "\4", 1); /* the end of input, as a terminal spells it */
    if (c->input)
        send(c->report, "", 1, MSG_NOSIGNAL);
    c->in = fd_drop(c->in);
}

void child_hang_up(struct child *c)
{
    c->in = fd_drop(c->in);
    c->out = fd_drop(c->out);
}

void child_close(struct child *c)
{
    child_hang_up(c);
    c->err = fd_drop(c->err);
    c->report = fd_drop(c->report);
    c->pidfd = fd_drop(c->pidfd);
}
