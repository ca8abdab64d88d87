/* vms-keeper: keeps one container from its mounts to its end. Started by vmsd, outlives it, needs nothing of it.
 *
 * Everything of a guest hangs on this process: its mounts are in the keeper's mount namespace, and nspawn is init of a
 * pid namespace and dies with the keeper (PDEATHSIG). So SIGKILL of either leaves no process, mount or loop device.
 * SIGTERM asks the guest to power off; a second one, or SIGQUIT, kills it. It takes no memory after its start. */
#include "keeper.h"
#include "keeper_log.h"
#include "keeper_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { NSPAWN_EXIT_REBOOT = 133, CHUNK = 16 << 10, DRAIN_MAX = 64 << 10 };
enum watch { W_SIGNAL, W_NOTIFY, W_CONSOLE /* from here on only while the log has room */, W_STDERR, W_COUNT };

struct keeper {
    struct plan plan;
    struct state state;
    int proc;                  /* the host's /proc; nspawn's pid namespace gets one of its own over it */
    int leader;                /* pidfd */
    unsigned terms;            /* SIGTERMs so far */
    struct pollfd watch[W_COUNT];
    struct console_log log;
    struct log_tail console, err;
};

static struct keeper keeper = {.proc = -1, .leader = -1};

static void state_put(void)
{
    state_write(KEEPER_FD_RUN, &keeper.state);
}

void keeper_fail(const char *fmt, ...)
{
    char line[sizeof keeper.state.text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (keeper.state.nspawn.pid) {
        kill(keeper.state.nspawn.pid, SIGKILL);
        waitpid(keeper.state.nspawn.pid, NULL, 0);
    }
    state_text(keeper.state.text, sizeof keeper.state.text, line, strlen(line));
    keeper.state.phase = PHASE_ENDED;
    keeper.state.end = END_FAILED;
    state_put();
    _exit(1);
}

static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static const char *value_of(const char *line, const char *key)
{
    size_t n = strlen(key);

    return !strncmp(line, key, n) && line[n] == '=' ? line + n + 1 : NULL;
}

static bool plan_line(struct plan *p, char *line)
{
    const char *v;

    if ((v = value_of(line, "uid_base")))
        p->uid_base = (uint32_t)strtoul(v, NULL, 10);
    else if ((v = value_of(line, "read_only")))
        p->read_only = *v == '1';
    else if ((v = value_of(line, "into")))
        p->into = v;
    else if ((v = value_of(line, "cgroup")) && p->n_cgroups < KEEPER_CGROUPS_MAX)
        p->cgroups[p->n_cgroups++] = v;
    else if ((v = value_of(line, "mount")) && p->n_mounts < KEEPER_MOUNTS_MAX) {
        const char *flags = strchr(v, ',');

        p->mounts[p->n_mounts++] = (struct plan_mount){
            .disk = *v == 'd', .read_only = flags && strchr(flags, 'r'), .mapped = flags && strchr(flags, 'm')};
    } else if ((v = value_of(line, "target")) && p->n_mounts)
        p->mounts[p->n_mounts - 1].target = v;
    else if ((v = value_of(line, "arg")) && p->n_args < KEEPER_ARGS_MAX)
        p->args[p->n_args++] = (char *)v;
    else
        return false;
    return true;
}

static void plan_read(struct plan *p)
{
    struct stat st;
    char *at, *end;

    if (fstat(KEEPER_FD_PLAN, &st) < 0 || st.st_size <= 0)
        keeper_fail("vms-keeper is started by vmsd, with a plan");
    /* Private and writable, so that its words can be handed to exec as they stand. */
    at = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, KEEPER_FD_PLAN, 0);
    if (at == MAP_FAILED)
        keeper_fail("read the plan: %s", strerror(errno));
    end = at + st.st_size;
    if (end[-1])
        keeper_fail("the plan is cut off");
    for (; at < end; at += strlen(at) + 1)
        if (!plan_line(p, at))
            keeper_fail("the plan has '%.60s', which this vms-keeper does not know", at);
    if (!p->uid_base || !p->n_args)
        keeper_fail("the plan is not whole");
    for (size_t i = 0; i < p->n_mounts; i++)
        if (!p->mounts[i].target)
            keeper_fail("the plan has a mount without target");
    close(KEEPER_FD_PLAN);
}

