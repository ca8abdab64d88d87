/* ch.h: parts of the cloud-hypervisor driver. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_CH_H
#define VMSD_DRIVERS_CH_H

#include "kept.h"

#include <vmsd/driver.h>
#include <vmsd/json.h>

extern const struct vm_driver ch_driver;

/* In the VMM's own root (keeper_root.h). */
#define CH_PROGRAM "/cloud-hypervisor"
#define CH_KERNEL "/kernel"
#define CH_INITRAMFS "/initramfs"
#define CH_DISK "/disk/" /* and the disk's serial */
#define CH_RUN "/run/"   /* its sockets */
#define CH_VSOCK "vsock"

/* What the host decides about a guest's machine. */
struct ch_host {
    unsigned cpus;
    uint64_t memory;
    bool landlock;     /* the kernel has what cloud-hypervisor asks of it */
    bool direct;       /* what the guest writes goes past the page cache: it has one itself, and what is not written by
                          the VMM itself counts for nobody */
    bool limits_disks; /* it limits the disks itself: cloud-hypervisor need not */
};
bool ch_landlock(void);
void ch_host_probe(const struct drv_guest *g, struct ch_host *out);

/* ---- ch_config.c: pure. What cloud-hypervisor is told of a guest ---- */
enum { CH_MEMORY_STEP = 2 << 20 };
uint64_t ch_memory(const struct guest_spec *s);          /* of the guest, in steps that can be plugged */
/* What the VMM's cgroup may have: the guest's memory, its page tables, and what the VMM and its virtiofsd's need. */
uint64_t ch_memory_limit(uint64_t memory, size_t shares);
int ch_config(const struct drv_guest *g, const struct ch_host *h, json_t **out, struct vm_err *e); /* vm.create */
json_t *ch_config_net(const struct drv_tap *tap, size_t n); /* vm.add-net; NULL: no memory */
json_t *ch_config_resize(unsigned cpus, uint64_t memory);   /* vm.resize; 0: leave it */
json_t *ch_config_grow(const char *disk, uint64_t size);    /* vm.resize-disk */
uint64_t ch_disk_rate(const struct drv_guest *g, const struct ch_host *h); /* bytes a second, of all disks; 0: no limit */
/* The VMM's command line. Landlock is asked for with vm.create: as an option it would need a kernel beside it. */
int ch_args(struct strv *out, struct vm_err *e);

/* ---- ch_rest.c: the VMM's API, by libcurl ---- */
/* One call: what: "vm.boot"; body: borrowed, NULL: none; fd: handed over with the request, or -1; *answer is yours, may be
 * NULL, and is NULL after a call without an answer. Errors: TIMEOUT; UNAVAILABLE: nobody listens; BACKEND: refused or
 * broken off, with the VMM's reasons in one line; CONFLICT: not now. */
struct ch_call { const char *run_dir, *method, *what; const json_t *body; int fd; };
int ch_call(const struct ch_call *c, struct deadline d, json_t **answer, struct vm_err *e);

/* ---- ch_start.c ---- */
int ch_start(const struct drv_guest *g, struct deadline d, struct drv_proc *out, struct vm_err *e);
struct kept ch_kept(uint32_t id, const char *run_dir);
/* The spec as limits of the cgroup: the guest's machine is bounded by what it is; this is for the VMM around it. */
void ch_cgroup_spec(const struct drv_guest *g, uint64_t memory, struct guest_spec *out);
/* The program to run, or NULL and the reason. */
const char *ch_program(struct vm_err *e);

/* ---- ch_disks.c: how fast the disks may be ---- */
enum { CH_DEVICES_MAX = 16 };
/* The block devices that the disks' files are on; false: not all of them can be limited. */
bool ch_disk_devices(const struct drv_guest *g, dev_t out[static CH_DEVICES_MAX], size_t *n);
/* Can all that it writes to go past the page cache? */
bool ch_disks_direct(const struct drv_guest *g);
/* Puts limits.io in force; bounds: the cgroup's limits. rate: what cloud-hypervisor limits them to by itself. */
int ch_disk_limits(const struct drv_guest *g, const struct ch_host *h, const struct guest_spec *bounds, uint64_t rate,
                   struct vm_err *e);

/* ---- ch_agent.c: the agent behind the VMM's vsock ---- */
/* A connection to the guest's port, once; ABSENT: nobody listens there yet; BACKEND: the VMM ended. */
int ch_agent_connect(const struct drv_proc *p, struct deadline d, int *out, struct vm_err *e);

#endif
