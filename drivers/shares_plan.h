/* shares_plan.h: virtiofsd's part of a keeper's plan. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_SHARES_PLAN_H
#define VMSD_DRIVERS_SHARES_PLAN_H

#include "keeper_plan.h"

#define SHARES_ROOT_PROGRAM "/virtiofsd" /* in its root */
#define SHARES_SOCKET_NAME "share%zu.sock"
enum { SHARES_PIDS = 1024, SHARES_LEAVE_MS = 2000 };

/* The program, among the files; its libraries are the caller's to add, once for all programs. */
int shares_plan_files(struct plan_draft *d, struct vm_err *e);
/* The mounts that are no disks, after all files. */
int shares_plan_mounts(struct plan_draft *d, const struct drv_guest *g, struct vm_err *e);

#endif