/* Where it is not allowed, it stays as it is. */
static void oom_score_put(const char *score)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

    if (fd < 0)
        return;
    if (write(fd, score, strlen(score)) < 0)
        errno = 0;
    close(fd);
}

static void keeper_begin(void)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT); /* two SIGTERM in a row may come as one */
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    umask(022);
    close_range(KEEPER_FD_PLAN, ~0U, CLOSE_RANGE_CLOEXEC);
    keeper.state.keeper.pid = getpid();
    if ((keeper.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        keeper_fail("open /proc: %s", strerror(errno));
    keeper.state.keeper.start = state_start_of(keeper.proc, getpid());
    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, keeper.state.boot, 36) != 36)
        keeper_fail("read the boot id: %s", strerror(errno));
    close(fd);
    oom_score_put("-900"); /* short of memory, the guest goes before the process that would tell of it */
    state_put();
    keeper.watch[W_SIGNAL] = (struct pollfd){.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), .events = POLLIN};
    if (keeper.watch[W_SIGNAL].fd < 0)
        keeper_fail("signalfd: %s", strerror(errno));
}

static void notify_listen(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = KEEPER_NOTIFY};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) < 0)
        keeper_fail("listen for nspawn: %s", strerror(errno));
    keeper.watch[W_NOTIFY] = (struct pollfd){.fd = fd, .events = POLLIN};
}

__attribute__((noreturn)) static void child_fail(const char *what)
{
    dprintf(STDERR_FILENO, "%s: %s\n", what, strerror(errno));
    _exit(1);
}

/* By tasks, of which a process without threads has but one: cgroup.procs would have every fork on the host wait for the
 * move, and the move for all CPUs, 10 ms and more. */
static void cgroups_join(void)
{
    for (size_t i = 0; i < keeper.plan.n_cgroups; i++) {
        char path[512];
        int fd;

        snprintf(path, sizeof path, "%s/tasks", keeper.plan.cgroups[i]);
        if ((fd = open(path, O_WRONLY | O_CLOEXEC)) < 0 || write(fd, "0", 1) != 1)
            child_fail(path);
        close(fd);
    }
}

