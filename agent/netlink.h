/* netlink.h: requests to the kernel's routing side, by hand: the agent has no libraries. Floor 3. One thread. */
#ifndef AGENT_NETLINK_H
#define AGENT_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stddef.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

struct nl { int fd; uint32_t seq; };
int nl_open(struct nl *s, struct vm_err *e);
static inline void nl_close(struct nl s)
{
    fd_drop(s.fd);
}
OWN_DEFINE(nl, struct nl, nl_close)

enum { NL_MESSAGE = 512 };         /* more than any request of ours takes */
struct nl_message { struct nlmsghdr h; uint8_t body[NL_MESSAGE - sizeof(struct nlmsghdr)]; };
/* head: the fixed struct of that type, n bytes. */
void nl_begin(struct nl_message *m, unsigned type, unsigned flags, const void *head, size_t n);
void nl_put(struct nl_message *m, unsigned attribute, const void *p, size_t n);
int nl_ask(struct nl *s, struct nl_message *m); /* waits for the answer; -1 and errno */

/* Hands each message of a dump to `each`. */
int nl_dump(struct nl *s, unsigned type, const void *head, size_t n, void (*each)(const struct nlmsghdr *h, void *arg),
            void *arg);
/* The attributes behind a message's head of n bytes, by their number; those that it has not are NULL. */
enum { NL_ATTRIBUTES = 64 };
void nl_attributes(const struct nlmsghdr *h, size_t n, const struct rtattr *out[NL_ATTRIBUTES]);

#endif
