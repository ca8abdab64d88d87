#include "nspawn.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/starter.h>

static struct kept kept(uint32_t id, const char *run_dir)
{
    return (struct kept){KEEPS_NSPAWN, id, run_dir};
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

static int nspawn_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e)
{
    OWN(kept_plan) struct kept_plan plan = {0};
    OWN(fd) int keeper = -1;
    struct kept k = kept(g->id, g->run_dir);
    struct cgroup c;
    struct state s = {0};
    struct drv_proc p;

    cgroup_of(g->id, &c);
    if (kept_clear(&k, e) < 0 || nspawn_plan_make(g, &c, d, &plan, e) < 0)
        return vm_context(e, "start '%s'", g->spec->name);
    if (kept_begin(&k, &plan, &c, g->spec, d, &keeper, e) < 0 || kept_await(&k, keeper, PHASE_STARTED, d, &s, e) < 0 ||
        (s.phase == PHASE_ENDED && s.end == END_FAILED && vm_fail(e, VM_E_BACKEND, "%s", s.text) < 0)) {
        kept_undo(&k, keeper);
        return vm_context(e, "start '%s'", g->spec->name);
    }
    kept_proc(&s, &p);
    if (g->spec->limits.io_read || g->spec->limits.io_write)
        nspawn_limits(g, &p, NULL); /* the devices exist only now; a host without io control was named by doctor */
    *out = p;
    return 0;
}

static int nspawn_wait_booted(const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    struct kept k = kept(g->id, g->run_dir);

    return kept_wait_booted(&k, g->spec->name, p, d, e);
}

static int nspawn_adopt(uint32_t id, const char *run_dir, struct drv_proc *out, struct vm_err *e)
{
    struct kept k = kept(id, run_dir);

    return kept_adopt(&k, out, e);
}

static int nspawn_stop(uint32_t id, const char *run_dir, const struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    struct kept k = kept(id, run_dir);

    return kept_stop(&k, p, d, e);
}

static int nspawn_reap(uint32_t id, const char *run_dir, struct drv_exit *out, struct vm_err *e)
{
    struct kept k = kept(id, run_dir);

    return kept_reap(&k, out, e);
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

static pid_t parent_of(pid_t pid)
{
    char *at;
    OWN(str) char *text = NULL;

    if (pid <= 0 || proc_file_read(pid, "status", &text, NULL, NULL) < 0 || !(at = strstr(text, "\nPPid:")))
        return 0;
    return (pid_t)strtol(at + strlen("\nPPid:"), NULL, 10);
}

/* A pid alone may be another's by now. But only the leader's grandparent is the keeper; and what a pidfd shows alive
 * at the end had its pid all the time in between. */
int nspawn_leader_open(const struct drv_proc *p, struct vm_err *e)
{
    OWN(fd) int keeper = proc_id_open(&p->keeper, e);
    OWN(fd) int leader = -1;

    if (keeper < 0)
        return vm_context(e, "the guest's keeper");
    leader = p->leader > 0 ? pidfd_open(p->leader, 0) : -1;
    if (leader < 0 || parent_of(parent_of(p->leader)) != p->keeper.pid || pidfd_wait(leader, (struct deadline){0}) ||
        pidfd_wait(keeper, (struct deadline){0}))
        return vm_fail(e, VM_E_ABSENT, "the guest has just ended");
    return take_fd(&leader);
}

static int nspawn_netns(const struct drv_proc *p, int *fd, struct vm_err *e)
{
    OWN(fd) int leader = nspawn_leader_open(p, e);
    OWN(fd) int ns = -1;
    char path[40];

    if (leader < 0)
        return -1;
    snprintf(path, sizeof path, "/proc/%d/ns/net", (int)p->leader);
    ns = open(path, O_RDONLY | O_CLOEXEC); /* a magic link by nature: path_open refuses those */
    if (pidfd_wait(leader, (struct deadline){0}))
        return vm_fail(e, VM_E_ABSENT, "the guest has just ended");
    if (ns < 0)
        return vm_fail_sys(e, "open %s", path);
    *fd = take_fd(&ns);
    return 0;
}

static void nspawn_probe(struct drv_report *out)
{
    static struct version version = VERSION_UNKNOWN;
    struct drv_host h = {0};
    struct vm_err why = {0};
    char line[VERSION_LINE];
    bool starter = starter_reach(&why) == 0;

    host_probe_mounts(&h);
    const struct { bool ok; const char *why, *hint; } needs[] = {
        {access(NSPAWN_PROGRAM, X_OK) == 0, NSPAWN_PROGRAM " is missing", "apt install systemd-container"},
        {geteuid() == 0, "vmsd does not run as root", "run vmsd as root"},
        {access(keeper_program, X_OK) == 0, "vms-keeper is missing", "reinstall vmsd"},
        {starter, why.text, "see systemctl status vms-starter, or reinstall vmsd"},
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
    version_ask(&version, NSPAWN_PROGRAM, line);
    snprintf(out->version, sizeof out->version, "%.63s", line);
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
