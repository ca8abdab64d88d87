/* bridge.h: what ports need of their bridge. Floor 2. Workers only. */
#ifndef NET_BRIDGE_H
#define NET_BRIDGE_H

#include "rtnl.h"

/* A bridge of ours by name; CONFLICT when the name belongs to something else. */
int bridge_find(struct nl_sock *s, const char *name, struct rtnl_link **out, struct vm_err *e);
/* Removes permanent neighbours whose MAC no port of the bridge claims any more: a guest's port may go without us. */
int bridge_prune(struct nl_sock *s, int bridge, struct vm_err *e);

#endif
