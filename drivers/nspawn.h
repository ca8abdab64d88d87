/* nspawn.h: parts of the nspawn driver. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_NSPAWN_H
#define VMSD_DRIVERS_NSPAWN_H

#include "kept.h"

#include <vmsd/driver.h>
#include <vmsd/text.h>

#define NSPAWN_PROGRAM "/usr/bin/systemd-nspawn"

extern const struct vm_driver nspawn_driver;

/* host.c: what mounting takes; fills in idmap, overlay and loop. */
void host_probe_mounts(struct drv_host *out);

/* nspawn_args.c: pure. The command line of a guest. */
int nspawn_args(const struct drv_guest *g, struct strv *out, struct vm_err *e);

/* nspawn_plan.c: opens what the guest is made of and writes the keeper's plan. */
int nspawn_plan_make(const struct drv_guest *g, const struct cgroup *c, struct deadline d, struct kept_plan *out,
                     struct vm_err *e);

/* nspawn.c: a pidfd of the guest's pid 1, or -1 and ABSENT. */
int nspawn_leader_open(const struct drv_proc *p, struct vm_err *e);

/* nspawn_agent.c: an agent inside the namespaces of the guest's leader. */
int nspawn_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e);

/* nspawn_grow.c */
int nspawn_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e);

#endif
