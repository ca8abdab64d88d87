#include "nspawn.h"

#include "cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

/* What the kernel needs at most to end killed processes; beyond that one hangs in it. And what a keeper gets to kill its
 * guest and note how that ended. */
enum { KILL_MS = 10000, NOTE_MS = 2000 };

struct nspawn_programs nspawn_programs = {.agent = -1};

static void proc_of(const struct state *s, struct drv_proc *out)
{
    *out = (struct drv_proc){
        .keeper = {.pid = s->keeper.pid, .start = s->keeper.start},
        .leader = s->leader.pid,
        .phase = s->phase == PHASE_BOOTED ? DRV_BOOTED : s->phase == PHASE_STARTED ? DRV_STARTED : DRV_GONE,
    };
    memcpy(out->keeper.boot, s->boot, sizeof s->boot);
}

static int kill_wait(const struct state *s, const struct state_proc *p, const char *what, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    struct vm_err why;

    if ((fd = keeper_proc_open(s, p, &why)) < 0) {
        if (why.code == VM_E_ABSENT)
            return 0;
        if (e)
            *e = why;
        return -1;
    }
    pidfd_send_signal(fd, SIGKILL, NULL, 0);
    return pidfd_wait(fd, deadline_in(KILL_MS))
               ? 0
               : vm_fail(e, VM_E_BACKEND, "%s (process %d) does not end, though killed: it hangs in the kernel", what,
                         (int)p->pid);
}

/* After this, no process of the guest lives. The keeper's end takes nspawn along, and nspawn's, as init of its pid
 * namespace, all others; the order here only makes sure of each. */
static int guest_kill(uint32_t id, const char *run_dir, struct vm_err *e)
{
    struct cgroup c;
    struct state s;
    struct vm_err why;

    cgroup_of(id, &c);
    if (keeper_state(run_dir, &s, &why) < 0) {
        cgroup_kill(&c);
        return 0;
    }
    if (kill_wait(&s, &s.keeper, "vms-keeper", e) < 0 || kill_wait(&s, &s.nspawn, "systemd-nspawn", e) < 0 ||
        kill_wait(&s, &s.leader, "the guest's init", e) < 0)
        return -1;
    cgroup_kill(&c);
    return 0;
}

/* Processes that cgroup.kill has just hit need a moment to leave. */
static int cgroups_remove(uint32_t id, struct vm_err *e)
{
    struct deadline d = deadline_in(KILL_MS);
    struct cgroup c;
    struct vm_err why;

    cgroup_of(id, &c);
    while (cgroup_remove(&c, &why) < 0) {
        if (why.code != VM_E_CONFLICT || deadline_left(d) == 0) {
            if (e)
                *e = why;
            return -1;
        }
        sleep_ms(5);
    }
    return 0;
}

static void state_remove(const char *run_dir)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, NULL);

    if (dir >= 0) {
        path_remove(dir, STATE_FILE, NULL);
        path_remove(dir, STATE_FILE ".new", NULL);
    }
}

/* Block devices of the guest's file systems, as its I/O is counted and limited. */
static size_t devices_of(const struct drv_proc *p, dev_t *out, size_t max)
{
    size_t n = 0;

    for (int i = -1; i < KEEPER_MOUNTS_MAX && n < max; i++) {
        char path[96];
        struct stat st;

        snprintf(path, sizeof path, i < 0 ? "/proc/%d/root" KEEPER_DISK : "/proc/%d/root" KEEPER_VOLUME "%d",
                 (int)p->keeper.pid, i);
        if (stat(path, &st) == 0)
            out[n++] = st.st_dev;
    }
    return n;
}

static int nspawn_limits(const struct drv_guest *g, const struct drv_proc *p, struct vm_err *e)
{
    dev_t devices[KEEPER_MOUNTS_MAX + 1];
    struct cgroup c;

    cgroup_of(g->id, &c);
    return cgroup_limits(&c, g->spec, devices, devices_of(p, devices, ARRAY_LEN(devices)), e);
}

/* Where systemd runs, it makes the group, around a process that is there: so the keeper moves. Elsewhere it is born in
 * a group of ours. */
static int keeper_begin(const struct drv_guest *g, const struct nspawn_plan *plan, const struct cgroup *c,
                        struct deadline d, int *go, int *keeper, struct vm_err *e)
{
    OWN(fd) int group = -1;
    bool scope = c->v2 && scope_wanted();
    struct proc_id id;
    pid_t pid;

    if (!scope && (cgroup_make(c, 0, e) < 0 || cgroup_keeper_open(c, &group, e) < 0))
        return -1;
    if (keeper_spawn(plan, group, &pid, go, e) < 0)
        return -1;
    /* It waits for our byte, so its pid cannot have become another's. */
    if (proc_id_of(pid, &id, e) < 0 || (*keeper = proc_id_open(&id, e)) < 0)
        return -1;
    if (scope && (scope_start(g->id, pid, d, e) < 0 || cgroup_make(c, pid, e) < 0))
        return -1;
    return cgroup_limits(c, g->spec, NULL, 0, e);
}

