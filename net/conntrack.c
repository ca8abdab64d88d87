#include "conntrack.h"

#include "rtnl.h"

#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

/* Which members of a tuple a filter compares; the kernel gives these bits to user space without a name. */
enum { FILTER_IP_SRC = 1u << 0 };

/* About all connections of an address. One is a guest's when it began it (source of the original tuple) or answers it
 * (source of the reply). */
static struct nl_msg *about(int command, int flags, struct net_address a, int tuple)
{
    struct nfgenmsg head = { .nfgen_family = a.v6 ? AF_INET6 : AF_INET, .version = 1 };
    struct nl_msg *m = nl_message(NFNL_SUBSYS_CTNETLINK << 8 | command, flags, &head, sizeof head);
    bool reply = tuple == CTA_TUPLE_REPLY;
    struct nlattr *outer, *inner, *filter;
    if (!m)
        return NULL;
    if (!(outer = nla_nest_start(m, tuple | NLA_F_NESTED)) || !(inner = nla_nest_start(m, CTA_TUPLE_IP | NLA_F_NESTED)) ||
        nl_put_address(m, a.v6 ? CTA_IP_V6_SRC : CTA_IP_V4_SRC, a) < 0)
        return nl_spoil(m);
    nla_nest_end(m, inner);
    nla_nest_end(m, outer);
    if (!(filter = nla_nest_start(m, CTA_FILTER | NLA_F_NESTED)) ||
        nla_put_u32(m, CTA_FILTER_ORIG_FLAGS, reply ? 0 : FILTER_IP_SRC) < 0 ||
        nla_put_u32(m, CTA_FILTER_REPLY_FLAGS, reply ? FILTER_IP_SRC : 0) < 0)
        return nl_spoil(m);
    nla_nest_end(m, filter);
    return m;
}

/* ---- one by one ---- */

/* The listing and the removals that its answers bring about are two conversations. */
struct listing { struct nl_sock *remover; int rc; };

static int forget_one(struct nl_msg *found, void *arg)
{
    static const int same[] = { CTA_TUPLE_ORIG, CTA_ID, CTA_ZONE };
    struct listing *l = arg;
    struct nlmsghdr *h = nlmsg_hdr(found);
    const struct nfgenmsg *head = nlmsg_data(h);
    if (!nlmsg_valid_hdr(h, sizeof *head))
        return NL_OK;
    struct nl_msg *m = nl_message(NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE, 0, head, sizeof *head);
    for (size_t i = 0; i < ARRAY_LEN(same) && m; i++) {
        struct nlattr *a = nlmsg_find_attr(h, sizeof *head, same[i]);
        if (a && nla_put(m, a->nla_type, nla_len(a), nla_data(a)) < 0)
            m = nl_spoil(m);
    }
    int rc = nl_ask(l->remover, m);
    if (rc < 0 && rc != -NLE_OBJ_NOTFOUND) /* it may have ended meanwhile */
        l->rc = rc;
    return l->rc < 0 ? NL_STOP : NL_OK;
}

static int forget_listed(struct nl_sock *remover, struct net_address a, int tuple)
{
    OWN(nl_sock) struct nl_sock *s = NULL; /* of its own: a listing that was stopped leaves answers behind */
    struct listing l = { .remover = remover };
    if (nl_dial(NETLINK_NETFILTER, &s, NULL) < 0)
        return -NLE_BAD_SOCK;
    int rc = nl_list(s, about(IPCTNL_MSG_CT_GET, NLM_F_DUMP, a, tuple), forget_one, &l);
    return rc < 0 ? rc : l.rc;
}

/* Kernels before 6.11 remove only what is named in full. Listing takes them some 10 ms, so it is not the first choice. */
static int forget(struct nl_sock *s, struct net_address a, int tuple)
{
    int rc = nl_ask(s, about(IPCTNL_MSG_CT_DELETE, 0, a, tuple));
    return rc == -NLE_INVAL ? forget_listed(s, a, tuple) : rc;
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
