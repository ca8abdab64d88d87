/* vms-keeper: keeps one guest from its mounts to its end. Started by vmsd, outlives it, needs nothing of it.
 *
 * Everything of a guest hangs on this process: mounts are in its mount namespace, and what it starts is init of a pid
 * namespace and dies with it (PDEATHSIG). So SIGKILL of either leaves no process, mount or loop device. SIGTERM asks the
 * guest to power off, SIGQUIT kills it. It takes no memory after its start. */
#include "keeper_console.h"
#include "keeper_core.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* A serial line comes byte by byte: not a wake-up for each. */
enum { CHUNK = 16 << 10, DRAIN_MAX = 64 << 10, BATCH_MS = 10 };

struct keeper keeper = {.proc = -1};

void keeper_put(void)
{
    state_write(KEEPER_FD_RUN, &keeper.state);
}

void keeper_exit(void)
{
    keeper.state.phase = PHASE_ENDED;
    keeper_put();
    _exit(0);
}

/* All children are inits of pid namespaces, or end by PDEATHSIG; only what is told of has to be gone before. */
void keeper_fail(const char *fmt, ...)
{
    const pid_t told[] = {keeper.state.nspawn.pid, keeper.state.leader.pid};
    char line[sizeof keeper.state.text];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (told[i] && waitpid(told[i], NULL, WNOHANG) == 0) {
            kill(told[i], SIGKILL);
            waitpid(told[i], NULL, 0);
        }
    state_text(keeper.state.text, sizeof keeper.state.text, line, strlen(line));
    keeper.state.end = END_FAILED;
    keeper_exit();
}

void keeper_note(struct state_proc *p, pid_t pid)
{
    p->pid = pid;
    if (!(p->start = state_start_of(keeper.proc, pid)))
        keeper_fail("read /proc/%d/stat: %s", pid, strerror(errno));
}

int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* ---- the plan ---- */

const char *value_of(const char *line, const char *key)
{
    size_t n = strlen(key);

    return !strncmp(line, key, n) && line[n] == '=' ? line + n + 1 : NULL;
}

static bool has_flag(const char *flags, size_t n, char flag)
{
    return memchr(flags, flag, n) != NULL;
}

static bool mount_line(struct plan *p, const char *v)
{
    const char *flags = strchr(v, ',');

    if (p->n_mounts == KEEPER_MOUNTS_MAX || !flags)
        return false;
    p->mounts[p->n_mounts++] = (struct plan_mount){
        .disk = *v == 'd', .share = *v == 's', .read_only = strchr(flags, 'r'), .mapped = strchr(flags, 'm')};
    return true;
}

static bool file_line(struct plan *p, const char *v)
{
    size_t n = strcspn(v, ",");

    if (p->n_files == KEEPER_FILES_MAX || v[n] != ',' || v[n + 1] != '/')
        return false;
    p->files[p->n_files++] = (struct plan_file){
        .vmm = has_flag(v, n, 'v'), .server = has_flag(v, n, 's'), .read_only = has_flag(v, n, 'r'), .path = v + n + 1};
    return true;
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
    else if ((v = value_of(line, "mount")))
        return mount_line(p, v);
    else if ((v = value_of(line, "target")) && p->n_mounts)
        p->mounts[p->n_mounts - 1].target = v;
    else if ((v = value_of(line, "socket")) && p->n_mounts)
        p->mounts[p->n_mounts - 1].socket = v;
    else if ((v = value_of(line, "file")))
        return file_line(p, v);
    else if ((v = value_of(line, "arg")) && p->n_args < KEEPER_ARGS_MAX)
        p->args[p->n_args++] = (char *)v;
    else if ((v = value_of(line, "server")) && p->n_server < KEEPER_ARGS_MAX)
        p->server[p->n_server++] = (char *)v;
    else
        return false;
    return true;
}

static void plan_check(const struct plan *p)
{
    if (!p->uid_base || (!p->n_args && keeper.state.by != KEEPS_SHARES))
        keeper_fail("the plan is not whole");
    for (size_t i = 0; i < p->n_mounts; i++)
        if (!p->mounts[i].target || (p->mounts[i].share && (!p->mounts[i].socket || !p->n_server)))
            keeper_fail("the plan has a mount without target");
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
    plan_check(p);
    close(KEEPER_FD_PLAN);
}

