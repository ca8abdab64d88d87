/* A vms-keeper of a microVM: cloud-hypervisor and its virtiofsd's, each init of a pid namespace, with a root that holds only
 * what it needs, and no network. The VMM is the guest's user, without any capability.
 *
 * The guest's reboot ends the VMM: the next start makes everything anew. */
#include "keeper_event.h"
#include "keeper_share.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { VMM_FD_API = 3, VMM_FD_EVENTS, VMM_FD_END, VMM_FILES = 16384 };
enum { EVENTS_BUFFER = 1 << 20, EVENTS_RATE = 64 << 10 /* bytes a second: far more than an honest VMM says */ };
enum { ORPHAN_MS = 1000 /* from the end of a virtiofsd to that of its VMM, if the VMM is ending too */ };

static struct {
    struct source *console, *err, *events;
    struct event_reader reader;
    int64_t second; size_t bytes;  /* of events, in that second */
    enum state_end end;            /* how it is going to end; END_NONE: not known yet */
    bool orphan;                   /* a virtiofsd failed, and state.text says how */
} vmm;

/* ---- the VMM's process ---- */

static void become_user(uint32_t uid)
{
    struct rlimit none = {0, 0}, files = {VMM_FILES, VMM_FILES};

    /* Its memory is the guest's: not into a core file. */
    if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
        child_fail("limits of the VMM");
    for (unsigned long cap = 0; prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) == 0; cap++)
        ;
    /* What it has of capabilities goes with the user. */
    if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
        child_fail("become the guest's user");
    /* Changing ids took it away. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fail("prctl");
}

__attribute__((noreturn)) static void vmm_exec(const struct child_io *from, int events)
{
    static char *const env[] = {NULL};
    struct child_io io = *from;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), api = fcntl(KEEPER_FD_API, F_DUPFD_CLOEXEC, VMM_FD_END);

    child_begin(&io);
    root_enter(KEEPER_VMM);
    become_user(keeper.plan.uid_base);
    if (null < 0 || api < 0 || dup2(null, STDIN_FILENO) < 0 ||
        (events = fcntl(events, F_DUPFD_CLOEXEC, VMM_FD_END)) < 0 ||
        (io.go = fcntl(io.go, F_DUPFD_CLOEXEC, VMM_FD_END)) < 0 || dup2(api, VMM_FD_API) < 0 ||
        dup2(events, VMM_FD_EVENTS) < 0)
        child_fail("fds of the VMM");
    child_wait(&io);
    close_range(VMM_FD_END, ~0U, 0);
    child_exec(keeper.plan.args, env);
}

static void events_read(struct source *s);

static void vmm_start(const struct plan *p)
{
    struct child_pipes pipes;
    int events[2], size = EVENTS_BUFFER;
    pid_t pid;

    pipes_make(&pipes);
    /* A full one would lose events. */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, events) < 0 ||
        setsockopt(events[1], SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) < 0)
        keeper_fail("socketpair for events: %s", strerror(errno));
    pid = fork_into(p->into, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    if (pid == 0)
        vmm_exec(&pipes.child, events[1]);
    pipes_forked(&pipes);
    close(events[1]);
    close(KEEPER_FD_API);
    vmm.console = source_add(pipes.out, NULL);
    vmm.err = source_add(pipes.err, NULL);
    vmm.events = source_add(events[0], events_read);
    keeper_note(&keeper.state.leader, pid);
    keeper_put();
    if (write(pipes.go, "", 1) != 1)
        errno = 0; /* it has failed already; its end says how */
    close(pipes.go);
}

/* The guest is to end, in that way, whatever the VMM makes of it. */
static void vmm_kill(enum state_end end)
{
    if (vmm.end == END_NONE)
        vmm.end = end;
    kill(keeper.state.leader.pid, SIGKILL);
}

/* ---- what it tells ---- */

static void phase_put(enum state_phase phase)
{
    if (keeper.state.phase >= phase)
        return;
    keeper.state.phase = phase;
    keeper_put();
}

static void event_take(const struct event *e)
{
    if (!strcmp(e->source, "vm") && !strcmp(e->name, "booted"))
        phase_put(PHASE_STARTED);
    else if (!strcmp(e->source, "vm") && !strcmp(e->name, "rebooting"))
        vmm_kill(END_REBOOT);
    else if (!strcmp(e->source, "vm") && !strcmp(e->name, "shutdown") && vmm.end == END_NONE)
        vmm.end = END_POWEROFF; /* and it ends by itself */
    else if (!strcmp(e->source, "guest") && !strcmp(e->name, "panic") && strcmp(e->detail, "crash_loaded"))
        vmm_kill(END_PANIC);    /* with a crash kernel the guest helps itself */
}

