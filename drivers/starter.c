/* vms-starter: starts for vmsd what vmsd has no rights to start; <vmsd/starter.h> says what, and how it is asked.
 *
 * On descriptor 3 is where requests come from: the listening socket of vms-starter.socket, or a socket over which vmsd hands it
 * connections. Every request gets a process, which dies with its connection, and takes along what must not outlive it. It
 * keeps nothing: it may be killed, started again and upgraded at any time. */
#include "starter.h"

#include "agent_programs.h"
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

#define CGROUP_ROOT "/sys/fs/cgroup/"

enum { FROM = 3, REQUESTS_MAX = 256, REQUEST_SECONDS = 10, FILES_MAX = 65536 };

struct starter_programs starter_programs = {.builder = "mmdebstrap", .agent = -1};

void starter_tell(int conn, struct starter_told told)
{
    (void)!send(conn, &told, sizeof told, MSG_NOSIGNAL);
}

static void tell_failure(int conn, const struct vm_err *e)
{
    struct starter_told told = {.code = e->code, .sys = e->sys};

    memcpy(told.text, e->text, sizeof told.text);
    starter_tell(conn, told);
}

bool starter_left(int conn)
{
    struct pollfd p = {.fd = conn, .events = POLLIN};

    return poll(&p, 1, 0) != 0; /* nobody says anything after his request */
}

/* Default signals, and none blocked, for all that is started here. */
static void signals_reset(void)
{
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl, NULL); /* fails for SIGKILL, SIGSTOP and libc's own */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* ---- control groups ---- */

/* vms.slice/… and vmsd/… of version 2, CONTROLLER/vmsd/… of version 1. */
static bool is_ours(const char *path)
{
    const char *below = path + strlen(CGROUP_ROOT), *next;

    if (strncmp(path, CGROUP_ROOT, strlen(CGROUP_ROOT)) != 0)
        return false;
    if (!strncmp(below, "vms.slice/", 10) || !strncmp(below, "vmsd/", 5))
        return true;
    return (next = strchr(below, '/')) && !strncmp(next, "/vmsd/", 6);
}

bool starter_is_group(int fd)
{
    char entry[40], target[PATH_MAX];
    struct statfs fs;
    ssize_t n;

    snprintf(entry, sizeof entry, "/proc/self/fd/%d", fd);
    if (fstatfs(fd, &fs) < 0 || (fs.f_type != CGROUP2_SUPER_MAGIC && fs.f_type != CGROUP_SUPER_MAGIC) ||
        (n = readlink(entry, target, sizeof target - 1)) < 0)
        return false;
    target[n] = '\0';
    return is_ours(target);
}

/* ---- keepers ---- */

/* The plan was written by vmsd alone, and nobody writes to it any more. */
static bool is_sealed(int fd)
{
    int seals = fcntl(fd, F_GET_SEALS), need = F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;

    return seals >= 0 && (seals & need) == need;
}

