/* tar.h: the host's tar as a child with one pipe. One thread. */
#ifndef VMCTL_TAR_H
#define VMCTL_TAR_H

#include <stdbool.h>
#include <sys/types.h>
#include <vmsd/err.h>

/* Whose it is, by numbers. */
struct tar_owner {
    uid_t uid;
    gid_t gid;
};
/* Packs the directory whose fd is `dir`, as that owner's or (NULL) each file as its own; *out is the pipe to read from. */
int tar_pack(int dir, const struct tar_owner *owner, int *out, pid_t *pid, struct vm_err *e);
/* Unpacks into the directory whose fd is `dir`; *in is the pipe to write to. What comes from a guest gets no device
 * files or set-user-ID bits, and owners only when they are wanted: the child has no other capability left. */
int tar_unpack(int dir, bool owners, int *in, pid_t *pid, struct vm_err *e);
/* Waits for its end. -1: it failed, and said why on standard error. */
int tar_wait(pid_t pid, struct vm_err *e);

#endif
