/* keeper_share.h: one confined virtiofsd per share. Private to vms-keeper. */
#ifndef VMSD_DRIVERS_KEEPER_SHARE_H
#define VMSD_DRIVERS_KEEPER_SHARE_H

#include "keeper_root.h"

/* Each listens when this returns: on its socket in dir, which belongs to the guest's user. r is used up. */
void servers_start(const struct plan *p, struct roots *r, const char *dir);
/* Was that child one of them? Then state.text says whose, and how it ended. */
bool server_ended(pid_t pid, int status);

#endif
