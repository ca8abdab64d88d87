#include "publish.h"

#include "address.h"

#include <string.h>

/* The guest's first address of a family, NULL: it has none. */
static const char *guest_address(const struct net_guest *g, bool v6)
{
    struct net_address a;
    for (size_t i = 0; i < g->n_nics; i++) {
        const char *text = v6 ? g->nics[i].address6 : g->nics[i].address;
        if (net_address_parse(text, &a) && a.v6 == v6)
            return text;
    }
    return NULL;
}

int publish_way(const struct net_guest *g, const struct spec_port *p, struct publish *out, struct vm_err *e)
{
    const char *v4 = guest_address(g, false), *v6 = guest_address(g, true);
    struct net_address at = { 0 };
    if (p->address && !net_address_parse(p->address, &at))
        return vm_fail(e, VM_E_INVALID, "port %u: '%s' is not an address", p->host, p->address);
    bool all = at.n == 0, loopback6 = at.v6 && at.n == 1;
    bool want4 = !p->address || !at.v6, want6 = !p->address || at.v6;
    *out = (struct publish){ .nat4 = want4 ? v4 : NULL, .nat6 = want6 && !loopback6 ? v6 : NULL };
    if (!all)
        net_address_text(at, out->at);
    if (!want6 || p->udp || !(v4 || v6) || (out->nat6 && !all))
        return 0;
    out->listen = !all ? p->address : out->nat6 ? "::1" : "::";
    out->to = v4 ? v4 : v6;
    return 0;
}

int net_relay_rules(const struct net_world *w, struct net_relay_rule **out, size_t *n, struct vm_err *e)
{
    size_t most = 0, k = 0;
    for (size_t i = 0; i < w->n_guests; i++)
        most += w->guests[i].spec->n_ports;
    OWN(mem) void *memory = calloc(most + 1, sizeof(struct net_relay_rule));
    struct net_relay_rule *rules = memory;
    if (!rules)
        return vm_no_memory(e);
    for (size_t i = 0; i < w->n_guests; i++)
        for (size_t j = 0; j < w->guests[i].spec->n_ports; j++) {
            const struct spec_port *p = &w->guests[i].spec->ports[j];
            struct publish way;
            if (publish_way(&w->guests[i], p, &way, e) < 0)
                return vm_context(e, "guest %s", w->guests[i].name);
            if (way.listen)
                rules[k++] = (struct net_relay_rule){ way.listen, p->host, way.to, p->guest };
        }
    memory = NULL;
    *out = rules;
    *n = k;
    return 0;
}
