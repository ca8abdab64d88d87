/* publish.h: how a published port reaches its guest. Floor 2, pure. */
#ifndef NET_PUBLISH_H
#define NET_PUBLISH_H

#include <vmsd/net.h>

/* The kernel's NAT serves the guest's address of the same family; the relay serves IPv6 where there is none, and ::1,
 * which the kernel never lets leave lo. Strings are borrowed from the guest, or constant. */
struct publish {
    char at[NET_ADDR];        /* address of the host, "": all */
    const char *nat4, *nat6;  /* address of the guest, NULL: not by NAT */
    const char *listen, *to;  /* for the relay, NULL: not by relay */
};
int publish_way(const struct net_guest *g, const struct spec_port *p, struct publish *out, struct vm_err *e);

#endif
