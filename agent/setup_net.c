#include "agent.h"
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <net/if.h>
#include <stdlib.h>
#include <unistd.h>
#include <vmsd/own.h>

enum { LINKS_MAX = 128, ROWS_MAX = 256, MAC = 6 };

struct link { int index; unsigned flags; char name[IFNAMSIZ]; bool has_mac; uint8_t mac[MAC]; };
struct links { struct link v[LINKS_MAX]; size_t n; };

/* An address with its length; a route, which also has a gateway (via) and a metric; or a neighbour, whose via is a MAC. */
struct row { uint8_t family, len, n_via, to[16], via[16]; uint32_t metric; };
struct rows { struct row v[ROWS_MAX]; size_t n; int index; bool full; };

static size_t width(const struct row *r)
{
    return r->family == AF_INET6 ? 16 : 4;
}

static bool same(const struct row *a, const struct row *b)
{
    return a->family == b->family && a->len == b->len && a->n_via == b->n_via && a->metric == b->metric &&
           memcmp(a->to, b->to, sizeof(a->to)) == 0 && memcmp(a->via, b->via, sizeof(a->via)) == 0;
}

static bool has(const struct rows *rows, const struct row *r)
{
    for (size_t i = 0; i < rows->n; i++) {
        if (same(&rows->v[i], r))
            return true;
    }
    return false;
}

static void add_row(struct rows *rows, const struct row *r)
{
    if (rows->n == ROWS_MAX)
        rows->full = true;
    else
        rows->v[rows->n++] = *r;
}

/* ---- words ---- */

static bool parse_mac(const char *s, uint8_t mac[MAC])
{
    unsigned v[MAC];
    int end = 0;
    if (sscanf(s, "%2x:%2x:%2x:%2x:%2x:%2x%n", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &end) != MAC || s[end])
        return false;
    for (int i = 0; i < MAC; i++)
        mac[i] = (uint8_t)v[i];
    return true;
}

static bool parse_ip(const char *s, uint8_t *family, uint8_t out[16])
{
    *family = strchr(s, ':') ? AF_INET6 : AF_INET;
    return inet_pton(*family, s, out) == 1;
}

/* ADDRESS/LENGTH; cuts it. */
static bool parse_prefix(char *s, struct row *r)
{
    char *slash = strchr(s, '/'), *end;
    if (!slash)
        return false;
    *slash = '\0';
    unsigned long len = strtoul(slash + 1, &end, 10);
    bool ok = slash[1] >= '0' && slash[1] <= '9' && !*end && parse_ip(s, &r->family, r->to) && len <= width(r) * 8;
    r->len = (uint8_t)len;
    return ok;
}

static bool parse_address(char *first, char *second, struct row *r)
{
    return !second && parse_prefix(first, r);
}

static bool parse_route(char *first, char *second, struct row *r)
{
    uint8_t family;
    if (!parse_prefix(first, r))
        return false;
    r->metric = r->family == AF_INET6 ? 1024 : 0; /* what the kernel gives those that ask for none */
    if (!second)
        return true;
    r->n_via = (uint8_t)width(r);
    return parse_ip(second, &family, r->via) && family == r->family;
}

static bool parse_neighbour(char *first, char *second, struct row *r)
{
    r->n_via = MAC;
    return second && parse_ip(first, &r->family, r->to) && parse_mac(second, r->via);
}

/* ---- rows of the kernel, and to it ---- */

static void take(uint8_t *to, const struct rtattr *a, size_t max)
{
    if (a)
        memcpy(to, RTA_DATA(a), RTA_PAYLOAD(a) < max ? RTA_PAYLOAD(a) : max);
}

/* What the kernel made for itself (link-local) is left alone. */
static void read_address(const struct nlmsghdr *h, void *arg)
{
    const struct ifaddrmsg *m = NLMSG_DATA(h);
    const struct rtattr *a[NL_ATTRIBUTES];
    struct rows *rows = arg;
    if ((int)m->ifa_index != rows->index || (m->ifa_family == AF_INET6 && m->ifa_scope == RT_SCOPE_LINK))
        return;
    nl_attributes(h, sizeof(*m), a);
    struct row r = { .family = m->ifa_family, .len = m->ifa_prefixlen };
    take(r.to, a[IFA_LOCAL] ? a[IFA_LOCAL] : a[IFA_ADDRESS], width(&r));
    add_row(rows, &r);
}

