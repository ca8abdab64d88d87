/* A vms-keeper of a container: systemd-nspawn is init of a pid namespace and dies with the keeper. */
#include "keeper_core.h"
#include "keeper_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NSPAWN_EXIT_REBOOT = 133 };

static struct {
    int leader;                    /* pidfd */
    struct source *console, *err;
} guest = {.leader = -1};

/* In the child, init of the new pid namespace: becomes nspawn when the mounts are ready. */
__attribute__((noreturn)) static void nspawn_exec(struct child_io io)
{
    static char *const env[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", ("NOTIFY_SOCKET=" KEEPER_NOTIFY),
                                "SYSTEMD_LOG_TARGET=console", NULL};
    int null;

    if (dup2(io.go, STDIN_FILENO) < 0)
        _exit(1);
    io.go = STDIN_FILENO;
    child_begin(&io);
    close_range(3, ~0U, 0);
    child_wait(&io);
    if ((null = open("/dev/null", O_RDONLY | O_CLOEXEC)) < 0 || dup2(null, STDIN_FILENO) < 0)
        child_fail("/dev/null");
    /* nspawn reads /proc/PID of its children, by the pids of this namespace. */
    if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        child_fail("mount /proc");
    child_exec(keeper.plan.args, env);
}

/* Forks nspawn-to-be before the mounts are made, so that it joins its cgroups meanwhile. */
static int nspawn_start(void)
{
    struct child_pipes pipes;
    pid_t pid;

    pipes_make(&pipes);
    if (unshare(CLONE_NEWPID) < 0)
        keeper_fail("make a pid namespace: %s", strerror(errno));
    if ((pid = fork_into(keeper.plan.into, 0)) == 0)
        nspawn_exec(pipes.child);
    pipes_forked(&pipes);
    guest.console = source_add(pipes.out, NULL);
    guest.err = source_add(pipes.err, NULL);
    keeper_note(&keeper.state.nspawn, pid);
    keeper_put();
    return pipes.go;
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
    uint64_t start;

    if (pid <= 0 || (guest.leader = pidfd_open(pid, 0)) < 0 || !(start = state_start_of(keeper.proc, pid)))
        return; /* gone already: nspawn's end says how */
    keeper.state.leader = (struct state_proc){pid, start};
    keeper.state.phase = PHASE_STARTED;
    keeper_put();
}

static void notify_line(const char *line)
{
    const char *v;

    if ((v = value_of(line, "X_NSPAWN_LEADER_PID")) && guest.leader < 0)
        leader_started((int)strtol(v, NULL, 10));
    else if (!strcmp(line, "READY=1") && keeper.state.phase == PHASE_STARTED) {
        keeper.state.phase = PHASE_BOOTED;
        keeper_put();
        /* Asked to stop before its init listened: that signal was lost. */
        if (keeper.asked)
            pidfd_send_signal(guest.leader, SIGRTMIN + 3, NULL, 0);
    } else if ((v = value_of(line, "ERRNO")))
        keeper.state.status = (int)strtol(v, NULL, 10);
}

static void notify_read(struct source *s)
{
    char text[4096], *rest = text, *line;
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(16 * sizeof(int))]; } control;
    struct iovec iov = {text, sizeof text - 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(s->fd, &m, MSG_CMSG_CLOEXEC);
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

static void notify_listen(void)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = KEEPER_NOTIFY};
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof one) < 0 ||
        bind(fd, (struct sockaddr *)&a, sizeof a) < 0)
        keeper_fail("listen for nspawn: %s", strerror(errno));
    source_add(fd, notify_read);
}

/* nspawn was init of its pid namespace: when it is reaped, every process of the guest is gone. */
static void child(pid_t pid, int status)
{
    struct state *s = &keeper.state;
    bool started = s->phase == PHASE_STARTED || s->phase == PHASE_BOOTED;

    if (pid != s->nspawn.pid)
        return;
    sources_drain();
    s->status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    if (WIFSIGNALED(status)) {
        s->end = END_KILLED;
        snprintf(s->text, sizeof s->text, "killed by signal %d", WTERMSIG(status));
    } else if (!started) {
        s->end = END_FAILED;
        keeper_text(guest.err, "systemd-nspawn ended without a word");
    } else if (s->status == 0 || s->status == NSPAWN_EXIT_REBOOT) {
        s->end = s->status ? END_REBOOT : END_POWEROFF;
    } else {
        s->end = END_CRASH;
        keeper_text(tail_last(&guest.console->tail)->n ? guest.console : guest.err, "it said nothing");
    }
    keeper_exit();
}

static void stop(bool hard)
{
    kill(keeper.state.nspawn.pid, hard || keeper.state.phase < PHASE_STARTED ? SIGKILL : SIGTERM);
}

static void begin(const struct plan *p)
{
    struct sources sources;
    int go;

    mounts_enter(p, &sources);
    go = nspawn_start();
    mounts_make(p, &sources);
    notify_listen();
    console_open(&keeper.log, KEEPER_FD_LOG);
    if (write(go, "", 1) != 1)
        errno = 0; /* it has failed already; its end says how */
    close(go);
}

const struct keeper_ops keeper_nspawn = {.begin = begin, .child = child, .stop = stop};