/* In the child, init of the new pid namespace: becomes nspawn when the mounts are ready, which a byte on stdin says. */
__attribute__((noreturn)) static void nspawn_exec(int go, int out, int err)
{
    static char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "NOTIFY_SOCKET=" KEEPER_NOTIFY,
                                "SYSTEMD_LOG_TARGET=console", NULL};
    sigset_t none;
    char byte;
    int null;

    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || dup2(go, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
        dup2(err, STDERR_FILENO) < 0)
        _exit(1);
    close_range(3, ~0U, 0);
    setsid();
    oom_score_put("0"); /* which also bounds what the guest's root may set it to */
    cgroups_join();
    /* The end of the pipe: the keeper died, perhaps before that PDEATHSIG was in force. */
    if (read(STDIN_FILENO, &byte, 1) != 1)
        _exit(1);
    if ((null = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0 || dup2(null, STDIN_FILENO) < 0)
        child_fail("/dev/null");
    /* nspawn reads /proc/PID of its children, by the pids of this namespace. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        child_fail("mount /proc");
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    execve(keeper.plan.args[0], keeper.plan.args, env);
    child_fail(keeper.plan.args[0]);
}

/* fork, into a cgroup: a process that moves there later has every fork on the host wait for it, for 10 ms. */
static pid_t fork_into(const char *cgroup)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    pid_t pid;
    int fd = -1;

    if (cgroup) {
        if ((fd = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            keeper_fail("open %s: %s", cgroup, strerror(errno));
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)fd;
    }
    if ((pid = (pid_t)syscall(SYS_clone3, &args, sizeof args)) < 0)
        keeper_fail("fork: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return pid;
}

/* Forks nspawn-to-be before the mounts are made, so that it joins its cgroups meanwhile. */
static int nspawn_start(void)
{
    int go[2], out[2], err[2];
    pid_t pid;

    if (pipe2(go, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0 || unshare(CLONE_NEWPID) < 0)
        keeper_fail("make a pid namespace: %s", strerror(errno));
    if ((pid = fork_into(keeper.plan.into)) == 0)
        nspawn_exec(go[0], out[1], err[1]);
    close(go[0]);
    close(out[1]);
    close(err[1]);
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    keeper.watch[W_CONSOLE] = (struct pollfd){.fd = out[0], .events = POLLIN};
    keeper.watch[W_STDERR] = (struct pollfd){.fd = err[0], .events = POLLIN};
    keeper.state.nspawn = (struct state_proc){pid, state_start_of(keeper.proc, pid)};
    state_put();
    return go[1];
}

/* nspawn tells its leader's pid as its own namespace counts. The host's is found among nspawn's children. */
static pid_t leader_find(pid_t inner)
{
    char path[64], list[256], *at = list;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "%d/task/%d/children", keeper.state.nspawn.pid, keeper.state.nspawn.pid);
    if ((fd = openat(keeper.proc, path, O_RDONLY | O_CLOEXEC)) < 0)
        keeper_fail("read /proc/PID/task/PID/children: %s", strerror(errno));
    n = read(fd, list, sizeof list - 1);
    close(fd);
    list[n > 0 ? n : 0] = '\0';
    for (char *word; (word = strsep(&at, " "));) {
        char status[4096], *ids;
        int outer = (int)strtol(word, NULL, 10), host, ns;

        snprintf(path, sizeof path, "%d/status", outer);
        if (outer <= 0 || (fd = openat(keeper.proc, path, O_RDONLY | O_CLOEXEC)) < 0)
            continue;
        n = read(fd, status, sizeof status - 1);
        close(fd);
        status[n > 0 ? n : 0] = '\0';
        ids = strstr(status, "\nNSpid:");
        if (ids && sscanf(ids, "\nNSpid: %d %d", &host, &ns) == 2 && ns == inner)
            return outer;
    }
    return 0;
}

static void leader_started(pid_t inner)
{
    pid_t pid = leader_find(inner);

    if (pid <= 0 || (keeper.leader = pidfd_open(pid, 0)) < 0)
        return; /* gone already: nspawn's end says how */
    keeper.state.leader = (struct state_proc){pid, state_start_of(keeper.proc, pid)};
    keeper.state.phase = PHASE_STARTED;
    state_put();
}

static void notify_line(const char *line)
{
    const char *v;

    if ((v = value_of(line, "X_NSPAWN_LEADER_PID")) && keeper.leader < 0)
        leader_started((int)strtol(v, NULL, 10));
    else if (!strcmp(line, "READY=1") && keeper.state.phase == PHASE_STARTED) {
        keeper.state.phase = PHASE_BOOTED;
        state_put();
        /* Asked to stop before its init listened: that signal was lost. */
        if (keeper.terms)
            pidfd_send_signal(keeper.leader, SIGRTMIN + 3, NULL, 0);
    } else if ((v = value_of(line, "ERRNO")))
        keeper.state.status = (int)strtol(v, NULL, 10);
}

static void notify_read(void)
{
    char text[4096], *rest = text, *line;
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(16 * sizeof(int))]; } control;
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(keeper.watch[W_NOTIFY].fd, &m, MSG_CMSG_CLOEXEC);
    pid_t from = 0;

    if (n < 0)
        return;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS)
            from = ((struct ucred *)CMSG_DATA(c))->pid;
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++)
                close(((int *)CMSG_DATA(c))[i]);
    }
    if (from != keeper.state.nspawn.pid)
        return;
    text[n] = '\0';
    while ((line = strsep(&rest, "\n")))
        notify_line(line);
}

