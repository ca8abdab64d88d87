#include <vmsd/child.h>

#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>
#include <vmsd/path.h>

#define CHILD_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
    OUTPUT_MAX = 64 << 10,
    PIPE_BYTES = 64 << 10, /* what a pipe holds */
    CHUNK = 16 << 10,
    GRACE_MS = 2000,  /* from SIGTERM to SIGKILL */
    STUCK_MS = 10000, /* from SIGKILL to giving up */
    STARTER_MS = 10000, /* for vms-starter to answer */
    KILL_ROUNDS = 16, /* against those that fork while they are being killed */
};

/* What a child that never came to exec tells before it ends. */
struct report {
    enum { AT_SETUP, AT_PREPARE, AT_EXEC } at;
    int error;
};

struct child {
    const struct child_plan *plan;
    char program[PATH_MAX];
    int in, out, report; /* our ends, and stdin of the child */
    int starter;         /* the connection that tells how it ended, if it is not ours; else -1 */
    int pidfd;
    pid_t pid;
    struct text kept;
    size_t dropped;
};

static void child_done(struct child c)
{
    fd_drop(c.in);
    fd_drop(c.out);
    fd_drop(c.report);
    fd_drop(c.pidfd);
    fd_drop(c.starter);
    if (c.plan->secret && c.kept.s)
        explicit_bzero(c.kept.s, c.kept.cap);
    text_done(c.kept);
}
OWN_DEFINE(child, struct child, child_done)

static int find_program(const char *name, char out[static PATH_MAX], struct vm_err *e)
{
    if (strchr(name, '/')) {
        if (snprintf(out, PATH_MAX, "%s", name) >= PATH_MAX)
            return vm_fail(e, VM_E_INVALID, "program path is longer than %d bytes", PATH_MAX);
        return 0;
    }
    for (const char *dir = CHILD_PATH; *dir;) {
        int n = (int)strcspn(dir, ":");
        if (snprintf(out, PATH_MAX, "%.*s/%s", n, dir, name) < PATH_MAX && access(out, X_OK) == 0)
            return 0;
        dir += n + (dir[n] == ':');
    }
    return vm_fail(e, VM_E_BACKEND, "program '%s' is not in %s; is its package installed?", name, CHILD_PATH);
}

bool child_there(const char *program)
{
    char path[PATH_MAX];

    return find_program(program, path, NULL) == 0;
}

/* Input waits in a memfd, so nobody has to feed it while the child runs. */
static int open_input(const struct child_plan *plan, struct vm_err *e)
{
    if (plan->starter && plan->starter->in >= 0) {
        int copy = fcntl(plan->starter->in, F_DUPFD_CLOEXEC, 3);
        return copy < 0 ? vm_fail_sys(e, "copy a descriptor") : copy;
    }
    if (!plan->input)
        return path_open_host("/dev/null", O_RDONLY, e);
    OWN(fd) int fd = memfd_create("stdin", MFD_CLOEXEC);
    if (fd < 0)
        return vm_fail_sys(e, "make a memory file for the input");
    if (path_write_all(fd, plan->input, plan->n_input, e) < 0)
        return -1;
    if (lseek(fd, 0, SEEK_SET) < 0)
        return vm_fail_sys(e, "rewind the input");
    return take_fd(&fd);
}

/* ---- in the child: async-signal-safe calls only ---- */

static _Noreturn void child_give_up(int report, int at, int error)
{
    (void)!write(report, &(struct report){.at = at, .error = error}, sizeof(struct report));
    _exit(127);
}

