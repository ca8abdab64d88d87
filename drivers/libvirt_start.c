/* From a guest's description to a QEMU that runs, and what is to be taken back of that. */
#include "acl.h"
#include "kept.h"
#include "libvirt.h"
#include "shares.h"
#include "vm.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <unistd.h>
#include <vmsd/path.h>

/* Libvirt's run directory of QEMU: <name>.pid is written before a domain's creation is over. */
#define QEMU_RUN "/run/libvirt/qemu"
/* Below it each QEMU has a directory with its secrets, its own; but only libvirt's user for QEMU may pass through here. */
#define QEMU_LIB "/var/lib/libvirt/qemu"

enum { ASK_MS = 2000, CLEAR_MS = 5000, TERM_MS = 3000, KILL_MS = 10000 };

/* ---- QEMU, as the kernel knows it ---- */

/* A pid file alone proves nothing: the process says itself which domain it is. */
static bool is_qemu_of(pid_t pid, const char *name)
{
    char guest[48];
    OWN(str) char *line = NULL;
    size_t n;

    snprintf(guest, sizeof guest, "guest=%s,", name);
    return proc_file_read(pid, "cmdline", &line, &n, NULL) == 0 && memmem(line, n, guest, strlen(guest));
}

static int qemu_by_pid(uint32_t id, struct proc_id *out, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(QEMU_RUN, O_RDONLY | O_DIRECTORY, NULL);
    OWN(str) char *text = NULL;
    char name[VIRT_NAME], file[VIRT_NAME + 8];
    struct proc_id p;
    long pid;

    virt_name(id, name);
    snprintf(file, sizeof file, "%s.pid", name);
    if (dir < 0 || path_read(dir, file, 32, &text, NULL, NULL) < 0 || (pid = strtol(text, NULL, 10)) <= 1 ||
        proc_id_of((pid_t)pid, &p, NULL) < 0 || !is_qemu_of((pid_t)pid, name))
        return vm_fail(e, VM_E_ABSENT, "no QEMU runs as %s", name);
    *out = p;
    return 0;
}

/* arg: the description that it should have. */
static int ask_whose(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(domain) virDomainPtr dom = virt_domain(v, c, call, e);
    OWN(str) char *whose = dom ? v->virDomainGetMetadata(dom, VIR_DOMAIN_METADATA_DESCRIPTION, NULL, 0) : NULL;

    if (dom && (!whose || strcmp(whose, call->arg)))
        return vm_fail(e, VM_E_ABSENT, "domain %s is not of this vmsd", call->name);
    return dom ? 0 : -1;
}

static struct virt_call *call_about(uint32_t id, const char *run_dir,
                                    int (*run)(const struct virt *, virConnectPtr, struct virt_call *, struct vm_err *))
{
    OWN(virt_call) struct virt_call *call = virt_call_new(id, run);

    if (!call || !(call->arg = virt_description(run_dir)))
        return NULL;
    call->drop = free;
    return TAKE(call);
}

int virt_qemu_find(uint32_t id, const char *run_dir, struct proc_id *out, struct vm_err *e)
{
    OWN(virt_call) struct virt_call *call = NULL;
    struct proc_id p;
    struct vm_err why;

    if (qemu_by_pid(id, &p, e) < 0)
        return -1;
    call = call_about(id, run_dir, ask_whose);
    if (virt_ask(call, deadline_in(ASK_MS), &why) < 0)
        return vm_fail(e, why.code == VM_E_ABSENT ? VM_E_ABSENT : VM_E_UNAVAILABLE, "whose QEMU %d is: %s", (int)p.pid, why.text);
    *out = p;
    return 0;
}

/* "machine-qemu\x2d1\x2dvmsd\x2d7.scope" of systemd, or "qemu-1-vmsd-7.libvirt-qemu". */
static bool is_group(const char *name, size_t n, uint32_t id)
{
    static const struct { const char *begins, *dash, *ends; } forms[] = {
        {"machine-qemu\\x2d", "\\x2d", ".scope"}, {"qemu-", "-", ".libvirt-qemu"}};
    char end[64];

    for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
        const char *dash = forms[i].dash;
        size_t first = strlen(forms[i].begins);
        size_t last = (size_t)snprintf(end, sizeof end, "%svmsd%s%u%s", dash, dash, id, forms[i].ends);

        if (n > first + last && !memcmp(name, forms[i].begins, first) && !memcmp(name + n - last, end, last))
            return true;
    }
    return false;
}

