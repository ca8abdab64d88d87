#include "rtnl.h"

#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <vmsd/net.h>

/* What does not fit is lost, and that is told: so a flood costs no more than this to read. */
enum { WATCH_BYTES = 64 << 10 };

int net_rules_watch(int *out_fd, struct vm_err *e)
{
    struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = 1u << (NFNLGRP_NFTABLES - 1) };
    int bytes = WATCH_BYTES;
    OWN(fd) int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0 ||
        bind(fd, (const struct sockaddr *)&a, sizeof a) < 0)
        return vm_fail_sys(e, "listen to changes of nftables");
    *out_fd = take_fd(&fd);
    return 0;
}

/* Every transaction ends with the new generation, and by whom. The name says it: the pid is one of the first pid namespace,
 * which need not be ours. */
static bool is_foreign(struct nlmsghdr *h)
{
    if (h->nlmsg_type != (NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWGEN))
        return false;
    const struct nlattr *who = nlmsg_find_attr(h, sizeof(struct nfgenmsg), NFTA_GEN_PROC_NAME);
    return !who || nla_strcmp(who, NFT_THREAD);
}

bool net_rules_touched(int fd)
{
    static char buf[WATCH_BYTES] __attribute__((aligned(NLMSG_ALIGNTO))); /* loop thread only */
    bool touched = false;
    ssize_t n;

    while ((n = recv(fd, buf, sizeof buf, 0)) > 0 || (n < 0 && errno == ENOBUFS)) {
        int left = n > 0 ? (int)n : 0;
        touched |= n < 0;
        for (struct nlmsghdr *h = (struct nlmsghdr *)buf; nlmsg_ok(h, left); h = nlmsg_next(h, &left))
            touched |= is_foreign(h);
    }
    return touched;
}
