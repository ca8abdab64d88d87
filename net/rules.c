#include "address.h"
#include "policy.h"
#include "publish.h"
#include "rules.h"

#include <search.h>
#include <stdarg.h>
#include <string.h>

/* The constant part. Sets and maps decide who is who, so that a packet costs the same with one guest and with 1,000.
 *
 * In every direction only replies pass because a connection exists; what a side began is judged by the rules of this
 * moment, packet by packet. So an allowance that is taken away ends its connections too. */
static const char bridge_chains[] =
    "\tchain prerouting {\n"
    "\t\ttype filter hook prerouting priority -300; policy accept;\n"
    "\t\tiifname \"vms*\" goto from_port\n"
    "\t}\n"
    /* A guest speaks to its gateway and to nobody else, with its own MAC and its own addresses. */
    "\tchain from_port {\n"
    "\t\tether type arp arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . ether saddr . arp saddr ip @port4"
    " iifname . arp saddr ether . arp saddr ip @port4 accept\n"
    "\t\tether daddr " NET_GATEWAY_MAC " ether type ip iifname . ether saddr . ip saddr @port4 accept\n"
    "\t\tether type ip6 icmpv6 type { nd-router-advert, nd-router-solicit, nd-redirect } counter drop\n"
    "\t\tether daddr " NET_GATEWAY_MAC " ether type ip6 iifname . ether saddr . ip6 saddr @port6 accept\n"
    "\t\tether daddr & ff:ff:ff:00:00:00 == 33:33:ff:00:00:00 ether type ip6 icmpv6 type nd-neighbor-solicit"
    " iifname . ether saddr . ip6 saddr @port6 accept\n"
    "\t\tcounter drop\n"
    "\t}\n"
    "\tchain forward {\n"
    "\t\ttype filter hook forward priority -300; policy accept;\n"
    "\t\tiifname \"vms*\" counter drop\n"
    "\t\toifname \"vms*\" counter drop\n"
    "\t}\n"
    /* The kernel floods what the host itself sends to all, whatever the ports say; no guest needs to hear it. */
    "\tchain output {\n"
    "\t\ttype filter hook output priority -300; policy accept;\n"
    "\t\toifname \"vms*\" ether daddr & 01:00:00:00:00:00 == 01:00:00:00:00:00 counter drop\n"
    "\t}\n";

