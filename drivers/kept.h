/* kept.h: what a vms-keeper keeps, as vmsd sees it: all that drivers with keepers do alike. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_KEPT_H
#define VMSD_DRIVERS_KEPT_H

#include "cgroup.h"
#include "keeper.h"

#include <vmsd/driver.h>

/* Which guest, and what keeps it. Nothing of a keeper of another kind is ever touched. */
struct kept { enum keeper_kind kind; uint32_t id; const char *run_dir; };

/* Set by drivers_init. */
extern char keeper_program[256];

/* What a keeper is started with: fds in the order of enum keeper_fd, owned. The plan is the first. */
struct kept_plan { int *fds; size_t n; };
void kept_plan_done(struct kept_plan p);
OWN_DEFINE(kept_plan, struct kept_plan, kept_plan_done)

/* kept.c */
/* Its state file; ABSENT when there is none. */
int kept_state(const struct kept *k, struct state *out, struct vm_err *e);
/* Waits until the state has reached phase (or its end), the keeper (a pidfd) is gone, or TIMEOUT. */
int kept_await(const struct kept *k, int keeper, enum state_phase phase, struct deadline d, struct state *out,
               struct vm_err *e);
/* A pidfd of a process named by the state, or -1 and ABSENT. */
int kept_proc_open(const struct state *s, const struct state_proc *p, struct vm_err *e);
/* True when the process behind a pidfd ended before the deadline. */
bool pidfd_wait(int pidfd, struct deadline d);
/* A file of /proc/PID, whole; *out is yours, n may be NULL. */
int proc_file_read(pid_t pid, const char *name, char **out, size_t *n, struct vm_err *e);
/* Forks a keeper that waits: *go takes one byte to let it begin, closing it ends it. It is no child of ours. group: fd
 * of the cgroup (v2) that it is born in, or -1. */
int keeper_spawn(const struct kept_plan *p, enum keeper_kind kind, int group, pid_t *pid, int *go, struct vm_err *e);

/* kept_find.c: what runs without a state file is found by its cgroup, and gets a new one. ABSENT: nothing. */
int kept_find(const struct kept *k, struct state *out, struct vm_err *e);

/* kept_life.c */
void kept_proc(const struct state *s, struct drv_proc *out);
/* Before a start: removes what an earlier one left. CONFLICT: it runs. */
int kept_clear(const struct kept *k, struct vm_err *e);
/* Starts the keeper in the guest's cgroups, with the limits of s; *keeper: its pidfd, set as soon as there is one. After a
 * failure, here or later: kept_undo. */
int kept_begin(const struct kept *k, const struct kept_plan *plan, const struct cgroup *c, const struct guest_spec *s,
               struct deadline d, int *keeper, struct vm_err *e);
void kept_undo(const struct kept *k, int keeper);
/* The driver's ops. */
int kept_wait_booted(const struct kept *k, const char *name, struct drv_proc *p, struct deadline d, struct vm_err *e);
int kept_adopt(const struct kept *k, struct drv_proc *out, struct vm_err *e);
int kept_stop(const struct kept *k, const struct drv_proc *p, struct deadline d, struct vm_err *e);
int kept_reap(const struct kept *k, struct drv_exit *out, struct vm_err *e);
/* "'db' ended before it was up: …", for a state that has ended. -1. */
int kept_ended(const struct state *s, const char *name, struct vm_err *e);

#endif
