#include "shape.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <net/if.h>
#include <string.h>

enum {
    BURST_MS = 20,               /* what may pass at once, in time at the full rate … */
    BURST_MIN = 64 << 10,        /* … but never less than one large segment */
    QUEUE_MS = 100,              /* longer queues only add delay */
};

void shape_ifb_name(const char *port, char out[static NET_IFNAME])
{
    snprintf(out, NET_IFNAME, "%s", port);
    out[2] = 'r';
}

bool shape_ifb_parse(struct rtnl_link *l, char port[static NET_IFNAME])
{
    uint32_t id;
    unsigned nic;
    const char *name = rtnl_link_get_name(l), *type = rtnl_link_get_type(l);
    if (!name || !type || strcmp(type, "ifb") != 0 || strncmp(name, "vmr", 3) != 0)
        return false;
    snprintf(port, NET_IFNAME, "%s", name);
    port[2] = 's';
    return net_ifname_parse(port, &id, &nic);
}

static struct nl_msg *tc_message(int type, int flags, const struct tcmsg *head, const char *kind)
{
    struct nl_msg *m = nl_message(type, flags, head, sizeof *head);
    return m && kind && nla_put_string(m, TCA_KIND, kind) < 0 ? nl_spoil(m) : m;
}

/* A token bucket as the root queue of what leaves by ifindex. */
static int bucket_set(struct nl_sock *s, int ifindex, uint64_t rate)
{
    uint64_t burst = rate / 1000 * BURST_MS, queue = rate / 1000 * QUEUE_MS;
    burst = burst < BURST_MIN ? BURST_MIN : burst > INT32_MAX ? INT32_MAX : burst;
    queue = queue < burst ? burst : queue > INT32_MAX ? INT32_MAX : queue;
    struct tcmsg head = { .tcm_ifindex = ifindex, .tcm_parent = TC_H_ROOT, .tcm_handle = 1 << 16 };
    struct tc_tbf_qopt options = {
        .rate = { .rate = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate, .linklayer = TC_LINKLAYER_ETHERNET },
        .limit = (uint32_t)queue,
    };
    struct nl_msg *m = tc_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, &head, "tbf");
    struct nlattr *nest;
    if (!m)
        return -NLE_NOMEM;
    if (!(nest = nla_nest_start(m, TCA_OPTIONS)) || nla_put(m, TCA_TBF_PARMS, sizeof options, &options) < 0 ||
        nla_put_u64(m, TCA_TBF_RATE64, rate) < 0 || nla_put_u32(m, TCA_TBF_BURST, (uint32_t)burst) < 0) {
        nlmsg_free(m);
        return -NLE_NOMEM;
    }
    nla_nest_end(m, nest);
    return nl_ask(s, m);
}

static int queue_drop(struct nl_sock *s, int ifindex, uint32_t parent)
{
    struct tcmsg head = { .tcm_ifindex = ifindex, .tcm_parent = parent };
    int rc = nl_ask(s, tc_message(RTM_DELQDISC, 0, &head, NULL));
    return rc == -NLE_OBJ_NOTFOUND || rc == -NLE_INVAL || rc == -NLE_NODEV ? 0 : rc; /* none was there */
}