/* ---- children ---- */

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

void child_fail(const char *what)
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

void child_begin(const struct child_io *io)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || dup2(io->out, STDOUT_FILENO) < 0 || dup2(io->err, STDERR_FILENO) < 0)
        _exit(1);
    setsid();
    oom_score_put("0"); /* which also bounds what the guest's root may set it to */
    cgroups_join();
}

/* The end of the pipe: the keeper died, perhaps before that PDEATHSIG was in force. */
void child_wait(const struct child_io *io)
{
    char byte;

    if (read(io->go, &byte, 1) != 1)
        _exit(1);
}

void child_exec(char *const *argv, char *const *env)
{
    sigset_t none;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    execve(argv[0], argv, env);
    child_fail(argv[0]);
}

void pipes_make(struct child_pipes *p)
{
    int go[2], out[2], err[2];

    if (pipe2(go, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(err, O_CLOEXEC) < 0)
        keeper_fail("pipe: %s", strerror(errno));
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(err[0], F_SETFL, O_NONBLOCK);
    *p = (struct child_pipes){{go[0], out[1], err[1]}, go[1], out[0], err[0]};
}

void pipes_forked(struct child_pipes *p)
{
    close(p->child.go);
    close(p->child.out);
    close(p->child.err);
}

pid_t fork_into(const char *cgroup, uint64_t flags)
{
    struct clone_args args = {.flags = flags, .exit_signal = SIGCHLD};
    pid_t pid;
    int fd = -1;

    if (cgroup) {
        if ((fd = open(cgroup, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
            keeper_fail("open %s: %s", cgroup, strerror(errno));
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)fd;
    }
    if ((pid = (pid_t)syscall(SYS_clone3, &args, sizeof args)) < 0)
        keeper_fail("fork: %s", strerror(errno));
    if (fd >= 0)
        close(fd);
    return pid;
}

/* ---- sources ---- */

struct source *source_add(int fd, void (*ready)(struct source *s))
{
    struct source *s = &keeper.sources[keeper.n_sources];

    if (keeper.n_sources == KEEPER_SOURCES_MAX)
        keeper_fail("too many files to listen to");
    *s = (struct source){.fd = fd, .ready = ready};
    keeper.n_sources++;
    return s;
}

void source_close(struct source *s)
{
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

/* Copies what is there to the log, at most `room` bytes. False: nothing more just now. */
static bool pump(struct source *s, size_t room)
{
    static char chunk[CHUNK];
    ssize_t n = read(s->fd, chunk, room < sizeof chunk ? room : sizeof chunk);

    if (n > 0) {
        console_put(&keeper.log, chunk, (size_t)n);
        tail_put(&s->tail, chunk, (size_t)n);
        return true;
    }
    if (n == 0)
        source_close(s);
    return false;
}

void sources_drain(void)
{
    for (struct source *s = keeper.sources; s < keeper.sources + keeper.n_sources; s++)
        for (size_t n = 0; !s->ready && n < DRAIN_MAX && s->fd >= 0 && pump(s, CHUNK); n += CHUNK)
            ;
}

void keeper_text(const struct source *output, const char *otherwise)
{
    const struct log_line *line = output ? tail_last(&output->tail) : NULL;

    if (line && line->n)
        state_text(keeper.state.text, sizeof keeper.state.text, line->s, line->n);
    else
        snprintf(keeper.state.text, sizeof keeper.state.text, "%s", otherwise);
}

/* Whoever asks again, a vmsd that was started anew or the host that goes down, asks for no more than the first did. */
static void stop_asked(bool hard)
{
    if (hard || !keeper.asked)
        keeper.ops->stop(hard);
    keeper.asked = true;
}

static void signals_read(struct source *s)
{
    struct signalfd_siginfo si;
    int status;
    pid_t pid;

    while (read(s->fd, &si, sizeof si) == sizeof si) {
        if (si.ssi_signo == SIGTERM || si.ssi_signo == KEEPER_SIG_HOST_DOWN || si.ssi_signo == SIGQUIT)
            stop_asked(si.ssi_signo == SIGQUIT);
        else if (si.ssi_signo == KEEPER_SIG_BOOTED && keeper.ops->booted)
            keeper.ops->booted();
    }
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        keeper.ops->child(pid, status);
}

static int sooner(int wait_ms, int64_t at_ms, int64_t now)
{
    int64_t left = at_ms > now ? at_ms - now : 0;

    return wait_ms < 0 || left < wait_ms ? (int)left : wait_ms;
}

/* Who is to be listened to now, and how long at most. A guest that writes faster than the log takes it waits for its
 * console. */
static int poll_fill(struct pollfd *p, size_t room, int wait_ms)
{
    int64_t now = now_ms();

    for (size_t i = 0; i < keeper.n_sources; i++) {
        const struct source *s = &keeper.sources[i];
        bool rests = s->fd >= 0 && s->rest_ms > now;

        if (rests)
            wait_ms = sooner(wait_ms, s->rest_ms, now);
        p[i] = (struct pollfd){.fd = (s->ready || room) && !rests ? s->fd : -1, .events = POLLIN};
    }
    return keeper.due_ms ? sooner(wait_ms, keeper.due_ms, now) : wait_ms;
}

__attribute__((noreturn)) static void keeper_run(void)
{
    for (;;) {
        struct pollfd p[KEEPER_SOURCES_MAX];
        size_t n = keeper.n_sources;
        int wait_ms = -1;
        size_t room = console_room(&keeper.log, now_ms(), &wait_ms);

        wait_ms = poll_fill(p, room, wait_ms);
        if (poll(p, n, wait_ms) < 0 && errno != EINTR)
            keeper_fail("poll: %s", strerror(errno));
        /* Backwards: the signals are first in the list, and the end of a child comes after what it said before. */
        for (size_t i = n; i-- > 0;) {
            struct source *s = &keeper.sources[i];

            if (!p[i].revents || s->fd < 0)
                continue;
            if (s->ready)
                s->ready(s);
            else if (pump(s, room))
                s->rest_ms = now_ms() + BATCH_MS;
        }
        if (keeper.due_ms && now_ms() >= keeper.due_ms) {
            keeper.due_ms = 0;
            keeper.ops->due();
        }
    }
}

/* ---- the whole ---- */

static void signals_catch(void)
{
    sigset_t set;
    int fd;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGQUIT);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, KEEPER_SIG_HOST_DOWN);
    sigaddset(&set, KEEPER_SIG_BOOTED);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    if ((fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK)) < 0)
        keeper_fail("signalfd: %s", strerror(errno));
    source_add(fd, signals_read);
}

static void keeper_begin(void)
{
    int fd;

    umask(022);
    close_range(KEEPER_FD_PLAN, ~0U, CLOSE_RANGE_CLOEXEC);
    if ((keeper.proc = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
        keeper_fail("open /proc: %s", strerror(errno));
    keeper_note(&keeper.state.keeper, getpid());
    fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, keeper.state.boot, 36) != 36)
        keeper_fail("read the boot id: %s", strerror(errno));
    close(fd);
    oom_score_put("-900"); /* short of memory, the guest goes before the process that would tell of it */
    keeper_put();
    signals_catch();
}

int main(int argc, char **argv)
{
    static const struct keeper_ops *const ops[KEEPER_KIND_COUNT] = {
        [KEEPS_NSPAWN] = &keeper_nspawn, [KEEPS_VMM] = &keeper_vmm, [KEEPS_SHARES] = &keeper_shares};

    if (argc == 2 && !strcmp(argv[1], keeper_kinds[KEEPS_CONSOLE]))
        return console_keep();
    for (int i = 0; i < KEEPER_KIND_COUNT; i++)
        if (argc == 2 && !strcmp(argv[1], keeper_kinds[i])) {
            keeper.state.by = (enum keeper_kind)i;
            keeper.ops = ops[i];
        }
    if (!keeper.ops) {
        dprintf(STDERR_FILENO, "vms-keeper is started by vmsd, with a plan\n");
        return 2;
    }
    keeper_begin();
    plan_read(&keeper.plan);
    keeper.ops->begin(&keeper.plan);
    keeper_run();
}
