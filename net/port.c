#include "bridge.h"
#include "conntrack.h"
#include "nic.h"
#include "shape.h"
#include "sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>

/* A nic, and the bridge that it is to be a port of. */
struct port {
    struct nic nic;
    int bridge;
    uint32_t mtu;
};

static const unsigned char gateway_mac[6] = NET_GATEWAY_MAC_BYTES;

static int port_plan(struct nl_sock *s, const struct net_nic *nic, const struct network_spec *n, struct port *p,
                     struct vm_err *e)
{
    OWN(rtnl_link) struct rtnl_link *bridge = NULL;
    *p = (struct port){ 0 };
    if (nic_parse(nic, n, &p->nic, e) < 0)
        return -1;
    if (bridge_find(s, n->bridge, &bridge, e) < 0)
        return vm_context(e, "%s", nic->ifname);
    p->bridge = rtnl_link_get_ifindex(bridge);
    p->mtu = rtnl_link_get_mtu(bridge);
    return 0;
}

static struct nl_msg *master_message(int ifindex, int bridge)
{
    struct ifinfomsg head = { .ifi_index = ifindex };
    struct nl_msg *m = nl_message(RTM_NEWLINK, 0, &head, sizeof head);
    return m && nla_put_u32(m, IFLA_MASTER, (uint32_t)bridge) < 0 ? nl_spoil(m) : m;
}

/* Isolated from other ports, nothing learned, nothing flooded towards it, and (where the kernel knows "locked") no
 * source MAC but the one in the FDB: this holds even while somebody has flushed the rules. */
static struct nl_msg *flags_message(int ifindex)
{
    static const struct { int attribute; uint8_t value; } flags[] = {
        { IFLA_BRPORT_ISOLATED, 1 },    { IFLA_BRPORT_LEARNING, 0 },   { IFLA_BRPORT_UNICAST_FLOOD, 0 },
        { IFLA_BRPORT_MCAST_FLOOD, 0 }, { IFLA_BRPORT_BCAST_FLOOD, 0 }, { IFLA_BRPORT_MULTICAST_ROUTER, 0 },
        { IFLA_BRPORT_LOCKED, 1 },
    };
    struct ifinfomsg head = { .ifi_family = AF_BRIDGE, .ifi_index = ifindex };
    struct nl_msg *m = nl_message(RTM_SETLINK, 0, &head, sizeof head);
    struct nlattr *nest;
    if (!m || !(nest = nla_nest_start(m, IFLA_PROTINFO | NLA_F_NESTED)))
        return nl_spoil(m);
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (nla_put_u8(m, flags[i].attribute, flags[i].value) < 0)
            return nl_spoil(m);
    nla_nest_end(m, nest);
    return m;
}

static struct nl_msg *fdb_message(int ifindex, const unsigned char mac[static 6])
{
    struct ndmsg head = { .ndm_family = AF_BRIDGE, .ndm_ifindex = ifindex, .ndm_state = NUD_NOARP, .ndm_flags = NTF_MASTER };
    struct nl_msg *m = nl_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof head);
    return m && nla_put(m, NDA_LLADDR, 6, mac) < 0 ? nl_spoil(m) : m;
}

/* A permanent neighbour: no ARP or NDP can change it. */
static struct nl_msg *neighbour_message(int ifindex, struct net_address a, const unsigned char mac[static 6])
{
    struct ndmsg head = { .ndm_family = a.v6 ? AF_INET6 : AF_INET, .ndm_ifindex = ifindex, .ndm_state = NUD_PERMANENT };
    struct nl_msg *m = nl_message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof head);
    return m && (nl_put_address(m, NDA_DST, a) < 0 || nla_put(m, NDA_LLADDR, 6, mac) < 0) ? nl_spoil(m) : m;
}

/* Makes the link a port and brings it up last, when all that holds it is in place. */
static int port_join(struct nl_sock *s, const struct port *p, int ifindex, struct vm_err *e)
{
    static const struct sysctl_row quiet[] = { { "disable_ipv6", "1" } };
    int rc;
    if (sysctl_interface("ipv6", p->nic.ifname, quiet, ARRAY_LEN(quiet), e) < 0)
        return -1;
    for (size_t i = 0; i < p->nic.n_ip; i++)
        if (conntrack_forget(p->nic.ip[i].address, e) < 0)
            return -1;
    if ((rc = nl_ask(s, master_message(ifindex, p->bridge))) < 0)
        return nl_fail(e, rc, "make %s a port of its bridge", p->nic.ifname);
    if ((rc = nl_ask(s, flags_message(ifindex))) < 0)
        return nl_fail(e, rc, "isolate port %s", p->nic.ifname);
    if ((rc = nl_ask(s, fdb_message(ifindex, p->nic.mac))) < 0)
        return nl_fail(e, rc, "bind the MAC of %s to its port", p->nic.ifname);
    for (size_t i = 0; i < p->nic.n_ip; i++)
        if ((rc = nl_ask(s, neighbour_message(p->bridge, p->nic.ip[i].address, p->nic.mac))) < 0)
            return nl_fail(e, rc, "bind the address of %s to its MAC", p->nic.ifname);
    rc = link_set_up(s, ifindex);
    return rc < 0 ? nl_fail(e, rc, "bring %s up", p->nic.ifname) : 0;
}

