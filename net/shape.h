/* shape.h: rates of a port. Floor 2. Workers only. */
#ifndef NET_SHAPE_H
#define NET_SHAPE_H

#include "rtnl.h"

/* What a guest sends is queued on an ifb beside its port, "vmr1-0" for "vms1-0", which outlives the port. */
void shape_ifb_name(const char *port, char out[static NET_IFNAME]);
bool shape_ifb_parse(struct rtnl_link *l, char port[static NET_IFNAME]);
int shape_remove(struct nl_sock *s, const char *port, struct vm_err *e); /* absent is success */

#endif
