/* What the host can do and cannot, and how to mend it. */
#include "doctor.h"

#include <stdarg.h>

enum { FILES_PER_GUEST = 8, FILES_OF_VMSD = 256 };
#define DISK_LEAST (5ull << 30)
#define WALL_SANE INT64_C(1735689600000) /* 2025: before this program was written */

enum level { OK, INFO, WARNING, ERROR };

/* why is printf's; mend may be NULL where nothing needs it. */
__attribute__((format(printf, 5, 6))) static void say(json_t *list, enum level level, const char *what, const char *mend,
                                                      const char *why, ...)
{
    static const char *const names[] = {[OK] = "ok", [INFO] = "info", [WARNING] = "warning", [ERROR] = "error"};
    json_t *o = json_object();
    OWN(str) char *text = NULL;
    va_list ap;

    va_start(ap, why);
    if (vasprintf(&text, why, ap) < 0)
        text = NULL;
    va_end(ap);
    json_put_str(o, "level", names[level]);
    json_put_str(o, "what", what);
    json_put_text(o, "why", &(struct text){.s = text, .failed = !text});
    json_put_str(o, "mend", level == OK ? NULL : mend);
    json_array_append_new(list, o);
}

static char *joined(const struct strv *v)
{
    struct text t = {0};

    for (size_t i = 0; i < v->n; i++)
        text_addf(&t, "%s%s", i ? ", " : "", v->v[i]);
    return text_take(&t);
}

static void judge_init(const struct doctor_facts *f, json_t *list)
{
    if (f->host.systemd)
        say(list, OK, "init", NULL, "systemd runs this host: every guest lives in a scope of its own in vms.slice");
    else
        say(list, INFO, "init", "boot it with systemd, if that is wanted",
            "systemd does not run this host: guests are kept by vms-keeper alone, and systemctl does not show them");
    if (f->run_tmpfs)
        say(list, OK, "runtime directory", NULL, "%s is in memory", f->run_dir);
    else
        say(list, INFO, "runtime directory", "keep the socket below /run, and on /run a tmpfs",
            "%s is on a disk: what a crash of the host leaves there is tidied up by vmsd, not by the boot", f->run_dir);
}

static void judge_cgroups(const struct doctor_facts *f, json_t *list)
{
    const struct { bool there; const char *what, *lost, *mend; } controllers[] = {
        {f->host.cgroup_memory, "memory limits", "memory: a guest can use all memory of the host",
         "boot with cgroup_enable=memory and without cgroup_disable=memory (Raspberry Pi: /boot/firmware/cmdline.txt)"},
        {f->host.cgroup_cpu, "CPU limits", "cpus, limits.cpu_weight: a guest can take all CPUs",
         "use a kernel with CONFIG_CGROUP_SCHED, and let no version 1 hierarchy hold the controller"},
        {f->host.cgroup_pids, "process limits", "limits.pids: a guest can start processes until the host has no more",
         "use a kernel with CONFIG_CGROUP_PIDS, and let no version 1 hierarchy hold the controller"},
        {f->host.cgroup_io, "I/O limits", "limits.io: a guest can keep the disks busy",
         "use a kernel with CONFIG_BLK_CGROUP, and let no version 1 hierarchy hold the controller"},
    };

    if (f->host.cgroup2)
        say(list, OK, "control groups", NULL, "version 2");
    else
        say(list, INFO, "control groups", f->host.systemd ? "boot with systemd.unified_cgroup_hierarchy=1" :
            "boot with cgroup_no_v1=all, and mount cgroup2 on /sys/fs/cgroup",
            "version 1: limits.io does not hold for buffered writes, and usage shows pressure only where version 2 is on "
            "/sys/fs/cgroup/unified");
    for (size_t i = 0; i < ARRAY_LEN(controllers); i++) {
        if (controllers[i].there)
            say(list, OK, controllers[i].what, NULL, "they hold");
        else
            say(list, WARNING, controllers[i].what, controllers[i].mend, "the host cannot enforce %s", controllers[i].lost);
    }
}

static void judge_kernel(const struct doctor_facts *f, json_t *list)
{
    const struct { bool there; const char *what, *mend; } needs[] = {
        {f->host.idmap, "idmapped mounts", "use a kernel of 5.15 or later"},
        {f->host.overlay, "overlayfs", "modprobe overlay, and list it in /etc/modules-load.d/vmsd.conf"},
        {f->host.loop, "loop devices", "modprobe loop, and list it in /etc/modules-load.d/vmsd.conf"},
    };

    for (size_t i = 0; i < ARRAY_LEN(needs); i++)
        say(list, needs[i].there ? OK : ERROR, needs[i].what, needs[i].mend,
            needs[i].there ? "there" : "missing: containers cannot be started");
}

