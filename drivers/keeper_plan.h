/* keeper_plan.h: what the plans of all keepers are made of. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_KEEPER_PLAN_H
#define VMSD_DRIVERS_KEEPER_PLAN_H

#include "kept.h"

#include <vmsd/text.h>

/* An ext4 image for a guest to write to, locked: two file systems on one image destroy it. The lock belongs to the open
 * file, so it ends with the last that has it (the keeper, a loop device) and not with us. */
int plan_disk_open(const char *path, struct deadline d, struct vm_err *e);
/* The source of a mount that is no disk: an fd of a directory or a regular file that a guest may have. */
int plan_tree_open(const struct drv_guest *g, const struct drv_mount *m, struct vm_err *e);
/* A plan in the making: its text, and the fds in their order. plan_begin opens run_dir and log_dir, plan_end puts the text in
 * a memfd and hands the fds over. */
struct plan_draft { struct text text; struct kept_plan plan; };
void plan_draft_done(struct plan_draft d);
OWN_DEFINE(plan_draft, struct plan_draft, plan_draft_done)
int plan_begin(struct plan_draft *d, const struct drv_guest *g, const struct cgroup *c, struct vm_err *e);
VM_PRINTF(2) void plan_add(struct plan_draft *d, const char *fmt, ...); /* one "key=value" more */
int plan_take_fd(struct plan_draft *d, int fd);                         /* -1 if it is none */
int plan_end(struct plan_draft *d, struct kept_plan *out, struct vm_err *e);

/* A file of the host in the roots of a microVM's processes; fd is taken. flags: as in the plan. */
int plan_file(struct plan_draft *d, const char *flags, const char *path, int fd);
/* A program, or a directory; and the libraries of those that are not static. */
int plan_program(struct plan_draft *d, const char *flags, const char *path, const char *program, struct vm_err *e);
int plan_libraries(struct plan_draft *d, const char *flags, struct vm_err *e);

#endif
