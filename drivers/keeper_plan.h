/* keeper_plan.h: what the plans of all keepers are made of. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_KEEPER_PLAN_H
#define VMSD_DRIVERS_KEEPER_PLAN_H

#include "kept.h"

#include <vmsd/text.h>

int plan_guest_check(const struct drv_guest *g, struct vm_err *e);
/* An ext4 image for a guest to write to, locked: two file systems on one image destroy it. The lock belongs to the open
 * file, so it ends with the last that has it (the keeper, a loop device) and not with us. */
int plan_disk_open(const char *path, struct deadline d, struct vm_err *e);
/* The source of a mount that is no disk: an fd of a directory or a regular file that a guest may have. */
int plan_tree_open(const struct drv_guest *g, const struct drv_mount *m, struct vm_err *e);
/* One "key=value" more. */
VM_PRINTF(2) void plan_add(struct text *t, const char *fmt, ...);
void plan_add_guest(struct text *t, const struct drv_guest *g, const struct cgroup *c); /* ids and cgroups */
/* The memfd. */
int plan_seal(const struct text *t, struct vm_err *e);

#endif
