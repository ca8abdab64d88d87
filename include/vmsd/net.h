/* <vmsd/net.h>: bridges, veths, addresses (libnl-3), one firewall (libnftables). Floor 2. Workers only, but for pure
 * functions.
 *
 * Every guest is a port of its network's bridge, isolated from the other ports; all its traffic goes through the host
 * as gateway, so that one place, our table, decides. Guests' addresses are configured from outside. */
#ifndef VMSD_NET_H
#define VMSD_NET_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/err.h>
#include <vmsd/spec.h>

enum { NET_IFNAME = 16, NET_ADDR = 46, NET_MAC = 18 };

/* Host-side interface of a guest's n-th nic: follows from the guest's id alone, so recovery knows whose it is. */
void net_ifname(uint32_t guest_id, unsigned nic, char out[static NET_IFNAME]);
bool net_ifname_parse(const char *name, uint32_t *guest_id, unsigned *nic);
/* Locally administered MAC, the same for the same guest id and nic. */
void net_mac(uint32_t guest_id, unsigned nic, char out[static NET_MAC]);
/* First free host address of a CIDR (v4 or v6), the gateway (first address) and broadcast left out; ABSENT: full. */
int net_pool_pick(const char *cidr, const char *const *taken, size_t n, char out[static NET_ADDR], struct vm_err *e);
bool net_pool_has(const char *cidr, const char *address); /* may a guest of that subnet have it? */

struct net_nic { char ifname[NET_IFNAME], mac[NET_MAC], address[NET_ADDR], address6[NET_ADDR]; /* "" : none */ const char *network; };
struct net_guest {
    uint32_t id;
    const char *name;
    const struct guest_spec *spec;
    struct net_nic *nics; size_t n_nics;
};
/* All that the firewall needs to know; borrowed. */
struct net_world {
    struct network_spec *const *networks; size_t n_networks;
    const struct net_guest *guests; size_t n_guests;
};
/* The whole ruleset as nft text: pure, the same for the same world. *out is yours. */
int net_rules(const struct net_world *w, char **out, struct vm_err *e);
int net_rules_apply(const char *rules, struct vm_err *e); /* one atomic transaction, replaces what was ours */
int net_rules_remove(struct vm_err *e);                   /* our table only; absent is success */
int net_rules_check(bool *present, struct vm_err *e);     /* is our table in force (somebody may have flushed it)? */

/* A socket that can be read whenever somebody changed rules of nftables; *out_fd is yours. Loop thread. */
int net_rules_watch(int *out_fd, struct vm_err *e);
bool net_rules_touched(int fd); /* reads it empty. Was one of them not this process? When in doubt: yes */

/* Bridge up with its gateway addresses, sysctls (accept_ra=0, …), forwarding if any network needs it. Idempotent. */
int net_bridge_ensure(const struct network_spec *n, struct vm_err *e);
int net_bridge_remove(const char *bridge, struct vm_err *e);
/* A veth: host end named nic->ifname, isolated port of the bridge, learning off; guest end "host<index>" moved into the
 * network namespace that netns_fd refers to, with MAC, addresses, routes and lo up. Rules must stand before. */
int net_veth_attach(const struct net_nic *nic, unsigned index, const struct network_spec *n, int netns_fd, struct vm_err *e);
/* A tap for a microVM, same port settings; *out_fd is yours (IFF_TAP|IFF_NO_PI|IFF_VNET_HDR). */
int net_tap_open(const struct net_nic *nic, const struct network_spec *n, int *out_fd, struct vm_err *e);
/* Puts a running microVM's tap back on its bridge. ABSENT: the tap is gone, and with it what its VMM holds. */
int net_tap_rejoin(const struct net_nic *nic, const struct network_spec *n, struct vm_err *e);
/* What the guest of a tap is to do with its nic, as net_veth_attach does it for a container: appends pairs of op=setup
 * (<vmsd/proto.h>). Pure. */
int net_setup(const struct net_nic *nic, unsigned index, const struct network_spec *n, struct strv *out, struct vm_err *e);
int net_link_remove(const char *ifname, struct vm_err *e); /* absent is success */
/* Names of all interfaces that are ours by prefix (ports and bridges); yours. */
int net_links(struct strv *out, struct vm_err *e);
int net_ports(struct strv *out, struct vm_err *e); /* those of guests alone, and only while they are on a bridge */
int net_rate_limit(const char *ifname, uint64_t rx, uint64_t tx, struct vm_err *e); /* bytes/s of the guest; 0: none */

struct net_stats { uint64_t rx_bytes, tx_bytes, rx_packets, tx_packets, rx_drops, tx_drops; }; /* as the guest sees it */
int net_stats(const char *ifname, struct net_stats *out, struct vm_err *e);

/* What doctor wants to know. */
struct net_facts { bool nft, bridge_family, ip_forward, ip6_forward, conntrack; };
int net_probe(struct net_facts *out, struct vm_err *e);

/* Published ports that the kernel's NAT cannot serve (IPv6 and its loopback towards a guest that has IPv4 only): a
 * small TCP relay on the loop. Loop thread only. Replaces the former set; ports that cannot be bound are an error that
 * names them, the others work. */
struct loop;
struct net_relay;
struct net_relay_rule { const char *listen_address; uint16_t listen_port; const char *to_address; uint16_t to_port; };
int net_relay_open(struct loop *l, struct net_relay **out, struct vm_err *e);
int net_relay_set(struct net_relay *r, const struct net_relay_rule *rules, size_t n, struct vm_err *e);
void net_relay_close(struct net_relay *r);
/* Does no program of the host listen there, so that publishing the port takes nothing away from anybody? */
int net_port_free(const struct spec_port *p, struct vm_err *e);
/* The relay rules that a world needs; yours (free it), strings borrowed from the world. */
int net_relay_rules(const struct net_world *w, struct net_relay_rule **out, size_t *n, struct vm_err *e);

#endif
