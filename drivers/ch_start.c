#include "ch.h"

#include "shares_plan.h"
#include "shares.h"
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { LANDLOCK_NEEDED = 3, API_BACKLOG = 16, LAST_WORD_MS = 500, VMM_PIDS = 1024, REST_MS = 20000 };

struct kept ch_kept(uint32_t id, const char *run_dir)
{
    return (struct kept){KEEPS_VMM, id, run_dir};
}

bool ch_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= LANDLOCK_NEEDED;
}

void ch_host_probe(const struct drv_guest *g, struct ch_host *out)
{
    struct drv_host h = {0};
    dev_t devices[CH_DEVICES_MAX];
    size_t n;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);

    host_probe_cgroups(&h);
    *out = (struct ch_host){.cpus = cpus > 0 ? (unsigned)cpus : 1,
                            .memory = pages > 0 ? (uint64_t)pages * (uint64_t)page : 0,
                            .landlock = ch_landlock(), .direct = ch_disks_direct(g),
                            .limits_disks = h.cgroup2 && h.cgroup_io && ch_disk_devices(g, devices, &n)};
}

void ch_cgroup_spec(const struct drv_guest *g, uint64_t memory, struct guest_spec *out)
{
    size_t shares = 0;

    for (size_t i = 0; i < g->n_mounts; i++)
        shares += !g->mounts[i].disk;
    /* One CPU more: for disks, network and virtiofsd, which must not hold up the guest's own. */
    *out = (struct guest_spec){
        .memory = ch_memory_limit(memory, shares), .cpus = g->spec->cpus + 1, .limits = g->spec->limits};
    out->limits.pids = VMM_PIDS; /* of the VMM's threads; the guest's processes are no concern of the host's */
}

const char *ch_program(struct vm_err *e)
{
    static const char *const places[] = {"/usr/local/bin/cloud-hypervisor", "/usr/bin/cloud-hypervisor"};
    const char *named = getenv("VMS_CLOUD_HYPERVISOR");

    if (named && access(named, X_OK) == 0)
        return named;
    for (size_t i = 0; i < ARRAY_LEN(places) && !named; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    vm_fail(e, VM_E_UNAVAILABLE, "cloud-hypervisor is not %s%s", named ? "at VMS_CLOUD_HYPERVISOR=" : "installed",
            named ? named : "");
    return NULL;
}

/* ---- the plan ---- */

static int api_listen(const char *run_dir, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(run_dir, O_PATH | O_DIRECTORY, e);
    OWN(fd) int fd = -1;
    struct sockaddr_un a = {.sun_family = AF_UNIX};

    if (dir < 0)
        return -1;
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d/" KEEPER_API, dir);
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 ||
        chmod(a.sun_path, 0600) < 0 || listen(fd, API_BACKLOG) < 0)
        return vm_fail_sys(e, "listen on %s/" KEEPER_API, run_dir);
    return take_fd(&fd);
}

/* What the VMM only reads, and so has to be able to read as the user that it is. */
static int readable_open(const char *path, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(path, O_RDONLY | O_NONBLOCK, e);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%s' is not a regular file", path);
    if (!(st.st_mode & S_IROTH))
        return vm_fail(e, VM_E_DENIED, "the VMM runs unprivileged and cannot read '%s': chmod o+r it", path);
    return take_fd(&fd);
}

/* It holds the token of this boot: nobody's but the guest's. */
static int initramfs_open(const struct drv_guest *g, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(g->initramfs, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, e);

    if (fd < 0)
        return -1;
    if (fchown(fd, g->uid_base, g->uid_base) < 0 || fchmod(fd, 0400) < 0)
        return vm_fail_sys(e, "give %s to the guest's user", g->initramfs);
    return take_fd(&fd);
}

static int disks_add(struct plan_draft *draft, const struct drv_guest *g, struct deadline d, struct vm_err *e)
{
    OWN(vm_disks) struct vm_disks disks = {0};

    if (vm_disks_of(g, &disks, e) < 0)
        return -1;
    for (size_t i = 0; i < disks.n; i++) {
        const struct vm_disk *disk = &disks.v[i];
        char path[sizeof CH_DISK + DRV_TAG];

        snprintf(path, sizeof path, CH_DISK "%s", disk->serial);
        if (plan_file(draft, disk->read_only ? "vr" : "v", path,
                      disk->read_only ? readable_open(disk->path, e) : vm_disk_take(g, disk->path, d, e)) < 0)
            return -1;
    }
    return 0;
}

