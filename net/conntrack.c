#include "conntrack.h"

#include "rtnl.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

/* Which members of a tuple a flush compares; the kernel gives these bits to user space without a name. */
enum { FILTER_IP_SRC = 1u << 0 };

/* A connection is a guest's when it began it (source of the original tuple) or answers it (source of the reply). */
static int forget(struct nl_sock *s, struct net_address a, int tuple)
{
    struct nfgenmsg head = { .nfgen_family = a.v6 ? AF_INET6 : AF_INET, .version = 1 };
    struct nl_msg *m = nl_message(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, &head, sizeof head);
    bool reply = tuple == CTA_TUPLE_REPLY;
    struct nlattr *outer, *inner, *filter;
    if (!m)
        return -NLE_NOMEM;
    if (!(outer = nla_nest_start(m, tuple | NLA_F_NESTED)) || !(inner = nla_nest_start(m, CTA_TUPLE_IP | NLA_F_NESTED)) ||
        nl_put_address(m, a.v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, a) < 0)
        goto full;
    nla_nest_end(m, inner);
    nla_nest_end(m, outer);
    if (!(filter = nla_nest_start(m, CTA_FILTER | NLA_F_NESTED)) ||
        nla_put_u32(m, CTA_FILTER_ORIG_FLAGS, reply ? 0 : FILTER_IP_SRC) < 0 ||
        nla_put_u32(m, CTA_FILTER_REPLY_FLAGS, reply ? FILTER_IP_SRC : 0) < 0)
        goto full;
    nla_nest_end(m, filter);
    return nl_ask(s, m);
full:
    nlmsg_free(m);
    return -NLE_NOMEM;
}

int conntrack_forget(struct net_address a, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = NULL;
    int rc;
    if (nl_dial(NETLINK_NETFILTER, &s, e) < 0)
        return -1;
    if ((rc = forget(s, a, CTA_TUPLE_ORIG)) < 0 || (rc = forget(s, a, CTA_TUPLE_REPLY)) < 0)
        return nl_fail(e, rc, "forget the connections of a former guest");
    return 0;
}
