#include "netlink.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int nl_open(struct nl *s, struct vm_err *e)
{
    *s = (struct nl){ .fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE) };
    return s->fd < 0 ? vm_fail_sys(e, "ask the kernel for its network") : 0;
}

void nl_begin(struct nl_message *m, unsigned type, unsigned flags, const void *head, size_t n)
{
    *m = (struct nl_message){ .h = { .nlmsg_type = (uint16_t)type, .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) } };
    memcpy(m->body, head, n);
    m->h.nlmsg_len = (uint32_t)(sizeof(m->h) + NLMSG_ALIGN(n));
}

void nl_put(struct nl_message *m, unsigned attribute, const void *p, size_t n)
{
    struct rtattr a = { .rta_type = (uint16_t)attribute, .rta_len = (uint16_t)RTA_LENGTH(n) };
    uint8_t *to = (uint8_t *)m + m->h.nlmsg_len;
    memcpy(to, &a, sizeof(a));
    memcpy(to + RTA_LENGTH(0), p, n);
    m->h.nlmsg_len += (uint32_t)RTA_SPACE(n);
}

static int send_message(struct nl *s, struct nl_message *m)
{
    m->h.nlmsg_seq = ++s->seq;
    return send(s->fd, m, m->h.nlmsg_len, 0) < 0 ? -1 : 0;
}

/* Takes what answers the last request, until its end; each may be NULL. */
static int answers(struct nl *s, void (*each)(const struct nlmsghdr *h, void *arg), void *arg)
{
    static _Alignas(struct nlmsghdr) uint8_t buf[32 << 10]; /* the kernel's messages are at most that long */

    for (;;) {
        ssize_t got = recv(s->fd, buf, sizeof(buf), 0);
        if (got < 0 && errno != EINTR)
            return -1;
        size_t left = got > 0 ? (size_t)got : 0;
        for (const struct nlmsghdr *h = (const void *)buf; NLMSG_OK(h, left); h = NLMSG_NEXT(h, left)) {
            if (h->nlmsg_seq != s->seq)
                continue;
            if (h->nlmsg_type == NLMSG_DONE)
                return 0;
            if (h->nlmsg_type == NLMSG_ERROR) {
                errno = -((const struct nlmsgerr *)NLMSG_DATA(h))->error;
                return errno ? -1 : 0;
            }
            if (each)
                each(h, arg);
        }
    }
}

int nl_ask(struct nl *s, struct nl_message *m)
{
    m->h.nlmsg_flags |= NLM_F_ACK;
    return send_message(s, m) < 0 ? -1 : answers(s, NULL, NULL);
}

int nl_dump(struct nl *s, unsigned type, const void *head, size_t n, void (*each)(const struct nlmsghdr *h, void *arg),
            void *arg)
{
    struct nl_message m;
    nl_begin(&m, type, NLM_F_DUMP, head, n);
    return send_message(s, &m) < 0 ? -1 : answers(s, each, arg);
}

void nl_attributes(const struct nlmsghdr *h, size_t n, const struct rtattr *out[NL_ATTRIBUTES])
{
    size_t left = h->nlmsg_len - sizeof(*h) - NLMSG_ALIGN(n);
    const struct rtattr *a = (const void *)((const uint8_t *)NLMSG_DATA(h) + NLMSG_ALIGN(n));

    memset(out, 0, NL_ATTRIBUTES * sizeof(*out));
    for (; RTA_OK(a, left); a = RTA_NEXT(a, left)) {
        if ((a->rta_type & NLA_TYPE_MASK) < NL_ATTRIBUTES)
            out[a->rta_type & NLA_TYPE_MASK] = a;
    }
}
