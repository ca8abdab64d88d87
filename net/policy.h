/* policy.h: who may reach a guest, as nft chains that all guests with the same answer share. Floor 2, pure. */
#ifndef NET_POLICY_H
#define NET_POLICY_H

#include <vmsd/net.h>
#include <vmsd/text.h>

enum { POLICY_CHAIN = 24 };

struct policy_book {
    const struct net_guest **by_name; size_t n;
    struct strv tags;    /* that an allowance names: their sets are tag4_TAG and tag6_TAG */
    struct text chains;  /* the chains so far, as nft text */
    unsigned n_chains;
    void *seen;          /* tree of bodies */
};
int policy_open(const struct net_world *w, struct policy_book *out, struct vm_err *e);
void policy_done(struct policy_book b);
OWN_DEFINE(policy, struct policy_book, policy_done)

/* The chain for traffic to g, from guests and outside or (host) from users of the host; "" : nobody may. */
int policy_chain(struct policy_book *b, const struct net_guest *g, bool host, char out[static POLICY_CHAIN],
                 struct vm_err *e);

/* Port ranges sorted and merged, as "80, 443, 8000-8010", each with a prefix ("10.20.0.1 . tcp . "). */
int policy_ports(struct text *t, const char *prefix, const struct spec_ranges *ranges, struct vm_err *e);

#endif