/* Those that follow from addresses are the kernel's own. */
static void read_route(const struct nlmsghdr *h, void *arg)
{
    const struct rtmsg *m = NLMSG_DATA(h);
    const struct rtattr *a[NL_ATTRIBUTES];
    struct rows *rows = arg;
    int index = 0;
    nl_attributes(h, sizeof(*m), a);
    take((uint8_t *)&index, a[RTA_OIF], sizeof(index));
    if (index != rows->index || m->rtm_table != RT_TABLE_MAIN || m->rtm_type != RTN_UNICAST ||
        m->rtm_protocol == RTPROT_KERNEL || (m->rtm_flags & RTM_F_CLONED))
        return;
    struct row r = { .family = m->rtm_family, .len = m->rtm_dst_len };
    take(r.to, a[RTA_DST], width(&r));
    take(r.via, a[RTA_GATEWAY], width(&r));
    take((uint8_t *)&r.metric, a[RTA_PRIORITY], sizeof(r.metric));
    r.n_via = a[RTA_GATEWAY] ? (uint8_t)width(&r) : 0;
    add_row(rows, &r);
}

static void read_neighbour(const struct nlmsghdr *h, void *arg)
{
    const struct ndmsg *m = NLMSG_DATA(h);
    const struct rtattr *a[NL_ATTRIBUTES];
    struct rows *rows = arg;
    if (m->ndm_ifindex != rows->index || m->ndm_state != NUD_PERMANENT || (m->ndm_flags & NTF_PROXY))
        return;
    nl_attributes(h, sizeof(*m), a);
    struct row r = { .family = m->ndm_family, .n_via = MAC };
    take(r.to, a[NDA_DST], width(&r));
    take(r.via, a[NDA_LLADDR], MAC);
    add_row(rows, &r);
}

static void write_address(struct nl_message *m, unsigned type, unsigned flags, int index, const struct row *r)
{
    struct ifaddrmsg head = { .ifa_family = r->family, .ifa_prefixlen = r->len, .ifa_index = (unsigned)index,
                              .ifa_flags = IFA_F_PERMANENT | (r->family == AF_INET6 ? IFA_F_NODAD : 0) };
    nl_begin(m, type, flags, &head, sizeof(head));
    nl_put(m, IFA_LOCAL, r->to, width(r));
    nl_put(m, IFA_ADDRESS, r->to, width(r));
}

/* A gateway is reached over the link itself, whatever the addresses say. */
static void write_route(struct nl_message *m, unsigned type, unsigned flags, int index, const struct row *r)
{
    bool adds = type == RTM_NEWROUTE, on_link = !r->n_via && r->family == AF_INET;
    struct rtmsg head = { .rtm_family = r->family, .rtm_dst_len = r->len, .rtm_table = RT_TABLE_MAIN,
                          .rtm_protocol = adds ? RTPROT_STATIC : RTPROT_UNSPEC, .rtm_type = RTN_UNICAST,
                          .rtm_scope = !adds ? RT_SCOPE_NOWHERE : on_link ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE,
                          .rtm_flags = adds && r->n_via ? RTNH_F_ONLINK : 0 };
    nl_begin(m, type, flags, &head, sizeof(head));
    if (r->len)
        nl_put(m, RTA_DST, r->to, width(r));
    if (r->n_via)
        nl_put(m, RTA_GATEWAY, r->via, r->n_via);
    if (r->metric)
        nl_put(m, RTA_PRIORITY, &r->metric, sizeof(r->metric));
    nl_put(m, RTA_OIF, &index, sizeof(index));
}

static void write_neighbour(struct nl_message *m, unsigned type, unsigned flags, int index, const struct row *r)
{
    struct ndmsg head = { .ndm_family = r->family, .ndm_ifindex = index, .ndm_state = NUD_PERMANENT };
    nl_begin(m, type, flags, &head, sizeof(head));
    nl_put(m, NDA_DST, r->to, width(r));
    nl_put(m, NDA_LLADDR, r->via, r->n_via);
}

/* In the order in which they need each other. */
static const struct kind {
    const char *key, *form;
    unsigned get, add, del, how;   /* how to add */
    bool (*parse)(char *first, char *second, struct row *r);
    void (*read)(const struct nlmsghdr *h, void *arg);
    void (*write)(struct nl_message *m, unsigned type, unsigned flags, int index, const struct row *r);
} kinds[] = {
    { "address", "NAME ADDRESS/LENGTH", RTM_GETADDR, RTM_NEWADDR, RTM_DELADDR, NLM_F_CREATE | NLM_F_REPLACE,
      parse_address, read_address, write_address },
    { "neighbour", "NAME ADDRESS MAC", RTM_GETNEIGH, RTM_NEWNEIGH, RTM_DELNEIGH, NLM_F_CREATE | NLM_F_REPLACE,
      parse_neighbour, read_neighbour, write_neighbour },
    { "route", "NAME DESTINATION/LENGTH [GATEWAY]", RTM_GETROUTE, RTM_NEWROUTE, RTM_DELROUTE, NLM_F_CREATE | NLM_F_EXCL,
      parse_route, read_route, write_route },
};

