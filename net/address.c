#include "address.h"

#include <arpa/inet.h>
#include <string.h>

bool net_address_parse(const char *s, struct net_address *out)
{
    unsigned char b[16];
    bool v6 = strchr(s, ':') != NULL;
    if (inet_pton(v6 ? AF_INET6 : AF_INET, s, b) != 1)
        return false;
    *out = (struct net_address){ .v6 = v6 };
    for (size_t i = 0; i < (v6 ? 16u : 4u); i++)
        out->n = out->n << 8 | b[i];
    return true;
}

size_t net_address_bytes(struct net_address a, unsigned char out[static 16])
{
    size_t n = a.v6 ? 16 : 4;
    for (size_t i = n; i-- > 0; a.n >>= 8)
        out[i] = (unsigned char)a.n;
    return n;
}

void net_address_text(struct net_address a, char out[static NET_ADDR])
{
    unsigned char b[16];
    net_address_bytes(a, b);
    inet_ntop(a.v6 ? AF_INET6 : AF_INET, b, out, NET_ADDR);
}

int net_cidr_parse(const char *s, struct net_cidr *out, struct vm_err *e)
{
    char text[NET_ADDR] = "";
    const char *slash = strchr(s, '/');
    struct net_address a;
    uint64_t prefix;
    if (slash && (size_t)(slash - s) < sizeof text)
        memcpy(text, s, (size_t)(slash - s));
    if (!slash || !net_address_parse(text, &a) || !text_to_u64(slash + 1, &prefix))
        return vm_fail(e, VM_E_INVALID, "subnet '%s' is none; write it like 10.20.0.0/24 or fd00:20::/64", s);
    unsigned width = a.v6 ? 128 : 32;
    if (prefix < 8 || prefix > width - 2)
        return vm_fail(e, VM_E_INVALID, "subnet '%s': a prefix of %u bits is outside 8..%u", s, (unsigned)prefix, width - 2);
    net_u128 hosts = ((net_u128)1 << (width - prefix)) - 1;
    *out = (struct net_cidr){ .v6 = a.v6, .prefix = (unsigned)prefix, .first = a.n & ~hosts, .last = a.n | hosts };
    return 0;
}

struct net_address net_cidr_gateway(const struct net_cidr *c)
{
    return (struct net_address){ .v6 = c->v6, .n = c->first + 1 };
}

bool net_cidr_usable(const struct net_cidr *c, struct net_address a)
{
    return a.v6 == c->v6 && a.n > c->first + 1 && (c->v6 ? a.n <= c->last : a.n < c->last);
}

static int number_order(const void *a, const void *b)
{
    net_u128 x = *(const net_u128 *)a, y = *(const net_u128 *)b;
    return (x > y) - (x < y);
}

int net_pool_pick(const char *cidr, const char *const *taken, size_t n, char out[static NET_ADDR], struct vm_err *e)
{
    struct net_cidr c;
    if (net_cidr_parse(cidr, &c, e) < 0)
        return -1;
    OWN(mem) void *memory = calloc(n + 1, sizeof(net_u128));
    net_u128 *used = memory;
    size_t n_used = 0;
    if (!used)
        return vm_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        struct net_address a;
        if (net_address_parse(taken[i], &a) && a.v6 == c.v6)
            used[n_used++] = a.n;
    }
    qsort(used, n_used, sizeof *used, number_order);
    struct net_address pick = { .v6 = c.v6, .n = c.first + 2 };
    for (size_t i = 0; i < n_used && used[i] <= pick.n; i++)
        pick.n += used[i] == pick.n;
    if (!net_cidr_usable(&c, pick))
        return vm_fail(e, VM_E_ABSENT, "subnet %s has no free address; widen it or remove guests", cidr);
    net_address_text(pick, out);
    return 0;
}

bool net_pool_has(const char *cidr, const char *address)
{
    struct net_cidr c;
    struct net_address a;

    return net_cidr_parse(cidr, &c, NULL) == 0 && net_address_parse(address, &a) && net_cidr_usable(&c, a);
}

void net_ifname(uint32_t guest_id, unsigned nic, char out[static NET_IFNAME])
{
    /* A kernel name holds 15 bytes: an id of ten digits leaves one for the nic. What does not fit gets no name, which
     * every later call refuses, rather than the name of another. */
    if (snprintf(out, NET_IFNAME, "vms%u-%u", guest_id, nic) >= NET_IFNAME)
        out[0] = '\0';
}

bool net_ifname_parse(const char *name, uint32_t *guest_id, unsigned *nic)
{
    char *end, again[NET_IFNAME];
    if (strncmp(name, "vms", 3) != 0)
        return false;
    unsigned long id = strtoul(name + 3, &end, 10);
    unsigned long n = *end == '-' ? strtoul(end + 1, NULL, 10) : 0;
    net_ifname((uint32_t)id, (unsigned)n, again);
    if (strcmp(again, name) != 0) /* one spelling only: no sign, no leading zero, no tail, no overflow */
        return false;
    *guest_id = (uint32_t)id;
    *nic = (unsigned)n;
    return true;
}

int net_bridge_name_check(const char *name, struct vm_err *e)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    uint32_t id;
    unsigned nic;
    size_t n = strlen(name);
    if (n == 0 || n >= NET_IFNAME || strspn(name, allowed) != n || name[0] == '.' || name[0] == '-')
        return vm_fail(e, VM_E_INVALID, "bridge name '%s': up to 15 of a-z 0-9 . _ - are allowed", name);
    if (net_ifname_parse(name, &id, &nic))
        return vm_fail(e, VM_E_INVALID, "bridge name '%s' is the form of a guest's port; choose another", name);
    return 0;
}

void net_mac(uint32_t guest_id, unsigned nic, char out[static NET_MAC])
{
    snprintf(out, NET_MAC, "06:%02x:%02x:%02x:%02x:%02x", nic & 0xff, guest_id >> 24, guest_id >> 16 & 0xff,
             guest_id >> 8 & 0xff, guest_id & 0xff);
}

bool net_mac_parse(const char *s, unsigned char out[static 6])
{
    static const unsigned char gateway[6] = NET_GATEWAY_MAC_BYTES, none[6];
    unsigned char b[6];
    if (strlen(s) != NET_MAC - 1 || strspn(s, "0123456789abcdefABCDEF:") != NET_MAC - 1)
        return false;
    for (size_t i = 0; i < 6; i++) {
        char *end;
        unsigned long byte = strtoul(s + 3 * i, &end, 16);
        if (end != s + 3 * i + 2 || (i < 5 && *end != ':'))
            return false;
        b[i] = (unsigned char)byte;
    }
    if (b[0] & 1 || memcmp(b, gateway, 6) == 0 || memcmp(b, none, 6) == 0)
        return false;
    memcpy(out, b, 6);
    return true;
}

void net_mac_link_local(const unsigned char m[static 6], char out[static NET_ADDR])
{
    unsigned char b[16] = { 0xfe, 0x80, [8] = m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5] };
    inet_ntop(AF_INET6, b, out, NET_ADDR);
}
