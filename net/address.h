/* address.h: addresses and subnets as numbers, so that one code serves IPv4 and IPv6. Floor 2, pure. Any thread. */
#ifndef NET_ADDRESS_H
#define NET_ADDRESS_H

#include <vmsd/net.h>

typedef unsigned __int128 net_u128; /* ISO C has no name for it */

struct net_address { bool v6; net_u128 n; };
struct net_cidr { bool v6; unsigned prefix; net_u128 first, last; }; /* first: the network itself */

bool net_address_parse(const char *s, struct net_address *out);
void net_address_text(struct net_address a, char out[static NET_ADDR]);
/* Network byte order; returns the number of bytes, 4 or 16. */
size_t net_address_bytes(struct net_address a, unsigned char out[static 16]);
/* INVALID unless it is a subnet with room for a gateway and a guest. */
int net_cidr_parse(const char *s, struct net_cidr *out, struct vm_err *e);
struct net_address net_cidr_gateway(const struct net_cidr *c);
/* May a guest have this address: inside, and neither network, gateway nor broadcast? */
bool net_cidr_usable(const struct net_cidr *c, struct net_address a);

/* A name that is safe in rules and paths, and none of a port. */
int net_bridge_name_check(const char *name, struct vm_err *e);

/* Every bridge of ours has this MAC: no bridge has an uplink, so they never meet, and rules can name it. */
#define NET_GATEWAY_MAC "02:76:6d:73:64:01"
#define NET_GATEWAY_MAC_BYTES { 0x02, 0x76, 0x6d, 0x73, 0x64, 0x01 }

/* A MAC that a guest may have: unicast and not the gateway's. */
bool net_mac_parse(const char *s, unsigned char out[static 6]);
/* The fe80:: address that Linux derives from a MAC (EUI-64). */
void net_mac_link_local(const unsigned char mac[static 6], char out[static NET_ADDR]);

#endif
