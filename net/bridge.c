#include "bridge.h"

#include "conntrack.h"
#include "sysctl.h"

#include <linux/if_bridge.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/route/addr.h>
#include <string.h>

static const unsigned char gateway_mac[6] = NET_GATEWAY_MAC_BYTES;

static const struct sysctl_row bridge4[] = {
    { "forwarding", "1" },
    { "rp_filter", "1" },
    { "accept_redirects", "0" },
    { "send_redirects", "0" }, /* in force only together with all/send_redirects; see bridge_sysctls */
    { "accept_source_route", "0" },
    { "arp_ignore", "1" },      /* no answer for addresses that the host has elsewhere */
    { "route_localnet", "1" },  /* 127.0.0.1:PORT of the host reaches a published port; the rules drop 127/8 from guests */
};
static const struct sysctl_row bridge6[] = {
    { "accept_ra", "0" },
    { "autoconf", "0" },
    { "accept_redirects", "0" },
    { "accept_source_route", "0" },
    { "disable_ipv6", "0" },
    { "forwarding", "1" },
};
static const struct sysctl_row bridge_no6[] = { { "accept_ra", "0" }, { "disable_ipv6", "1" } };

int bridge_find(struct nl_sock *s, const char *name, struct rtnl_link **out, struct vm_err *e)
{
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    if (link_find(s, name, &l, e) < 0)
        return -1;
    if (!link_is_our_bridge(l))
        return vm_fail(e, VM_E_CONFLICT, "interface %s exists and is no bridge of vmsd; give the network another 'bridge'",
                       name);
    *out = TAKE(l);
    return 0;
}

static int bridge_make(struct nl_sock *s, const char *name, struct vm_err *e)
{
    struct ifinfomsg head = { .ifi_family = AF_UNSPEC };
    struct nl_msg *m = nl_message(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &head, sizeof head);
    struct nlattr *info, *data;
    if (!m)
        return vm_no_memory(e);
    if (nla_put_string(m, IFLA_IFNAME, name) < 0 || nla_put(m, IFLA_ADDRESS, 6, gateway_mac) < 0 ||
        nla_put_u32(m, IFLA_GROUP, NET_GROUP) < 0 || !(info = nla_nest_start(m, IFLA_LINKINFO)) ||
        nla_put_string(m, IFLA_INFO_KIND, "bridge") < 0 || !(data = nla_nest_start(m, IFLA_INFO_DATA)) ||
        nla_put_u8(m, IFLA_BR_MCAST_SNOOPING, 0) < 0 || nla_put_u32(m, IFLA_BR_STP_STATE, 0) < 0) {
        nlmsg_free(m);
        return vm_no_memory(e);
    }
    nla_nest_end(m, data);
    nla_nest_end(m, info);
    int rc = nl_ask(s, m);
    return rc < 0 && rc != -NLE_EXIST ? nl_fail(e, rc, "make bridge %s", name) : 0; /* EXIST: another worker did */
}

static bool address_is(struct rtnl_addr *a, const struct net_cidr *c)
{
    unsigned char b[16];
    struct nl_addr *local = rtnl_addr_get_local(a);
    size_t n = net_address_bytes(net_cidr_gateway(c), b);
    return local && nl_addr_get_len(local) == n && memcmp(nl_addr_get_binary_addr(local), b, n) == 0 &&
           nl_addr_get_prefixlen(local) == c->prefix;
}

/* Exactly the gateways that the network has now: a changed subnet must not leave the former one behind. */
static int bridge_addresses(struct nl_sock *s, int ifindex, const struct net_cidr *want, size_t n, struct vm_err *e)
{
    OWN(nl_cache) struct nl_cache *all = NULL;
    int rc = rtnl_addr_alloc_cache(s, &all);
    if (rc < 0)
        return nl_fail(e, rc, "list addresses");
    for (struct nl_object *o = nl_cache_get_first(all); o; o = nl_cache_get_next(o)) {
        struct rtnl_addr *a = (struct rtnl_addr *)o;
        bool wanted = rtnl_addr_get_ifindex(a) != ifindex || rtnl_addr_get_scope(a) == RT_SCOPE_LINK;
        for (size_t i = 0; i < n; i++)
            wanted |= address_is(a, &want[i]);
        if (!wanted && (rc = rtnl_addr_delete(s, a, 0)) < 0 && rc != -NLE_NOADDR)
            return nl_fail(e, rc, "remove a former gateway address");
    }
    for (size_t i = 0; i < n; i++) {
        rc = nl_ask(s, nl_address(ifindex, net_cidr_gateway(&want[i]), want[i].prefix));
        if (rc < 0 && rc != -NLE_EXIST)
            return nl_fail(e, rc, "set the gateway address");
    }
    return 0;
}

struct entry { unsigned char mac[6]; struct net_address ip; }; /* ip: of a neighbour only */
struct entries { int bridge; struct entry *v; size_t n, cap; bool failed; };

static void entries_done(struct entries l)
{
    free(l.v);
}
OWN_DEFINE(entries, struct entries, entries_done)

static int entry_order(const void *a, const void *b)
{
    return memcmp(((const struct entry *)a)->mac, ((const struct entry *)b)->mac, 6);
}