static int put_peer(struct nl_msg *m, const struct port *p, const char *name, int netns_fd)
{
    struct ifinfomsg head = { .ifi_family = AF_UNSPEC };
    struct nlattr *info, *data, *peer;
    if (!(info = nla_nest_start(m, IFLA_LINKINFO)) || nla_put_string(m, IFLA_INFO_KIND, "veth") < 0 ||
        !(data = nla_nest_start(m, IFLA_INFO_DATA)) || !(peer = nla_nest_start(m, VETH_INFO_PEER)) ||
        nlmsg_append(m, &head, sizeof head, NLMSG_ALIGNTO) < 0 || nla_put_string(m, IFLA_IFNAME, name) < 0 ||
        nla_put(m, IFLA_ADDRESS, 6, p->nic.mac) < 0 || nla_put_u32(m, IFLA_MTU, p->mtu) < 0 ||
        nla_put_u32(m, IFLA_NET_NS_FD, (uint32_t)netns_fd) < 0)
        return -NLE_NOMEM;
    nla_nest_end(m, peer);
    nla_nest_end(m, data);
    nla_nest_end(m, info);
    return 0;
}

/* Both ends at once, the guest's already in its namespace: a crash leaves a whole pair or none. */
static int veth_make(struct nl_sock *s, const struct port *p, const char *guest_end, int netns_fd, struct vm_err *e)
{
    struct ifinfomsg head = { .ifi_family = AF_UNSPEC };
    struct nl_msg *m = nl_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &head, sizeof head);
    if (m && (nla_put_string(m, IFLA_IFNAME, p->nic.ifname) < 0 || nla_put_u32(m, IFLA_MTU, p->mtu) < 0 ||
              put_peer(m, p, guest_end, netns_fd) < 0))
        m = nl_spoil(m);
    int rc = nl_ask(s, m);
    return rc < 0 ? nl_fail(e, rc, "make %s and its other end %s in the guest", p->nic.ifname, guest_end) : 0;
}

static struct nl_msg *route_message(int ifindex, const struct nic_ip *ip, bool first)
{
    struct net_cidr to = nic_route(ip, first);
    struct rtmsg head = { .rtm_family = to.v6 ? AF_INET6 : AF_INET, .rtm_dst_len = (uint8_t)to.prefix,
                          .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_STATIC, .rtm_scope = RT_SCOPE_UNIVERSE,
                          .rtm_type = RTN_UNICAST, .rtm_flags = RTNH_F_ONLINK };
    struct nl_msg *m = nl_message(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof head);
    struct net_address dst = { .v6 = to.v6, .n = to.first };
    if (m && ((to.prefix && nl_put_address(m, RTA_DST, dst) < 0) ||
              nl_put_address(m, RTA_GATEWAY, net_cidr_gateway(&ip->subnet)) < 0 ||
              nla_put_u32(m, RTA_OIF, (uint32_t)ifindex) < 0))
        return nl_spoil(m);
    return m;
}

static int guest_configure(const struct port *p, const char *guest_end, bool first, int netns_fd, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *lo = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    int rc;
    if (nl_dial_in(netns_fd, NETLINK_ROUTE, &s, e) < 0 || link_find(s, "lo", &lo, e) < 0 ||
        link_find(s, guest_end, &l, e) < 0)
        return -1;
    int ifindex = rtnl_link_get_ifindex(l);
    if ((rc = link_set_up(s, rtnl_link_get_ifindex(lo))) < 0 || (rc = link_set_up(s, ifindex)) < 0)
        return nl_fail(e, rc, "bring the guest's lo and %s up", guest_end);
    for (size_t i = 0; i < p->nic.n_ip; i++)
        if ((rc = nl_ask(s, nl_address(ifindex, p->nic.ip[i].address, p->nic.ip[i].address.v6 ? 128 : 32))) < 0 ||
            (rc = nl_ask(s, neighbour_message(ifindex, net_cidr_gateway(&p->nic.ip[i].subnet), gateway_mac))) < 0 ||
            (rc = nl_ask(s, route_message(ifindex, &p->nic.ip[i], first))) < 0)
            return nl_fail(e, rc, "configure %s in the guest", guest_end);
    return 0;
}

int net_veth_attach(const struct net_nic *nic, unsigned index, const struct network_spec *n, int netns_fd, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    struct port p;
    char guest_end[NET_IFNAME];
    nic_guest_name(index, guest_end);
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0 || port_plan(s, nic, n, &p, e) < 0 || net_link_remove(nic->ifname, e) < 0 ||
        veth_make(s, &p, guest_end, netns_fd, e) < 0)
        return -1;
    if (guest_configure(&p, guest_end, index == 0, netns_fd, e) < 0 || link_find(s, nic->ifname, &l, e) < 0 ||
        port_join(s, &p, rtnl_link_get_ifindex(l), e) < 0) {
        net_link_remove(nic->ifname, NULL);
        return vm_context(e, "network %s", n->name);
    }
    return 0;
}