/* From the fork to the first sign of the guest's init. On failure the caller kills what there is. */
static int keeper_bring_up(const struct drv_guest *g, const struct nspawn_plan *plan, const struct cgroup *c,
                           struct deadline d, int *keeper, struct state *s, struct vm_err *e)
{
    OWN(fd) int go = -1;

    if (keeper_begin(g, plan, c, d, &go, keeper, e) < 0)
        return -1;
    if (write(go, "", 1) != 1)
        return vm_fail_sys(e, "start vms-keeper");
    if (keeper_await(g->run_dir, *keeper, PHASE_STARTED, d, s, e) < 0)
        return -1;
    if (s->phase == PHASE_ENDED && s->end == END_FAILED)
        return vm_fail(e, VM_E_BACKEND, "%s", s->text);
    return 0;
}

static int nspawn_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e)
{
    OWN(nspawn_plan) struct nspawn_plan plan = {0};
    OWN(fd) int keeper = -1;
    struct cgroup c;
    struct state s = {0};
    struct drv_proc p;

    if (keeper_state(g->run_dir, &s, NULL) == 0) {
        OWN(fd) int old = keeper_proc_open(&s, &s.keeper, NULL);

        if (old >= 0)
            return vm_fail(e, VM_E_CONFLICT, "start '%s': it runs already", g->spec->name);
        if (guest_kill(g->id, g->run_dir, e) < 0)
            return vm_context(e, "start '%s'", g->spec->name);
        state_remove(g->run_dir);
    }
    if (cgroups_remove(g->id, e) < 0)
        return vm_context(e, "start '%s'", g->spec->name);
    cgroup_of(g->id, &c);
    if (nspawn_plan_make(g, &c, d, &plan, e) < 0)
        return vm_context(e, "start '%s'", g->spec->name);
    if (keeper_bring_up(g, &plan, &c, d, &keeper, &s, e) < 0) {
        if (keeper >= 0) {
            pidfd_send_signal(keeper, SIGKILL, NULL, 0);
            pidfd_wait(keeper, deadline_in(KILL_MS));
        }
        guest_kill(g->id, g->run_dir, NULL);
        state_remove(g->run_dir);
        cgroups_remove(g->id, NULL);
        return vm_context(e, "start '%s'", g->spec->name);
    }
    proc_of(&s, &p);
    if (g->spec->limits.io_read || g->spec->limits.io_write)
        nspawn_limits(g, &p, NULL); /* the devices exist only now; a host without io control was named by doctor */
    *out = p;
    return 0;
}

static int ended(const struct drv_guest *g, const struct state *s, struct vm_err *e)
{
    return vm_fail(e, VM_E_BACKEND, "'%s' ended before it was up: %s; see vmctl console %s", g->spec->name,
                   s->end == END_POWEROFF ? "it powered itself off"
                   : s->end == END_REBOOT ? "it asked for a reboot"
                                          : s->text,
                   g->spec->name);
}

static int nspawn_wait_booted(const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    OWN(fd) int keeper = -1;
    struct state s = {0};
    struct vm_err why;

    if ((keeper = proc_id_open(&p->keeper, &why)) < 0) {
        if (keeper_state(g->run_dir, &s, NULL) == 0 && s.phase == PHASE_ENDED)
            return ended(g, &s, e);
        return vm_fail(e, VM_E_BACKEND, "'%s' ended before it was up: %s", g->spec->name, why.text);
    }
    if (keeper_await(g->run_dir, keeper, PHASE_BOOTED, d, &s, e) < 0)
        return vm_context(e, "boot of '%s'", g->spec->name);
    if (s.phase == PHASE_ENDED)
        return ended(g, &s, e);
    proc_of(&s, p);
    return 0;
}

static int nspawn_adopt(uint32_t id, const char *run_dir, struct drv_proc *out, struct vm_err *e)
{
    OWN(fd) int keeper = -1;
    struct state s;
    struct vm_err why;

    if (keeper_state(run_dir, &s, NULL) < 0 && nspawn_find(id, run_dir, &s, e) < 0)
        return -1;
    if ((keeper = keeper_proc_open(&s, &s.keeper, &why)) < 0) {
        if (e)
            *e = why;
        return vm_context(e, "the keeper of %s", run_dir);
    }
    proc_of(&s, out);
    return 0;
}

static int nspawn_stop(uint32_t id, const char *run_dir, const struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    OWN(fd) int keeper = -1;
    struct vm_err why;

    if ((keeper = proc_id_open(&p->keeper, &why)) < 0 && why.code != VM_E_ABSENT) {
        if (e)
            *e = why;
        return vm_context(e, "stop");
    }
    if (keeper >= 0) {
        pidfd_send_signal(keeper, SIGTERM, NULL, 0);
        if (!pidfd_wait(keeper, d)) {
            pidfd_send_signal(keeper, SIGQUIT, NULL, 0);
            if (!pidfd_wait(keeper, deadline_in(NOTE_MS))) {
                pidfd_send_signal(keeper, SIGKILL, NULL, 0);
                pidfd_wait(keeper, deadline_in(KILL_MS));
            }
        }
    }
    return guest_kill(id, run_dir, e) < 0 ? vm_context(e, "stop") : 0;
}

