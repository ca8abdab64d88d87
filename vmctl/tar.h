/* tar.h: the host's tar as a child with one pipe. One thread. */
#ifndef VMCTL_TAR_H
#define VMCTL_TAR_H

#include <sys/types.h>
#include <vmsd/err.h>

/* Packs the directory whose fd is `dir`; *out is the pipe to read from. Owners are left out. */
int tar_pack(int dir, int *out, pid_t *pid, struct vm_err *e);
/* Unpacks into the directory whose fd is `dir`; *in is the pipe to write to. What comes from a guest gets no device
 * files, foreign owners, or set-user-ID bits: the child has no capability left. */
int tar_unpack(int dir, int *in, pid_t *pid, struct vm_err *e);
/* Waits for its end. -1: it failed, and said why on standard error. */
int tar_wait(pid_t pid, struct vm_err *e);

#endif
