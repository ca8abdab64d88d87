#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <unistd.h>
#include <vmsd/path.h>

/* What the kernel needs at most to end killed processes; beyond that one hangs in it. And what a keeper gets to kill its
 * guest and note how that ended. */
enum { KILL_MS = 10000, NOTE_MS = 2000 };

void kept_proc(const struct state *s, struct drv_proc *out)
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

    if ((fd = kept_proc_open(s, p, &why)) < 0) {
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

/* After this, no process of the guest lives. The keeper's end takes its children along, and theirs, as inits of their pid
 * namespaces, all others; the order here only makes sure of each. */
static int kill_all(const struct kept *k, struct vm_err *e)
{
    struct cgroup c;
    struct state s;
    struct vm_err why;

    cgroup_of(k->id, &c);
    if (kept_state(k, &s, &why) < 0) {
        cgroup_kill(&c);
        return 0;
    }
    if (kill_wait(&s, &s.keeper, "vms-keeper", e) < 0 || kill_wait(&s, &s.nspawn, "systemd-nspawn", e) < 0 ||
        kill_wait(&s, &s.leader, k->kind == KEEPS_NSPAWN ? "the guest's init" : "the VMM", e) < 0)
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

static int files_remove(const struct kept *k, struct vm_err *e)
{
    struct vm_err why = {0};
    OWN(fd) int dir = path_open_host(k->run_dir, O_RDONLY | O_DIRECTORY, &why);
    char name[32];

    if (dir < 0)
        return why.sys == ENOENT ? 0 : vm_fail(e, why.code, "%s", why.text);
    snprintf(name, sizeof name, "%s.new", keeper_files[k->kind]);
    if (path_remove(dir, keeper_files[k->kind], e) < 0 || path_remove(dir, name, e) < 0 ||
        (k->kind == KEEPS_VMM && path_remove(dir, KEEPER_API, e) < 0))
        return -1;
    for (int i = 0; k->kind == KEEPS_SHARES && i < KEEPER_MOUNTS_MAX; i++) {
        snprintf(name, sizeof name, "share%d.sock", i);
        if (path_remove(dir, name, e) < 0)
            return -1;
    }
    return 0;
}

/* Its state file is there, perhaps, and cannot be read: that says nothing about the guest. */
static bool is_unknown(const struct vm_err *why)
{
    return why->sys && why->sys != ENOENT;
}

int kept_clear(const struct kept *k, struct vm_err *e)
{
    struct state s;
    struct vm_err why;

    if (kept_state(k, &s, &why) == 0) {
        OWN(fd) int old = kept_proc_open(&s, &s.keeper, NULL);

        if (old >= 0)
            return vm_fail(e, VM_E_CONFLICT, "it runs already");
        if (kill_all(k, e) < 0)
            return -1;
    } else if (is_unknown(&why))
        return vm_fail(e, why.code, "does it run already? %s", why.text);
    return files_remove(k, e) < 0 ? -1 : cgroups_remove(k->id, e);
}

/* Where systemd runs, it makes the group, around a process that is there: so the keeper moves. Elsewhere it is born in
 * a group of ours. */
static int keeper_place(const struct kept *k, const struct kept_plan *plan, const struct cgroup *c, struct deadline d,
                        int64_t stop_ms, int *go, int *keeper, struct vm_err *e)
{
    OWN(fd) int group = -1;
    bool scope = c->v2 && scope_wanted();
    struct proc_id id;
    pid_t pid;

    if (!scope && (cgroup_make(c, 0, e) < 0 || cgroup_keeper_open(c, &group, e) < 0))
        return -1;
    if (keeper_spawn(plan, k->kind, group, &pid, go, e) < 0)
        return -1;
    /* It waits for our byte, so its pid cannot have become another's. */
    if (proc_id_of(pid, &id, e) < 0 || (*keeper = proc_id_open(&id, e)) < 0)
        return -1;
    return scope && (scope_start(k->id, pid, stop_ms, d, e) < 0 || cgroup_make(c, pid, e) < 0) ? -1 : 0;
}

int kept_begin(const struct kept *k, const struct kept_plan *plan, const struct cgroup *c, const struct guest_spec *s,
               struct deadline d, int *keeper, struct vm_err *e)
{
    OWN(fd) int go = -1;

    if (keeper_place(k, plan, c, d, s->stop_timeout_ms, &go, keeper, e) < 0 || cgroup_limits(c, s, NULL, 0, e) < 0)
        return -1;
    return write(go, "", 1) == 1 ? 0 : vm_fail_sys(e, "start vms-keeper");
}

void kept_undo(const struct kept *k, int keeper)
{
    if (keeper >= 0) {
        pidfd_send_signal(keeper, SIGKILL, NULL, 0);
        pidfd_wait(keeper, deadline_in(KILL_MS));
    }
    kill_all(k, NULL);
    files_remove(k, NULL);
    cgroups_remove(k->id, NULL);
}

int kept_ended(const struct state *s, const char *name, struct vm_err *e)
{
    return vm_fail(e, VM_E_BACKEND, "'%s' ended before it was up: %s; see vmctl console %s", name,
                   s->end == END_POWEROFF ? "it powered itself off"
                   : s->end == END_REBOOT ? "it asked for a reboot"
                                          : s->text,
                   name);
}

int kept_wait_booted(const struct kept *k, const char *name, struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    OWN(fd) int keeper = -1;
    struct state s = {0};
    struct vm_err why;

    if ((keeper = proc_id_open(&p->keeper, &why)) < 0) {
        if (kept_state(k, &s, NULL) == 0 && s.phase == PHASE_ENDED)
            return kept_ended(&s, name, e);
        return vm_fail(e, VM_E_BACKEND, "'%s' ended before it was up: %s", name, why.text);
    }
    if (kept_await(k, keeper, PHASE_BOOTED, d, &s, e) < 0)
        return vm_context(e, "boot of '%s'", name);
    if (s.phase == PHASE_ENDED)
        return kept_ended(&s, name, e);
    kept_proc(&s, p);
    return 0;
}

int kept_adopt(const struct kept *k, struct drv_proc *out, struct vm_err *e)
{
    OWN(fd) int keeper = -1;
    struct state s;
    struct vm_err why;

    if (kept_state(k, &s, &why) < 0 && kept_find(k, &s, e) < 0)
        return is_unknown(&why) ? vm_fail(e, why.code, "%s", why.text) : -1;
    if ((keeper = kept_proc_open(&s, &s.keeper, &why)) < 0) {
        if (e)
            *e = why;
        return vm_context(e, "the keeper of %s", k->run_dir);
    }
    kept_proc(&s, out);
    return 0;
}

int kept_stop(const struct kept *k, const struct drv_proc *p, struct deadline d, struct vm_err *e)
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
    return kill_all(k, e) < 0 ? vm_context(e, "stop") : 0;
}

int kept_reap(const struct kept *k, struct drv_exit *out, struct vm_err *e)
{
    static const enum drv_exit_kind kinds[END_COUNT] = {
        [END_NONE] = EXIT_KILLED,  [END_POWEROFF] = EXIT_POWEROFF,    [END_REBOOT] = EXIT_REBOOT,
        [END_CRASH] = EXIT_CRASH,  [END_FAILED] = EXIT_FAILED_START,  [END_KILLED] = EXIT_KILLED,
        [END_PANIC] = EXIT_PANIC,
    };
    struct drv_exit x = {.kind = EXIT_UNKNOWN};
    struct state s;
    struct vm_err why;

    if (kept_state(k, &s, &why) == 0) {
        OWN(fd) int keeper = kept_proc_open(&s, &s.keeper, &why);

        if (keeper >= 0)
            return vm_fail(e, VM_E_CONFLICT, "reap %s: it still runs", k->run_dir);
        x.kind = kinds[s.end];
        x.status = s.status;
        snprintf(x.text, sizeof x.text, "%s", s.end == END_NONE ? "its keeper was killed" : s.text);
    } else
        snprintf(x.text, sizeof x.text, "nothing in %.150s tells how it ended", k->run_dir);
    if (kill_all(k, e) < 0 || cgroups_remove(k->id, e) < 0 || files_remove(k, e) < 0)
        return vm_context(e, "reap");
    *out = x;
    return 0;
}