static int nspawn_reap(uint32_t id, const char *run_dir, struct drv_exit *out, struct vm_err *e)
{
    static const enum drv_exit_kind kinds[END_COUNT] = {
        [END_NONE] = EXIT_KILLED,  [END_POWEROFF] = EXIT_POWEROFF,    [END_REBOOT] = EXIT_REBOOT,
        [END_CRASH] = EXIT_CRASH,  [END_FAILED] = EXIT_FAILED_START,  [END_KILLED] = EXIT_KILLED,
    };
    struct drv_exit x = {.kind = EXIT_UNKNOWN};
    struct state s;
    struct vm_err why;

    if (keeper_state(run_dir, &s, &why) == 0) {
        OWN(fd) int keeper = keeper_proc_open(&s, &s.keeper, &why);

        if (keeper >= 0)
            return vm_fail(e, VM_E_CONFLICT, "reap %s: it still runs", run_dir);
        x.kind = kinds[s.end];
        x.status = s.status;
        snprintf(x.text, sizeof x.text, "%s", s.end == END_NONE ? "its keeper was killed" : s.text);
    } else
        snprintf(x.text, sizeof x.text, "nothing in %.150s tells how it ended", run_dir);
    if (guest_kill(id, run_dir, e) < 0 || cgroups_remove(id, e) < 0)
        return vm_context(e, "reap");
    state_remove(run_dir);
    *out = x;
    return 0;
}

static int nspawn_stats(uint32_t id, const char *run_dir, const struct drv_proc *p, struct drv_stats *out,
                        struct vm_err *e)
{
    struct cgroup c;

    (void)run_dir, (void)p, (void)e;
    cgroup_of(id, &c);
    cgroup_stats(&c, out);
    return 0;
}

static int nspawn_netns(const struct drv_proc *p, int *fd, struct vm_err *e)
{
    OWN(fd) int leader = keeper_leader_open(p, e);
    OWN(fd) int ns = -1;
    char path[40];

    if (leader < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)p->leader);
    if ((ns = open(path, O_RDONLY | O_CLOEXEC)) < 0) /* a magic link by nature: path_open refuses those */
        return vm_fail_sys(e, "open %s", path);
    if (pidfd_wait(leader, (struct deadline){0}))
        return vm_fail(e, VM_E_ABSENT, "the guest has just ended");
    *fd = take_fd(&ns);
    return 0;
}

/* Asked of the program once, since a start asks for the report too. */
static void version_get(char *out, size_t size)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static char version[64];
    char *const argv[] = {NSPAWN_PROGRAM, "--version", NULL};
    OWN(str) char *text = NULL;

    pthread_mutex_lock(&lock);
    if (!*version && child_must(argv, deadline_in(5000), &text, NULL) == 0)
        snprintf(version, sizeof version, "%.*s", (int)strcspn(text, "\n"), text);
    snprintf(out, size, "%s", version);
    pthread_mutex_unlock(&lock);
}

static void nspawn_probe(struct drv_report *out)
{
    struct drv_host h = {0};

    host_probe_mounts(&h);
    const struct { bool ok; const char *why, *hint; } needs[] = {
        {access(NSPAWN_PROGRAM, X_OK) == 0, NSPAWN_PROGRAM " is missing", "apt install systemd-container"},
        {geteuid() == 0, "vmsd does not run as root", "run vmsd as root"},
        {access(nspawn_programs.keeper, X_OK) == 0, "vms-keeper is missing", "reinstall vmsd"},
        {h.loop, "no loop devices: /dev/loop-control does not open", "modprobe loop"},
        {h.overlay, "the kernel has no overlay file system", "modprobe overlay"},
        {h.idmap, "the kernel cannot map ids of mounts", "use Linux 5.19 or newer"},
    };

    *out = (struct drv_report){.usable = true};
    for (size_t i = 0; i < ARRAY_LEN(needs); i++)
        if (!needs[i].ok) {
            out->usable = false;
            snprintf(out->why, sizeof out->why, "%s", needs[i].why);
            snprintf(out->hint, sizeof out->hint, "%s", needs[i].hint);
            return;
        }
    version_get(out->version, sizeof out->version);
}

const struct vm_driver nspawn_driver = {
    .name = "nspawn",
    .kind = KIND_CONTAINER,
    .probe = nspawn_probe,
    .start = nspawn_start,
    .wait_booted = nspawn_wait_booted,
    .adopt = nspawn_adopt,
    .stop = nspawn_stop,
    .reap = nspawn_reap,
    .agent = nspawn_agent,
    .stats = nspawn_stats,
    .limits = nspawn_limits,
    .grow = nspawn_grow,
    .netns = nspawn_netns,
};
