/* <vmsd/driver.h>: one vtable for containers and microVMs. Floor 2. Ops run on workers and may block until their
 * deadline, never past it. docs/drivers.md says more about each.
 *
 * A driver holds no truth: what runs is asked from the kernel. A running guest is known by the process that keeps it
 * (drv_proc.keeper), which lives on when vmsd dies. What a guest does by itself (boots, exits, reboots) shows in its
 * state file and in the end of the keeper; the loop watches both. */
#ifndef VMSD_DRIVER_H
#define VMSD_DRIVER_H

#include <stdbool.h>
#include <stdint.h>
#include <vmsd/child.h>
#include <vmsd/clock.h>
#include <vmsd/err.h>
#include <vmsd/spec.h>

enum drv_can {
    DRV_TAKES_TAPS = 1u << 0,   /* nics are taps opened before start; otherwise veths attached after it */
    DRV_BOOTS_KERNEL = 1u << 1, /* a microVM: image is a disk, the guest is told what it is by drv_guest.initramfs and by
                                   op=setup; otherwise image is a tree, and the host mounts and configures all */
    DRV_RESIZES = 1u << 2,      /* limits() changes cpus and memory of a running microVM */
};

struct drv_mount { bool disk; /* ext4 image file, else a directory */ const char *source, *target; bool read_only, mapped; };

/* An open tap (IFF_TAP|IFF_NO_PI|IFF_VNET_HDR), borrowed: it vanishes with its last fd unless a driver makes it persist;
 * whoever stops the guest removes it then by its name. */
struct drv_tap { int fd; const char *ifname, *mac; };

/* All that a driver needs to know of a guest; borrowed for the call. Paths are absolute. */
struct drv_guest {
    uint32_t id;                /* names of kernel objects follow from it */
    uint32_t uid_base;          /* first of 65536 host ids that are this guest's alone */
    const struct guest_spec *spec;
    const char *image;          /* read-only root: tree, or disk with DRV_BOOTS_KERNEL */
    const char *root;           /* writable ext4 image */
    /* With DRV_BOOTS_KERNEL: */
    const char *kernel;         /* bzImage or vmlinux */
    const char *initramfs;      /* of this very start, in run_dir; or NULL */
    const char *modules;        /* EROFS of /usr/lib/modules for that kernel, or NULL */
    const char *cmdline;        /* of the kernel, all but the console, which is the driver's */
    const char *run_dir;        /* /run/vmsd/guests/ID: sockets, state file; made by vmsd, 0700 */
    const char *log_dir;        /* console.log, console.log.1 */
    const struct drv_mount *mounts; size_t n_mounts;
    const struct drv_tap *taps; size_t n_taps; /* with DRV_TAKES_TAPS, for start alone */
};

/* How far a running guest is. */
enum drv_phase { DRV_GONE, DRV_STARTED /* namespaces exist */, DRV_BOOTED /* its init says ready */ };
struct drv_proc {
    struct proc_id keeper;      /* one process; its end is the guest's end */
    pid_t leader;               /* container: its pid 1 as the host sees it; microVM: the VMM */
    enum drv_phase phase;
};
enum drv_exit_kind {
    EXIT_UNKNOWN, EXIT_POWEROFF, EXIT_REBOOT, EXIT_CRASH /* of init, or of the VMM */, EXIT_FAILED_START, EXIT_KILLED,
    EXIT_PANIC /* of the guest's kernel */
};
struct drv_exit { enum drv_exit_kind kind; int status; char text[200]; };

/* null (UINT64_MAX, NAN) where the host cannot tell. */
struct drv_stats {
    double cpu_seconds;
    uint64_t memory, memory_peak, memory_limit, pids, io_read, io_write;
    uint64_t memory_cache;      /* of memory, what the kernel takes back when it is wanted; asked when it is more than half the limit */
    double pressure_cpu, pressure_memory, pressure_io; /* some avg10, per cent */
    /* How its limits held it, since its start: */
    uint64_t memory_kills;      /* times that the kernel had to kill for lack of memory within the limit */
    uint64_t pids_refused;      /* processes that it could not start */
    double cpu_held_seconds;    /* time in which it would have used more */
};
struct drv_report {
    bool usable;
    char why[200], hint[200];   /* it is not usable, and how to mend that */
    char version[64];
    char warning[200];          /* usable, but: "emulated: …"; or "" */
};

