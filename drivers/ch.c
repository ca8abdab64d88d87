#include "ch.h"

#include "shares.h"
#include "version.h"
#include "vm.h"

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* Before 51 the type of a disk image is guessed from what the guest wrote there. */
enum { VERSION_LEAST = 51, STATS_MS = 500, LIVE_MS = 10000, TRY_MS = 10000, PAUSE_MS = 20 };

/* ---- up and down ---- */

/* The keeper writes the state; that the agent answers only we can see. */
static int booted(const struct kept *k, const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    OWN(fd) int keeper = proc_id_open(&p->keeper, NULL);

    if (keeper >= 0)
        pidfd_send_signal(keeper, KEEPER_SIG_BOOTED, NULL, 0);
    return kept_wait_booted(k, g->spec->name, p, d, e);
}

static int ch_wait_booted(const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    struct kept k = ch_kept(g->id, g->run_dir);
    struct vm_err why = {0};
    OWN(fd) int agent = -1;

    while (agent < 0) {
        struct deadline once = deadline_in(deadline_left(d) < TRY_MS ? deadline_left(d) : TRY_MS);

        if (ch_agent_connect(p, once, &agent, &why) == 0)
            break;
        if (why.code == VM_E_BACKEND)
            return kept_wait_booted(&k, g->spec->name, p, d, e); /* which says how it ended */
        if (deadline_left(d) == 0)
            return vm_fail(e, VM_E_TIMEOUT,
                           "boot of '%s': its agent is not there in time; its console log tells how far it came",
                           g->spec->name);
        sleep_ms(PAUSE_MS);
    }
    return booted(&k, g, p, d, e);
}

static int ch_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e)
{
    return ch_agent_connect(p, d, fd, e) < 0 ? vm_context(e, "the agent of '%s'", g->spec->name) : 0;
}

static int ch_adopt(uint32_t id, const char *run_dir, struct drv_proc *out, struct vm_err *e)
{
    struct kept k = ch_kept(id, run_dir);

    return kept_adopt(&k, out, e);
}

static int ch_stop(uint32_t id, const char *run_dir, const struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    struct kept k = ch_kept(id, run_dir);

    return kept_stop(&k, p, d, e);
}

static int ch_reap(uint32_t id, const char *run_dir, struct drv_exit *out, struct vm_err *e)
{
    struct kept k = ch_kept(id, run_dir);

    return kept_reap(&k, out, e);
}

/* ---- while it runs ---- */

/* A counter that only disks have, of all of them. What a hostile VMM makes up is only ever shown. */
static uint64_t disks_sum(const json_t *counters, const char *counter)
{
    const char *id;
    json_t *device;
    double sum = 0;

    json_object_foreach((json_t *)counters, id, device)
        sum += fmax(0, json_num(device, counter, 0));
    return sum < 9e18 ? (uint64_t)sum : UINT64_MAX;
}

/* Where the host has no cgroups: the VMM's own figures. */
static void vmm_stats(pid_t vmm, struct drv_stats *out)
{
    struct drv_stats own;

    if ((!isnan(out->cpu_seconds) && out->memory != UINT64_MAX) || vmm <= 0 || vm_proc_stats(vmm, &own, NULL) < 0)
        return;
    if (isnan(out->cpu_seconds))
        out->cpu_seconds = own.cpu_seconds;
    if (out->memory == UINT64_MAX) {
        out->memory = own.memory;
        out->memory_peak = own.memory_peak;
    }
}

static int ch_stats(uint32_t id, const char *run_dir, const struct drv_proc *p, struct drv_stats *out, struct vm_err *e)
{
    OWN(json) json_t *counters = NULL;
    struct ch_call call = {run_dir, "GET", "vm.counters", NULL, -1};
    struct cgroup c;

    (void)e;
    cgroup_of(id, &c);
    cgroup_stats(&c, out);
    vmm_stats(p->leader, out);
    out->pids = out->pids_refused = UINT64_MAX; /* those are the VMM's threads; the guest's processes its agent counts */
    if (ch_call(&call, deadline_in(STATS_MS), &counters, NULL) == 0 && json_is_object(counters)) {
        out->io_read = disks_sum(counters, "read_bytes");
        out->io_write = disks_sum(counters, "write_bytes");
    }
    return 0;
}