/* ---- one interface becomes what was told ---- */

static int wanted(const struct request *rq, const struct kind *k, const char *nic, struct rows *out, struct vm_err *e)
{
    size_t at = 0;
    for (const char *v; (v = pairs_next(rq->p, rq->n, k->key, &at));) {
        char words[128], *rest = words;
        struct row r = { 0 };
        if (strlen(v) >= sizeof(words))
            return vm_fail(e, VM_E_INVALID, "%s=%.100s is not %s", k->key, v, k->form);
        memcpy(words, v, strlen(v) + 1);
        const char *name = strsep(&rest, " ");
        char *first = strsep(&rest, " ");
        if (!first || !k->parse(first, rest, &r))
            return vm_fail(e, VM_E_INVALID, "%s=%s is not %s", k->key, v, k->form);
        if (strcmp(name, nic) == 0)
            add_row(out, &r);
    }
    return out->full ? vm_fail(e, VM_E_TOO_LARGE, "%s has more than %d of %s=", nic, ROWS_MAX, k->key) : 0;
}

static int existing(struct nl *s, const struct kind *k, int index, struct rows *out, struct vm_err *e)
{
    struct rtgenmsg any = { .rtgen_family = AF_UNSPEC };
    *out = (struct rows){ .index = index };
    if (nl_dump(s, k->get, &any, sizeof(any), k->read, out) < 0)
        return vm_fail_sys(e, "list each %s", k->key);
    return out->full ? vm_fail(e, VM_E_TOO_LARGE, "more than %d of the kind '%s' are set", ROWS_MAX, k->key) : 0;
}

static int change(struct nl *s, const struct kind *k, bool add, int index, const struct row *r, struct vm_err *e)
{
    char text[INET6_ADDRSTRLEN] = "";
    struct nl_message m;
    k->write(&m, add ? k->add : k->del, add ? k->how : 0, index, r);
    if (nl_ask(s, &m) == 0 || (!add && (errno == ESRCH || errno == ENOENT || errno == EADDRNOTAVAIL)))
        return 0;
    int cause = errno;
    inet_ntop(r->family, r->to, text, sizeof(text));
    errno = cause;
    return vm_fail_sys(e, "%s the %s %s", add ? "set" : "remove", k->key, text);
}

static int sync_kind(struct nl *s, const struct request *rq, const struct kind *k, const char *nic, int index,
                     struct vm_err *e)
{
    static struct rows want, have;
    bool removed = false;

    want = (struct rows){ 0 };
    if (wanted(rq, k, nic, &want, e) < 0 || existing(s, k, index, &have, e) < 0)
        return -1;
    for (size_t i = 0; i < have.n; i++) {
        if (!has(&want, &have.v[i]) && change(s, k, false, index, &have.v[i], e) < 0)
            return -1;
        removed |= !has(&want, &have.v[i]);
    }
    if (removed && existing(s, k, index, &have, e) < 0) /* one may take others along */
        return -1;
    for (size_t i = 0; i < want.n; i++) {
        if (!has(&have, &want.v[i]) && change(s, k, true, index, &want.v[i], e) < 0)
            return -1;
    }
    return 0;
}

/* ---- links ---- */

static void read_link(const struct nlmsghdr *h, void *arg)
{
    const struct ifinfomsg *m = NLMSG_DATA(h);
    const struct rtattr *a[NL_ATTRIBUTES];
    struct links *links = arg;
    if (links->n == LINKS_MAX)
        return;
    nl_attributes(h, sizeof(*m), a);
    struct link *l = &links->v[links->n++];
    *l = (struct link){ .index = m->ifi_index, .flags = m->ifi_flags };
    take((uint8_t *)l->name, a[IFLA_IFNAME], IFNAMSIZ - 1);
    l->has_mac = a[IFLA_ADDRESS] && RTA_PAYLOAD(a[IFLA_ADDRESS]) == MAC;
    take(l->mac, a[IFLA_ADDRESS], MAC);
}