bool virt_group_of(const char *text, uint32_t id, char out[static PATH_MAX])
{
    const char *path = strncmp(text, "0::", 3) ? strstr(text, "\n0::") : text;

    path = path ? strchr(path, '/') : NULL;
    for (const char *at = path; at && *at == '/';) {
        const char *name = at + 1;

        at = name + strcspn(name, "/\n");
        if (is_group(name, (size_t)(at - name), id))
            return snprintf(out, PATH_MAX, "%.*s", (int)(at - path), path) < PATH_MAX;
    }
    return false;
}

int virt_group_open(uint32_t id, pid_t qemu)
{
    OWN(str) char *text = NULL;
    char path[PATH_MAX], group[PATH_MAX];

    if (proc_file_read(qemu, "cgroup", &text, NULL, NULL) < 0 || !virt_group_of(text, id, group) ||
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cgroup.kill", group) >= (int)sizeof path)
        return -1;
    return path_open_host(path, O_WRONLY, NULL);
}

int virt_qemu_kill(const struct proc_id *qemu, struct vm_err *e)
{
    static const struct { int sig, ms; } ways[] = {{SIGTERM, TERM_MS}, {SIGKILL, KILL_MS}};
    struct vm_err why;
    OWN(fd) int fd = proc_id_open(qemu, &why);

    if (fd < 0) {
        if (why.code == VM_E_ABSENT)
            return 0;
        if (e)
            *e = why;
        return -1;
    }
    for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
        pidfd_send_signal(fd, ways[i].sig, NULL, 0);
        if (pidfd_wait(fd, deadline_in(ways[i].ms)))
            return 0;
    }
    return vm_fail(e, VM_E_BACKEND, "QEMU (process %d) does not end, though killed: it hangs in the kernel", (int)qemu->pid);
}

/* ---- the domain, as libvirtd knows it ---- */

/* Makes sure that there is none of that name. One of ours was left by a start that was cut off, or its QEMU has ended a
 * moment before libvirtd noticed. arg: its description. */
static int domain_clear(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    struct deadline d = deadline_in(CLEAR_MS);

    for (;;) {
        OWN(domain) virDomainPtr dom = v->virDomainLookupByName(c, call->name);
        OWN(str) char *whose = NULL;

        if (!dom)
            return v->virGetLastError() && v->virGetLastError()->code == VIR_ERR_NO_DOMAIN
                       ? 0
                       : virt_fail(v, e, "look for domain %s", call->name);
        whose = v->virDomainGetMetadata(dom, VIR_DOMAIN_METADATA_DESCRIPTION, NULL, 0);
        if (!whose || strcmp(whose, call->arg))
            return vm_fail(e, VM_E_CONFLICT, "libvirt has a domain %s already, which is not of this vmsd; see virsh dumpxml %s",
                           call->name, call->name);
        v->virDomainDestroy(dom);
        if (!deadline_left(d))
            return vm_fail(e, VM_E_BACKEND, "libvirtd does not let go of domain %s", call->name);
        sleep_ms(20);
    }
}

/* number: libvirtd's for this domain, which no other one gets. */
static int domain_create(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(domain) virDomainPtr dom = NULL;

    if (domain_clear(v, c, call, e) < 0)
        return -1;
    if (!(dom = v->virDomainCreateXML(c, call->text, VIR_DOMAIN_START_PAUSED)))
        return virt_fail(v, e, "domain %s", call->name);
    call->number = v->virDomainGetID(dom);
    return 0;
}

/* By its number: the name may be that of a later start by now. */
static void domain_undo(const struct virt *v, virConnectPtr c, struct virt_call *call)
{
    OWN(domain) virDomainPtr dom = v->virDomainLookupByID(c, (int)call->number);

    if (dom)
        v->virDomainDestroy(dom);
}

static int create(const struct drv_guest *g, const char *xml, struct deadline d, struct vm_err *e)
{
    OWN(virt_call) struct virt_call *call = call_about(g->id, g->run_dir, domain_create);

    if (!call || !(call->text = strdup(xml)))
        return vm_no_memory(e);
    call->undo = domain_undo;
    return virt_ask(call, d, e);
}

static int resume(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(domain) virDomainPtr dom = virt_domain(v, c, call, e);

    if (!dom)
        return -1;
    return v->virDomainResume(dom) < 0 ? virt_fail(v, e, "domain %s", call->name) : 0;
}

