/* vm.h: what every driver of microVMs does alike. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_VM_H
#define VMSD_DRIVERS_VM_H

#include <vmsd/driver.h>

/* The disks of a guest in the order in which it sees them. Strings are the guest's. */
struct vm_disk { char serial[DRV_TAG]; const char *path; bool read_only; };
struct vm_disks { struct vm_disk *v; size_t n; };
int vm_disks_of(const struct drv_guest *g, struct vm_disks *out, struct vm_err *e);
void vm_disks_done(struct vm_disks d);
OWN_DEFINE(vm_disks, struct vm_disks, vm_disks_done)

/* Opens a writable disk: locked (plan_disk_open), and from now on the user's that the guest's VMM runs as: uid and gid are
 * g->uid_base, mode 0600. */
int vm_disk_take(const struct drv_guest *g, const char *path, struct deadline d, struct vm_err *e);

/* CPU time and memory of a VMM, in which its guest's are, by its process; the rest of *out stays. */
int vm_proc_stats(pid_t vmm, struct drv_stats *out, struct vm_err *e);

/* Does the processor have what a /dev/kvm needs to be trusted? why: the reason against. */
bool kvm_usable(char *why, size_t size);
/* The cgroup's part of drv_host_probe, which costs little. */
void host_probe_cgroups(struct drv_host *out);

#endif
