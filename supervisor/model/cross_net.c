/* What no document alone can say of networks: addresses, ports and subnets that do not get into each other's way. */
#include "address.h"
#include "read.h"

#include <string.h>

static void check_address(struct entries networks, const struct entry *at, size_t nic, const char *field,
                          const char *address, bool v6, struct issues *is)
{
    const struct spec_nic *n = &at->guest->nics[nic];
    const struct entry *network = n->network ? entry_find(networks, n->network) : NULL;
    const char *cidr = network ? (v6 ? network->network->subnet6 : network->network->subnet) : NULL;
    struct address a, gateway;
    struct subnet s;
    char path[64];
    bool clean;

    if (!address || !network || !address_parse(address, &a))
        return;
    snprintf(path, sizeof path, "network[%zu].%s", nic, field);
    if (!cidr || !subnet_parse(cidr, &s, &clean)) {
        if (v6 && !cidr)
            entry_bad(is, at, path, "the network \"%s\" has no subnet6; expected one there; add it or leave this out",
                      n->network);
        return;
    }
    gateway = subnet_gateway(&s);
    if (!subnet_has(&s, &a))
        entry_bad(is, at, path, "%s is outside %s; expected an address of the network \"%s\"", address, cidr,
                  n->network);
    else if (!address_order(&a, &gateway))
        entry_bad(is, at, path, "%s is the gateway, the host itself; expected another address of %s", address, cidr);
    else if (!address_order(&a, &s.first) || (!v6 && !address_order(&a, &s.last)))
        entry_bad(is, at, path, "%s is no guest's: the first and the last of %s mean all; expected one between",
                  address, cidr);
}

static void check_addresses(struct entries guests, struct entries networks, struct claims *c, struct issues *is)
{
    for (size_t i = 0; i < guests.n; i++) {
        const struct entry *at = &guests.v[i];
        struct claims own = {0};

        for (size_t k = 0; k < at->guest->n_nics; k++) {
            check_address(networks, at, k, "address", at->guest->nics[k].address, false, is);
            check_address(networks, at, k, "address6", at->guest->nics[k].address6, true, is);
            claim_add(&own, at->guest->nics[k].network, at, "network[%zu].name", k);
        }
        claims_check(&own, "network", is); /* two ports of one guest on one bridge are a circle or a mistake */
        c->failed |= own.failed;
        free(own.v);
    }
}

static void check_once(struct entries guests, struct entries networks, struct claims *c, struct issues *is)
{
    for (size_t i = 0; i < guests.n; i++) {
        for (size_t k = 0; k < guests.v[i].guest->n_nics; k++) {
            claim_add(c, guests.v[i].guest->nics[k].address, &guests.v[i], "network[%zu].address", k);
            claim_add(c, guests.v[i].guest->nics[k].address6, &guests.v[i], "network[%zu].address6", k);
        }
    }
    claims_check(c, "address", is);
    for (size_t i = 0; i < guests.n; i++)
        for (size_t k = 0; k < guests.v[i].guest->n_nics; k++)
            claim_add(c, guests.v[i].guest->nics[k].mac, &guests.v[i], "network[%zu].mac", k);
    claims_check(c, "MAC address", is);
    for (size_t i = 0; i < networks.n; i++) /* those of one name have one bridge, and a complaint */
        if (!i || strcmp(networks.v[i - 1].network->name, networks.v[i].network->name) != 0)
            claim_add(c, networks.v[i].network->bridge, &networks.v[i], "bridge");
    claims_check(c, "bridge", is);
}

/* One published port. */
struct published {
    const struct entry *by;
    const struct spec_port *port;
    size_t index;
};

static bool everywhere(const struct spec_port *p)
{
    return !p->address || !strcmp(p->address, "0.0.0.0") || !strcmp(p->address, "::");
}

/* By protocol and port; within, ports on all addresses first, then by address. */
static int published_order(const void *a, const void *b)
{
    const struct published *x = a, *y = b;
    int c;

    if (x->port->udp != y->port->udp)
        return x->port->udp - y->port->udp;
    if (x->port->host != y->port->host)
        return x->port->host - y->port->host;
    if (everywhere(x->port) != everywhere(y->port))
        return everywhere(y->port) - everywhere(x->port);
    c = everywhere(x->port) ? 0 : strcmp(x->port->address, y->port->address);
    return c ? c : x->by != y->by ? (x->by < y->by ? -1 : 1) : (x->index > y->index) - (x->index < y->index);
}

static bool overlap(const struct published *a, const struct published *b)
{
    return a->port->udp == b->port->udp && a->port->host == b->port->host &&
           (everywhere(a->port) || !strcmp(a->port->address, b->port->address));
}

static bool check_ports(struct entries guests, struct issues *is)
{
    struct published *all;
    size_t n = 0, first = 0;
    char path[64];

    for (size_t i = 0; i < guests.n; i++)
        n += guests.v[i].guest->n_ports;
    if (!(all = calloc(n + 1, sizeof *all)))
        return false;
    n = 0;
    for (size_t i = 0; i < guests.n; i++)
        for (size_t k = 0; k < guests.v[i].guest->n_ports; k++)
            if (guests.v[i].guest->ports[k].host)
                all[n++] = (struct published){&guests.v[i], &guests.v[i].guest->ports[k], k};
    qsort(all, n, sizeof *all, published_order);
    for (size_t i = 1; i < n; i++) {
        if (!overlap(&all[first], &all[i])) {
            first = i;
            continue;
        }
        snprintf(path, sizeof path, "ports[%zu].host", all[i].index);
        entry_bad(is, all[i].by, path, "the port %u/%s of the host leads to \"%s\" already; expected each only once",
                  all[i].port->host, all[i].port->udp ? "udp" : "tcp", entry_name(all[first].by));
    }
    free(all);
    return true;
}

struct span {
    const struct entry *by;
    const char *field, *cidr;
    struct subnet subnet;
};

static int span_order(const void *a, const void *b)
{
    const struct span *x = a, *y = b;
    int c = address_order(&x->subnet.first, &y->subnet.first);

    return c ? c : x->by < y->by ? -1 : x->by > y->by;
}

static bool span_of(const struct entry *by, const char *field, const char *cidr, struct span *out)
{
    bool clean;

    *out = (struct span){.by = by, .field = field, .cidr = cidr};
    return cidr && subnet_parse(cidr, &out->subnet, &clean);
}

static bool check_subnets(struct entries networks, struct issues *is)
{
    struct span *all = calloc(2 * networks.n + 1, sizeof *all);
    size_t n = 0, widest = 0;

    if (!all)
        return false;
    for (size_t i = 0; i < networks.n; i++) {
        n += span_of(&networks.v[i], "subnet", networks.v[i].network->subnet, &all[n]);
        n += span_of(&networks.v[i], "subnet6", networks.v[i].network->subnet6, &all[n]);
    }
    qsort(all, n, sizeof *all, span_order);
    for (size_t i = 1; i < n; i++) {
        if (subnet_has(&all[widest].subnet, &all[i].subnet.first))
            entry_bad(is, all[i].by, all[i].field, "%s overlaps with %s of \"%s\"; expected subnets apart", all[i].cidr,
                      all[widest].cidr, entry_name(all[widest].by));
        else
            widest = i;
    }
    free(all);
    return true;
}

bool cross_check_net(struct entries guests, struct entries networks, struct issues *is)
{
    struct claims c = {0};

    check_addresses(guests, networks, &c, is);
    check_once(guests, networks, &c, is);
    free(c.v);
    return !c.failed && check_ports(guests, is) && check_subnets(networks, is);
}