static const char inet_chains[] =
    "\tchain early {\n"
    "\t\ttype filter hook prerouting priority raw; policy accept;\n"
    "\t\tiifname @bridges ip daddr 127.0.0.0/8 counter drop\n"
    "\t\tiifname @bridges ip saddr 127.0.0.0/8 counter drop\n"
    "\t}\n"
    /* The host's memory of connections is everybody's: no guest may fill it. */
    "\tchain bound {\n"
    "\t\ttype filter hook prerouting priority mangle; policy accept;\n"
    "\t\tiifname @bridges ct state new add @flows4 { ip saddr ct count over 16384 } counter drop\n"
    "\t\tiifname @bridges ct state new add @flows6 { ip6 saddr ct count over 16384 } counter drop\n"
    "\t}\n"
    "\tchain publish_in {\n"
    "\t\ttype nat hook prerouting priority dstnat; policy accept;\n"
    "\t\tfib daddr type local goto publish\n"
    "\t}\n"
    "\tchain publish_own {\n"
    "\t\ttype nat hook output priority -100; policy accept;\n"
    "\t\tfib daddr type local goto publish\n"
    "\t}\n"
    /* What a network offers at its gateway stays the host's, and ::1 never leaves lo (the relay serves it). */
    "\tchain publish {\n"
    "\t\tip daddr . meta l4proto . th dport @services4 return\n"
    "\t\tip6 daddr . meta l4proto . th dport @services6 return\n"
    "\t\tip6 daddr ::1 return\n"
    "\t\tdnat ip to ip daddr . meta l4proto . th dport map @ports4_at\n"
    "\t\tdnat ip to meta l4proto . th dport map @ports4\n"
    "\t\tdnat ip6 to ip6 daddr . meta l4proto . th dport map @ports6_at\n"
    "\t\tdnat ip6 to meta l4proto . th dport map @ports6\n"
    "\t}\n"
    "\tchain leave {\n"
    "\t\ttype nat hook postrouting priority srcnat; policy accept;\n"
    "\t\toifname @bridges ip saddr 127.0.0.0/8 masquerade\n"
    "\t\toifname != @inside ip saddr @nat4 masquerade\n"
    "\t\toifname != @inside ip6 saddr @nat6 masquerade\n"
    "\t}\n"
    /* What neither comes from a guest nor goes to one is not ours. */
    "\tchain forward {\n"
    "\t\ttype filter hook forward priority filter; policy accept;\n"
    "\t\tiifname @bridges goto from_guest\n"
    "\t\toifname @bridges goto from_outside\n"
    "\t}\n"
    "\tchain input {\n"
    "\t\ttype filter hook input priority filter; policy accept;\n"
    "\t\tiifname @bridges goto to_host\n"
    "\t}\n"
    "\tchain output {\n"
    "\t\ttype filter hook output priority filter; policy accept;\n"
    "\t\toifname @bridges goto from_host\n"
    "\t}\n"
    "\tchain answers {\n"
    "\t\tct direction reply accept\n"
    "\t\tct state related meta l4proto { icmp, ipv6-icmp } accept\n"
    "\t}\n"
    "\tchain allowed {\n"
    "\t\tip daddr vmap @policy4\n"
    "\t\tip6 daddr vmap @policy6\n"
    "\t}\n"
    /* The limit bounds what refusals cost the host; beyond it, silence. */
    "\tchain from_guest {\n"
    "\t\tct state vmap { invalid : goto denied, established : jump answers, related : jump answers }\n"
    "\t\toifname @bridges jump allowed\n"
    "\t\toifname != @bridges ip daddr != @never4 ip saddr @nat4 accept\n"
    "\t\toifname != @bridges ip6 daddr != @never6 ip6 saddr @nat6 accept\n"
    "\t\tlimit rate 50/second burst 50 packets counter reject with icmpx type admin-prohibited\n"
    "\t\tgoto denied\n"
    "\t}\n"
    "\tchain from_outside {\n"
    "\t\tct state vmap { invalid : goto denied, established : jump answers, related : jump answers }\n"
    "\t\tip saddr @subnets4 goto denied\n"
    "\t\tip6 saddr @subnets6 goto denied\n"
    "\t\tct status dnat meta l4proto . ip daddr . th dport @published4 accept\n"
    "\t\tct status dnat meta l4proto . ip6 daddr . th dport @published6 accept\n"
    "\t\tjump allowed\n"
    "\t\tgoto denied\n"
    "\t}\n"
    "\tchain to_host {\n"
    "\t\tct state vmap { invalid : goto denied, established : jump answers, related : jump answers }\n"
    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
    "\t\tfib daddr . iif type != local goto denied\n"
    "\t\ticmp type echo-request accept\n"
    "\t\ticmpv6 type echo-request accept\n"
    "\t\tip daddr . meta l4proto . th dport @services4 accept\n"
    "\t\tip6 daddr . meta l4proto . th dport @services6 accept\n"
    "\t\tgoto denied\n"
    "\t}\n"
    /* The kernel's own packets have no user: errors about a packet, neighbour discovery. Redirects would teach guests to
     * leave the gateway out. */
    "\tchain from_host {\n"
    "\t\ticmp type redirect drop\n"
    "\t\ticmpv6 type nd-redirect drop\n"
    "\t\tct state established,related accept\n"
    "\t\tmeta skuid 0 accept\n"
    "\t\ticmp type { destination-unreachable, time-exceeded, parameter-problem } accept\n"
    "\t\ticmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept\n"
    "\t\ticmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept\n"
    "\t\tct status dnat meta l4proto . ip daddr . th dport @published4 accept\n"
    "\t\tct status dnat meta l4proto . ip6 daddr . th dport @published6 accept\n"
    "\t\tip daddr vmap @host4\n"
    "\t\tip6 daddr vmap @host6\n"
    "\t\tgoto denied\n"
    "\t}\n"
    "\tchain denied {\n"
    "\t\tcounter drop\n"
    "\t}\n";