/* True while there may be more. */
static bool events_chunk(void)
{
    char chunk[4096];
    ssize_t n = vmm.events->fd < 0 ? -1 : read(vmm.events->fd, chunk, sizeof chunk);

    for (ssize_t i = 0; i < n; i++)
        if (event_read(&vmm.reader, chunk[i]))
            event_take(&vmm.reader.event);
    if (n == 0)
        source_close(vmm.events);
    vmm.bytes += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* A VMM that says more than an honest one would is not listened to for a while. */
static void events_read(struct source *s)
{
    int64_t second = now_ms() / 1000;

    if (second != vmm.second) {
        vmm.second = second;
        vmm.bytes = 0;
    }
    events_chunk();
    if (vmm.bytes > EVENTS_RATE)
        s->rest_ms = (second + 1) * 1000;
}

/* ---- its end ---- */

/* Has the kernel killed for lack of memory in the guest's cgroup? It is new with each start. */
static bool ran_out_of_memory(void)
{
    const struct plan *p = &keeper.plan;
    char path[512] = "", text[512], *at;
    ssize_t n;
    int fd;

    if (p->into)
        snprintf(path, sizeof path, "%s/memory.events", p->into);
    for (size_t i = 0; i < p->n_cgroups; i++)
        if (strstr(p->cgroups[i], "/memory/"))
            snprintf(path, sizeof path, "%s/memory.oom_control", p->cgroups[i]);
    if ((fd = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return false;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    return (at = strstr(text, "oom_kill ")) && at[strlen("oom_kill ")] != '0';
}

static void text_put(const char *text)
{
    state_text(keeper.state.text, sizeof keeper.state.text, text, strlen(text));
}

static enum state_end end_by_signal(int sig)
{
    char line[96];

    if (sig == SIGKILL) {
        text_put(ran_out_of_memory() ? "killed by the kernel: the VMM ran out of the memory that its cgroup may have"
                                     : "killed by signal 9");
        return END_KILLED;
    }
    snprintf(line, sizeof line, "cloud-hypervisor was ended by signal %d%s", sig,
             sig == SIGSYS ? ", for a system call that it may not make" : "");
    text_put(line);
    return END_CRASH;
}

/* What nobody asked for and no event told of. */
static enum state_end end_guess(int status)
{
    if (keeper.state.phase < PHASE_STARTED) {
        if (!vmm.orphan && WIFSIGNALED(status))
            end_by_signal(WTERMSIG(status));
        else if (!vmm.orphan)
            keeper_text(vmm.err, "cloud-hypervisor ended without a word");
        return END_FAILED;
    }
    if (vmm.orphan)
        return END_CRASH;
    if (WIFSIGNALED(status))
        return end_by_signal(WTERMSIG(status));
    if (WEXITSTATUS(status) == 0)
        return END_POWEROFF;
    keeper_text(vmm.err, "cloud-hypervisor ended without a word");
    return END_CRASH;
}

/* A kernel without the driver that would tell of its panic reboots, or hangs until somebody stops it. */
static void panic_look(void)
{
    struct log_line line = tail_panic(&vmm.console->tail);
    struct state *s = &keeper.state;

    if (line.n && (s->end == END_REBOOT || s->end == END_PANIC || s->end == END_POWEROFF || s->end == END_KILLED)) {
        s->end = END_PANIC;
        state_text(s->text, sizeof s->text, line.s, line.n);
    }
}

static void vmm_ended(int status)
{
    struct state *s = &keeper.state;

    for (vmm.bytes = 0; vmm.bytes < EVENTS_BUFFER && events_chunk();)
        ;
    sources_drain();
    s->status = WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status);
    if (vmm.end == END_REBOOT)
        s->status = 0; /* the signal was ours */
    if (vmm.end == END_NONE || (vmm.end == END_POWEROFF && s->status))
        s->end = end_guess(status);
    else {
        s->end = vmm.end;
        if (s->end != END_CRASH && s->end != END_FAILED) /* those are due(), below */
            text_put(s->end == END_PANIC ? "its kernel panicked" : s->end == END_KILLED ? "killed" : "");
    }
    panic_look();
    keeper_exit();
}

static void child(pid_t pid, int status)
{
    if (pid == keeper.state.leader.pid)
        vmm_ended(status);
    if (!server_ended(pid, status))
        return;
    /* It ends with its client, with 0: perhaps the VMM is just ending. */
    vmm.orphan |= status != 0;
    keeper.due_ms = now_ms() + ORPHAN_MS;
}

/* A share without its virtiofsd hangs whoever touches it in the guest. */
static void due(void)
{
    vmm_kill(keeper.state.phase < PHASE_STARTED ? END_FAILED : END_CRASH);
}

/* What vm.power-button does; the answer tells nothing. The connection stays, for a server whose client has left may drop
 * the request. */
static void button_press(void)
{
    static const char request[] = "PUT /api/v1/vm.power-button HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/" KEEPER_API, KEEPER_FD_RUN);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        write(fd, request, sizeof request - 1) != sizeof request - 1)
        errno = 0; /* it hangs: whoever asked will lose patience and kill it */
}

static void stop(bool hard)
{
    if (hard || keeper.state.phase < PHASE_STARTED)
        vmm_kill(END_KILLED);
    else
        button_press();
}

static void booted(void)
{
    bool press = keeper.asked && keeper.state.phase < PHASE_BOOTED;

    phase_put(PHASE_BOOTED);
    if (press)
        button_press(); /* asked to stop before anybody in the guest listened */
}

static void begin(const struct plan *p)
{
    static struct roots roots;

    console_open(&keeper.log, KEEPER_FD_LOG);
    roots_make(p, &roots);
    servers_start(p, &roots, KEEPER_VMM_RUN);
    vmm_start(p);
}

const struct keeper_ops keeper_vmm = {.begin = begin, .child = child, .stop = stop, .booted = booted, .due = due};
