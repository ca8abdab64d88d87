/* What commands in a guest are told of it: install scripts, checks of its health, those of vmctl exec; and templates. Pure.
 * Private to supervisor/. */
#ifndef FACTS_H
#define FACTS_H

#include "world.h"

/* nic: its first one, or NULL, and then so is the network. All borrowed. */
struct facts { const struct guest_spec *spec; const struct net_nic *nic; const struct network_spec *network; };
struct facts facts_of(const struct guest *g); /* loop thread */
/* The value of a name: of the spec's env first. NULL: there is none. */
const char *fact(const struct facts *f, const char *name);
/* The same as words env=NAME=VALUE of a request to the agent, and where secrets are; of two the later wins. */
void facts_env(const struct facts *f, struct strv *q);

#endif
