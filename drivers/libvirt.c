#include "libvirt.h"

#include "kept.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum {
    PROBE_MS = 2000, PROBE_FRESH_MS = 5000, ASK_MS = 2000, LOOK_MS = 50,
    BUTTON_MS = 5000, /* an init that is not up yet does not hear the power button; so it is pressed again */
    DOWN_MS = 500,    /* how often the console is asked, where libvirtd cannot be */
    END_MS = 1000,    /* from the end of QEMU to libvirtd's word of how */
};

/* ---- probe ---- */

static int ask_version(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    unsigned long n;

    if (v->virConnectGetLibVersion(c, &n) < 0)
        return virt_fail(v, e, "ask libvirtd for its version");
    call->text = text_format("libvirt %lu.%lu.%lu", n / 1000000, n / 1000 % 1000, n % 1000);
    return call->text ? 0 : vm_no_memory(e);
}

/* A libvirtd that was just installed looks at QEMU for many seconds before it can tell. number: with KVM? */
static int ask_qemu(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(str) char *capabilities = v->virConnectGetDomainCapabilities(c, NULL, "x86_64", "q35", call->number ? "kvm" : "qemu", 0);
    unsigned long n;

    if (!capabilities || v->virConnectGetVersion(c, &n) < 0)
        return virt_fail(v, e, "libvirtd finds no QEMU for x86_64");
    call->text = text_format(", QEMU %lu.%lu.%lu", n / 1000000, n / 1000 % 1000, n % 1000);
    return call->text ? 0 : vm_no_memory(e);
}

/* Without any of these nothing listens, and the library need not be loaded to hear that. */
static bool daemon_listens(void)
{
    static const char *const sockets[] = {"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"};

    for (size_t i = 0; i < ARRAY_LEN(sockets); i++)
        if (access(sockets[i], F_OK) == 0)
            return true;
    return false;
}

static void refuse(struct drv_report *out, const char *why, const char *hint)
{
    snprintf(out->why, sizeof out->why, "%.*s", (int)sizeof out->why - 1, why);
    snprintf(out->hint, sizeof out->hint, "%s", hint);
}

static void look(struct drv_report *out)
{
    OWN(virt_call) struct virt_call *version = virt_call_new(0, ask_version);
    OWN(virt_call) struct virt_call *qemu = virt_call_new(0, ask_qemu);
    struct deadline d = deadline_in(PROBE_MS);
    struct virt_kvm kvm;
    struct vm_err e = {0};
    bool known;

    *out = (struct drv_report){0};
    virt_kvm_look(&kvm);
    if (qemu)
        qemu->number = kvm.usable;
    if (geteuid() != 0 || access(keeper_program, X_OK) != 0)
        return refuse(out, "vmsd does not run as root, or has no vms-keeper", "reinstall vmsd, and run it as root");
    if (!daemon_listens())
        return refuse(out, "no libvirtd listens", "apt install libvirt-daemon-system qemu-system-x86; systemctl start libvirtd");
    if (virt_ask(version, d, &e) < 0)
        return refuse(out, e.text, "see systemctl status libvirtd");
    if (!(known = virt_ask(qemu, d, &e) == 0) && e.code != VM_E_TIMEOUT)
        return refuse(out, e.text, "apt install qemu-system-x86");
    out->usable = true;
    snprintf(out->version, sizeof out->version, "%s%s", version->text, known ? qemu->text : "");
    if (!kvm.usable)
        snprintf(out->warning, sizeof out->warning, "emulated, so slow and no isolation boundary: %.*s%s%s",
                 *kvm.hint ? 90 : 150, kvm.why, *kvm.hint ? "; " : "", kvm.hint);
}

/* Every start asks, so the answer is kept for a moment; who comes meanwhile waits for the one who looks. */
static void libvirt_probe(struct drv_report *out)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct drv_report last;
    static int64_t fresh_until;

    pthread_mutex_lock(&lock);
    if (now_ms() >= fresh_until) {
        look(&last);
        fresh_until = now_ms() + PROBE_FRESH_MS;
    }
    *out = last;
    pthread_mutex_unlock(&lock);
}

/* ---- start, boot, adopt ---- */

static void proc_of(const struct virt_note *n, struct drv_proc *out)
{
    *out = (struct drv_proc){
        .keeper = n->qemu, .leader = n->qemu.pid, .phase = n->booted ? DRV_BOOTED : DRV_STARTED};
}

/* Without a note, or with one that a cut-off start left, QEMU itself tells. Its user is then known from the kernel. */
static int note_find(uint32_t id, const char *run_dir, struct virt_note *n, struct vm_err *e)
{
    OWN(str) char *status = NULL;
    char *at;

    if (virt_qemu_find(id, run_dir, &n->qemu, e) < 0 || proc_file_read(n->qemu.pid, "status", &status, NULL, e) < 0)
        return -1;
    if (!(at = strstr(status, "\nUid:")) || sscanf(at, "\nUid: %u", &n->uid) != 1)
        return vm_fail(e, VM_E_SYSTEM, "/proc/%d/status: not as expected", (int)n->qemu.pid);
    return virt_note_write(run_dir, n, e);
}