/* One neighbour or FDB entry of a dump: kept when it is the bridge's. */
static int entry_keep(struct nl_msg *m, void *arg)
{
    struct entries *l = arg;
    struct nlattr *tb[NDA_MAX + 1];
    struct ndmsg *head = nlmsg_data(nlmsg_hdr(m));
    if (nlmsg_parse(nlmsg_hdr(m), sizeof *head, tb, NDA_MAX, NULL) < 0 || !tb[NDA_LLADDR] || nla_len(tb[NDA_LLADDR]) != 6)
        return NL_OK;
    struct entry it = { .ip = { .v6 = head->ndm_family == AF_INET6 } };
    memcpy(it.mac, nla_data(tb[NDA_LLADDR]), 6);
    if (head->ndm_family == AF_BRIDGE) {
        if (!tb[NDA_MASTER] || (int)nla_get_u32(tb[NDA_MASTER]) != l->bridge)
            return NL_OK;
    } else {
        if (head->ndm_ifindex != l->bridge || head->ndm_state != NUD_PERMANENT || !tb[NDA_DST])
            return NL_OK;
        const unsigned char *b = nla_data(tb[NDA_DST]);
        for (int i = 0; i < nla_len(tb[NDA_DST]); i++)
            it.ip.n = it.ip.n << 8 | b[i];
    }
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct entry *grown = realloc(l->v, cap * sizeof *grown);
        if (!grown) {
            l->failed = true;
            return NL_STOP;
        }
        l->v = grown;
        l->cap = cap;
    }
    l->v[l->n++] = it;
    return NL_OK;
}

static int entries_read(struct nl_sock *s, uint8_t family, struct entries *l)
{
    struct ndmsg head = { .ndm_family = family };
    int rc = nl_list(s, nl_message(RTM_GETNEIGH, NLM_F_DUMP, &head, sizeof head), entry_keep, l);
    return l->failed ? -NLE_NOMEM : rc;
}

int bridge_prune(struct nl_sock *s, int bridge, struct vm_err *e)
{
    OWN(entries) struct entries neighbours = { .bridge = bridge };
    OWN(entries) struct entries fdb = { .bridge = bridge };
    int rc;
    /* The neighbours first: a port that comes meanwhile writes its FDB entry before its neighbour. */
    if ((rc = entries_read(s, AF_UNSPEC, &neighbours)) < 0 || (rc = entries_read(s, AF_BRIDGE, &fdb)) < 0)
        return rc == -NLE_DUMP_INTR ? 0 : nl_fail(e, rc, "list neighbours"); /* changed under us: the next one prunes */
    if (fdb.n)
        qsort(fdb.v, fdb.n, sizeof *fdb.v, entry_order);
    for (size_t i = 0; i < neighbours.n; i++) {
        const struct entry *it = &neighbours.v[i];
        if (fdb.n && bsearch(it, fdb.v, fdb.n, sizeof *fdb.v, entry_order))
            continue;
        if (conntrack_forget(it->ip, e) < 0) /* or a client that goes on sending is led to a guest that is no more */
            return -1;
        struct ndmsg head = { .ndm_family = it->ip.v6 ? AF_INET6 : AF_INET, .ndm_ifindex = bridge };
        struct nl_msg *m = nl_message(RTM_DELNEIGH, 0, &head, sizeof head);
        if (m && nl_put_address(m, NDA_DST, it->ip) < 0)
            m = nl_spoil(m);
        if ((rc = nl_ask(s, m)) < 0 && rc != -NLE_OBJ_NOTFOUND)
            return nl_fail(e, rc, "remove a neighbour that no port claims");
    }
    return 0;
}

static int bridge_sysctls(const char *name, bool v6, struct vm_err *e)
{
    if (sysctl_interface("ipv4", name, bridge4, ARRAY_LEN(bridge4), e) < 0)
        return -1;
    /* The kernel takes the "or" of all and the interface. A redirect would ask a guest to leave the gateway out, and eat
     * up its ration of ICMP errors; the host's other interfaces go on by their own values. */
    if (sysctl_write("ipv4/conf/all/send_redirects", "0", e) < 0)
        return -1;
    return v6 ? sysctl_interface("ipv6", name, bridge6, ARRAY_LEN(bridge6), e)
              : sysctl_interface("ipv6", name, bridge_no6, ARRAY_LEN(bridge_no6), e);
}

int net_bridge_ensure(const struct network_spec *n, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    struct vm_err why = { 0 };
    struct net_cidr want[2];
    size_t n_want = n->subnet6 ? 2 : 1;
    if (net_bridge_name_check(n->bridge, e) < 0 || net_cidr_parse(n->subnet, &want[0], e) < 0 ||
        (n->subnet6 && net_cidr_parse(n->subnet6, &want[1], e) < 0) || nl_dial(NETLINK_ROUTE, &s, e) < 0)
        return -1;
    if (bridge_find(s, n->bridge, &l, &why) < 0) {
        if (why.code != VM_E_ABSENT)
            return vm_fail(e, why.code, "%s", why.text);
        if (bridge_make(s, n->bridge, e) < 0 || bridge_find(s, n->bridge, &l, e) < 0)
            return -1;
    }
    int ifindex = rtnl_link_get_ifindex(l), rc;
    if (bridge_sysctls(n->bridge, n->subnet6 != NULL, e) < 0 || bridge_addresses(s, ifindex, want, n_want, e) < 0)
        return vm_context(e, "network %s", n->name);
    if ((rc = link_set_up(s, ifindex)) < 0)
        return nl_fail(e, rc, "network %s: bring %s up", n->name, n->bridge);
    if (sysctl_forward4(e) < 0 || (n->subnet6 && sysctl_forward6(e) < 0) || bridge_prune(s, ifindex, e) < 0)
        return vm_context(e, "network %s", n->name);
    return 0;
}

int net_bridge_remove(const char *bridge, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    struct vm_err why = { 0 };
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0)
        return -1;
    if (bridge_find(s, bridge, &l, &why) < 0)
        return why.code == VM_E_ABSENT ? 0 : vm_fail(e, why.code, "%s", why.text);
    int rc = link_delete(s, rtnl_link_get_ifindex(l));
    return rc < 0 && rc != -NLE_NODEV ? nl_fail(e, rc, "remove bridge %s", bridge) : 0;
}
