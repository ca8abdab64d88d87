/* libvirt.h: parts of the driver for QEMU domains. Private to drivers/. Any thread.
 *
 * libvirt is loaded when it is first needed. Its calls may block for as long as libvirtd likes, so each runs on a thread
 * of its own, and who waits for it gives up at his deadline (libvirt_conn.c). Domains are transient and named after the
 * guest's id: libvirt holds no second truth. What must be known of a running guest without libvirtd is in run_dir/libvirt
 * (libvirt_note.c). */
#ifndef VMSD_DRIVERS_LIBVIRT_H
#define VMSD_DRIVERS_LIBVIRT_H

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <limits.h>
#include <stdatomic.h>
#include <vmsd/driver.h>
#include <vmsd/text.h>

extern const struct vm_driver libvirt_driver;

/* ---- libvirt_conn.c: libvirt, loaded; connections; calls that can be given up; how domains ended ---- */

#define VIRT_FUNCTIONS(X) \
    X(virInitialize) X(virEventRegisterDefaultImpl) X(virEventRunDefaultImpl) X(virSetErrorFunc) \
    X(virGetLastError) X(virConnectOpen) X(virConnectIsAlive) X(virConnectClose) X(virConnectSetKeepAlive) \
    X(virConnectRegisterCloseCallback) X(virConnectUnregisterCloseCallback) X(virConnectGetLibVersion) \
    X(virConnectGetVersion) X(virConnectGetDomainCapabilities) X(virConnectDomainEventRegisterAny) \
    X(virConnectGetAllDomainStats) X(virDomainStatsRecordListFree) \
    X(virDomainCreateXML) X(virDomainLookupByName) X(virDomainLookupByID) X(virDomainFree) X(virDomainGetName) \
    X(virDomainGetID) X(virDomainGetMetadata) X(virDomainGetXMLDesc) X(virDomainResume) X(virDomainShutdownFlags) \
    X(virDomainDestroy) X(virDomainBlockResize) \
    X(virDomainSetBlockIoTune) X(virTypedParamsAddULLong) X(virTypedParamsAddString) X(virTypedParamsFree) \
    X(virTypedParamsGetULLong)
#define X(f) __typeof__(f) *f;
struct virt { VIRT_FUNCTIONS(X) };
#undef X

/* NULL: UNAVAILABLE. */
const struct virt *virt_load(struct vm_err *e);

enum { VIRT_NAME = 24 };
void virt_name(uint32_t id, char out[static VIRT_NAME]); /* of the guest's domain: "vmsd-7" */

/* A call, shared by who asks and by the thread that does it: so all that it needs is in it. */
struct virt_call {
    int (*run)(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e);
    /* Takes back what a run did whose caller had given up; may be NULL. */
    void (*undo)(const struct virt *v, virConnectPtr c, struct virt_call *call);
    void (*drop)(void *arg);        /* frees arg; may be NULL */
    char name[VIRT_NAME];           /* of the domain */
    char *text;                     /* in, or out; freed with the call */
    void *arg;                      /* the same */
    uint64_t number;
    /* Of libvirt_conn.c: */
    atomic_uint refs;
    int state, rc;
    struct vm_err err;
};
struct virt_call *virt_call_new(uint32_t id, int (*run)(const struct virt *, virConnectPtr, struct virt_call *,
                                                        struct vm_err *)); /* NULL: no memory */
void virt_call_drop(struct virt_call *call); /* the asker's half; NULL is welcome */
OWN_DEFINE(virt_call, struct virt_call *, virt_call_drop)
/* Runs it, and returns by the deadline (TIMEOUT); UNAVAILABLE when libvirtd cannot be reached. Its results are the caller's
 * only after success. A NULL call is no memory. */
int virt_ask(struct virt_call *call, struct deadline d, struct vm_err *e);
/* Fills *e from libvirt's last error of this thread; -1. */
VM_PRINTF(3) int virt_fail(const struct virt *v, struct vm_err *e, const char *fmt, ...);
/* For runs: the domain of the call's name, ABSENT when libvirtd knows none. */
virDomainPtr virt_domain(const struct virt *v, virConnectPtr c, const struct virt_call *call, struct vm_err *e);
void virt_domain_drop(virDomainPtr d); /* NULL is welcome */
OWN_DEFINE(domain, virDomainPtr, virt_domain_drop)

/* The detail of the last VIR_DOMAIN_EVENT_STOPPED of that guest, which is forgotten then; waits for it while libvirtd is
 * connected. False: nobody saw it. virt_end_forget before a start. */
bool virt_end_take(uint32_t id, struct deadline d, int *detail);
void virt_end_forget(uint32_t id);