/* Copies what is there, at most `room` bytes. False at the end of the stream. */
static bool pump(enum watch w, struct log_tail *tail, size_t room)
{
    static char chunk[CHUNK];
    ssize_t n = read(keeper.watch[w].fd, chunk, room < sizeof chunk ? room : sizeof chunk);

    if (n > 0) {
        console_put(&keeper.log, chunk, (size_t)n);
        tail_put(tail, chunk, (size_t)n);
        return true;
    }
    if (n == 0) {
        close(keeper.watch[w].fd);
        keeper.watch[w].fd = -1;
    }
    return false;
}

static void end_put(const struct log_tail *why, const char *otherwise)
{
    const struct log_line *line = tail_last(why);

    if (line->n)
        state_text(keeper.state.text, sizeof keeper.state.text, line->s, line->n);
    else
        snprintf(keeper.state.text, sizeof keeper.state.text, "%s", otherwise);
}

/* nspawn was init of its pid namespace: when it is reaped, every process of the guest is gone. */
static void keeper_end(int status)
{
    struct state *s = &keeper.state;
    bool started = s->phase == PHASE_STARTED || s->phase == PHASE_BOOTED;

    for (size_t n = 0; n < DRAIN_MAX && keeper.watch[W_CONSOLE].fd >= 0 && pump(W_CONSOLE, &keeper.console, CHUNK);)
        n += CHUNK;
    for (size_t n = 0; n < DRAIN_MAX && keeper.watch[W_STDERR].fd >= 0 && pump(W_STDERR, &keeper.err, CHUNK);)
        n += CHUNK;
    s->phase = PHASE_ENDED;
    s->status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    if (WIFSIGNALED(status)) {
        s->end = END_KILLED;
        snprintf(s->text, sizeof s->text, "killed by signal %d", WTERMSIG(status));
    } else if (!started) {
        s->end = END_FAILED;
        end_put(&keeper.err, "systemd-nspawn ended without a word");
    } else if (s->status == 0 || s->status == NSPAWN_EXIT_REBOOT) {
        s->end = s->status ? END_REBOOT : END_POWEROFF;
    } else {
        s->end = END_CRASH;
        end_put(tail_last(&keeper.console)->n ? &keeper.console : &keeper.err, "it said nothing");
    }
    state_put();
    exit(0);
}

static void keeper_stop(bool hard)
{
    hard = hard || keeper.terms++ > 0 || keeper.state.phase < PHASE_STARTED;
    kill(keeper.state.nspawn.pid, hard ? SIGKILL : SIGTERM);
}

static void signals_read(void)
{
    struct signalfd_siginfo si;
    int status;

    while (read(keeper.watch[W_SIGNAL].fd, &si, sizeof si) == sizeof si)
        if (si.ssi_signo != SIGCHLD)
            keeper_stop(si.ssi_signo == SIGQUIT);
    if (waitpid(keeper.state.nspawn.pid, &status, WNOHANG) == keeper.state.nspawn.pid)
        keeper_end(status);
}

static void keeper_run(void)
{
    for (;;) {
        int wait_ms = -1;
        size_t room = console_room(&keeper.log, now_ms(), &wait_ms);

        /* A guest that writes faster than the log takes it waits for its console. */
        if (poll(keeper.watch, room ? W_COUNT : W_CONSOLE, wait_ms) < 0) {
            if (errno == EINTR)
                continue;
            keeper_fail("poll: %s", strerror(errno));
        }
        if (keeper.watch[W_NOTIFY].revents)
            notify_read();
        if (room && keeper.watch[W_CONSOLE].revents)
            pump(W_CONSOLE, &keeper.console, room);
        if (room && keeper.watch[W_STDERR].revents)
            pump(W_STDERR, &keeper.err, room);
        if (keeper.watch[W_SIGNAL].revents)
            signals_read();
    }
}

int main(void)
{
    struct sources sources;
    int go;

    keeper_begin();
    plan_read(&keeper.plan);
    mounts_enter(&keeper.plan, &sources);
    go = nspawn_start();
    mounts_make(&keeper.plan, &sources);
    notify_listen();
    console_open(&keeper.log, KEEPER_FD_LOG);
    if (write(go, "", 1) != 1)
        errno = 0; /* it has failed already; its end says how */
    close(go);
    keeper_run();
}