bool rules_chain_next(size_t *at, struct rules_chain *out)
{
    *out = (struct rules_chain){ .bridge = *at < sizeof bridge_chains - 1 };
    const char *p = out->bridge ? bridge_chains + *at : inet_chains + *at - (sizeof bridge_chains - 1);
    if (sscanf(p, "\tchain %31s {", out->name) != 1)
        return false;
    for (bool end = false; !end; *at += strcspn(p, "\n") + 1, p += strcspn(p, "\n") + 1) {
        end = strncmp(p, "\t}", 2) == 0;
        out->n += strncmp(p, "\t\t", 2) == 0 && strncmp(p, "\t\ttype ", 7) != 0;
    }
    return true;
}

#define RULES_SETS(X) /* name, keyword, body without elements */ \
    X(PORT4, "port4", "set", "type ifname . ether_addr . ipv4_addr") \
    X(PORT6, "port6", "set", "type ifname . ether_addr . ipv6_addr") \
    X(BRIDGES, "bridges", "set", "type ifname") \
    X(INSIDE, "inside", "set", "type ifname") \
    X(SUBNETS4, "subnets4", "set", "type ipv4_addr; flags interval; auto-merge") \
    X(SUBNETS6, "subnets6", "set", "type ipv6_addr; flags interval; auto-merge") \
    X(NAT4, "nat4", "set", "type ipv4_addr; flags interval; auto-merge") \
    X(NAT6, "nat6", "set", "type ipv6_addr; flags interval; auto-merge") \
    X(NEVER4, "never4", "set", "type ipv4_addr; flags interval") \
    X(NEVER6, "never6", "set", "type ipv6_addr; flags interval") \
    X(SERVICES4, "services4", "set", "type ipv4_addr . inet_proto . inet_service; flags interval") \
    X(SERVICES6, "services6", "set", "type ipv6_addr . inet_proto . inet_service; flags interval") \
    X(PUBLISHED4, "published4", "set", "type inet_proto . ipv4_addr . inet_service") \
    X(PUBLISHED6, "published6", "set", "type inet_proto . ipv6_addr . inet_service") \
    X(PORTS4, "ports4", "map", "type inet_proto . inet_service : ipv4_addr . inet_service") \
    X(PORTS6, "ports6", "map", "type inet_proto . inet_service : ipv6_addr . inet_service") \
    X(PORTS4_AT, "ports4_at", "map", "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service") \
    X(PORTS6_AT, "ports6_at", "map", "type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service") \
    X(FLOWS4, "flows4", "set", "type ipv4_addr; flags dynamic") \
    X(FLOWS6, "flows6", "set", "type ipv6_addr; flags dynamic") \
    X(POLICY4, "policy4", "map", "type ipv4_addr : verdict") \
    X(POLICY6, "policy6", "map", "type ipv6_addr : verdict") \
    X(HOST4, "host4", "map", "type ipv4_addr : verdict") \
    X(HOST6, "host6", "map", "type ipv6_addr : verdict")

#define X(id, name, keyword, body) SET_##id,
enum { RULES_SETS(X) SET_COUNT, SET_BRIDGE_COUNT = SET_BRIDGES };
#undef X
#define X(id, name, keyword, body) { name, keyword, body },
static const struct { const char *name, *keyword, *body; } sets[SET_COUNT] = { RULES_SETS(X) };
#undef X

/* Link-local and multicast, and the addresses where clouds tell a host its secrets: a guest is not the host. */
static const char never4[] = "169.254.0.0/16, 168.63.129.16, 100.100.100.200, 192.0.0.192, 127.0.0.0/8, 224.0.0.0/3";
static const char never6[] = "fe80::/10, ff00::/8, ::1, fd00:ec2::254, fd20:ce::254";

struct writer {
    const struct net_world *world;
    struct text elements[SET_COUNT];
    struct policy_book book;
    void *taken; /* tree of what only one guest may have: "address 10.20.0.2", "port tcp 80" */
};

struct claim { const char *guest; char what[]; };

static int claim_order(const void *a, const void *b)
{
    return strcmp(((const struct claim *)a)->what, ((const struct claim *)b)->what);
}

static void writer_done(struct writer w)
{
    for (size_t i = 0; i < SET_COUNT; i++)
        text_done(w.elements[i]);
    policy_done(w.book);
    tdestroy(w.taken, free);
}
OWN_DEFINE(writer, struct writer, writer_done)