static int ifb_make(struct nl_sock *s, const char *name)
{
    struct ifinfomsg head = { .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
    struct nl_msg *m = nl_message(RTM_NEWLINK, NLM_F_CREATE, &head, sizeof head);
    struct nlattr *info;
    if (!m)
        return -NLE_NOMEM;
    if (nla_put_string(m, IFLA_IFNAME, name) < 0 || nla_put_u32(m, IFLA_GROUP, NET_GROUP) < 0 ||
        !(info = nla_nest_start(m, IFLA_LINKINFO)) || nla_put_string(m, IFLA_INFO_KIND, "ifb") < 0) {
        nlmsg_free(m);
        return -NLE_NOMEM;
    }
    nla_nest_end(m, info);
    return nl_ask(s, m);
}

/* Every frame that enters by ifindex goes through the queue of another interface first. */
static int redirect(struct nl_sock *s, int ifindex, int to)
{
    struct tcmsg ingress = { .tcm_ifindex = ifindex, .tcm_parent = TC_H_INGRESS, .tcm_handle = TC_H_MAKE(TC_H_INGRESS, 0) };
    struct tcmsg filter = { .tcm_ifindex = ifindex, .tcm_parent = ingress.tcm_handle,
                            .tcm_info = TC_H_MAKE(1 << 16, htons(ETH_P_ALL)) };
    struct tc_mirred mirred = { .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to };
    const struct tc_u32_sel one_key = { .flags = TC_U32_TERMINAL, .nkeys = 1 };
    unsigned char all[sizeof(struct tc_u32_sel) + sizeof(struct tc_u32_key)] = { 0 }; /* a key of zeros matches all */
    struct nlattr *options, *actions, *first, *inner;
    memcpy(all, &one_key, sizeof one_key);
    int rc = nl_ask(s, tc_message(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &ingress, "ingress"));
    if (rc < 0)
        return rc;
    struct nl_msg *m = tc_message(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &filter, "u32");
    if (!m)
        return -NLE_NOMEM;
    if (!(options = nla_nest_start(m, TCA_OPTIONS)) || nla_put(m, TCA_U32_SEL, sizeof all, all) < 0 ||
        !(actions = nla_nest_start(m, TCA_U32_ACT)) || !(first = nla_nest_start(m, 1)) ||
        nla_put_string(m, TCA_ACT_KIND, "mirred") < 0 || !(inner = nla_nest_start(m, TCA_ACT_OPTIONS)) ||
        nla_put(m, TCA_MIRRED_PARMS, sizeof mirred, &mirred) < 0) {
        nlmsg_free(m);
        return -NLE_NOMEM;
    }
    nla_nest_end(m, inner);
    nla_nest_end(m, first);
    nla_nest_end(m, actions);
    nla_nest_end(m, options);
    return nl_ask(s, m);
}

static int limit_tx(struct nl_sock *s, const char *port, int ifindex, uint64_t tx, struct vm_err *e)
{
    OWN(rtnl_link) struct rtnl_link *ifb = NULL;
    char name[NET_IFNAME];
    int rc;
    shape_ifb_name(port, name);
    if ((rc = ifb_make(s, name)) < 0)
        return nl_fail(e, rc, "make the queue %s for what the guest sends", name);
    if (link_find(s, name, &ifb, e) < 0)
        return -1;
    int to = rtnl_link_get_ifindex(ifb);
    if ((rc = bucket_set(s, to, tx)) < 0 || (rc = redirect(s, ifindex, to)) < 0)
        return nl_fail(e, rc, "limit what %s sends", port);
    return 0;
}

int shape_remove(struct nl_sock *s, const char *port, struct vm_err *e)
{
    OWN(rtnl_link) struct rtnl_link *ifb = NULL;
    struct vm_err why = { 0 };
    char name[NET_IFNAME];
    shape_ifb_name(port, name);
    if (link_find(s, name, &ifb, &why) < 0)
        return why.code == VM_E_ABSENT ? 0 : vm_fail(e, why.code, "%s", why.text);
    int rc = link_delete(s, rtnl_link_get_ifindex(ifb));
    return rc < 0 && rc != -NLE_NODEV ? nl_fail(e, rc, "remove the queue %s", name) : 0;
}

int net_rate_limit(const char *ifname, uint64_t rx, uint64_t tx, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    OWN(rtnl_link) struct rtnl_link *l = NULL;
    uint32_t id;
    unsigned nic;
    int rc;
    if (!net_ifname_parse(ifname, &id, &nic))
        return vm_fail(e, VM_E_INVALID, "'%s' is not the name of a guest's port", ifname);
    if (nl_dial(NETLINK_ROUTE, &s, e) < 0 || link_find(s, ifname, &l, e) < 0)
        return -1;
    int ifindex = rtnl_link_get_ifindex(l);
    if ((rc = rx ? bucket_set(s, ifindex, rx) : queue_drop(s, ifindex, TC_H_ROOT)) < 0)
        return nl_fail(e, rc, "limit what %s receives: the kernel needs sch_tbf", ifname);
    if ((rc = queue_drop(s, ifindex, TC_H_INGRESS)) < 0)
        return nl_fail(e, rc, "lift the limit of %s", ifname);
    if (!tx)
        return shape_remove(s, ifname, e);
    if (limit_tx(s, ifname, ifindex, tx, e) == 0)
        return 0;
    queue_drop(s, ifindex, TC_H_INGRESS); /* a half-made redirection would only delay */
    shape_remove(s, ifname, NULL);
    return vm_context(e, "the kernel needs ifb, sch_tbf, sch_ingress, cls_u32 and act_mirred");
}