static int link_change(struct nl *s, const struct link *l, bool up, const char *name, struct vm_err *e)
{
    struct ifinfomsg head = { .ifi_index = l->index, .ifi_change = IFF_UP, .ifi_flags = up ? IFF_UP : 0 };
    struct nl_message m;
    nl_begin(&m, RTM_NEWLINK, 0, &head, sizeof(head));
    if (name)
        nl_put(&m, IFLA_IFNAME, name, strlen(name) + 1);
    if (nl_ask(s, &m) < 0)
        return vm_fail_sys(e, "%s %s %s", name ? "rename" : "bring", l->name, name ? name : up ? "up" : "down");
    return 0;
}

static int rename_link(struct nl *s, struct link *l, const char *name, struct vm_err *e)
{
    if ((l->flags & IFF_UP) && link_change(s, l, false, NULL, e) < 0)
        return -1;
    l->flags &= ~(unsigned)IFF_UP;
    if (link_change(s, l, false, name, e) < 0)
        return -1;
    snprintf(l->name, sizeof(l->name), "%s", name);
    return 0;
}

/* Whoever has the name must give it up. */
static int name_link(struct nl *s, struct links *links, struct link *l, const char *name, struct vm_err *e)
{
    if (strcmp(l->name, name) == 0)
        return 0;
    for (size_t i = 0; i < links->n; i++) {
        char aside[IFNAMSIZ];
        if (strcmp(links->v[i].name, name) != 0)
            continue;
        snprintf(aside, sizeof(aside), "was-%.10s", name);
        if (rename_link(s, &links->v[i], aside, e) < 0)
            return -1;
    }
    return rename_link(s, l, name, e);
}

/* Addresses come from the host alone. Without IPv6 there is nothing to forbid. */
static int forbid_autoconf(const char *name, struct vm_err *e)
{
    static const char *const keys[] = { "accept_ra", "autoconf" };
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        char path[80], now = 0;
        snprintf(path, sizeof(path), "/proc/sys/net/ipv6/conf/%s/%s", name, keys[i]);
        OWN(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
            return 0;
        if (fd < 0 || pread(fd, &now, 1, 0) < 0 || (now != '0' && pwrite(fd, "0", 1, 0) < 0))
            return vm_fail_sys(e, "write %s", path);
    }
    return 0;
}

static int setup_nic(struct nl *s, const struct request *rq, struct links *links, const char *mac_text, const char *name,
                     struct vm_err *e)
{
    struct link *l = NULL;
    uint8_t mac[MAC];

    if (!parse_mac(mac_text, mac))
        return vm_fail(e, VM_E_INVALID, "'%s' is no MAC address", mac_text);
    for (size_t i = 0; i < links->n; i++) {
        if (links->v[i].has_mac && memcmp(links->v[i].mac, mac, MAC) == 0)
            l = &links->v[i];
    }
    if (!l)
        return vm_fail(e, VM_E_ABSENT, "no interface has the MAC address %s", mac_text);
    if (name_link(s, links, l, name, e) < 0 || forbid_autoconf(name, e) < 0)
        return -1;
    if (!(l->flags & IFF_UP) && link_change(s, l, true, NULL, e) < 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        if (sync_kind(s, rq, &kinds[i], name, l->index, e) < 0)
            return vm_context(e, "%s", name);
    }
    return 0;
}

static bool is_nic_name(const char *s)
{
    return *s && strlen(s) < IFNAMSIZ && !strpbrk(s, "/ :%") && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

int setup_net(const struct request *rq, struct vm_err *e)
{
    static struct links links;
    struct ifinfomsg any = { .ifi_family = AF_UNSPEC };
    OWN(nl) struct nl s = { .fd = -1 };
    size_t at = 0;

    if (nl_open(&s, e) < 0)
        return -1;
    links.n = 0;
    if (nl_dump(&s, RTM_GETLINK, &any, sizeof(any), read_link, &links) < 0)
        return vm_fail_sys(e, "list the network interfaces");
    for (size_t i = 0; i < links.n; i++) {
        const struct link *l = &links.v[i];
        if ((l->flags & IFF_LOOPBACK) && !(l->flags & IFF_UP) && link_change(&s, l, true, NULL, e) < 0)
            return -1;
    }
    for (const char *v; (v = pairs_next(rq->p, rq->n, "nic", &at));) {
        char words[64], *name = words;
        snprintf(words, sizeof(words), "%s", v);
        const char *mac = strsep(&name, " ");
        if (!name || !is_nic_name(name))
            return vm_fail(e, VM_E_INVALID, "nic=%.100s is not MAC NAME", v);
        if (setup_nic(&s, rq, &links, mac, name, e) < 0)
            return -1;
    }
    return 0;
}