static __attribute__((noreturn)) void keeper_exec(const char *kind, int go, const int *plan, size_t n)
{
    char *const argv[] = {"vms-keeper", (char *)kind, NULL}, *const env[] = {NULL};
    int aside[STARTER_FDS_MAX], null;
    char byte;

    if (read(go, &byte, 1) != 1 || (null = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
        _exit(1);
    for (size_t i = 0; i < n; i++)
        if ((aside[i] = fcntl(plan[i], F_DUPFD_CLOEXEC, STARTER_FD_ASIDE)) < 0)
            _exit(1);
    null = fcntl(null, F_DUPFD_CLOEXEC, STARTER_FD_ASIDE);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    for (size_t i = 0; i < n; i++)
        dup2(aside[i], KEEPER_FD_PLAN + (int)i);
    close_range(KEEPER_FD_PLAN + (unsigned)n, ~0U, 0);
    if (chdir("/") == 0)
        execve(starter_programs.keeper, argv, env);
    _exit(127);
}

int starter_keep(const struct request *r, struct vm_err *e)
{
    struct clone_args args = {.exit_signal = SIGCHLD};
    size_t first = 1;
    struct stat st;
    pid_t pid;

    if (r->ask.flags & STARTER_BORN)
        first = 2;
    if (r->n_words || r->ask.kind >= KEEPER_KIND_COUNT || r->n_fds <= first || r->n_fds - first > KEEPER_FDS_MAX)
        return vm_fail(e, VM_E_DENIED, "no such keeper");
    if (fstat(r->fds[0], &st) < 0 || !S_ISFIFO(st.st_mode))
        return vm_fail(e, VM_E_DENIED, "a keeper is told to go by a pipe");
    if (r->ask.kind != KEEPS_CONSOLE && !is_sealed(r->fds[first]))
        return vm_fail(e, VM_E_DENIED, "the plan of a keeper is sealed");
    if (first == 2) {
        if (!starter_is_group(r->fds[1]))
            return vm_fail(e, VM_E_DENIED, "a keeper is born in the control group of its guest");
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)r->fds[1];
    }
    setsid();
    if ((pid = (pid_t)syscall(SYS_clone3, &args, sizeof args)) < 0)
        return vm_fail_sys(e, "fork vms-keeper");
    if (pid == 0)
        keeper_exec(keeper_kinds[r->ask.kind], r->fds[0], r->fds + first, r->n_fds - first);
    starter_tell(r->conn, (struct starter_told){.pid = pid});
    return 0;
}

/* ---- requests ---- */

/* False: nobody is left who could be told; else *e says whether it is one. */
static bool request_read(struct request *r, struct vm_err *e)
{
    static char words[STARTER_WORDS_MAX + 1];
    static union { struct cmsghdr head; char room[CMSG_SPACE(STARTER_FDS_MAX * sizeof(int))]; } control;
    struct iovec iov[] = {{&r->ask, sizeof r->ask}, {words, sizeof words}};
    struct msghdr m = {.msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t n = recvmsg(r->conn, &m, MSG_CMSG_CLOEXEC);

    if (n <= 0)
        return false;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            r->n_fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(r->fds, CMSG_DATA(c), r->n_fds * sizeof(int));
        }
    r->words = words;
    r->n_words = (size_t)n > sizeof r->ask ? (size_t)n - sizeof r->ask : 0;
    if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC) || (size_t)n < sizeof r->ask || r->n_words > STARTER_WORDS_MAX ||
        (r->n_words && words[r->n_words - 1]))
        vm_fail(e, VM_E_DENIED, "not a request");
    else if (r->ask.protocol != STARTER_PROTOCOL)
        vm_fail(e, VM_E_DENIED, "vms-starter is of another version than vmsd; run 'systemctl restart vms-starter vmsd'");
    return true;
}

/* vmsd has a mount namespace of its own, of which its descriptors are. systemd made it, and vmsd has no system call left to
 * change it. A peer that still holds its connection has not been followed by another process under its pid. */
static int mounts_join(int conn, pid_t peer, struct vm_err *e)
{
    char path[40];
    struct stat its, ours;

    snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)peer);
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &its) < 0 || stat("/proc/self/ns/mnt", &ours) < 0)
        return vm_fail_sys(e, "look at the mounts of who asks");
    if (starter_left(conn))
        return vm_fail(e, VM_E_DENIED, "who asked is gone");
    if (its.st_ino == ours.st_ino && its.st_dev == ours.st_dev)
        return 0;
    return setns(fd, CLONE_NEWNS) < 0 ? vm_fail_sys(e, "enter the mounts of vmsd") : 0;
}

static int peer_check(int conn, pid_t *pid, struct vm_err *e)
{
    struct ucred peer;
    socklen_t n = sizeof peer;

    if (getsockopt(conn, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0 || peer.uid != geteuid())
        return vm_fail(e, VM_E_DENIED, "vms-starter starts nothing for others than root");
    *pid = peer.pid;
    return 0;
}

static int request_serve(const struct request *r, struct vm_err *e)
{
    static int (*const verbs[STARTER_VERB_COUNT])(const struct request *, struct vm_err *) = {
        [STARTER_KEEP] = starter_keep, [STARTER_ENTER] = starter_enter, [STARTER_BUILD] = starter_run,
        [STARTER_UNPACK] = starter_run, [STARTER_CHECK] = starter_run, [STARTER_COMMAND] = starter_run,
    };
    pid_t peer;

    if (peer_check(r->conn, &peer, e) < 0 || mounts_join(r->conn, peer, e) < 0)
        return -1;
    if (r->ask.verb >= STARTER_VERB_COUNT)
        return vm_fail(e, VM_E_DENIED, "vms-starter does no such thing");
    return verbs[r->ask.verb](r, e);
}

static __attribute__((noreturn)) void serve(int conn)
{
    struct request r = {.conn = conn};
    struct vm_err e = {0};

    signals_reset();
    setsockopt(conn, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = REQUEST_SECONDS}, sizeof(struct timeval));
    if (request_read(&r, &e) && (e.code || request_serve(&r, &e) < 0))
        tell_failure(conn, &e);
    _exit(0);
}

