/* keeper_mount.h: the mounts of one guest, made in the keeper's own mount namespace. Private to vms-keeper. */
#ifndef VMSD_DRIVERS_KEEPER_MOUNT_H
#define VMSD_DRIVERS_KEEPER_MOUNT_H

#include "keeper.h"

struct plan_mount { bool disk, read_only, mapped; const char *target; };
/* Strings point into the mapped plan. */
struct plan {
    uint32_t uid_base;
    bool read_only;
    const char *into, *cgroups[KEEPER_CGROUPS_MAX]; size_t n_cgroups;
    struct plan_mount mounts[KEEPER_MOUNTS_MAX]; size_t n_mounts;
    char *args[KEEPER_ARGS_MAX + 1]; size_t n_args;
};

/* Ends the keeper with this line as the reason. Mounts, loop devices and processes go with it. */
__attribute__((format(printf, 1, 2), noreturn)) void keeper_fail(const char *fmt, ...);

struct sources { int idmap, image, mounts[KEEPER_MOUNTS_MAX]; };

/* Takes the fds from KEEPER_FD_IMAGE on, and moves to a mount namespace of our own. */
void mounts_enter(const struct plan *p, struct sources *s);
/* Returns when KEEPER_ROOT is ready for nspawn; s is used up. */
void mounts_make(const struct plan *p, const struct sources *s);

#endif
