/* nspawn.h: parts of the nspawn driver. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_NSPAWN_H
#define VMSD_DRIVERS_NSPAWN_H

#include "keeper.h"

#include <linux/filter.h>
#include <vmsd/driver.h>
#include <vmsd/text.h>

#define NSPAWN_PROGRAM "/usr/bin/systemd-nspawn"

extern const struct vm_driver nspawn_driver;

/* What drivers_init was told. */
struct nspawn_programs { char keeper[256]; int agent; /* sealed memfd */ struct sock_fprog filter; /* for the agent */ };
extern struct nspawn_programs nspawn_programs;

/* host.c: what mounting takes; fills in idmap, overlay and loop. */
void host_probe_mounts(struct drv_host *out);

/* nspawn_args.c: pure. The command line of a guest. */
int nspawn_args(const struct drv_guest *g, struct strv *out, struct vm_err *e);

/* nspawn_plan.c: opens what the guest is made of and writes the keeper's plan. */
struct nspawn_plan {
    int *fds; /* in the order of enum keeper_fd, owned */
    size_t n;
};
struct cgroup;
int nspawn_plan_make(const struct drv_guest *g, const struct cgroup *c, struct deadline d, struct nspawn_plan *out,
                     struct vm_err *e);
void nspawn_plan_done(struct nspawn_plan p);
OWN_DEFINE(nspawn_plan, struct nspawn_plan, nspawn_plan_done)

/* nspawn_keeper.c: the keeper as vmsd sees it. */
/* Forks a keeper that waits: *go takes one byte to let it begin, closing it ends it. It is no child of ours. group: fd
 * of the cgroup (v2) that it is born in, or -1. */
int keeper_spawn(const struct nspawn_plan *p, int group, pid_t *pid, int *go, struct vm_err *e);
/* run_dir/state; ABSENT when there is none. */
int keeper_state(const char *run_dir, struct state *out, struct vm_err *e);
/* Waits until the state has reached phase (or its end), the keeper (a pidfd) is gone, or TIMEOUT. */
int keeper_await(const char *run_dir, int keeper, enum state_phase phase, struct deadline d, struct state *out,
                 struct vm_err *e);
/* A pidfd of a process named by the state, or -1 and ABSENT. */
int keeper_proc_open(const struct state *s, const struct state_proc *p, struct vm_err *e);
/* A pidfd of the guest's pid 1, or -1 and ABSENT. */
int keeper_leader_open(const struct drv_proc *p, struct vm_err *e);
/* True when the process behind a pidfd ended before the deadline. */
bool pidfd_wait(int pidfd, struct deadline d);

/* nspawn_agent.c: an agent inside the namespaces of the guest's leader. */
int nspawn_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e);

/* agent_filter.c: the system calls that the agent and what it runs may not make. out->filter is yours. */
int agent_filter_make(struct sock_fprog *out, struct vm_err *e);

/* nspawn_find.c: what runs without a state file is found by its cgroup, and gets a new one. ABSENT: nothing. */
int nspawn_find(uint32_t id, const char *run_dir, struct state *out, struct vm_err *e);

/* nspawn_grow.c */
int nspawn_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e);

#endif