/* ---- the process ---- */

/* The next connection; -1: there will be none. */
static int next_conn(bool listens)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control;
    char byte;
    struct iovec iov = {&byte, 1};
    int fd = -1;

    while (listens && (fd = accept4(FROM, NULL, NULL, SOCK_CLOEXEC)) < 0)
        if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
            usleep(10000);
        else if (errno != EINTR && errno != ECONNABORTED)
            return -1;
    while (!listens && fd < 0) {
        struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
        ssize_t n = recvmsg(FROM, &m, MSG_CMSG_CLOEXEC);

        if (n == 0 || (n < 0 && errno != EINTR))
            return -1;
        if (n > 0 && m.msg_controllen >= sizeof control.head && control.head.cmsg_type == SCM_RIGHTS &&
            control.head.cmsg_len == CMSG_LEN(sizeof(int)))
            memcpy(&fd, CMSG_DATA(&control.head), sizeof fd);
    }
    return fd;
}

static atomic_uint requests;

static void on_child(int sig)
{
    int was = errno;

    (void)sig;
    while (waitpid(-1, NULL, WNOHANG) > 0)
        requests--;
    errno = was;
}

static int turn(void)
{
    int listens = 0;
    socklen_t size = sizeof listens;
    struct sigaction child = {.sa_handler = on_child};

    if (getsockopt(FROM, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) < 0) {
        fputs("vms-starter: it is started by vms-starter.socket, or by vmsd\n", stderr);
        return 2;
    }
    fcntl(FROM, F_SETFD, FD_CLOEXEC);
    sigaction(SIGCHLD, &child, NULL);
    for (int conn; (conn = next_conn(listens)) >= 0; close(conn)) {
        struct vm_err e = {0};
        pid_t pid;

        while (requests >= REQUESTS_MAX)
            usleep(1000);
        requests++;
        if ((pid = fork()) == 0) {
            close(FROM);
            serve(conn);
        }
        if (pid > 0)
            continue;
        requests--;
        vm_fail_sys(&e, "fork a process for the request");
        tell_failure(conn, &e);
    }
    return 0;
}

/* What it starts inherits this. */
static void settle(void)
{
    struct rlimit files = {FILES_MAX, FILES_MAX};

    signals_reset();
    umask(0077);
    if (setrlimit(RLIMIT_NOFILE, &files) < 0 && getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    prctl(PR_SET_DUMPABLE, 0);
    clearenv();
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    /* Loads the module, which vmsd may not. */
    fd_drop(fsopen("overlay", FSOPEN_CLOEXEC));
}

/* What lies beside it, or below the same prefix. */
static const char *helper(const char *name)
{
    static char path[3][PATH_MAX + 32];
    static size_t n;
    char *at = path[n++], *slash;
    ssize_t got = readlink("/proc/self/exe", at, PATH_MAX - 1);

    at[got > 0 ? got : 0] = '\0';
    if (!(slash = strrchr(at, '/')))
        return name;
    snprintf(slash, 32, "/%s", name);
    if (access(at, X_OK) < 0)
        snprintf(slash, 32, "/../lib/vmsd/%s", name);
    return at;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"keeper", required_argument, NULL, 'k'}, {"agent", required_argument, NULL, 'a'},
        {"unpack", required_argument, NULL, 'u'}, {"builder", required_argument, NULL, 'b'}, {0},
    };
    struct starter_programs *p = &starter_programs;
    const char *agent = helper("vms-agent");
    struct vm_err e;
    int c;

    p->keeper = helper("vms-keeper");
    p->unpack = helper("vms-unpack");
    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (c) {
        case 'k': p->keeper = optarg; break;
        case 'a': agent = optarg; break;
        case 'u': p->unpack = optarg; break;
        case 'b': p->builder = optarg; break;
        default: return 2;
        }
    }
    settle();
    if ((p->agent = agent_copy(agent, &e)) < 0 || agent_filter_make(&p->filter, &e) < 0) {
        fprintf(stderr, "vms-starter: %s\n", e.text);
        return 1;
    }
    return turn();
}
