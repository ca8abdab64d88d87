/* rules.h: the constant part of the ruleset, for who checks that it is in force. Floor 2, pure. */
#ifndef NET_RULES_H
#define NET_RULES_H

#include <stdbool.h>
#include <stddef.h>

enum { RULES_CHAIN = 32 };

/* One of our chains and the number of its rules. */
struct rules_chain { bool bridge; char name[RULES_CHAIN]; unsigned n; };
/* The chain after *at (0: the first), which moves on; false: no more. */
bool rules_chain_next(size_t *at, struct rules_chain *out);

#endif