/* What the machine has, and may have without a restart. */
struct machine { unsigned cpus, cpus_max; uint64_t memory, memory_least, memory_max, rate; };

/* A number of the VMM's, which may say anything; 0: none that could be. */
static uint64_t whole(double d)
{
    return d > 0 && d < 9e18 ? (uint64_t)d : 0;
}

static int machine_ask(const char *run_dir, struct deadline d, struct machine *m, struct vm_err *e)
{
    OWN(json) json_t *info = NULL;
    struct ch_call call = {run_dir, "GET", "vm.info", NULL, -1};

    if (ch_call(&call, d, &info, e) < 0)
        return -1;
    const json_t *config = json_object_get(info, "config"), *cpus = json_object_get(config, "cpus"),
                 *memory = json_object_get(config, "memory"),
                 *bucket = json_object_get(json_object_get(json_array_get(json_object_get(config, "rate_limit_groups"), 0),
                                                           "rate_limiter_config"), "bandwidth");
    double size = json_num(memory, "size", 0);

    *m = (struct machine){
        .cpus = (unsigned)whole(json_num(cpus, "boot_vcpus", 0)),
        .cpus_max = (unsigned)whole(json_num(cpus, "max_vcpus", 0)),
        .memory = whole(size + json_num(memory, "hotplugged_size", 0)),
        .memory_least = whole(size),
        .memory_max = whole(size + json_num(memory, "hotplug_size", 0)),
        .rate = whole(json_num(bucket, "size", 0)),
    };
    return m->cpus && m->memory ? 0 : vm_fail(e, VM_E_BACKEND, "vm.info: cloud-hypervisor does not tell cpus and memory");
}

static int may_resize(const struct drv_guest *g, const struct machine *m, unsigned cpus, uint64_t memory, struct vm_err *e)
{
    char least[TEXT_HUMAN], most[TEXT_HUMAN];

    if (cpus > m->cpus_max)
        return vm_fail(e, VM_E_CONFLICT, "'%s' can have at most %u cpus until its next start: restart it", g->spec->name,
                       m->cpus_max);
    if (memory < m->memory_least || memory > m->memory_max)
        return vm_fail(e, VM_E_CONFLICT, "'%s' can have from %s to %s of memory until its next start: restart it",
                       g->spec->name, text_human_size(m->memory_least, least), text_human_size(m->memory_max, most));
    return 0;
}

static int resize(const struct drv_guest *g, const struct machine *m, unsigned cpus, uint64_t memory, struct deadline d,
                  struct vm_err *e)
{
    OWN(json) json_t *want = ch_config_resize(cpus == m->cpus ? 0 : cpus, memory == m->memory ? 0 : memory);
    struct ch_call call = {g->run_dir, "PUT", "vm.resize", want, -1};

    if (!want)
        return vm_no_memory(e);
    return json_object_size(want) ? ch_call(&call, d, NULL, e) : 0;
}

/* The cgroup does not get smaller than what the machine still has: memory that is taken back comes when the guest gives it.
 * How much that is the VMM says, so it counts only as far as the limit goes that is in force. */
static void bounds_of(const struct drv_guest *g, const struct cgroup *c, uint64_t has, struct guest_spec *out)
{
    struct guest_spec more;
    struct drv_stats now;

    ch_cgroup_spec(g, ch_memory(g->spec), out);
    ch_cgroup_spec(g, has, &more);
    cgroup_stats(c, &now);
    if (now.memory_limit < more.memory)
        more.memory = now.memory_limit;
    if (more.memory > out->memory)
        out->memory = more.memory;
}