void virt_domain_forget(uint32_t id, const char *run_dir)
{
    OWN(virt_call) struct virt_call *call = call_about(id, run_dir, domain_clear);

    virt_ask(call, deadline_in(ASK_MS), NULL);
}

/* ---- taps ---- */

/* QEMU's tap is opened anew, by name, and by one program at a time. So it is made to stay, and our fd leads elsewhere. */
static int tap_hand_over(const struct drv_tap *tap, struct vm_err *e)
{
    OWN(fd) int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0 || ioctl(tap->fd, TUNSETPERSIST, 1) < 0 || dup3(null, tap->fd, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "hand over tap %s", tap->ifname);
    return 0;
}

/* After a failed start: as if it had vanished with its fd. */
static void tap_drop(const struct drv_tap *tap)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    OWN(fd) int fd = if_nametoindex(tap->ifname) ? open("/dev/net/tun", O_RDWR | O_CLOEXEC) : -1;

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", tap->ifname);
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &r) == 0)
        ioctl(fd, TUNSETPERSIST, 0);
}

/* ---- the whole ---- */

/* What QEMU opens by name. */
static int find_closed(const struct drv_guest *g, const struct vm_disks *d, struct strv *out, struct vm_err *e)
{
    const char *const paths[] = {g->run_dir, g->kernel, g->initramfs, access(QEMU_LIB, F_OK) == 0 ? QEMU_LIB : NULL};

    for (size_t i = 0; i < ARRAY_LEN(paths); i++)
        if (paths[i] && acl_closed(paths[i], g->uid_base, out, e) < 0)
            return -1;
    for (size_t i = 0; i < d->n; i++)
        if (acl_closed(d->v[i].path, g->uid_base, out, e) < 0)
            return -1;
    return 0;
}

/* QEMU's own locks hold off other QEMUs only. */
static int disks_take(const struct drv_guest *g, const struct vm_disks *all, struct deadline d, struct kept_plan *out,
                      struct vm_err *e)
{
    if (!(out->fds = calloc(all->n, sizeof *out->fds)))
        return vm_no_memory(e);
    for (size_t i = 0; i < all->n; i++) {
        int fd = all->v[i].read_only ? -1 : vm_disk_take(g, all->v[i].path, d, e);

        if (fd >= 0)
            out->fds[out->n++] = fd;
        else if (!all->v[i].read_only)
            return -1;
    }
    return 0;
}

/* The note is written before what it tells of is done; and a second time beside the logs, for access lists outlive a host
 * that goes down under its guests, and the runtime directory does not. */
static int open_to_qemu(const struct drv_guest *g, struct virt_note *n, struct deadline d, struct kept_plan *taken,
                        struct vm_err *e)
{
    OWN(vm_disks) struct vm_disks disks = {0};

    if (vm_disks_of(g, &disks, e) < 0 || disks_take(g, &disks, d, taken, e) < 0 ||
        find_closed(g, &disks, &n->opened, e) < 0 || virt_note_write(g->run_dir, n, e) < 0 ||
        virt_note_write(g->log_dir, n, e) < 0)
        return -1;
    for (size_t i = 0; i < n->opened.n; i++)
        if (acl_open(n->opened.v[i], g->uid_base, e) < 0)
            return -1;
    return 0;
}

static int describe(const struct drv_guest *g, char **xml, struct vm_err *e)
{
    struct virt_machine m = {.gid = g->uid_base};
    struct virt_kvm kvm;

    virt_kvm_look(&kvm);
    m.kvm = kvm.usable;
    if (kvm.usable && kvm.group)
        m.gid = kvm.gid;
    return virt_xml(g, &m, xml, e);
}

/* From here on there is a QEMU, which does not run before all that belongs to it knows it. */
static int launch(const struct drv_guest *g, struct virt_note *n, struct shares *s, struct kept_plan *disks,
                  struct deadline d, struct vm_err *e)
{
    OWN(virt_call) struct virt_call *call = virt_call_new(g->id, resume);
    OWN(str) char *xml = NULL;

    if (describe(g, &xml, e) < 0)
        return -1;
    virt_end_forget(g->id);
    for (size_t i = 0; i < g->n_taps; i++)
        if (tap_hand_over(&g->taps[i], e) < 0)
            return -1;
    if (create(g, xml, d, e) < 0)
        return -1;
    if (qemu_by_pid(g->id, &n->qemu, NULL) < 0)
        return vm_fail(e, VM_E_BACKEND, "QEMU ended at once; see /var/log/libvirt/qemu/vmsd-%u.log", g->id);
    if (virt_console_start(g, n, s, disks, d, e) < 0 || virt_note_write(g->run_dir, n, e) < 0 ||
        (shares_wanted(g) && shares_give(s, &n->qemu, e) < 0))
        return -1;
    return virt_ask(call, d, e);
}

