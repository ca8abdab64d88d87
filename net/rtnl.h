/* rtnl.h: requests to the kernel's network tables over libnl. Floor 2. Workers only. */
#ifndef NET_RTNL_H
#define NET_RTNL_H

#include "address.h"

#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/link.h>
#include <vmsd/err.h>
#include <vmsd/net.h>
#include <vmsd/own.h>

OWN_DEFINE(nl_sock, struct nl_sock *, nl_socket_free)
OWN_DEFINE(rtnl_link, struct rtnl_link *, rtnl_link_put)
OWN_DEFINE(nl_cache, struct nl_cache *, nl_cache_free)

/* protocol: NETLINK_ROUTE or NETLINK_NETFILTER. */
int nl_dial(int protocol, struct nl_sock **out, struct vm_err *e);
/* The same inside the network namespace that netns_fd refers to; the calling thread is back in its own afterwards. */
int nl_dial_in(int netns_fd, int protocol, struct nl_sock **out, struct vm_err *e);

/* A request that begins with head, to which the caller adds attributes; NULL: no memory. */
struct nl_msg *nl_message(int type, int flags, const void *head, size_t n);
int nl_put_address(struct nl_msg *m, int attribute, struct net_address a);
struct nl_msg *nl_spoil(struct nl_msg *m); /* frees it; NULL */
/* An interface gets that address; NULL: no memory. */
struct nl_msg *nl_address(int ifindex, struct net_address a, unsigned prefix);
/* Sends m (taken, may be NULL: no memory) and waits for the kernel's answer: 0 or a negative libnl error. */
int nl_ask(struct nl_sock *s, struct nl_msg *m);
/* Sends the dump request m (taken, may be NULL) and hands each answer to each(m, arg), which returns NL_OK or NL_STOP. */
int nl_list(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nl_msg *m, void *arg), void *arg);
VM_PRINTF(3) int nl_fail(struct vm_err *e, int nlerr, const char *fmt, ...); /* adds the cause; -1 */

/* A link by name; ABSENT when there is none. */
int link_find(struct nl_sock *s, const char *ifname, struct rtnl_link **out, struct vm_err *e);
int link_set_up(struct nl_sock *s, int ifindex);
int link_delete(struct nl_sock *s, int ifindex);

/* The name that a thread has while it changes the firewall: those who listen for changes tell ours by it. */
#define NFT_THREAD "vmsd-firewall"

/* Marks bridges and queues as ours from the moment of their birth ("vms" in ASCII): IFLA_GROUP. */
enum { NET_GROUP = 0x766d73 };
bool link_is_our_bridge(struct rtnl_link *l);

#endif
