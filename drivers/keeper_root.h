/* keeper_root.h: the trees that the VMM and each virtiofsd have for their root: what they need, and nothing else of the
 * host. Private to vms-keeper. */
#ifndef VMSD_DRIVERS_KEEPER_ROOT_H
#define VMSD_DRIVERS_KEEPER_ROOT_H

#include "keeper_core.h"

struct roots { int idmap, shares[KEEPER_MOUNTS_MAX]; /* detached mounts, with ids mapped or not */ };

/* Takes the fds from KEEPER_FD_FILES on, moves to a mount namespace of our own and makes KEEPER_VMM and KEEPER_SERVER in
 * it. */
void roots_make(const struct plan *p, struct roots *r);
/* In a child with a mount namespace of its own: that becomes its root, and everything else is gone. */
void root_enter(const char *root);

#endif
