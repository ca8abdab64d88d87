#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/path.h>

char keeper_program[256];

/* Above all fds that the keeper gets. */
enum { FD_ASIDE = KEEPER_FDS_MAX };
/* From a keeper's last word to its exit: time for the kernel to take down its mounts. */
enum { KEEPER_LEAVE_MS = 5000 };

void kept_plan_done(struct kept_plan p)
{
    for (size_t i = 0; i < p.n; i++)
        fd_drop(p.fds[i]);
    free(p.fds);
}

/* In the grandchild; after fork in a process with threads, so only calls that are safe there. */
__attribute__((noreturn)) static void keeper_exec(const struct kept_plan *p, enum keeper_kind kind, int go)
{
    char *const argv[] = {"vms-keeper", (char *)keeper_kinds[kind], NULL}, *const env[] = {NULL};
    int aside[FD_ASIDE], null;
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;
    char byte;

    if (read(go, &byte, 1) != 1 || (null = open("/dev/null", O_RDWR | O_CLOEXEC)) < 0)
        _exit(1);
    for (size_t i = 0; i < p->n; i++)
        if ((aside[i] = fcntl(p->fds[i], F_DUPFD_CLOEXEC, FD_ASIDE)) < 0)
            _exit(1);
    null = fcntl(null, F_DUPFD_CLOEXEC, FD_ASIDE);
    for (int i = 0; i < 3; i++)
        dup2(null, i);
    for (size_t i = 0; i < p->n; i++)
        dup2(aside[i], KEEPER_FD_PLAN + (int)i);
    close_range(KEEPER_FD_PLAN + (unsigned)p->n, ~0U, 0);
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (chdir("/") == 0)
        execve(keeper_program, argv, env);
    _exit(127);
}

int keeper_spawn(const struct kept_plan *p, enum keeper_kind kind, int group, pid_t *pid, int *go, struct vm_err *e)
{
    OWN(fd) int go_in = -1;
    OWN(fd) int go_out = -1;
    OWN(fd) int back_in = -1;
    OWN(fd) int back_out = -1;
    int pair[2];
    pid_t child, keeper;

    if (pipe2(pair, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    go_in = pair[0], go_out = pair[1];
    if (pipe2(pair, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    back_in = pair[0], back_out = pair[1];
    if ((child = fork()) < 0)
        return vm_fail_sys(e, "fork");
    if (child == 0) {
        setsid();
        close(go_out); /* or it would hold open itself what tells it that we are gone */
        if ((keeper = cgroup_fork(group)) == 0)
            keeper_exec(p, kind, go_in);
        _exit(keeper < 0 || write(back_out, &keeper, sizeof keeper) != sizeof keeper);
    }
    back_out = fd_drop(back_out);
    if (read(back_in, &keeper, sizeof keeper) != sizeof keeper)
        keeper = -1;
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    if (keeper < 0)
        return vm_fail(e, VM_E_SYSTEM, "fork vms-keeper: too many processes, no memory, or a cgroup that takes none");
    *pid = keeper;
    *go = take_fd(&go_out);
    return 0;
}

int kept_state(const struct kept *k, struct state *out, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(k->run_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(str) char *text = NULL;
    struct vm_err why;
    struct state s;

    if (dir < 0)
        return -1;
    if (path_read(dir, keeper_files[k->kind], STATE_BYTES_MAX, &text, NULL, &why) < 0) {
        if (why.sys == ENOENT)
            return vm_fail(e, VM_E_ABSENT, "%s has no state file: nothing runs there", k->run_dir);
        if (e)
            *e = why;
        return vm_context(e, "%s", k->run_dir);
    }
    if (!state_parse(text, &s))
        return vm_fail(e, VM_E_SYSTEM, "%s/%s: not as vms-keeper writes it", k->run_dir, keeper_files[k->kind]);
    if (s.by != k->kind)
        return vm_fail(e, VM_E_ABSENT, "%s is of a guest on %s", k->run_dir, keeper_kinds[s.by]);
    *out = s;
    return 0;
}

int kept_proc_open(const struct state *s, const struct state_proc *p, struct vm_err *e)
{
    struct proc_id id = {.pid = p->pid, .start = p->start};

    if (!p->pid)
        return vm_fail(e, VM_E_ABSENT, "no such process yet");
    memcpy(id.boot, s->boot, sizeof id.boot);
    return proc_id_open(&id, e);
}

bool pidfd_wait(int pidfd, struct deadline d)
{
    struct pollfd p = {.fd = pidfd, .events = POLLIN};
    int n;

    do
        n = poll(&p, 1, (int)deadline_left(d));
    while (n < 0 && errno == EINTR);
    return n > 0;
}

/* The close of an inotify waits until every CPU has seen it, for 10 ms and more, in which a guest could already be up. So
 * a few are kept. What a kept one still tells of its last directory makes somebody look once too often. */
enum { SPARE_MAX = 16 };
static struct {
    pthread_mutex_t lock;
    int fds[SPARE_MAX];
    size_t n;
} spare = {.lock = PTHREAD_MUTEX_INITIALIZER};

struct watch {
    int fd, wd; /* wd -1: failed, errno tells */
};

static struct watch watch_open(const char *dir)
{
    struct watch w = {-1, -1};

    pthread_mutex_lock(&spare.lock);
    if (spare.n)
        w.fd = spare.fds[--spare.n];
    pthread_mutex_unlock(&spare.lock);
    if (w.fd < 0)
        w.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (w.fd >= 0)
        w.wd = inotify_add_watch(w.fd, dir, IN_MOVED_TO | IN_ONLYDIR);
    return w;
}

static void watch_close(struct watch w)
{
    if (w.wd >= 0)
        inotify_rm_watch(w.fd, w.wd);
    pthread_mutex_lock(&spare.lock);
    if (w.wd >= 0 && spare.n < SPARE_MAX)
        spare.fds[spare.n++] = take_fd(&w.fd);
    pthread_mutex_unlock(&spare.lock);
    fd_drop(w.fd);
}
OWN_DEFINE(watch, struct watch, watch_close)

int kept_await(const struct kept *k, int keeper, enum state_phase phase, struct deadline d, struct state *out,
               struct vm_err *e)
{
    OWN(watch) struct watch watch = watch_open(k->run_dir);
    char events[1024];

    if (watch.wd < 0)
        return vm_fail_sys(e, "watch '%s'", k->run_dir);
    for (;;) {
        struct pollfd p[] = {{.fd = watch.fd, .events = POLLIN}, {.fd = keeper, .events = POLLIN}};
        bool gone = pidfd_wait(keeper, (struct deadline){0}); /* asked first: its last state is then in the file */
        int left = (int)deadline_left(d);
        struct vm_err why = {0};

        if (kept_state(k, out, &why) == 0) {
            if (out->phase == PHASE_ENDED)
                pidfd_wait(keeper, deadline_in(KEEPER_LEAVE_MS)); /* its mounts go with it */
            if (out->phase >= phase)
                return 0;
        } else if (why.code != VM_E_ABSENT) {
            if (e)
                *e = why;
            return -1;
        }
        if (gone)
            return vm_fail(e, VM_E_BACKEND, "vms-keeper was killed");
        if (left == 0)
            return vm_fail(e, VM_E_TIMEOUT, "not there in time; its console log tells how far it came");
        if (poll(p, 2, left) < 0 && errno != EINTR)
            return vm_fail_sys(e, "poll");
        while (read(watch.fd, events, sizeof events) > 0)
            ;
    }
}
