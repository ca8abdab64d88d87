/* address.h: IP addresses and subnets as bytes. Private to supervisor/model. */
#ifndef VMSD_MODEL_ADDRESS_H
#define VMSD_MODEL_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>

struct address {
    unsigned size; /* 4 or 16 bytes; 0: none */
    unsigned char byte[16];
};
struct subnet {
    struct address first, last; /* network and broadcast address */
    unsigned bits;
};

bool address_parse(const char *s, struct address *out);
int address_order(const struct address *a, const struct address *b);
const char *address_text(const struct address *a, char out[static 46]);
/* false: no subnet. Host bits may be set; *clean says whether they were not. */
bool subnet_parse(const char *s, struct subnet *out, bool *clean);
bool subnet_has(const struct subnet *n, const struct address *a);
struct address subnet_gateway(const struct subnet *n); /* the first address after the network's own */

#endif