static int bring_up(const struct drv_guest *g, struct virt_note *n, struct deadline d, struct vm_err *e)
{
    OWN(shares) struct shares s = SHARES_NONE;
    OWN(kept_plan) struct kept_plan disks = {0};

    if (open_to_qemu(g, n, d, &disks, e) < 0 || (shares_wanted(g) && shares_start(g, d, &s, e) < 0))
        return -1;
    return launch(g, n, &s, &disks, d, e);
}

static int close_to_qemu(const struct virt_note *n, struct vm_err *e)
{
    int rc = 0;

    for (size_t i = 0; i < n->opened.n; i++)
        if (acl_close(n->opened.v[i], n->uid, rc < 0 ? NULL : e) < 0)
            rc = -1;
    return rc;
}

int virt_settle(const char *log_dir, struct vm_err *e)
{
    OWN(virt_note) struct virt_note n = {0};
    struct vm_err why;

    if (virt_note_read(log_dir, &n, &why) < 0) {
        if (why.code == VM_E_ABSENT)
            return 0;
        if (e)
            *e = why;
        return -1;
    }
    if (close_to_qemu(&n, e) < 0)
        return -1;
    virt_note_remove(log_dir);
    return 0;
}

int virt_tidy(uint32_t id, const char *run_dir, const struct virt_note *n, char *why, size_t size, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, NULL);
    int rc;

    if (n)
        virt_console_end(n); /* first, for all else in the guest's group is killed */
    rc = shares_reap(id, run_dir, why, size, e);
    if (n && close_to_qemu(n, rc < 0 ? NULL : e) < 0)
        rc = -1;
    if (dir >= 0) {
        path_remove(dir, VIRT_AGENT_SOCKET, NULL);
        path_remove(dir, VIRT_CONSOLE_SOCKET, NULL);
    }
    if (rc == 0 && n && n->log_dir)
        virt_note_remove(n->log_dir);
    if (rc == 0)
        virt_note_remove(run_dir);
    return rc;
}

/* Debian's profile for QEMU knows only sockets that libvirt makes. */
static void explain_denied(const struct drv_guest *g, struct vm_err *e)
{
    char path[SHARES_SOCKET];

    for (size_t i = 0; i < g->n_mounts; i++) {
        shares_socket(g->run_dir, i, path);
        if (strstr(e->text, path) && strstr(e->text, "Permission denied")) {
            vm_fail(e, VM_E_BACKEND, "AppArmor keeps QEMU from %s; put the line '%.*s*/share* rw,' into "
                    "/etc/apparmor.d/local/abstractions/libvirt-qemu", path, (int)(strrchr(g->run_dir, '/') + 1 - g->run_dir), g->run_dir);
            return;
        }
    }
}

/* A virtiofsd that failed is why QEMU did, and says more. */
static void start_undo(const struct drv_guest *g, struct virt_note *n, struct vm_err *e)
{
    char why[200];

    if (n->qemu.pid)
        virt_qemu_kill(&n->qemu, NULL);
    virt_domain_forget(g->id, g->run_dir);
    for (size_t i = 0; i < g->n_taps; i++)
        tap_drop(&g->taps[i]);
    virt_tidy(g->id, g->run_dir, n, why, sizeof why, NULL);
    if (*why)
        vm_fail(e, VM_E_BACKEND, "%s", why);
    else if (e)
        explain_denied(g, e);
}

int virt_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e)
{
    OWN(virt_note) struct virt_note n = {.uid = g->uid_base, .log_dir = strdup(g->log_dir)};

    if (!n.log_dir)
        return vm_no_memory(e);
    if (!deadline_left(d))
        return vm_fail(e, VM_E_TIMEOUT, "start '%s': no time is left for it", g->spec->name);
    if (bring_up(g, &n, d, e) < 0) {
        start_undo(g, &n, e);
        return vm_context(e, "start '%s'", g->spec->name);
    }
    *out = (struct drv_proc){.keeper = n.qemu, .leader = n.qemu.pid, .phase = DRV_STARTED};
    return 0;
}
