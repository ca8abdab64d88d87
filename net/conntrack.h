/* conntrack.h: connections that the kernel remembers. Floor 2. Workers only. */
#ifndef NET_CONNTRACK_H
#define NET_CONNTRACK_H

#include "address.h"

/* Forgets every connection from or to a guest's address, so that the next guest with it inherits none. */
int conntrack_forget(struct net_address a, struct vm_err *e);

#endif