struct vm_driver {
    const char *name;           /* "nspawn" */
    enum spec_kind kind;
    unsigned can;
    void (*probe)(struct drv_report *out);
    /* Starts it and returns when it is DRV_STARTED; a failed start leaves nothing behind. */
    int (*start)(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e);
    /* Waits for DRV_BOOTED; TIMEOUT leaves it running, BACKEND: it ended, with the last console lines as reason. */
    int (*wait_booted)(const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e);
    /* Is what the run_dir tells of still running, and of this driver? Fills *out; ABSENT when not; UNAVAILABLE: whoever
     * knows cannot be asked now. After a restart of vmsd. */
    int (*adopt)(uint32_t id, const char *run_dir, struct drv_proc *out, struct vm_err *e);
    /* Asks, waits until d, then kills; returns when nothing of it is left. Gone already is success. */
    int (*stop)(uint32_t id, const char *run_dir, const struct drv_proc *p, struct deadline d, struct vm_err *e);
    /* How it ended, after the keeper is gone; and removes what the driver left in run_dir and cgroups. */
    int (*reap)(uint32_t id, const char *run_dir, struct drv_exit *out, struct vm_err *e);
    /* A connected stream socket to a fresh agent, speaking <vmsd/proto.h>. *fd is yours. */
    int (*agent)(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e);
    int (*stats)(uint32_t id, const char *run_dir, const struct drv_proc *p, struct drv_stats *out, struct vm_err *e);
    /* Puts changed cpus, memory and limits in force on a running guest. */
    int (*limits)(const struct drv_guest *g, const struct drv_proc *p, struct vm_err *e);
    /* The file behind a disk grew (source: its path, of the root or a mount): grow the file system in it, or with
     * DRV_BOOTS_KERNEL the disk that the guest sees; its agent grows the file system then (op=grow). */
    int (*grow)(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e);
    /* An fd of the guest's network namespace, for net_veth_attach; NULL with DRV_TAKES_TAPS. */
    int (*netns)(const struct drv_proc *p, int *fd, struct vm_err *e);
};

/* What a microVM's disks and shares are called inside: by these names its initramfs finds them. */
enum { DRV_TAG = 20 };             /* bytes, with the NUL: the serial of a virtio disk */
#define DRV_DISK_IMAGE "image"     /* read-only */
#define DRV_DISK_MODULES "modules" /* read-only */
#define DRV_DISK_ROOT "root"
void drv_mount_tag(const struct drv_guest *g, size_t mount, char out[static DRV_TAG]); /* "vol0" (disk), "share1" (virtiofs) */

/* How the agent of a microVM is reached. */
enum { DRV_AGENT_PORT = 1024 };    /* vsock */
#define DRV_AGENT_CHANNEL "vmsd.agent" /* virtio-serial */

/* All drivers, usable or not, NULL-terminated. keeper_program: vms-keeper, which vms-starter starts. */
int drivers_init(const char *keeper_program, struct vm_err *e);
const struct vm_driver *const *drivers(void);
/* By kind and `hypervisor`; auto: cloud-hypervisor, else QEMU with KVM, else QEMU emulated. UNAVAILABLE with the reason. */
const struct vm_driver *driver_for(const struct guest_spec *g, struct vm_err *e);
/* Of a guest that does not run, when vmsd starts: takes back what a host that went down under it left of it on disk. */
int driver_settle(const char *log_dir, struct vm_err *e);
const struct vm_driver *driver_by_name(const char *name); /* or NULL */
/* What the host offers to every driver, for doctor: plain facts. */
struct drv_host { bool systemd, cgroup2; char cgroup_root[256]; bool cgroup_memory, cgroup_cpu, cgroup_pids, cgroup_io; bool idmap, overlay, loop, kvm; char kvm_why[160]; };
void drv_host_probe(struct drv_host *out);
bool drv_host_ends(void); /* systemd is taking it down; asks it for at most a second */

#endif