/* Two guests with one address or port would make the kernel refuse everybody's rules: say which two. */
static int claim(struct writer *w, const struct net_guest *g, const char *what, struct vm_err *e)
{
    size_t n = strlen(what) + 1;
    struct claim *fresh = malloc(sizeof *fresh + n);
    if (!fresh)
        return vm_no_memory(e);
    fresh->guest = g->name;
    memcpy(fresh->what, what, n);
    struct claim **at = tsearch(fresh, &w->taken, claim_order);
    if (at && *at == fresh)
        return 0;
    free(fresh);
    return at ? vm_fail(e, VM_E_CONFLICT, "guests %s and %s both have %s; change one", (*at)->guest, g->name, what)
              : vm_no_memory(e);
}

VM_PRINTF(3) static void element(struct writer *w, unsigned set, const char *fmt, ...)
{
    char one[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(one, sizeof one, fmt, ap);
    va_end(ap);
    if (w->elements[set].len)
        text_add(&w->elements[set], ",\n\t\t\t");
    text_add(&w->elements[set], one);
}

static int write_services(struct writer *w, const struct network_spec *n, bool v6, const char *gateway, struct vm_err *e)
{
    struct text *t = &w->elements[v6 ? SET_SERVICES6 : SET_SERVICES4];
    char tcp[NET_ADDR + 16], udp[NET_ADDR + 16];
    snprintf(tcp, sizeof tcp, "%s . tcp . ", gateway);
    snprintf(udp, sizeof udp, "%s . udp . ", gateway);
    return policy_ports(t, tcp, &n->host_tcp, e) < 0 ? -1 : policy_ports(t, udp, &n->host_udp, e);
}

static int write_subnet(struct writer *w, const struct network_spec *n, const char *subnet, struct vm_err *e)
{
    struct net_cidr c;
    char first[NET_ADDR], gateway[NET_ADDR];
    if (net_cidr_parse(subnet, &c, e) < 0)
        return -1;
    net_address_text((struct net_address){ c.v6, c.first }, first);
    net_address_text(net_cidr_gateway(&c), gateway);
    element(w, c.v6 ? SET_SUBNETS6 : SET_SUBNETS4, "%s/%u", first, c.prefix);
    if (n->nat)
        element(w, c.v6 ? SET_NAT6 : SET_NAT4, "%s/%u", first, c.prefix);
    return write_services(w, n, c.v6, gateway, e);
}

static int write_network(struct writer *w, const struct network_spec *n, struct vm_err *e)
{
    if (net_bridge_name_check(n->bridge, e) < 0)
        return -1;
    element(w, SET_BRIDGES, "\"%s\"", n->bridge);
    element(w, SET_INSIDE, "\"%s\"", n->bridge);
    return write_subnet(w, n, n->subnet, e) < 0 ? -1 : n->subnet6 ? write_subnet(w, n, n->subnet6, e) : 0;
}

static const struct network_spec *network_find(const struct net_world *w, const char *name)
{
    for (size_t i = 0; i < w->n_networks; i++)
        if (strcmp(w->networks[i]->name, name) == 0)
            return w->networks[i];
    return NULL;
}

/* One address of a nic: whose it is, and who may reach it. */
static int write_address(struct writer *w, const struct net_guest *g, const struct net_nic *nic, const char *text,
                         const char *subnet, const char *chain, const char *host_chain, struct vm_err *e)
{
    struct net_cidr c;
    struct net_address a;
    char canonical[NET_ADDR], what[NET_ADDR + 16];
    if (!text[0])
        return 0;
    if (subnet && net_cidr_parse(subnet, &c, e) < 0)
        return -1;
    if (!subnet || !net_address_parse(text, &a) || !net_cidr_usable(&c, a))
        return vm_fail(e, VM_E_INVALID, "address '%s' is none that a guest of network %s can have", text, nic->network);
    net_address_text(a, canonical);
    snprintf(what, sizeof what, "address %s", canonical);
    if (claim(w, g, what, e) < 0)
        return -1;
    element(w, a.v6 ? SET_PORT6 : SET_PORT4, "\"%s\" . %s . %s", nic->ifname, nic->mac, canonical);
    if (chain[0])
        element(w, a.v6 ? SET_POLICY6 : SET_POLICY4, "%s : jump %s", canonical, chain);
    if (host_chain[0])
        element(w, a.v6 ? SET_HOST6 : SET_HOST4, "%s : jump %s", canonical, host_chain);
    return 0;
}

static int write_nic(struct writer *w, const struct net_guest *g, const struct net_nic *nic, const char *chain,
                     const char *host_chain, struct vm_err *e)
{
    const struct network_spec *n = network_find(w->world, nic->network);
    unsigned char mac[6];
    char local[NET_ADDR], what[NET_MAC + 8];
    uint32_t id;
    unsigned index;
    if (!n)
        return 0; /* no entry: its port passes nothing */
    if (!net_ifname_parse(nic->ifname, &id, &index) || !net_mac_parse(nic->mac, mac))
        return vm_fail(e, VM_E_INVALID, "nic '%s' with MAC '%s' is none that a guest can have", nic->ifname, nic->mac);
    snprintf(what, sizeof what, "MAC %s", nic->mac);
    if (claim(w, g, what, e) < 0)
        return -1;
    if (write_address(w, g, nic, nic->address, n->subnet, chain, host_chain, e) < 0 ||
        write_address(w, g, nic, nic->address6, n->subnet6, chain, host_chain, e) < 0)
        return -1;
    if (nic->address6[0]) { /* neighbour discovery of the gateway speaks from there */
        net_mac_link_local(mac, local);
        element(w, SET_PORT6, "\"%s\" . %s . %s", nic->ifname, nic->mac, local);
    }
    return 0;
}

/* A published port at one address of the host (at is "": at all of its family), to one address of the guest. */
static int write_port(struct writer *w, const struct net_guest *g, const struct spec_port *p, const char *at, bool v6,
                      const char *to, struct vm_err *e)
{
    const char *proto = p->udp ? "udp" : "tcp";
    char what[NET_ADDR + 32];
    if (!to)
        return 0;
    snprintf(what, sizeof what, "%s port %u of %s", proto, p->host, at[0] ? at : v6 ? "the host's IPv6" : "the host's IPv4");
    if (claim(w, g, what, e) < 0)
        return -1;
    if (at[0])
        element(w, v6 ? SET_PORTS6_AT : SET_PORTS4_AT, "%s . %s . %u : %s . %u", at, proto, p->host, to, p->guest);
    else
        element(w, v6 ? SET_PORTS6 : SET_PORTS4, "%s . %u : %s . %u", proto, p->host, to, p->guest);
    element(w, v6 ? SET_PUBLISHED6 : SET_PUBLISHED4, "%s . %s . %u", proto, to, p->guest); /* twice is as good as once */
    return 0;
}

static int write_ports(struct writer *w, const struct net_guest *g, struct vm_err *e)
{
    for (size_t i = 0; i < g->spec->n_ports; i++) {
        struct publish way;
        if (publish_way(g, &g->spec->ports[i], &way, e) < 0 ||
            write_port(w, g, &g->spec->ports[i], way.at, false, way.nat4, e) < 0 ||
            write_port(w, g, &g->spec->ports[i], way.at, true, way.nat6, e) < 0)
            return -1;
    }
    return 0;
}

static int write_guest(struct writer *w, const struct net_guest *g, struct vm_err *e)
{
    char chain[POLICY_CHAIN], host_chain[POLICY_CHAIN];
    if (policy_chain(&w->book, g, false, chain, e) < 0 || policy_chain(&w->book, g, true, host_chain, e) < 0)
        return -1;
    for (size_t i = 0; i < g->n_nics; i++)
        if (write_nic(w, g, &g->nics[i], chain, host_chain, e) < 0)
            return vm_context(e, "guest %s", g->name);
    return write_ports(w, g, e) < 0 ? vm_context(e, "guest %s", g->name) : 0;
}

static bool has_tag(const struct net_guest *g, const char *tag)
{
    for (size_t i = 0; i < g->spec->tags.n; i++)
        if (strcmp(g->spec->tags.v[i], tag) == 0)
            return true;
    return false;
}

enum { TAG_SET = SPEC_NAME_MAX + 8 };
static const char *const tag_type[] = { "type ipv4_addr", "type ipv6_addr" };

static const char *tag_set(const char *tag, bool v6, char out[static TAG_SET])
{
    snprintf(out, TAG_SET, "tag%d_%s", v6 ? 6 : 4, tag);
    return out;
}

static void print_set(struct text *out, const char *keyword, const char *name, const char *body, const char *elements)
{
    text_addf(out, "\t%s %s {\n\t\t%s\n", keyword, name, body);
    if (elements) /* nft knows no empty list */
        text_addf(out, "\t\telements = { %s }\n", elements);
    text_add(out, "\t}\n");
}

/* Sets that are there, and empty: what they had is gone with the same transaction that fills them anew. */
static void print_empty(struct text *out, const char *family, const char *keyword, const char *name, const char *body)
{
    text_addf(out, "add %s %s vmsd %s { %s; }\nflush %s %s vmsd %s\n", keyword, family, name, body, keyword, family, name);
}

static void print_empty_tables(struct text *out, const struct writer *w)
{
    char name[TAG_SET];
    for (unsigned i = 0; i < SET_COUNT; i++) {
        if (i == 0 || i == SET_BRIDGE_COUNT)
            text_addf(out, "add table %s vmsd\n", i ? "inet" : "bridge");
        print_empty(out, i < SET_BRIDGE_COUNT ? "bridge" : "inet", sets[i].keyword, sets[i].name, sets[i].body);
    }
    for (size_t i = 0; i < w->book.tags.n; i++)
        for (int v6 = 0; v6 < 2; v6++)
            print_empty(out, "inet", "set", tag_set(w->book.tags.v[i], v6, name), tag_type[v6]);
    text_add(out, "flush table bridge vmsd\nflush table inet vmsd\n"); /* of the rules in their chains */
}

static void print_tag(struct text *out, const struct net_world *w, const char *tag, bool v6)
{
    OWN(text) struct text list = { 0 };
    char name[TAG_SET];
    for (size_t i = 0; i < w->n_guests; i++)
        for (size_t k = 0; has_tag(&w->guests[i], tag) && k < w->guests[i].n_nics; k++) {
            const struct net_nic *nic = &w->guests[i].nics[k];
            const char *address = v6 ? nic->address6 : nic->address;
            if (address[0])
                text_addf(&list, "%s%s", list.len ? ",\n\t\t\t" : "", address);
        }
    print_set(out, "set", tag_set(tag, v6, name), tag_type[v6], list.s);
    out->failed |= list.failed;
}

/* One transaction, whatever was there before. The tables and their chains stay: so each packet meets the old rules or the new
 * ones. Of two chains at one hook the new one comes first, and at the instant of the change a packet could find that it does
 * not count yet, and then that the old one no longer does. Chains that nobody needs any more stay empty. */
static void print_rules(struct text *out, struct writer *w)
{
    print_empty_tables(out, w);
    text_add(out, "table bridge vmsd {\n");
    for (unsigned i = 0; i < SET_COUNT; i++) {
        if (i == SET_BRIDGE_COUNT)
            text_addf(out, "%s}\ntable inet vmsd {\n", bridge_chains);
        print_set(out, sets[i].keyword, sets[i].name, sets[i].body, w->elements[i].s);
        out->failed |= w->elements[i].failed;
    }
    for (size_t i = 0; i < w->book.tags.n; i++) {
        print_tag(out, w->world, w->book.tags.v[i], false);
        print_tag(out, w->world, w->book.tags.v[i], true);
    }
    if (w->book.chains.len)
        text_add(out, w->book.chains.s);
    out->failed |= w->book.chains.failed;
    text_addf(out, "%s}\n", inet_chains);
}

int net_rules(const struct net_world *world, char **out, struct vm_err *e)
{
    OWN(writer) struct writer w = { .world = world };
    OWN(text) struct text t = { 0 };
    if (policy_open(world, &w.book, e) < 0)
        return -1;
    element(&w, SET_INSIDE, "\"lo\"");
    element(&w, SET_NEVER4, "%s", never4);
    element(&w, SET_NEVER6, "%s", never6);
    for (size_t i = 0; i < world->n_networks; i++)
        if (write_network(&w, world->networks[i], e) < 0)
            return vm_context(e, "network %s", world->networks[i]->name);
    for (size_t i = 0; i < world->n_guests; i++)
        if (write_guest(&w, &world->guests[i], e) < 0)
            return -1;
    print_rules(&t, &w);
    if (t.failed)
        return vm_no_memory(e);
    *out = text_take(&t);
    return 0;
}
