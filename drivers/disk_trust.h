/* disk_trust.h: disks that a guest's own kernel wrote to, before the host's kernel mounts them. Private to drivers/. Any
 * thread.
 *
 * A microVM writes to the blocks of its disks as it likes, and a file system made by an enemy is a way into the kernel that
 * mounts it. Whose bytes are on a disk, its file's owner tells: the guest's user, from the moment on that a VMM may write. */
#ifndef VMSD_DRIVERS_DISK_TRUST_H
#define VMSD_DRIVERS_DISK_TRUST_H

#include <vmsd/clock.h>
#include <vmsd/err.h>

/* A disk that is a microVM's is checked by e2fsck, which runs as nobody but that guest's user; what passes becomes root's. One
 * that is root's is taken as it is. fd: open for writing, and locked. */
int disk_trust(int fd, const char *path, struct deadline d, struct vm_err *e);

#endif