/* ---- libvirt_kvm.c: can libvirt's QEMU use KVM? ---- */

struct virt_kvm { bool usable; bool group; /* only as a member of gid */ gid_t gid; char why[160], hint[120]; };
void virt_kvm_look(struct virt_kvm *out);

/* ---- libvirt_xml.c: pure ---- */

struct virt_machine { bool kvm; gid_t gid; };
/* The domain of a guest. *out is yours. */
int virt_xml(const struct drv_guest *g, const struct virt_machine *m, char **out, struct vm_err *e);
void virt_disk_name(size_t index, char out[static 8]);  /* "vda", … "vdaa" */
#define VIRT_AGENT_SOCKET "agent.sock"
#define VIRT_CONSOLE_SOCKET "console.sock"
#define VIRT_IO_GROUP "guest" /* the disks of a guest share its limits.io */
/* What a domain is described by, so that it is known again whose it is. */
char *virt_description(const char *run_dir); /* yours; NULL: no memory */
/* Is the channel of the agent open on the guest's side, by a running domain's XML? */
bool virt_xml_connected(const char *xml);

/* ---- libvirt_note.c: run_dir/libvirt ---- */

struct virt_note {
    struct proc_id qemu;        /* pid 0: not yet */
    struct proc_id console;     /* the process that keeps the console log; pid 0: none */
    bool booted, killed;        /* killed: by us, for it did not end when asked to */
    uid_t uid;
    off_t console_from;         /* where this boot begins in console.log … */
    ino_t console_inode;        /* … if it is still that file */
    char *log_dir;
    struct strv opened;         /* what was made accessible to uid */
};
void virt_note_done(struct virt_note n);
OWN_DEFINE(virt_note, struct virt_note, virt_note_done)
int virt_note_write(const char *run_dir, const struct virt_note *n, struct vm_err *e);
/* ABSENT: there is none. */
int virt_note_read(const char *run_dir, struct virt_note *out, struct vm_err *e);
void virt_note_remove(const char *run_dir);

/* ---- libvirt_console.c: the serial line, kept by a process of its own; what its last lines tell ---- */

struct kept_plan;
struct shares;
/* Starts it on the line of a QEMU that does not run yet, with whose end it ends; sets what the note says of it. It kills
 * QEMU when what keeps the shares was killed. The fds of disks become its own, so their locks last as long as QEMU. */
int virt_console_start(const struct drv_guest *g, struct virt_note *n, const struct shares *s, struct kept_plan *disks,
                       struct deadline d, struct vm_err *e);
/* Waits until it has written all, or kills it. */
void virt_console_end(const struct virt_note *n);
/* How this boot ended by the last words of its kernel, with these: PANIC, REBOOT or POWEROFF; else UNKNOWN, and the last line. */
void virt_console_tell(const struct virt_note *n, struct drv_exit *out);

/* ---- libvirt_start.c ---- */

int virt_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e);
/* QEMU of that guest by libvirt's pid file, if libvirtd says that it is of this run_dir. ABSENT: none. UNAVAILABLE: there is
 * one, but libvirtd cannot be asked. */
int virt_qemu_find(uint32_t id, const char *run_dir, struct proc_id *out, struct vm_err *e);
/* The control group that libvirt made for that guest's domain, by a QEMU's /proc/PID/cgroup: its path below the mount of
 * cgroup v2. False: there is none of its own, as where v1 has the controllers. */
bool virt_group_of(const char *text, uint32_t id, char out[static PATH_MAX]);
/* An fd that ends all in it when "1" is written; -1: none. To be opened while QEMU runs. */
int virt_group_open(uint32_t id, pid_t qemu);
/* Ends QEMU and what belongs to it, whatever libvirtd does: asked kindly first, and then by SIGKILL. */
int virt_qemu_kill(const struct proc_id *qemu, struct vm_err *e);
/* Has libvirtd forget a domain of this run_dir whose QEMU has ended, as far as it answers soon. */
void virt_domain_forget(uint32_t id, const char *run_dir);
/* Removes all that a start left in run_dir and elsewhere. note may be NULL. */
int virt_tidy(uint32_t id, const char *run_dir, const struct virt_note *n, char *why, size_t size, struct vm_err *e);
/* Of a guest that does not run: takes back what the host going down left open to it. */
int virt_settle(const char *log_dir, struct vm_err *e);

/* ---- libvirt_live.c: while it runs ---- */

int virt_stats(uint32_t id, const char *run_dir, const struct drv_proc *p, struct drv_stats *out, struct vm_err *e);
int virt_limits(const struct drv_guest *g, const struct drv_proc *p, struct vm_err *e);
int virt_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e);
int virt_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *out, struct vm_err *e);

#endif
