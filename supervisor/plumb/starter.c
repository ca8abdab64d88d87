#include <vmsd/starter.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

/* Ours, where systemd has none: a child at the other end of `channel`, over which it is handed connections. */
static struct {
    pthread_mutex_t lock;
    struct starter_place place;
    int channel;
    pid_t pid;
} own = {.lock = PTHREAD_MUTEX_INITIALIZER, .channel = -1};

/* ---- our own one; all under the lock ---- */

/* It ends by itself when the channel does. */
static void own_drop(void)
{
    own.channel = fd_drop(own.channel);
    while (own.pid > 0 && waitpid(own.pid, NULL, 0) < 0 && errno == EINTR)
        ;
    own.pid = 0;
}

/* After fork in a process with threads: only calls that are safe there. */
static _Noreturn void own_exec(char *const *argv, int channel)
{
    static char *const env[] = {"LC_ALL=C.UTF-8", NULL};
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;

    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* In a session of its own: what a terminal says to vmsd is not for what it starts. */
    int fd = fcntl(channel, F_DUPFD, 4);
    if (setsid() >= 0 && fd >= 0 && dup2(fd, 3) == 3 && close_range(4, ~0u, 0) == 0)
        execve(argv[0], argv, env);
    _exit(127);
}

static int own_start(struct vm_err *e)
{
    int pair[2];
    sigset_t all, before;

    own_drop();
    if (!own.place.argv)
        return vm_fail(e, VM_E_UNAVAILABLE, "nobody has said where vms-starter is");
    if (access(own.place.argv[0], X_OK) < 0)
        return vm_fail_sys(e, "%s, without which nothing is started; reinstall vmsd", own.place.argv[0]);
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return vm_fail_sys(e, "make a socket to vms-starter");
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    own.pid = fork();
    if (own.pid == 0)
        own_exec(own.place.argv, pair[1]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    close(pair[1]);
    own.channel = pair[0];
    if (own.pid < 0) {
        vm_fail_sys(e, "fork vms-starter");
        own_drop();
        return -1;
    }
    return 0;
}

static ssize_t send_fds(int to, const struct iovec *iov, size_t n_iov, const int *fds, size_t n_fds)
{
    union { struct cmsghdr head; char room[CMSG_SPACE(STARTER_FDS_MAX * sizeof(int))]; } control = {0};
    struct msghdr m = {.msg_iov = (struct iovec *)iov, .msg_iovlen = n_iov};
    ssize_t n;

    if (n_fds) {
        m.msg_control = &control;
        m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        control.head = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                                        .cmsg_len = CMSG_LEN(n_fds * sizeof(int))};
        memcpy(CMSG_DATA(&control.head), fds, n_fds * sizeof(int));
    }
    do
        n = sendmsg(to, &m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n;
}

/* One that has ended since the last request is started anew, once. */
static int own_connect(int *conn, struct vm_err *e)
{
    OWN(fd) int mine = -1;
    OWN(fd) int its = -1;
    int pair[2], rc = -1;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return vm_fail_sys(e, "make a socket to vms-starter");
    mine = pair[0], its = pair[1];
    for (int i = 0; rc < 0 && i < 2; i++) {
        if ((i || own.channel < 0) && own_start(e) < 0)
            return -1;
        if (send_fds(own.channel, &(struct iovec){(char[]){0}, 1}, 1, &its, 1) == 1)
            rc = 0;
        else
            vm_fail_sys(e, "hand a connection to vms-starter");
    }
    if (rc == 0)
        *conn = take_fd(&mine);
    return rc;
}

/* ---- requests ---- */

void starter_place(struct starter_place p)
{
    pthread_mutex_lock(&own.lock);
    own_drop();
    own.place = p;
    pthread_mutex_unlock(&own.lock);
}

static int service_connect(const char *path, int *conn, struct vm_err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    OWN(fd) int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return vm_fail_sys(e, "make a socket to vms-starter");
    if (snprintf(a.sun_path, sizeof a.sun_path, "%s", path) >= (int)sizeof a.sun_path)
        return vm_fail(e, VM_E_INVALID, "the path of vms-starter's socket is too long");
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return vm_fail(e, VM_E_UNAVAILABLE, "vms-starter does not answer at %s: %s; run 'systemctl restart vms-starter.socket'",
                       path, strerror(errno));
    *conn = take_fd(&fd);
    return 0;
}

static int starter_connect(int *conn, struct vm_err *e)
{
    const char *service;
    int rc = 0;

    pthread_mutex_lock(&own.lock);
    if (!(service = own.place.socket))
        rc = own_connect(conn, e);
    pthread_mutex_unlock(&own.lock);
    return service ? service_connect(service, conn, e) : rc;
}

int starter_reach(struct vm_err *e)
{
    OWN(fd) int conn = -1;

    return starter_connect(&conn, e);
}

int starter_hear(int conn, struct deadline d, struct starter_told *told, struct vm_err *e)
{
    struct pollfd p = {.fd = conn, .events = POLLIN};
    struct starter_told t;
    int n;

    do
        n = poll(&p, 1, deadline_poll_ms(d));
    while ((n < 0 && errno == EINTR) || (n == 0 && deadline_left(d)));
    if (n < 0)
        return vm_fail_sys(e, "wait for vms-starter");
    if (n == 0)
        return vm_fail(e, VM_E_TIMEOUT, "vms-starter did not answer in time");
    if (recv(conn, &t, sizeof t, 0) != (ssize_t)sizeof t)
        return vm_fail(e, VM_E_BACKEND, "vms-starter ended in the middle of it; try again");
    if (t.code > VM_E_OK && t.code < VM_E_COUNT) {
        t.text[sizeof t.text - 1] = '\0';
        vm_fail(e, (enum vm_errc)t.code, "%s", t.text);
        if (e)
            e->sys = t.sys;
        return -1;
    }
    *told = t;
    return 0;
}

int starter_ask(const struct starter_request *r, struct deadline d, struct starter_told *told, int *conn, struct vm_err *e)
{
    struct starter_ask ask = r->ask;
    struct iovec iov[] = {{&ask, sizeof ask}, {(void *)r->words, r->n_words}};
    OWN(fd) int fd = -1;

    ask.protocol = STARTER_PROTOCOL;
    if (r->n_fds > STARTER_FDS_MAX || r->n_words > STARTER_WORDS_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "too much for one start: %zu files, %zu bytes of arguments", r->n_fds, r->n_words);
    if (starter_connect(&fd, e) < 0)
        return -1;
    if (send_fds(fd, iov, r->n_words ? 2 : 1, r->fds, r->n_fds) < 0)
        return vm_fail_sys(e, "ask vms-starter");
    if (starter_hear(fd, d, told, e) < 0)
        return -1;
    *conn = take_fd(&fd);
    return 0;
}