#define MEND_KVM "enable virtualisation in the firmware, or nested virtualisation on the host above"

static bool usable(const struct doctor_facts *f, enum spec_kind kind, const char **first)
{
    for (size_t i = 0; i < f->n_drivers; i++) {
        if (f->drivers[i].kind != kind || !f->drivers[i].report.usable)
            continue;
        *first = f->drivers[i].name;
        return true;
    }
    return false;
}

/* A host without microVMs need not be able to run them, and one hypervisor is enough. */
static void judge_driver(const struct doctor_facts *f, size_t i, bool microvms, json_t *list)
{
    const struct drv_report *r = &f->drivers[i].report;
    const char *name = f->drivers[i].name;
    bool needed = f->drivers[i].kind == KIND_CONTAINER || f->n_microvms;

    if (r->usable && *r->warning)
        say(list, needed ? WARNING : INFO, name, *r->hint ? r->hint : MEND_KVM, "usable%s%s, but %s",
            r->version[0] ? ": " : "", r->version, r->warning);
    else if (r->usable)
        say(list, OK, name, NULL, "usable%s%s", r->version[0] ? ": " : "", r->version);
    else
        say(list, needed && !(microvms && f->drivers[i].kind == KIND_MICROVM) ? WARNING : INFO, name, r->hint,
            "not usable: %s", r->why);
}

static void judge_drivers(const struct doctor_facts *f, json_t *list)
{
    const char *container, *microvm;
    bool containers = usable(f, KIND_CONTAINER, &container), microvms = usable(f, KIND_MICROVM, &microvm);

    for (size_t i = 0; i < f->n_drivers; i++)
        judge_driver(f, i, microvms, list);
    if (!containers && !microvms)
        say(list, ERROR, "drivers", "see the findings above", "no driver is usable: no guest can be started");
    if (microvms)
        say(list, OK, "microVMs", NULL, "can be started: hypervisor: auto takes %s", microvm);
    else
        say(list, f->n_microvms ? ERROR : INFO, "microVMs", "see the findings on hypervisors, or use kind: container",
            "no hypervisor is usable: guests of kind: microvm cannot be started");
    if (microvms && !f->erofs)
        say(list, f->n_microvms ? ERROR : WARNING, "erofs-utils", "apt-get install erofs-utils",
            "missing: images of microVMs cannot be made");
    if (microvms && !f->init)
        say(list, f->n_microvms ? ERROR : WARNING, "vms-init", "install it beside vmsd, or name kernel and initramfs in specs",
            "missing: microVMs with vmsd's own kernel cannot be started");
    if (f->host.kvm)
        say(list, OK, "KVM", NULL, "/dev/kvm can be trusted");
    else
        say(list, INFO, "KVM", MEND_KVM, "hardware virtualisation is not to be had: %s", f->host.kvm_why);
}

static void judge_circles(const struct doctor_facts *f, json_t *list)
{
    OWN(str) char *dns = joined(&f->dns_guests);

    if (f->dns_guests.n)
        say(list, WARNING, "names for the host", "add a name server outside to /etc/resolv.conf, after the guest",
            "the host asks its own guests for names: %s. That is a circle: while they are down it resolves none, and cannot "
            "build what they are made of", dns ? dns : "");
    else
        say(list, OK, "names for the host", NULL, "they do not depend on a guest");
    for (size_t i = 0; i < f->circles.n; i++)
        say(list, WARNING, "circle", "name a second server in `dns` of the network, or take one out of depends_on",
            "%s: neither can be installed without the other", f->circles.v[i]);
    if (!f->circles.n)
        say(list, OK, "start order", NULL, "no guest waits for one that needs it");
}

static void judge_network(const struct doctor_facts *f, json_t *list)
{
    OWN(str) char *dropping = joined(&f->dropping);
    const struct { bool there; const char *what, *mend; } needs[] = {
        {f->net.nft, "nftables", "modprobe nf_tables nft_chain_nat, and see that vmsd has CAP_NET_ADMIN"},
        {f->net.bridge_family, "nftables for bridges", "modprobe nf_tables_bridge, or use a kernel with NF_TABLES_BRIDGE"},
        {f->net.conntrack, "connection tracking", "modprobe nf_conntrack nft_ct"},
    };

    if (f->net_error.code)
        say(list, ERROR, "network", "see that vmsd runs as root and that /proc/sys is there", "%s", f->net_error.text);
    for (size_t i = 0; i < ARRAY_LEN(needs) && !f->net_error.code; i++)
        say(list, needs[i].there ? OK : ERROR, needs[i].what, needs[i].mend,
            needs[i].there ? "there" : "missing: guests cannot be kept apart, so networks do not come up");
    if (!f->net_error.code)
        say(list, OK, "IP forwarding", NULL, "%s; vmsd turns it on when a network needs it (NAT, or traffic between guests "
            "that `allow` lets through), and its rules drop what guests may not send",
            f->net.ip_forward ? "on" : "off");
    if (f->dropping.n)
        say(list, WARNING, "other firewalls", "let traffic of the guests' bridges pass there, both ways: for iptables "
            "`iptables -I FORWARD -i BRIDGE -j ACCEPT` and `-o BRIDGE`; for firewalld put the bridge into zone trusted",
            "these chains drop what they do not know, and what vmsd's rules let pass with it: %s",
            dropping ? dropping : "");
    else
        say(list, OK, "other firewalls", NULL, "none drops forwarded traffic");
}

