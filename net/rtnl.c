#include "rtnl.h"

#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netlink/route/rtnl.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

enum { ACK_WAIT_S = 10 };

int nl_fail(struct vm_err *e, int nlerr, const char *fmt, ...)
{
    char what[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    enum vm_errc code = nlerr == -NLE_NODEV || nlerr == -NLE_OBJ_NOTFOUND ? VM_E_ABSENT
                      : nlerr == -NLE_EXIST                               ? VM_E_CONFLICT
                      : nlerr == -NLE_OPNOTSUPP                           ? VM_E_UNAVAILABLE
                                                                          : VM_E_SYSTEM;
    return vm_fail(e, code, "%s: %s", what, nl_geterror(nlerr));
}

int nl_dial(int protocol, struct nl_sock **out, struct vm_err *e)
{
    OWN(nl_sock) struct nl_sock *s = nl_socket_alloc();
    if (!s)
        return vm_no_memory(e);
    int rc = nl_connect(s, protocol);
    if (rc < 0)
        return nl_fail(e, rc, "netlink socket");
    /* An answer that never comes must not hold a worker for ever. */
    struct timeval wait = { .tv_sec = ACK_WAIT_S };
    if (setsockopt(nl_socket_get_fd(s), SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) < 0)
        return vm_fail_sys(e, "netlink socket: time limit");
    *out = TAKE(s);
    return 0;
}

int nl_dial_in(int netns_fd, int protocol, struct nl_sock **out, struct vm_err *e)
{
    OWN(fd) int home = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0)
        return vm_fail_sys(e, "open the own network namespace");
    if (setns(netns_fd, CLONE_NEWNET) < 0)
        return vm_fail_sys(e, "enter the guest's network namespace");
    int rc = nl_dial(protocol, out, e);
    /* A worker that stayed in a guest's namespace would change the wrong network for the next guest. */
    if (setns(home, CLONE_NEWNET) < 0)
        abort();
    return rc;
}

int nl_ask(struct nl_sock *s, struct nl_msg *m)
{
    return m ? nl_send_sync(s, m) : -NLE_NOMEM;
}

int nl_list(struct nl_sock *s, struct nl_msg *m, int (*each)(struct nl_msg *m, void *arg), void *arg)
{
    struct nl_cb *cb = m ? nl_cb_alloc(NL_CB_DEFAULT) : NULL;
    int rc = cb ? nl_cb_set(cb, NL_CB_VALID, NL_CB_CUSTOM, each, arg) : -NLE_NOMEM;
    if (rc >= 0 && (rc = nl_send_auto(s, m)) >= 0)
        rc = nl_recvmsgs(s, cb);
    nlmsg_free(m);
    nl_cb_put(cb);
    return rc < 0 ? rc : 0;
}

int link_find(struct nl_sock *s, const char *ifname, struct rtnl_link **out, struct vm_err *e)
{
    int rc = rtnl_link_get_kernel(s, 0, ifname, out);
    return rc < 0 ? nl_fail(e, rc, "interface %s", ifname) : 0;
}

struct nl_msg *nl_message(int type, int flags, const void *head, size_t n)
{
    struct nl_msg *m = nlmsg_alloc_simple(type, NLM_F_REQUEST | flags);
    return m && nlmsg_append(m, (void *)head, n, NLMSG_ALIGNTO) < 0 ? nl_spoil(m) : m;
}

struct nl_msg *nl_spoil(struct nl_msg *m)
{
    nlmsg_free(m);
    return NULL;
}

int link_set_up(struct nl_sock *s, int ifindex)
{
    struct ifinfomsg head = { .ifi_index = ifindex, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
    return nl_ask(s, nl_message(RTM_NEWLINK, 0, &head, sizeof head));
}

int link_delete(struct nl_sock *s, int ifindex)
{
    struct ifinfomsg head = { .ifi_index = ifindex };
    return nl_ask(s, nl_message(RTM_DELLINK, 0, &head, sizeof head));
}

int nl_put_address(struct nl_msg *m, int attribute, struct net_address a)
{
    unsigned char b[16];
    size_t n = net_address_bytes(a, b);
    return nla_put(m, attribute, (int)n, b);
}

struct nl_msg *nl_address(int ifindex, struct net_address a, unsigned prefix)
{
    struct ifaddrmsg head = { .ifa_family = a.v6 ? AF_INET6 : AF_INET, .ifa_prefixlen = (uint8_t)prefix,
                              .ifa_flags = IFA_F_PERMANENT | (a.v6 ? IFA_F_NODAD : 0), .ifa_index = (unsigned)ifindex };
    struct nl_msg *m = nl_message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof head);
    return m && (nl_put_address(m, IFA_LOCAL, a) < 0 || nl_put_address(m, IFA_ADDRESS, a) < 0) ? nl_spoil(m) : m;
}

bool link_is_our_bridge(struct rtnl_link *l)
{
    const char *type = rtnl_link_get_type(l);
    return type && strcmp(type, "bridge") == 0 && rtnl_link_get_group(l) == NET_GROUP;
}
