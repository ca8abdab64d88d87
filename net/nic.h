/* nic.h: what a guest's interface is, decided once for containers, whose host configures it, and for guests that boot a
 * kernel, whose agent does. Floor 2, pure. Any thread. */
#ifndef NET_NIC_H
#define NET_NIC_H

#include "address.h"

struct nic_ip { struct net_address address; struct net_cidr subnet; };
struct nic {
    const char *ifname;                 /* on the host; borrowed */
    unsigned char mac[6];
    struct nic_ip ip[2];
    size_t n_ip;
};
/* INVALID unless the guest may have it on that network. */
int nic_parse(const struct net_nic *nic, const struct network_spec *n, struct nic *out, struct vm_err *e);
void nic_guest_name(unsigned index, char out[static NET_IFNAME]); /* "host0" */
/* What goes by way of the gateway. A first nic: everything, neighbours of the same subnet too, for there the rules decide;
 * whether a guest may go out at all is theirs as well, so a network without NAT has the same routes. Further nics: their
 * subnet. */
struct net_cidr nic_route(const struct nic_ip *ip, bool first);

#endif
