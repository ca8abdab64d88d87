#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/pidfd.h>
#include <unistd.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>

char keeper_program[256];

/* For vms-starter to answer. */
enum { STARTER_MS = 10000 };
/* From a keeper's last word to its exit: time for the kernel to take down its mounts. */
enum { KEEPER_LEAVE_MS = 5000 };
/* The command line of a QEMU is the longest that is read. */
enum { PROC_FILE_MAX = 256 << 10 };

void kept_plan_done(struct kept_plan p)
{
    for (size_t i = 0; i < p.n; i++)
        fd_drop(p.fds[i]);
    free(p.fds);
}

int keeper_spawn(const struct kept_plan *p, enum keeper_kind kind, int group, pid_t *pid, int *go, struct vm_err *e)
{
    struct starter_request r = {.ask = {.verb = STARTER_KEEP, .kind = kind}};
    OWN(fd) int go_in = -1;
    OWN(fd) int go_out = -1;
    OWN(fd) int conn = -1;
    struct starter_told told;
    int pair[2], fds[2 + KEEPER_FDS_MAX];

    if (pipe2(pair, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    go_in = pair[0], go_out = pair[1];
    fds[r.n_fds++] = go_in;
    if (group >= 0) {
        fds[r.n_fds++] = group;
        r.ask.flags = STARTER_BORN;
    }
    memcpy(fds + r.n_fds, p->fds, p->n * sizeof *fds);
    r.n_fds += p->n;
    r.fds = fds;
    if (starter_ask(&r, deadline_in(STARTER_MS), &told, &conn, e) < 0)
        return -1;
    *pid = told.pid;
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

int proc_file_read(pid_t pid, const char *name, char **out, size_t *n, struct vm_err *e)
{
    char path[64];
    OWN(fd) int fd = -1;

    snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
    return (fd = path_open_host(path, O_RDONLY, e)) < 0 ? -1 : path_read_fd(fd, path, PROC_FILE_MAX, out, n, e);
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