static int ch_limits(const struct drv_guest *g, const struct drv_proc *p, struct vm_err *e)
{
    struct deadline d = deadline_in(LIVE_MS);
    uint64_t memory = ch_memory(g->spec);
    unsigned cpus = (unsigned)ceil(g->spec->cpus);
    struct guest_spec bounds;
    struct ch_host h;
    struct machine m;
    struct cgroup c;

    (void)p;
    if (machine_ask(g->run_dir, d, &m, e) < 0 || may_resize(g, &m, cpus, memory, e) < 0)
        return -1;
    ch_host_probe(g, &h);
    cgroup_of(g->id, &c);
    bounds_of(g, &c, m.memory, &bounds);
    if (cgroup_limits(&c, &bounds, NULL, 0, e) < 0 || resize(g, &m, cpus, memory, d, e) < 0)
        return vm_context(e, "'%s'", g->spec->name);
    return ch_disk_limits(g, &h, &bounds, m.rate, e);
}

static int ch_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e)
{
    OWN(vm_disks) struct vm_disks disks = {0};
    struct stat st;

    (void)p;
    if (vm_disks_of(g, &disks, e) < 0)
        return -1;
    for (size_t i = 0; i < disks.n; i++) {
        if (strcmp(disks.v[i].path, source) || disks.v[i].read_only)
            continue;
        if (stat(source, &st) < 0)
            return vm_fail_sys(e, "stat '%s'", source);
        OWN(json) json_t *want = ch_config_grow(disks.v[i].serial, (uint64_t)st.st_size / 512 * 512);
        struct ch_call call = {g->run_dir, "PUT", "vm.resize-disk", want, -1};

        return want ? ch_call(&call, deadline_in(LIVE_MS), NULL, e) : vm_no_memory(e);
    }
    return vm_fail(e, VM_E_ABSENT, "grow '%s': it is no disk of this guest", source);
}

/* ---- what the host has ---- */

/* "cloud-hypervisor v53.0.0" */
static int version_number(const char *version)
{
    const char *v = strstr(version, " v");

    return v ? (int)strtol(v + 2, NULL, 10) : 0;
}

static void unusable(struct drv_report *out, const char *why, const char *hint)
{
    out->usable = false;
    snprintf(out->why, sizeof out->why, "%.199s", why);
    snprintf(out->hint, sizeof out->hint, "%.199s", hint);
}

static void ch_probe(struct drv_report *out)
{
    static struct version version = VERSION_UNKNOWN;
    struct vm_err e = {0};
    const char *program = ch_program(&e);
    char why[160], line[VERSION_LINE];

    *out = (struct drv_report){.usable = true};
    if (!program)
        return unusable(out, e.text, "put its release binary, v51 or newer, at /usr/local/bin/cloud-hypervisor");
    version_ask(&version, program, line);
    snprintf(out->version, sizeof out->version, "%.63s", line);
    if (version_number(out->version) < VERSION_LEAST)
        return unusable(out, *out->version ? out->version : "cloud-hypervisor does not tell its version",
                        "v51 is the oldest that vmsd can trust with disks; install a newer one");
    if (access(keeper_program, X_OK) < 0)
        return unusable(out, "vms-keeper is missing", "reinstall vmsd");
    if (!kvm_usable(why, sizeof why))
        return unusable(out, why, "turn on virtualisation in the firmware or of the virtual machine; else use qemu");
    if (!shares_program(NULL))
        snprintf(out->warning, sizeof out->warning, "no virtiofsd: guests with binds or directory volumes do not start");
    else if (!ch_landlock())
        snprintf(out->warning, sizeof out->warning, "the kernel's Landlock is older than 6.2 or off: the VMM goes without it");
}

const struct vm_driver ch_driver = {
    .name = "cloud-hypervisor",
    .kind = KIND_MICROVM,
    .can = DRV_TAKES_TAPS | DRV_BOOTS_KERNEL | DRV_RESIZES,
    .probe = ch_probe,
    .start = ch_start,
    .wait_booted = ch_wait_booted,
    .adopt = ch_adopt,
    .stop = ch_stop,
    .reap = ch_reap,
    .agent = ch_agent,
    .stats = ch_stats,
    .limits = ch_limits,
    .grow = ch_grow,
};
