#include "nic.h"

static int parse_ip(struct nic *p, const char *address, const char *subnet, struct vm_err *e)
{
    struct net_cidr c;
    struct net_address a;
    if (!address[0])
        return 0;
    if (!subnet)
        return vm_fail(e, VM_E_INVALID, "%s: address %s, but the network has no such subnet", p->ifname, address);
    if (net_cidr_parse(subnet, &c, e) < 0)
        return -1;
    if (!net_address_parse(address, &a) || !net_cidr_usable(&c, a))
        return vm_fail(e, VM_E_INVALID, "%s: address '%s' is none that a guest in %s can have", p->ifname, address, subnet);
    p->ip[p->n_ip++] = (struct nic_ip){ a, c };
    return 0;
}

int nic_parse(const struct net_nic *nic, const struct network_spec *n, struct nic *out, struct vm_err *e)
{
    struct nic p = { .ifname = nic->ifname };
    uint32_t id;
    unsigned index;
    if (!net_ifname_parse(nic->ifname, &id, &index))
        return vm_fail(e, VM_E_INVALID, "'%s' is not the name of a guest's port", nic->ifname);
    if (!net_mac_parse(nic->mac, p.mac))
        return vm_fail(e, VM_E_INVALID, "%s: '%s' is no MAC that a guest can have", nic->ifname, nic->mac);
    if (parse_ip(&p, nic->address, n->subnet, e) < 0 || parse_ip(&p, nic->address6, n->subnet6, e) < 0)
        return -1;
    *out = p;
    return 0;
}

void nic_guest_name(unsigned index, char out[static NET_IFNAME])
{
    snprintf(out, NET_IFNAME, "host%u", index);
}

struct net_cidr nic_route(const struct nic_ip *ip, bool first)
{
    return first ? (struct net_cidr){ .v6 = ip->subnet.v6 } : ip->subnet;
}

int net_setup(const struct net_nic *nic, unsigned index, const struct network_spec *n, struct strv *out, struct vm_err *e)
{
    char name[NET_IFNAME], address[NET_ADDR], gateway[NET_ADDR], to[NET_ADDR];
    struct nic p;
    if (nic_parse(nic, n, &p, e) < 0)
        return -1;
    nic_guest_name(index, name);
    strv_addf(out, "nic=%s %s", nic->mac, name);
    for (size_t i = 0; i < p.n_ip; i++) {
        struct net_cidr route = nic_route(&p.ip[i], index == 0);
        net_address_text(p.ip[i].address, address);
        net_address_text(net_cidr_gateway(&p.ip[i].subnet), gateway);
        net_address_text((struct net_address){ .v6 = route.v6, .n = route.first }, to);
        strv_addf(out, "address=%s %s/%d", name, address, p.ip[i].address.v6 ? 128 : 32);
        strv_addf(out, "neighbour=%s %s " NET_GATEWAY_MAC, name, gateway);
        strv_addf(out, "route=%s %s/%u %s", name, to, route.prefix, gateway);
    }
    return out->failed ? vm_no_memory(e) : 0;
}