static void child_main(const struct child *c, char *const *env, int out, int report, pid_t parent)
{
    const struct child_plan *plan = c->plan;
    struct sigaction by_default = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &by_default, NULL); /* fails for SIGKILL, SIGSTOP and libc's own */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);

    if (setsid() < 0 || dup2(c->in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        close_range(3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
        child_give_up(report, AT_SETUP, errno);
    int error = plan->prepare ? plan->prepare(plan->prepare_arg) : 0;
    if (error)
        child_give_up(report, AT_PREPARE, error);
    /* After prepare: a change of uid clears it. The parent may have died before it was set. */
    if (!plan->survive && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
        child_give_up(report, AT_SETUP, errno);
    execve(c->program, plan->argv, env);
    child_give_up(report, AT_EXEC, errno);
}

/* ---- in the parent ---- */

static int child_fork(struct child *c, char *const *env, int out, struct vm_err *e)
{
    OWN(fd) int report = -1;
    int pair[2];
    pid_t parent = getpid();
    sigset_t all, before;

    if (pipe2(pair, O_CLOEXEC | O_NONBLOCK) < 0)
        return vm_fail_sys(e, "make a pipe");
    c->report = pair[0];
    report = pair[1];
    /* No handler of ours may run in the child before it has reset them. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    c->pid = fork();
    if (c->pid == 0)
        child_main(c, env, out, report, parent);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return c->pid < 0 ? vm_fail_sys(e, "fork for '%s'", c->program) : 0;
}

static int child_ask(struct child *c, char *const *env, int out, struct vm_err *e)
{
    OWN(text) struct text words = {0};
    int fds[] = {c->in, out, c->plan->starter->at};
    struct starter_told told;

    for (char *const *v = c->plan->argv; *v; v++)
        text_add_bytes(&words, *v, strlen(*v) + 1);
    text_add_bytes(&words, "", 1);
    for (char *const *v = env; *v; v++)
        text_add_bytes(&words, *v, strlen(*v) + 1);
    if (words.failed)
        return vm_no_memory(e);
    struct starter_request r = {.ask.verb = c->plan->starter->verb, .words = words.s, .n_words = words.len, .fds = fds,
                                .n_fds = c->plan->starter->at < 0 ? 2 : 3};
    if (starter_ask(&r, deadline_in(STARTER_MS), &told, &c->starter, e) < 0)
        return -1;
    c->pid = told.pid;
    return 0;
}

static int child_start(struct child *c, struct vm_err *e)
{
    static char *const usual[] = {"PATH=" CHILD_PATH, "LC_ALL=C.UTF-8", NULL};
    char *const *env = c->plan->env ? c->plan->env : usual;
    OWN(fd) int out = -1;
    int pair[2];

    if (find_program(c->plan->argv[0], c->program, e) < 0 || (c->in = open_input(c->plan, e)) < 0)
        return -1;
    if (pipe2(pair, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "make a pipe");
    c->out = pair[0];
    out = pair[1];
    fcntl(c->out, F_SETFL, O_NONBLOCK); /* ours alone: the other end stays as programs expect it */
    if ((c->plan->starter ? child_ask(c, env, out, e) : child_fork(c, env, out, e)) < 0)
        return -1;
    c->pidfd = pidfd_open(c->pid, 0);
    if (c->pidfd < 0) {
        vm_fail_sys(e, "open process of '%s'", c->program);
        kill(c->pid, SIGKILL);
        if (!c->plan->starter)
            waitpid(c->pid, NULL, 0);
        return -1;
    }
    return 0;
}

static size_t output_max(const struct child *c)
{
    return c->plan->output_max ? c->plan->output_max : OUTPUT_MAX;
}

/* A buffer that grew would leave what it held behind. */
static int child_room(struct child *c, struct vm_err *e)
{
    if (!c->plan->secret)
        return 0;
    c->kept.cap = output_max(c) + 1;
    return (c->kept.s = malloc(c->kept.cap)) ? 0 : vm_no_memory(e);
}

static void child_keep(struct child *c, const char *p, size_t n)
{
    size_t room = output_max(c) - c->kept.len, fits = room < n ? room : n;

    if (c->plan->on_output) {
        c->plan->on_output(p, n, c->plan->arg);
        return;
    }
    text_add_bytes(&c->kept, p, fits);
    c->dropped += n - fits;
}

/* False: nothing there, now or ever (then the pipe is closed). */
static bool child_read(struct child *c, size_t *n)
{
    char chunk[CHUNK];
    ssize_t got = read(c->out, chunk, sizeof chunk);

    if (got > 0) {
        child_keep(c, chunk, (size_t)got);
        if (c->plan->secret)
            explicit_bzero(chunk, (size_t)got);
        *n += (size_t)got;
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR))
        c->out = fd_drop(c->out);
    return false;
}

/* 1: has ended; 0: the time is over first. Output is taken all the while, and at the end what the pipe still holds;
 * not more, as there may be descendants that go on writing. */
static int child_wait(struct child *c, struct deadline d, struct vm_err *e)
{
    for (;;) {
        struct pollfd fds[] = {{.fd = c->pidfd, .events = POLLIN}, {.fd = c->out, .events = POLLIN}};
        int left = deadline_poll_ms(d);
        size_t n = 0;

        if (poll(fds, 2, left) < 0 && errno != EINTR)
            return vm_fail_sys(e, "wait for '%s'", c->program);
        if (fds[0].revents) {
            while (c->out >= 0 && n < PIPE_BYTES && child_read(c, &n))
                ;
            return 1;
        }
        if (fds[1].revents)
            child_read(c, &n);
        if (left == 0)
            return 0;
    }
}

/* What we did not start, vms-starter reaps, when the connection ends. */
static int child_reap(struct child *c, int *status, struct vm_err *e)
{
    struct starter_told told;

    if (c->starter >= 0) {
        if (starter_hear(c->starter, deadline_in(STARTER_MS), &told, e) < 0)
            return vm_context(e, "how '%s' ended", c->program);
        *status = told.status;
        return 0;
    }
    while (waitpid(c->pid, status, 0) < 0 && errno == EINTR)
        ;
    return 0;
}

/* How many were there. The child by itself too: it may be on its way to setsid yet. */
static unsigned child_signal(struct child *c, int sig)
{
    pidfd_send_signal(c->pidfd, sig, NULL, 0);
    return proc_signal_session(c->pid, sig);
}

/* Ends the whole session; the child is not reaped before, so the session's number stays its. */
static int child_kill(struct child *c, struct vm_err *e)
{
    child_signal(c, SIGTERM);
    int rc = child_wait(c, deadline_in(GRACE_MS), e);
    for (int i = 0; i < KILL_ROUNDS && child_signal(c, SIGKILL) > 0; i++)
        ;
    if (rc == 0)
        rc = child_wait(c, deadline_in(STUCK_MS), e);
    if (rc == 0)
        return vm_fail(e, VM_E_TIMEOUT, "'%s' can't be killed: it is stuck in the kernel", c->program);
    return rc < 0 ? -1 : 0;
}

static int check_report(const struct child *c, struct vm_err *e)
{
    struct report r;

    if (c->report < 0 || read(c->report, &r, sizeof r) != sizeof r)
        return 0;
    errno = r.error;
    return vm_fail_sys(e, r.at == AT_EXEC ? "run '%s'" : "prepare to run '%s'", c->program);
}

int child_run(const struct child_plan *plan, struct deadline d, struct child_end *end, struct vm_err *e)
{
    OWN(child) struct child c = {.plan = plan, .in = -1, .out = -1, .report = -1, .pidfd = -1, .starter = -1};
    int status = 0;

    if (deadline_left(d) == 0)
        return vm_fail(e, VM_E_TIMEOUT, "what came before '%s' took too long: no time is left for it", plan->argv[0]);
    if (child_room(&c, e) < 0 || child_start(&c, e) < 0)
        return -1;
    int rc = child_wait(&c, d, e);
    if (rc <= 0) {
        if (child_kill(&c, e) < 0)
            return -1;
        child_reap(&c, &status, NULL);
        return rc < 0 ? -1 : vm_fail(e, VM_E_TIMEOUT, "'%s' took too long and was killed", c.program);
    }
    if (child_reap(&c, &status, e) < 0 || check_report(&c, e) < 0)
        return -1;
    if (c.kept.failed)
        return vm_no_memory(e);
    size_t n = c.kept.len;
    char *output = text_take(&c.kept);
    if (!output)
        return vm_no_memory(e);
    *end = (struct child_end){.status = status, .output = output, .n = n, .dropped = c.dropped};
    return 0;
}

/* The last line with something in it, as a person can see it without harm. */
static void add_last_line(struct text *t, const char *s, size_t n)
{
    while (n && strchr(" \t\r\n", s[n - 1]))
        n--;
    const char *before = n ? memrchr(s, '\n', n) : NULL;
    if (before) {
        n -= (size_t)(before + 1 - s);
        s = before + 1;
    }
    text_add_visible(t, s, n, NULL);
}

int child_must(char *const *argv, struct deadline d, char **output, struct vm_err *e)
{
    OWN(str) char *all = NULL;
    OWN(text) struct text line = {0};
    struct child_end end;

    if (child_run(&(struct child_plan){.argv = argv}, d, &end, e) < 0)
        return -1;
    all = end.output;
    if (!WIFEXITED(end.status) || WEXITSTATUS(end.status) != 0) {
        add_last_line(&line, all, end.n);
        bool exited = WIFEXITED(end.status);
        return vm_fail(e, VM_E_BACKEND, "%s: %s %d%s%.250s", argv[0], exited ? "exit status" : "killed by signal",
                       exited ? WEXITSTATUS(end.status) : WTERMSIG(end.status), line.len ? ": " : "",
                       line.len ? line.s : "");
    }
    if (output)
        *output = TAKE(all);
    return 0;
}
