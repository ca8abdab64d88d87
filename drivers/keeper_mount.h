/* keeper_mount.h: the mounts of one container, made in the keeper's own mount namespace. Private to vms-keeper. */
#ifndef VMSD_DRIVERS_KEEPER_MOUNT_H
#define VMSD_DRIVERS_KEEPER_MOUNT_H

#include "keeper_core.h"

struct sources { int idmap, image, mounts[KEEPER_MOUNTS_MAX]; };

/* Takes the fds from KEEPER_FD_IMAGE on, and moves to a mount namespace of our own. */
void mounts_enter(const struct plan *p, struct sources *s);
/* Returns when KEEPER_ROOT is ready for nspawn; s is used up. */
void mounts_make(const struct plan *p, const struct sources *s);

#endif
