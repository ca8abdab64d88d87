/* sysctl.h: /proc/sys/net of the calling thread's network namespace. Floor 2. Workers only. */
#ifndef NET_SYSCTL_H
#define NET_SYSCTL_H

#include <stdbool.h>
#include <vmsd/err.h>

/* name is relative to /proc/sys/net: "ipv4/conf/vms-services/rp_filter". ABSENT: this kernel has none. */
int sysctl_write(const char *name, const char *value, struct vm_err *e);
int sysctl_read(const char *name, int *out, struct vm_err *e);

struct sysctl_row { const char *name, *value; };
/* Rows under FAMILY/conf/INTERFACE/; a row that this kernel does not have is passed over. */
int sysctl_interface(const char *family, const char *ifname, const struct sysctl_row *rows, size_t n, struct vm_err *e);

/* Makes the host forward. A host that took its own IPv6 default route from router advertisements goes on doing so. */
int sysctl_forward4(struct vm_err *e);
int sysctl_forward6(struct vm_err *e);

#endif
