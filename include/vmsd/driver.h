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
    DRV_MOUNTS_TREES = 1u << 1, /* image as a tree, volumes mounted by the host; otherwise disks */
    DRV_NEEDS_GUEST_NET = 1u << 2, /* the agent configures addresses inside */
};

struct drv_mount { bool disk; /* ext4 image file, else a directory */ const char *source, *target; bool read_only, mapped; };

/* All that a driver needs to know of a guest; borrowed for the call. Paths are absolute. */
struct drv_guest {
    uint32_t id;                /* names of kernel objects follow from it */
    uint32_t uid_base;          /* first of 65536 host ids that are this guest's alone */
    const struct guest_spec *spec;
    const char *image;          /* read-only root tree (or disk) */
    const char *root;           /* writable ext4 image */
    const char *run_dir;        /* /run/vmsd/guests/ID: sockets, state file; made by vmsd, 0700 */
    const char *log_dir;        /* console.log, console.log.1 */
    const struct drv_mount *mounts; size_t n_mounts;
    const int *tap_fds; size_t n_taps;
};

/* How far a running guest is. */
enum drv_phase { DRV_GONE, DRV_STARTED /* namespaces exist */, DRV_BOOTED /* its init says ready */ };
struct drv_proc {
    struct proc_id keeper;      /* one process; its end is the guest's end */
    pid_t leader;               /* container: its pid 1 as the host sees it; microVM: the VMM */
    enum drv_phase phase;
};
enum drv_exit_kind { EXIT_UNKNOWN, EXIT_POWEROFF, EXIT_REBOOT, EXIT_CRASH, EXIT_FAILED_START, EXIT_KILLED };
struct drv_exit { enum drv_exit_kind kind; int status; char text[200]; };

/* null (UINT64_MAX, NAN) where the host cannot tell. */
struct drv_stats {
    double cpu_seconds;
    uint64_t memory, memory_peak, memory_limit, pids, io_read, io_write;
    double pressure_cpu, pressure_memory, pressure_io; /* some avg10, per cent */
};
struct drv_report { bool usable; char why[200]; char hint[200]; char version[64]; };

struct vm_driver {
    const char *name;           /* "nspawn" */
    enum spec_kind kind;
    unsigned can;
    void (*probe)(struct drv_report *out);
    /* Starts it and returns when it is DRV_STARTED; a failed start leaves nothing behind. */
    int (*start)(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e);
    /* Waits for DRV_BOOTED; TIMEOUT leaves it running, BACKEND: it ended, with the last console lines as reason. */
    int (*wait_booted)(const struct drv_guest *g, struct drv_proc *p, struct deadline d, struct vm_err *e);
    /* Is what the run_dir tells of still running? Fills *out; ABSENT when not. After a restart of vmsd. */
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
    /* The file behind a mounted disk grew: grow the file system in it. */
    int (*grow)(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e);
    /* An fd of the guest's network namespace, for net_veth_attach; NULL with DRV_TAKES_TAPS. */
    int (*netns)(const struct drv_proc *p, int *fd, struct vm_err *e);
};

/* All drivers, usable or not, NULL-terminated. agent_program: the static vms-agent; keeper_program: vms-keeper. */
int drivers_init(const char *agent_program, const char *keeper_program, struct vm_err *e);
const struct vm_driver *const *drivers(void);
const struct vm_driver *driver_for(const struct guest_spec *g, struct vm_err *e); /* UNAVAILABLE with the reason */
/* What the host offers to every driver, for doctor: plain facts. */
struct drv_host { bool systemd, cgroup2; char cgroup_root[256]; bool cgroup_memory, cgroup_cpu, cgroup_pids, cgroup_io; bool idmap, overlay, loop, kvm; char kvm_why[160]; };
void drv_host_probe(struct drv_host *out);

#endif