static int plan_make(const struct drv_guest *g, const struct cgroup *c, struct deadline d, struct kept_plan *out,
                     struct vm_err *e)
{
    OWN(plan_draft) struct plan_draft draft = {0};
    OWN(strv) struct strv args = {0};
    const char *program = ch_program(e);
    bool shares = shares_wanted(g);

    if (!program || ch_args(&args, e) < 0 || plan_begin(&draft, g, c, e) < 0 ||
        plan_take_fd(&draft, api_listen(g->run_dir, e)) < 0 || plan_program(&draft, "vr", CH_PROGRAM, program, e) < 0 ||
        (shares && shares_plan_files(&draft, e) < 0) || plan_libraries(&draft, shares ? "vsr" : "vr", e) < 0 ||
        plan_file(&draft, "vr", CH_KERNEL, readable_open(g->kernel, e)) < 0 ||
        (g->initramfs && plan_file(&draft, "vr", CH_INITRAMFS, initramfs_open(g, e)) < 0) ||
        disks_add(&draft, g, d, e) < 0 || shares_plan_mounts(&draft, g, e) < 0)
        return -1;
    for (size_t i = 0; i < args.n; i++)
        plan_add(&draft, "arg=%s", args.v[i]);
    return plan_end(&draft, out, e);
}

/* ---- bringing it up ---- */

static int nics_add(const struct drv_guest *g, struct deadline d, struct vm_err *e)
{
    for (size_t i = 0; i < g->n_taps; i++) {
        OWN(json) json_t *net = ch_config_net(&g->taps[i], i);
        struct ch_call call = {g->run_dir, "PUT", "vm.add-net", net, g->taps[i].fd};

        if (!net)
            return vm_no_memory(e);
        if (ch_call(&call, d, NULL, e) < 0)
            return vm_context(e, "nic %s", g->taps[i].ifname);
    }
    return 0;
}

static int machine_boot(const struct drv_guest *g, const struct ch_host *h, struct deadline d, struct vm_err *e)
{
    OWN(json) json_t *config = NULL;

    if (ch_config(g, h, &config, e) < 0)
        return -1;
    struct ch_call create = {g->run_dir, "PUT", "vm.create", config, -1}, boot = {g->run_dir, "PUT", "vm.boot", NULL, -1};

    return ch_call(&create, d, NULL, e) < 0 || nics_add(g, d, e) < 0 || ch_call(&boot, d, NULL, e) < 0 ? -1 : 0;
}

/* A VMM that dies takes its keeper along, which knows better why than a connection that broke. */
static void last_word(const struct kept *k, int keeper, struct vm_err *e)
{
    struct state s;

    if (pidfd_wait(keeper, deadline_in(LAST_WORD_MS)) && kept_state(k, &s, NULL) == 0 && s.phase == PHASE_ENDED && *s.text)
        vm_fail(e, VM_E_BACKEND, "%s", s.text);
}

static int bring_up(const struct drv_guest *g, const struct ch_host *h, const struct kept *k, int keeper, struct deadline d,
                    struct state *s, struct vm_err *e)
{
    struct deadline soon = deadline_in(REST_MS);

    if (machine_boot(g, h, deadline_left(soon) < deadline_left(d) ? soon : d, e) < 0) {
        last_word(k, keeper, e);
        return -1;
    }
    if (kept_await(k, keeper, PHASE_STARTED, d, s, e) < 0)
        return -1;
    return s->phase == PHASE_ENDED ? vm_fail(e, VM_E_BACKEND, "%s", *s->text ? s->text : "it ended at once") : 0;
}

int ch_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e)
{
    OWN(kept_plan) struct kept_plan plan = {0};
    OWN(fd) int keeper = -1;
    struct kept k = ch_kept(g->id, g->run_dir);
    struct guest_spec bounds;
    struct ch_host h;
    struct cgroup c;
    struct state s = {0};

    ch_host_probe(g, &h);
    cgroup_of(g->id, &c);
    ch_cgroup_spec(g, ch_memory(g->spec), &bounds);
    if (kept_clear(&k, e) < 0)
        return vm_context(e, "start '%s'", g->spec->name);
    if (plan_make(g, &c, d, &plan, e) < 0 || kept_begin(&k, &plan, &c, &bounds, d, &keeper, e) < 0 ||
        (g->spec->limits.io_read + g->spec->limits.io_write &&
         ch_disk_limits(g, &h, &bounds, ch_disk_rate(g, &h), e) < 0) ||
        bring_up(g, &h, &k, keeper, d, &s, e) < 0) {
        kept_undo(&k, keeper);
        return vm_context(e, "start '%s'", g->spec->name);
    }
    kept_proc(&s, out);
    return 0;
}
