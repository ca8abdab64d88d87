/* Whatever a host, or who poses as one, says to vms-agent: the session goes on or ends, and nothing that it started runs on.
 * There are no processes and no waiting: children are pipes, and the clock goes on when poll would wait. */
#include "frames.h"

#include <agent/agent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/own.h>

enum { NONCE = 7, FIRST_PID = 1000, CHILDREN = 4096 };
static const char token[] = "0123456789abcdef0123456789ABCDEF";

static struct { int fd; const uint8_t *p; size_t n; } host; /* the other end of the line, and what it will still say */
static int64_t clock_ms;

/* ---- children ---- */

enum { DIES_AT_ONCE, DIES_OF_TERM, DIES_OF_KILL, DIES_NEVER };
static struct { int alive /* eventfd that says it ended */, in, dies; bool running, reaped; } children[CHILDREN];
static size_t n_children;

static int never_run(const struct request *rq, struct vm_err *e)
{
    (void)rq, (void)e;
    abort();
}

const struct op *op_find(const char *name)
{
    static const struct op ops[] = { { "exec", false, never_run }, { "put", true, never_run } };
    for (size_t i = 0; i < ARRAY_LEN(ops); i++)
        if (strcmp(ops[i].name, name) == 0)
            return &ops[i];
    return NULL;
}

static void die(size_t i)
{
    if (children[i].running) {
        children[i].running = false;
        MUST(eventfd_write(children[i].alive, 1) == 0);
        close(children[i].alive);
        close(children[i].in);
    }
}

/* Its output is the request; how it ends says arg=. Of its input it reads nothing. */
int child_start(const struct op *op, const struct request *rq, struct child *out, struct vm_err *e)
{
    const char *how = request_get(rq, "arg");
    int in[2], pair[2], report[2];

    if (n_children == CHILDREN)
        return vm_fail(e, VM_E_SYSTEM, "no more processes");
    MUST(pipe2(in, O_CLOEXEC | O_NONBLOCK) == 0 && pipe2(pair, O_CLOEXEC | O_NONBLOCK) == 0);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, report) == 0);
    *out = (struct child){ .pid = FIRST_PID + (pid_t)n_children, .input = op->input, .in = in[1], .out = pair[0], .err = -1,
                           .report = report[0], .pidfd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    children[n_children].running = true;
    children[n_children].reaped = false;
    children[n_children].dies = how ? (uint8_t)*how % (DIES_NEVER + 1) : DIES_AT_ONCE;
    MUST((children[n_children].alive = dup(out->pidfd)) >= 0);
    children[n_children].in = in[0];
    (void)!write(pair[1], rq->p, rq->n);
    (void)!write(report[1], rq->p, rq->n);
    close(pair[1]);
    close(report[1]);
    n_children++;
    if (children[n_children - 1].dies == DIES_AT_ONCE)
        die(n_children - 1);
    return 0;
}

void child_end_input(struct child *c)
{
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

int fake_kill(pid_t pid, int sig);
int fake_kill(pid_t pid, int sig)
{
    size_t i = (size_t)((pid < 0 ? -pid : pid) - FIRST_PID);

    MUST(i < n_children && sig >= 0 && sig < NSIG);
    if (!children[i].running) {
        errno = ESRCH;
        return -1;
    }
    if ((sig == SIGTERM && children[i].dies == DIES_OF_TERM) || (sig == SIGKILL && children[i].dies == DIES_OF_KILL))
        die(i);
    return 0;
}

pid_t fake_waitpid(pid_t pid, int *status, int options);
pid_t fake_waitpid(pid_t pid, int *status, int options)
{
    size_t i = (size_t)(pid - FIRST_PID);

    MUST(i < n_children && options == WNOHANG && !children[i].reaped);
    if (children[i].running)
        return 0;
    children[i].reaped = true;
    *status = children[i].dies == DIES_AT_ONCE ? 3 << 8 : SIGKILL;
    return pid;
}

/* ---- time ---- */

int fake_clock_gettime(clockid_t id, struct timespec *t);
int fake_clock_gettime(clockid_t id, struct timespec *t)
{
    (void)id;
    *t = (struct timespec){ clock_ms / 1000, clock_ms % 1000 * 1000000 };
    return 0;
}

static void host_turn(void)
{
    char heard[65536];

    while (recv(host.fd, heard, sizeof heard, MSG_DONTWAIT) > 0)
        ;
    ssize_t said = send(host.fd, host.p, host.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (said > 0) {
        host.p += said;
        host.n -= (size_t)said;
    }
    if (host.n == 0)
        shutdown(host.fd, SHUT_WR);
}

int fake_poll(struct pollfd *fds, nfds_t n, int timeout);
int fake_poll(struct pollfd *fds, nfds_t n, int timeout)
{
    host_turn();
    int ready = poll(fds, n, 0);
    MUST(ready != 0 || timeout >= 0); /* or it waits for ever */
    clock_ms += ready == 0 ? timeout : 0;
    return ready;
}

/* ---- the host ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *wire;
    int ends[2];
    uint8_t how = next_byte(&data, &n);
    size_t len = frames_of(data, n, NONCE, &wire);

    signal(SIGPIPE, SIG_IGN);
    n_children = 0;
    clock_ms = 1; /* 0 is no time */
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
    host.fd = ends[1];
    host.p = wire;
    host.n = len;
    session_serve(ends[0], how & 1, how & 2 ? token : NULL);
    for (size_t i = 0; i < n_children; i++) {
        MUST(children[i].reaped || children[i].dies == DIES_NEVER);
        die(i);
    }
    close(ends[0]);
    close(ends[1]);
    return 0;
}