int net_tap_open(const struct net_nic *nic, const struct network_spec *n, int *out_fd, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    OWN(fd) int fd = -1;
    struct port p;
    struct ifreq want = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0 || port_plan(s, nic, n, &p, e) < 0 || net_link_remove(nic->ifname, e) < 0)
        return -1;
    if ((fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK)) < 0)
        return vm_fail_sys(e, "open /dev/net/tun");
    memcpy(want.ifr_name, nic->ifname, sizeof want.ifr_name);
    if (ioctl(fd, TUNSETIFF, &want) < 0)
        return vm_fail_sys(e, "make tap %s", nic->ifname);
    if (link_find(s, nic->ifname, &l, e) < 0 || port_join(s, &p, rtnl_link_get_ifindex(l), e) < 0)
        return vm_context(e, "network %s", n->name); /* the tap goes with its fd */
    *out_fd = take_fd(&fd);
    return 0;
}

int net_tap_rejoin(const struct net_nic *nic, const struct network_spec *n, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    struct port p;
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0 || port_plan(s, nic, n, &p, e) < 0 || link_find(s, nic->ifname, &l, e) < 0)
        return -1;
    return port_join(s, &p, rtnl_link_get_ifindex(l), e) < 0 ? vm_context(e, "network %s", n->name) : 0;
}

int net_link_remove(const char *ifname, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    struct vm_err why = { 0 };
    uint32_t id;
    unsigned nic;
    if (!net_ifname_parse(ifname, &id, &nic))
        return vm_fail(e, VM_E_INVALID, "'%s' is not the name of a guest's port", ifname);
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0 || shape_remove(s, ifname, e) < 0)
        return -1;
    if (link_find(s, ifname, &l, &why) < 0)
        return why.code == VM_E_ABSENT ? 0 : vm_fail(e, why.code, "%s", why.text);
    int rc = link_delete(s, rtnl_link_get_ifindex(l)), bridge = rtnl_link_get_master(l);
    if (rc < 0 && rc != -NLE_NODEV)
        return nl_fail(e, rc, "remove %s", ifname);
    return bridge ? bridge_prune(s, bridge, e) : 0;
}

int net_links(struct strv *out, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(nl_cache) struct nl_cache *all = NULL;
    char port[NET_IFNAME];
    uint32_t id;
    unsigned nic;
    int rc;
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0)
        return -1;
    if ((rc = rtnl_link_alloc_cache(s, AF_UNSPEC, &all)) < 0)
        return nl_fail(e, rc, "list interfaces");
    for (struct nl_object *o = nl_cache_get_first(all); o; o = nl_cache_get_next(o)) {
        struct rtnl_link *l = (struct rtnl_link *)o;
        const char *name = rtnl_link_get_name(l);
        if (name && (net_ifname_parse(name, &id, &nic) || link_is_our_bridge(l)))
            strv_add(out, name);
        /* A queue whose port has gone stands for the port: net_link_remove takes both away. */
        OWN(rtnl_link) struct rtnl_link *whose = shape_ifb_parse(l, port) ? rtnl_link_get_by_name(all, port) : NULL;
        if (shape_ifb_parse(l, port) && !whose)
            strv_add(out, port);
    }
    return out->failed ? vm_no_memory(e) : 0;
}

int net_ports(struct strv *out, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(nl_cache) struct nl_cache *all = NULL;
    uint32_t id;
    unsigned nic;
    int rc;
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0)
        return -1;
    if ((rc = rtnl_link_alloc_cache(s, AF_UNSPEC, &all)) < 0)
        return nl_fail(e, rc, "list interfaces");
    for (struct nl_object *o = nl_cache_get_first(all); o; o = nl_cache_get_next(o)) {
        const char *name = rtnl_link_get_name((struct rtnl_link *)o);
        if (name && net_ifname_parse(name, &id, &nic) && rtnl_link_get_master((struct rtnl_link *)o))
            strv_add(out, name);
    }
    return out->failed ? vm_no_memory(e) : 0;
}

int net_stats(const char *ifname, struct net_stats *out, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0 || link_find(s, ifname, &l, e) < 0)
        return -1;
    /* What the host's end sends, the guest receives. */
    *out = (struct net_stats){
        .rx_bytes = rtnl_link_get_stat(l, RTNL_LINK_TX_BYTES),     .tx_bytes = rtnl_link_get_stat(l, RTNL_LINK_RX_BYTES),
        .rx_packets = rtnl_link_get_stat(l, RTNL_LINK_TX_PACKETS), .tx_packets = rtnl_link_get_stat(l, RTNL_LINK_RX_PACKETS),
        .rx_drops = rtnl_link_get_stat(l, RTNL_LINK_TX_DROPPED),   .tx_drops = rtnl_link_get_stat(l, RTNL_LINK_RX_DROPPED),
    };
    return 0;
}