static int libvirt_adopt(uint32_t id, const char *run_dir, struct drv_proc *out, struct vm_err *e)
{
    OWN(virt_note) struct virt_note n = {0};
    OWN(fd) int qemu = -1;
    struct vm_err why;

    if (virt_note_read(run_dir, &n, &why) < 0 && why.code != VM_E_ABSENT) {
        if (e)
            *e = why;
        return -1;
    }
    if (!n.qemu.pid && note_find(id, run_dir, &n, e) < 0)
        return -1;
    if ((qemu = proc_id_open(&n.qemu, e)) < 0)
        return vm_context(e, "QEMU of %s", run_dir);
    proc_of(&n, out);
    return 0;
}

static int libvirt_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e)
{
    OWN(virt_note) struct virt_note old = {0};
    struct drv_proc p;
    char why[200];

    if (libvirt_adopt(g->id, g->run_dir, &p, NULL) == 0)
        return vm_fail(e, VM_E_CONFLICT, "start '%s': it runs already", g->spec->name);
    if (virt_note_read(g->run_dir, &old, NULL) == 0 && virt_tidy(g->id, g->run_dir, &old, why, sizeof why, e) < 0)
        return vm_context(e, "start '%s'", g->spec->name);
    return virt_start(g, d, out, e);
}

static int ended(const struct drv_guest *g, struct vm_err *e)
{
    OWN(virt_note) struct virt_note n = {0};
    struct drv_exit x = {0};

    if (virt_note_read(g->run_dir, &n, NULL) == 0) {
        virt_console_end(&n);
        virt_console_tell(&n, &x);
    }
    return vm_fail(e, VM_E_BACKEND, "'%s' ended before it was up: %s; see vmctl console %s", g->spec->name,
                   *x.text ? x.text : "its kernel said nothing", g->spec->name);
}