static void judge_space(const struct doctor_facts *f, json_t *list)
{
    char free_text[TEXT_HUMAN], total_text[TEXT_HUMAN];
    bool tight = f->disk_total && (f->disk_free < DISK_LEAST || f->disk_free < f->disk_total / 10);
    bool few_files = f->files_total && f->files_free < f->files_total / 20;

    text_human_size(f->disk_free, free_text);
    text_human_size(f->disk_total, total_text);
    if (!f->disk_total)
        say(list, WARNING, "disk space", "see that it exists and can be read", "%s cannot be asked", f->state_dir);
    else
        say(list, tight ? WARNING : OK, "disk space", "free some (vmctl image gc), or give the file system more",
            "%s of %s free in %s; disks of guests are sparse and grow into it", free_text, total_text, f->state_dir);
    if (few_files)
        say(list, WARNING, "inodes", "remove files, or make the file system anew with more inodes",
            "less than one in twenty is free in %s", f->state_dir);
    if (!f->grows)
        say(list, WARNING, "disks that grow", "give vmsd CAP_SYS_RESOURCE, or rebuild a container whose `disk` was raised",
            "CAP_SYS_RESOURCE is missing: the file system of a container's disk stays as large as it was made");
    text_human_size(f->guest_memory, free_text);
    text_human_size(f->host_memory, total_text);
    if (f->host_memory && f->guest_memory > f->host_memory)
        say(list, WARNING, "memory", "lower `memory` of some guests, or add memory",
            "guests may use %s together, and the host has %s: when all do, the kernel ends processes", free_text,
            total_text);
    else
        say(list, OK, "memory", NULL, "guests may use %s of the host's %s", free_text, total_text);
}

static void judge_rest(const struct doctor_facts *f, json_t *list)
{
    OWN(str) char *orphans = joined(&f->orphans);
    uint64_t files = FILES_OF_VMSD + f->n_guests * FILES_PER_GUEST;

    if (f->wall < WALL_SANE)
        say(list, ERROR, "clock", "set it, and run chrony or systemd-timesyncd", "it is years behind: certificates fail");
    else if (f->clock_known && !f->clock_synced)
        say(list, INFO, "clock", "run chrony or systemd-timesyncd", "nothing keeps it in time");
    else
        say(list, OK, "clock", NULL, "%s", f->clock_synced ? "kept in time" : "plausible");
    say(list, f->mmdebstrap ? OK : WARNING, "mmdebstrap", "apt-get install mmdebstrap",
        f->mmdebstrap ? "there" : "missing: images cannot be built from recipes (directories and tars still work)");
    say(list, f->open_files >= files ? OK : WARNING, "open files", "raise LimitNOFILE= of vmsd.service",
        "vmsd may open %llu, and %zu guests need about %llu", (unsigned long long)f->open_files, f->n_guests,
        (unsigned long long)files);
    say(list, f->group ? OK : INFO, "group vmsd", "groupadd --system vmsd; usermod -aG vmsd USER",
        f->group ? "its members may use vmctl" : "missing: only root may use vmctl");
    if (f->orphans.n)
        say(list, WARNING, "leftovers", "restart vmsd, which removes what it can prove to be its own; else by hand",
            "they belong to no guest: %s", orphans ? orphans : "");
    else
        say(list, OK, "leftovers", NULL, "none");
}

json_t *doctor_judge(const struct doctor_facts *f)
{
    json_t *list = json_array();

    judge_init(f, list);
    judge_cgroups(f, list);
    judge_kernel(f, list);
    judge_drivers(f, list);
    judge_network(f, list);
    judge_circles(f, list);
    judge_space(f, list);
    judge_rest(f, list);
    return list;
}

json_t *doctor_findings(struct world *w)
{
    struct doctor_facts f = {0};
    json_t *list = doctor_look(w, &f, NULL) == 0 ? doctor_judge(&f) : NULL;

    doctor_facts_done(&f);
    return list;
}
