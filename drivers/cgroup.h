/* cgroup.h: the control groups of one guest. Private to drivers/. Any thread.
 *
 * BASE/keeper holds the keeper, BASE/guest the guest with its limits; nspawn splits that in supervisor/ and payload/.
 * BASE is the guest's transient scope where systemd runs, else /vmsd/ID. Where the v2 hierarchy has no controllers,
 * the v1 hierarchies get /vmsd/ID each. What the host does not offer is left out. */
#ifndef VMSD_DRIVERS_CGROUP_H
#define VMSD_DRIVERS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/driver.h>
#include <vmsd/text.h>

#define CGROUP_V1(X) X(MEMORY, "memory") X(CPU, "cpu") X(CPUACCT, "cpuacct") X(PIDS, "pids") X(BLKIO, "blkio") \
    X(SYSTEMD, "systemd")
#define X(id, name) V1_##id,
enum cgroup_v1 { CGROUP_V1(X) V1_COUNT };
#undef X

enum { CGROUP_PATH = 128 };
struct cgroup {
    bool v2;                          /* the one hierarchy with the controllers */
    char base[CGROUP_PATH];           /* in v2, or a hybrid host's unified hierarchy; "": none */
    char guest[CGROUP_PATH + 8], keeper[CGROUP_PATH + 8];
    char v1[V1_COUNT][CGROUP_PATH];   /* "": none */
};

/* Where the groups of a guest are or would be. */
void cgroup_of(uint32_t id, struct cgroup *out);
/* keeper: the process to move into the keeper's group, or 0. */
int cgroup_make(const struct cgroup *c, pid_t keeper, struct vm_err *e);
/* An fd of the keeper's group, to be born in; -1 without error where there is none. */
int cgroup_keeper_open(const struct cgroup *c, int *fd, struct vm_err *e);
/* Where processes are charged to the guest but are not its payload: an fd of a group to be born in (v2; made when missing;
 * -1 where there is none), and files that a process without threads writes "0" to (v1; appended to join). */
int cgroup_agent(const struct cgroup *c, int *born, struct strv *join, struct vm_err *e);
/* Puts limits in force; what the host does not have is borne. devices: block devices of the guest, for I/O. */
int cgroup_limits(const struct cgroup *c, const struct guest_spec *s, const dev_t *devices, size_t n_devices,
                  struct vm_err *e);
void cgroup_stats(const struct cgroup *c, struct drv_stats *out);
void cgroup_kill(const struct cgroup *c);
/* Removes all of it; CONFLICT while a process lives in it, or systemd has not yet seen that none does. Absent is
 * success. */
int cgroup_remove(const struct cgroup *c, struct vm_err *e);

/* Is it one of the words of a text? NULL has none. */
bool word_in(const char *text, const char *word);

/* scope.c: systemd's part. */
bool scope_wanted(void); /* systemd is this host's init */
/* Puts a process into the new scope vms-ID.scope of vms.slice, with delegation. When systemd stops it, as when the host goes
 * down, all its processes get KEEPER_SIG_HOST_DOWN, and stop_ms to end in. */
int scope_start(uint32_t id, pid_t pid, int64_t stop_ms, struct deadline d, struct vm_err *e);

#endif