static int ask_connected(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(domain) virDomainPtr dom = virt_domain(v, c, call, e);
    OWN(str) char *xml = dom ? v->virDomainGetXMLDesc(dom, 0) : NULL;

    if (!xml)
        return dom ? virt_fail(v, e, "domain %s", call->name) : -1;
    call->number = virt_xml_connected(xml);
    return 0;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static bool is_connected(uint32_t id, struct deadline d, struct vm_err *why)
{
    OWN(virt_call) struct virt_call *call = virt_call_new(id, ask_connected);

    vm_fail(why, VM_E_TIMEOUT, "its agent does not listen yet");
    return virt_ask(call, deadline_in(least(deadline_left(d), ASK_MS)), why) == 0 && call->number;
}

static int note_booted(const char *run_dir, struct vm_err *e)
{
    OWN(virt_note) struct virt_note n = {0};

    if (virt_note_read(run_dir, &n, e) < 0)
        return -1;
    n.booted = true;
    return virt_note_write(run_dir, &n, e);
}

static int libvirt_wait_booted(const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    OWN(fd) int qemu = -1;
    struct vm_err why;

    if ((qemu = proc_id_open(&p->keeper, NULL)) < 0)
        return ended(g, e);
    while (p->phase != DRV_BOOTED) {
        if (is_connected(g->id, d, &why)) {
            if (note_booted(g->run_dir, e) < 0)
                return vm_context(e, "boot of '%s'", g->spec->name);
            p->phase = DRV_BOOTED;
        } else if (pidfd_wait(qemu, deadline_in(least(deadline_left(d), LOOK_MS))))
            return ended(g, e);
        else if (!deadline_left(d))
            return vm_fail(e, VM_E_TIMEOUT, "boot of '%s': %s", g->spec->name, why.text);
    }
    return 0;
}

/* ---- stop and end ---- */

static int press_button(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(domain) virDomainPtr dom = virt_domain(v, c, call, e);

    if (!dom)
        return -1;
    return v->virDomainShutdownFlags(dom, VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN) < 0
               ? virt_fail(v, e, "power button of %s", call->name)
               : 0;
}

/* By its kernel's own word: without libvirtd, which would end it, QEMU stays. */
static bool is_down(const char *run_dir)
{
    OWN(virt_note) struct virt_note n = {0};
    struct drv_exit x = {0};

    if (virt_note_read(run_dir, &n, NULL) == 0)
        virt_console_tell(&n, &x);
    return x.kind == EXIT_POWEROFF;
}

/* True when the guest has ended. Without libvirtd nobody can press the button; but its agent was asked before us, so it has its
 * time all the same. */
static bool ask_to_end(uint32_t id, const char *run_dir, int qemu, struct deadline d)
{
    while (deadline_left(d)) {
        OWN(virt_call) struct virt_call *call = virt_call_new(id, press_button);
        bool pressed = virt_ask(call, deadline_in(least(deadline_left(d), ASK_MS)), NULL) == 0;

        for (struct deadline again = deadline_in(least(deadline_left(d), BUTTON_MS)); deadline_left(again);) {
            if (pidfd_wait(qemu, pressed ? again : deadline_in(least(deadline_left(again), DOWN_MS))) ||
                (!pressed && is_down(run_dir)))
                return true;
        }
    }
    return false;
}

static int note_killed(const char *run_dir)
{
    OWN(virt_note) struct virt_note n = {0};

    if (virt_note_read(run_dir, &n, NULL) < 0)
        return -1;
    n.killed = true;
    return virt_note_write(run_dir, &n, NULL);
}

static int libvirt_stop(uint32_t id, const char *run_dir, const struct drv_proc *p, struct deadline d, struct vm_err *e)
{
    struct proc_id found;
    struct vm_err why;
    OWN(fd) int qemu = proc_id_open(&p->keeper, &why);
    OWN(fd) int group = qemu < 0 ? -1 : virt_group_open(id, p->keeper.pid);

    if (qemu < 0 && why.code != VM_E_ABSENT) {
        if (e)
            *e = why;
        return vm_context(e, "stop");
    }
    if (qemu >= 0) {
        if (!ask_to_end(id, run_dir, qemu, d))
            note_killed(run_dir);
        if (virt_qemu_kill(&p->keeper, e) < 0)
            return vm_context(e, "stop");
    }
    if (group >= 0)
        (void)!write(group, "1", 1); /* what QEMU left behind, though it may start nothing; mostly the group is gone with it */
    /* One that a start cut off brought up, and nobody has heard of yet. */
    if (virt_qemu_find(id, run_dir, &found, NULL) == 0 && virt_qemu_kill(&found, e) < 0)
        return vm_context(e, "stop");
    if (qemu >= 0)
        virt_domain_forget(id, run_dir);
    return 0;
}

/* The kernel's last words tell most; libvirtd knows who ended it from outside. */
static void tell_end(uint32_t id, const struct virt_note *n, struct drv_exit *out)
{
    int detail;

    virt_console_tell(n, out);
    if (n->killed) {
        *out = (struct drv_exit){.kind = EXIT_KILLED, .text = "it did not end when asked to"};
        return;
    }
    if (out->kind == EXIT_POWEROFF || out->kind == EXIT_REBOOT)
        *out->text = '\0'; /* it says no more than that */
    if (out->kind != EXIT_UNKNOWN)
        return;
    if (!virt_end_take(id, deadline_in(END_MS), &detail)) {
        snprintf(out->text, sizeof out->text, "QEMU ended without a word of the guest, and libvirtd did not see how");
        return;
    }
    switch (detail) {
    case VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN:
        *out = (struct drv_exit){.kind = EXIT_POWEROFF};
        break;
    case VIR_DOMAIN_EVENT_STOPPED_DESTROYED:
        *out = (struct drv_exit){.kind = EXIT_KILLED, .text = "its domain was destroyed through libvirt"};
        break;
    case VIR_DOMAIN_EVENT_STOPPED_CRASHED:
        *out = (struct drv_exit){.kind = EXIT_CRASH, .text = "libvirt says that it crashed"};
        break;
    default:
        out->kind = EXIT_KILLED;
        snprintf(out->text, sizeof out->text, "QEMU was killed, or gave up by itself; see /var/log/libvirt/qemu/vmsd-%u.log", id);
        break;
    }
}

static int libvirt_reap(uint32_t id, const char *run_dir, struct drv_exit *out, struct vm_err *e)
{
    struct drv_exit x = {.kind = EXIT_UNKNOWN};
    OWN(virt_note) struct virt_note n = {0};
    struct drv_proc p;
    struct vm_err why;
    char shares[200] = "";
    bool noted;

    if (libvirt_adopt(id, run_dir, &p, &why) == 0)
        return vm_fail(e, VM_E_CONFLICT, "reap %s: it still runs", run_dir);
    if (why.code == VM_E_UNAVAILABLE)
        return vm_fail(e, VM_E_UNAVAILABLE, "reap %s: %s", run_dir, why.text);
    if ((noted = virt_note_read(run_dir, &n, &why) == 0)) {
        virt_console_end(&n); /* first, so that all of the console is there */
        tell_end(id, &n, &x);
        virt_domain_forget(id, run_dir);
    } else
        snprintf(x.text, sizeof x.text, "nothing in %.150s tells how it ended", run_dir);
    if (virt_tidy(id, run_dir, noted ? &n : NULL, shares, sizeof shares, e) < 0)
        return vm_context(e, "reap");
    if (*shares) {
        x.kind = EXIT_CRASH;
        memcpy(x.text, shares, sizeof x.text);
    }
    *out = x;
    return 0;
}

const struct vm_driver libvirt_driver = {
    .name = "libvirt",
    .kind = KIND_MICROVM,
    .can = DRV_TAKES_TAPS | DRV_BOOTS_KERNEL,
    .probe = libvirt_probe,
    .start = libvirt_start,
    .wait_booted = libvirt_wait_booted,
    .adopt = libvirt_adopt,
    .stop = libvirt_stop,
    .reap = libvirt_reap,
    .agent = virt_agent,
    .stats = virt_stats,
    .limits = virt_limits,
    .grow = virt_grow,
};
