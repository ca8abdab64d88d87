/* A guest as the enemy: frames by hand from its end of the veth. Threats F1 to F10. */
#include "netlab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/own.h>
#include <vmsd/text.h>

#define NEEDLE "vmsd-probe-frame"
#define GATEWAY "02:76:6d:73:64:01"

struct frame { unsigned char b[256]; size_t n; };

static void put(struct frame *f, const void *p, size_t n)
{
    ck_assert_uint_le(f->n + n, sizeof f->b);
    memcpy(f->b + f->n, p, n);
    f->n += n;
}

static void put16(struct frame *f, unsigned v)
{
    put(f, (unsigned char[]){ (unsigned char)(v >> 8), (unsigned char)v }, 2);
}

static void put_mac(struct frame *f, const char *mac)
{
    unsigned b[6];
    ck_assert_int_eq(sscanf(mac, "%x:%x:%x:%x:%x:%x", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5]), 6);
    for (size_t i = 0; i < 6; i++)
        put(f, (unsigned char[]){ (unsigned char)b[i] }, 1);
}

static void put_ip(struct frame *f, const char *text)
{
    unsigned char b[16];
    int family = strchr(text, ':') ? AF_INET6 : AF_INET;
    ck_assert_int_eq(inet_pton(family, text, b), 1);
    put(f, b, family == AF_INET6 ? 16 : 4);
}

static struct frame ether(const char *to, const char *from, unsigned type)
{
    struct frame f = { .n = 0 };
    put_mac(&f, to);
    put_mac(&f, from);
    put16(&f, type);
    return f;
}

static void put_ipv4(struct frame *f, const char *from, const char *to, unsigned fragment, unsigned sport, unsigned dport)
{
    size_t at = f->n;
    unsigned sum = 0, n = sizeof NEEDLE - 1;
    put(f, (unsigned char[]){ 0x45, 0 }, 2);
    put16(f, 28 + n);
    put16(f, 7);
    put16(f, fragment);
    put(f, (unsigned char[]){ 64, 17, 0, 0 }, 4);
    put_ip(f, from);
    put_ip(f, to);
    for (size_t i = at; i < at + 20; i += 2)
        sum += (unsigned)f->b[i] << 8 | f->b[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    sum = ~(sum + (sum >> 16));
    f->b[at + 10] = (unsigned char)(sum >> 8);
    f->b[at + 11] = (unsigned char)sum;
    put16(f, sport);
    put16(f, dport);
    put16(f, 8 + n);
    put16(f, 0);
    put(f, NEEDLE, n);
}

static struct frame udp4(const char *mac_to, const char *mac_from, const char *from, const char *to)
{
    struct frame f = ether(mac_to, mac_from, ETH_P_IP);
    put_ipv4(&f, from, to, 0, 9, 9);
    return f;
}

static struct frame arp(const char *mac_to, const char *mac_from, unsigned operation, const char *sender_mac,
                        const char *sender, const char *target)
{
    struct frame f = ether(mac_to, mac_from, ETH_P_ARP);
    put(&f, (unsigned char[]){ 0, 1, 8, 0, 6, 4 }, 6);
    put16(&f, operation);
    put_mac(&f, sender_mac);
    put_ip(&f, sender);
    put_mac(&f, "00:00:00:00:00:00");
    put_ip(&f, target);
    put(&f, NEEDLE, sizeof NEEDLE - 1);
    return f;
}

static struct frame ip6(const char *mac_to, const char *mac_from, const char *from, const char *to, unsigned next,
                        const unsigned char *head, size_t n)
{
    struct frame f = ether(mac_to, mac_from, ETH_P_IPV6);
    put(&f, (unsigned char[]){ 0x60, 0, 0, 0 }, 4);
    put16(&f, (unsigned)(n + sizeof NEEDLE - 1));
    put(&f, (unsigned char[]){ (unsigned char)next, 255 }, 2);
    put_ip(&f, from);
    put_ip(&f, to);
    put(&f, head, n);
    put(&f, NEEDLE, sizeof NEEDLE - 1);
    return f;
}

/* Where a frame of guest 0 might turn up: at the host's bridges and at the other guests. */
struct watch { int at[4]; };

static struct watch watch_all(struct lab *l)
{
    return (struct watch){ { lab_raw(l->host, "vms-services"), lab_raw(l->host, "vms-closed"), lab_raw(l->ns[1], "host0"),
                             lab_raw(l->ns[2], "host0") } };
}

static void watch_end(struct watch w)
{
    for (size_t i = 0; i < 4; i++)
        close(w.at[i]);
}

static unsigned seen(struct watch w)
{
    unsigned n = 0;
    for (size_t i = 0; i < 4; i++)
        n += lab_count(w.at[i], NEEDLE, sizeof NEEDLE - 1, i == 0 ? 150 : 0);
    return n;
}

static void inject(int raw, struct frame f)
{
    ck_assert_int_eq(send(raw, f.b, f.n, 0), (ssize_t)f.n);
}

/* Sends every frame, and one that is allowed, which proves that the watch works: only that one may be seen. */
static void only_the_honest(struct lab *l, const struct frame *frames, size_t n)
{
    OWN(fd) int raw = lab_raw(l->ns[0], "host0");
    struct watch w = watch_all(l);
    for (size_t i = 0; i < n; i++) {
        inject(raw, frames[i]);
        unsigned got = seen(w);
        ck_assert_msg(got == 0, "frame %zu was seen %u times", i, got);
    }
    inject(raw, udp4(GATEWAY, l->nics[0].mac, l->nics[0].address, "10.20.0.1"));
    ck_assert_uint_eq(seen(w), 1);
    watch_end(w);
}

START_TEST(test_F1_spoofed_mac_ip_arp_ndp)
{
    struct lab *l = lab_open(3);
    const char *m0 = l->nics[0].mac, *m1 = l->nics[1].mac, *a0 = "10.20.0.10", *a1 = "10.20.0.11", *all = "ff:ff:ff:ff:ff:ff";
    static const unsigned char udp[8] = { 0, 9, 0, 9, 0, 24 };
    unsigned char advert[32] = { 136, 0, 0, 0, 0x60 }, solicit[32] = { 135 };
    inet_pton(AF_INET6, "fd20::1", advert + 8);
    inet_pton(AF_INET6, "fd20::1", solicit + 8);
    memcpy(advert + 24, (unsigned char[]){ 2, 1, 6, 0, 0, 0, 0, 1 }, 8);
    memcpy(solicit + 24, (unsigned char[]){ 1, 1, 6, 0, 0, 0, 0, 1 }, 8);
    struct frame late = ether(GATEWAY, m0, ETH_P_IP);
    put_ipv4(&late, a1, "10.20.0.1", 0x00b9, 9, 9);
    struct frame frames[] = {
        udp4(GATEWAY, m1, a0, "10.20.0.1"),               /* the neighbour's MAC */
        udp4(GATEWAY, GATEWAY, a0, "10.20.0.1"),          /* the gateway's */
        udp4(GATEWAY, "06:00:00:00:00:77", a0, "10.20.0.1"),
        udp4(GATEWAY, m0, a1, "10.20.0.1"),               /* the neighbour's address */
        udp4(GATEWAY, m0, "10.20.0.1", "10.20.0.10"),     /* the gateway's */
        udp4(GATEWAY, m0, "192.0.2.1", "10.20.0.1"),      /* the host's */
        udp4(GATEWAY, m0, "127.0.0.1", "10.20.0.1"),
        udp4(GATEWAY, m0, "0.0.0.0", "10.20.0.1"),
        udp4(m1, m0, a0, a1),                             /* past the gateway */
        udp4(all, m0, a0, "255.255.255.255"),
        late,                                             /* a fragment */
        arp(all, m0, 1, m0, "10.20.0.1", "10.20.0.1"),    /* gratuitous, as the gateway */
        arp(all, m0, 1, m0, a1, a1),                      /* as the neighbour */
        arp(m1, m0, 2, m0, "10.20.0.1", a1),              /* an answer to the neighbour in the gateway's name */
        arp(all, m0, 1, m1, a0, "10.20.0.1"),             /* two sender MACs */
        arp(all, m0, 1, m0, "0.0.0.0", a1),
        ip6(GATEWAY, m0, "fd20::11", "fd20::1", 17, udp, 8),
        ip6(GATEWAY, m0, "fd20::1", "fd20::10", 17, udp, 8),
        ip6(GATEWAY, m0, "::", "fd20::1", 17, udp, 8),
        ip6(GATEWAY, m0, "fe80::1", "fd20::1", 58, solicit, 32),
        ip6("33:33:00:00:00:01", m0, "fd20::10", "ff02::1", 58, advert, 32),
        ip6(m1, m0, "fd20::10", "fd20::11", 58, advert, 32),
    };
    only_the_honest(l, frames, ARRAY_LEN(frames));
    OWN(str) char *neighbours = lab_read(l->host, "ip neigh show dev vms-services | grep -vc PERMANENT; true");
    ck_assert_str_eq(neighbours, "0\n");
}
END_TEST

START_TEST(test_F2_many_source_macs)
{
    struct lab *l = lab_open(3);
    lab_allow(l, 1, "g2", 80, 80);
    lab_rules(l);
    OWN(fd) int raw = lab_raw(l->ns[0], "host0");
    OWN(str) char *before = lab_read(l->host, "bridge fdb show br vms-services | wc -l");
    for (unsigned i = 0; i < 20000; i++) {
        char mac[NET_MAC];
        net_mac(i + 1000, 0, mac);
        struct frame f = udp4(GATEWAY, mac, l->nics[0].address, "10.20.0.1");
        if (send(raw, f.b, f.n, 0) < 0)
            ck_assert_int_eq(errno, ENOBUFS);
    }
    OWN(str) char *after = lab_read(l->host, "bridge fdb show br vms-services | wc -l");
    ck_assert_str_eq(before, after);
    OWN(fd) int listener = lab_listen(l->ns[1], "10.20.0.11", 80);
    OWN(fd) int c = lab_connect(l->ns[2], "10.20.0.11", 80, 2000);
    ck_assert(c >= 0 && lab_echo(c, listener));
}
END_TEST

START_TEST(test_F3_rogue_dhcp_and_ra)
{
    struct lab *l = lab_open(3);
    const char *m0 = l->nics[0].mac;
    static const unsigned char advert[16] = { 134, 0, 0, 0, 64, 0, 7, 8 }, dhcp6[8] = { 2, 35, 2, 34, 0, 24 },
                               redirect[40] = { 137 }, solicit[8] = { 133 };
    struct frame offer = ether("ff:ff:ff:ff:ff:ff", m0, ETH_P_IP);
    put_ipv4(&offer, "10.20.0.10", "255.255.255.255", 0, 67, 68);
    struct frame discover = ether("ff:ff:ff:ff:ff:ff", m0, ETH_P_IP);
    put_ipv4(&discover, "0.0.0.0", "255.255.255.255", 0, 68, 67);
    char local[64] = "fe80::400:ff:fe00:1"; /* of 06:00:00:00:00:01 */
    struct frame frames[] = {
        offer, discover,
        ip6("33:33:00:00:00:01", m0, local, "ff02::1", 58, advert, 16),
        ip6(GATEWAY, m0, local, "fe80::76:6dff:fe73:6401", 58, advert, 16),
        ip6(GATEWAY, m0, "fd20::10", "fd20::1", 58, advert, 16),
        ip6(GATEWAY, m0, "fd20::10", "fd20::1", 58, redirect, 40),
        ip6("33:33:00:00:00:02", m0, local, "ff02::2", 58, solicit, 8),
        ip6("33:33:00:01:00:02", m0, local, "ff02::1:2", 17, dhcp6, 8),
    };
    only_the_honest(l, frames, ARRAY_LEN(frames));
    OWN(str) char *accept = lab_read(l->host, "cat /proc/sys/net/ipv6/conf/vms-services/accept_ra");
    ck_assert_str_eq(accept, "0\n");
}
END_TEST

START_TEST(test_F4_vlan_llc_and_unknown_types)
{
    struct lab *l = lab_open(3);
    const char *m0 = l->nics[0].mac;
    struct frame vlan = ether(GATEWAY, m0, ETH_P_8021Q), qinq = ether(GATEWAY, m0, ETH_P_8021AD),
                 llc = ether("01:80:c2:00:00:00", m0, 38), odd = ether(GATEWAY, m0, 0x88b5), zero = ether(GATEWAY, m0, ETH_P_8021Q);
    put16(&vlan, 5);
    put16(&vlan, ETH_P_IP);
    put_ipv4(&vlan, "10.20.0.10", "10.20.0.1", 0, 9, 9);
    put16(&zero, 0); /* a priority tag: the kernel takes VLAN 0 for none */
    put16(&zero, ETH_P_IP);
    put_ipv4(&zero, "10.20.0.11", "10.20.0.1", 0, 9, 9);
    put16(&qinq, 5);
    put16(&qinq, ETH_P_8021Q);
    put16(&qinq, 6);
    put16(&qinq, ETH_P_IP);
    put_ipv4(&qinq, "10.20.0.10", "10.20.0.1", 0, 9, 9);
    put(&llc, (unsigned char[]){ 0x42, 0x42, 3 }, 3);
    put(&llc, NEEDLE, sizeof NEEDLE - 1);
    put(&odd, NEEDLE, sizeof NEEDLE - 1);
    struct frame frames[] = { vlan, zero, qinq, llc, odd };
    only_the_honest(l, frames, ARRAY_LEN(frames));
}
END_TEST

START_TEST(test_F5_services_of_the_host)
{
    struct lab *l = lab_open(2);
    struct spec_range dns = { 53, 53 };
    l->net.host_tcp = (struct spec_ranges){ &dns, 1 };
    lab_rules(l);
    OWN(fd) int ssh = lab_listen(l->host, "0.0.0.0", 22);
    OWN(fd) int ssh6 = lab_listen(l->host, "::1", 22);
    OWN(fd) int name = lab_listen(l->host, "0.0.0.0", 53);
    OWN(fd) int metadata = lab_listen(l->outside, "192.0.2.2", 80);
    lab_run(l->outside, "ip addr add 169.254.169.254/32 dev lo");
    lab_run(l->host, "ip route add 169.254.169.254/32 via 192.0.2.2");
    OWN(fd) int secrets = lab_listen(l->outside, "169.254.169.254", 80);
    OWN(fd) int honest = lab_connect(l->ns[0], "10.20.0.1", 53, 2000);
    ck_assert(honest >= 0 && lab_echo(honest, name));
    ck_assert(!lab_reaches(l->ns[0], "10.20.0.1", 22));
    ck_assert(!lab_reaches(l->ns[0], "192.0.2.1", 22));  /* the host's other addresses */
    ck_assert(!lab_reaches(l->ns[0], "192.0.2.1", 53));
    ck_assert(!lab_reaches(l->ns[0], "10.30.0.1", 53));  /* another network's gateway */
    ck_assert(!lab_reaches(l->ns[0], "fd20::1", 22));
    lab_run(l->ns[0], "ip route add 127.0.0.8/32 via 10.20.0.1 dev host0 onlink src 10.20.0.10 table 9; ip rule add to 127.0.0.8 table 9 pref 0;"
                      "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet; ip route del local 127.0.0.0/8 dev lo table local; true");
    ck_assert(!lab_reaches(l->ns[0], "127.0.0.8", 22));
    ck_assert(lab_reaches(l->ns[0], "192.0.2.2", 80));   /* outside is reached … */
    ck_assert(lab_reaches(l->host, "169.254.169.254", 80));
    ck_assert(!lab_reaches(l->ns[0], "169.254.169.254", 80)); /* … but for what tells a cloud host its secrets */
}
END_TEST

START_TEST(test_F6_isolated_from_each_other)
{
    struct lab *l = lab_open(3);
    const char *m0 = l->nics[0].mac;
    static const unsigned char udp[8] = { 0, 9, 0, 9, 0, 24 };
    OWN(fd) int raw = lab_raw(l->ns[0], "host0");
    OWN(fd) int neighbour = lab_raw(l->ns[1], "host0");
    struct frame frames[] = {
        udp4(l->nics[1].mac, m0, "10.20.0.10", "10.20.0.11"),           /* L2 */
        udp4(GATEWAY, m0, "10.20.0.10", "10.20.0.11"),                  /* hairpin through the gateway */
        udp4("01:00:5e:00:00:fb", m0, "10.20.0.10", "224.0.0.251"),     /* multicast */
        udp4(GATEWAY, m0, "10.20.0.10", "10.20.255.255"),               /* the subnet's broadcast */
        ip6(l->nics[1].mac, m0, "fe80::400:ff:fe00:1", "fe80::400:ff:fe00:2", 17, udp, 8),
        ip6(GATEWAY, m0, "fe80::400:ff:fe00:1", "fe80::400:ff:fe00:2", 17, udp, 8),
        ip6("33:33:00:00:00:01", m0, "fd20::10", "ff02::1", 17, udp, 8),
        ip6(GATEWAY, m0, "fd20::10", "fd20::11", 17, udp, 8),
    };
    for (size_t i = 0; i < ARRAY_LEN(frames); i++) {
        inject(raw, frames[i]);
        ck_assert_msg(lab_count(neighbour, NEEDLE, sizeof NEEDLE - 1, 100) == 0, "frame %zu", i);
    }
    struct spec_range nine = { 9, 9 };
    lab_allow(l, 1, "g0", 9, 9);
    l->specs[1].allow->udp = (struct spec_ranges){ &nine, 1 };
    lab_rules(l);
    inject(raw, frames[1]); /* the hairpin, once it is allowed: the watch works */
    ck_assert_uint_eq(lab_count(neighbour, NEEDLE, sizeof NEEDLE - 1, 500), 1);
}
END_TEST

struct flood { int raw; struct frame f; atomic_bool stop; };

static void *flood_run(void *arg)
{
    struct flood *f = arg;
    while (!atomic_load(&f->stop))
        if (send(f->raw, f->f.b, f->f.n, 0) < 0)
            usleep(50);
    return NULL;
}

/* A guest end is flooding while its port is made: the frames are those of the guest to be, to a neighbour. */
START_TEST(test_F7_flood_from_the_first_instant)
{
    struct lab *l = lab_open(3);
    OWN(fd) int neighbour = lab_raw(l->ns[1], "host0");
    OWN(fd) int bridge = lab_raw(l->host, "vms-services");
    /* A guest that no rule knows yet: its port must pass nothing at all. */
    struct net_nic stranger = { .network = "services" };
    net_ifname(77, 0, stranger.ifname);
    net_mac(77, 0, stranger.mac);
    snprintf(stranger.address, sizeof stranger.address, "10.20.0.77");
    unsigned sent = 0;
    for (int i = 0; i < 20; i++) {
        OWN(fd) int ns = lab_ns();
        ok(net_veth_attach(&stranger, 0, &l->net, ns, e));
        struct flood f = { .raw = lab_raw(ns, "host0"), .f = udp4(GATEWAY, stranger.mac, stranger.address, "10.20.0.11") };
        pthread_t thread;
        ck_assert_int_eq(pthread_create(&thread, NULL, flood_run, &f), 0);
        lab_rules(l); /* a reload while it floods */
        usleep(5000);
        atomic_store(&f.stop, true);
        pthread_join(thread, NULL);
        struct net_stats stats;
        ok(net_stats(stranger.ifname, &stats, e));
        sent += (unsigned)stats.tx_packets;
        close(f.raw);
        ok(net_link_remove(stranger.ifname, e));
    }
    ck_assert_uint_gt(sent, 1000);
    ck_assert_uint_eq(lab_count(bridge, NEEDLE, sizeof NEEDLE - 1, 100), 0);
    ck_assert_uint_eq(lab_count(neighbour, NEEDLE, sizeof NEEDLE - 1, 0), 0);
}
END_TEST

/* What the host says to all reaches no guest. */
START_TEST(test_F6_no_broadcast_of_the_host)
{
    struct lab *l = lab_open(1);
    OWN(fd) int guest = lab_raw(l->ns[0], "host0");
    int on = 1;
    OWN(fd) int s4 = lab_socket(l->host, AF_INET, SOCK_DGRAM, 0);
    OWN(fd) int s6 = lab_socket(l->host, AF_INET6, SOCK_DGRAM, 0);
    struct sockaddr_in one = { .sin_family = AF_INET, .sin_port = htons(9) }, all = one;
    struct sockaddr_in6 all6 = { .sin6_family = AF_INET6, .sin6_port = htons(9), .sin6_scope_id = if_nametoindex("vms-services") };
    inet_pton(AF_INET, "10.20.0.10", &one.sin_addr);
    inet_pton(AF_INET, "10.20.255.255", &all.sin_addr);
    inet_pton(AF_INET6, "ff02::1", &all6.sin6_addr);
    ck_assert_int_eq(setsockopt(s4, SOL_SOCKET, SO_BROADCAST, &on, sizeof on), 0);
    ck_assert_int_eq(sendto(s4, NEEDLE, sizeof NEEDLE, 0, (struct sockaddr *)&all, sizeof all), sizeof NEEDLE);
    ck_assert_int_eq(sendto(s6, NEEDLE, sizeof NEEDLE, 0, (struct sockaddr *)&all6, sizeof all6), sizeof NEEDLE);
    ck_assert_int_eq(sendto(s4, NEEDLE, sizeof NEEDLE, 0, (struct sockaddr *)&one, sizeof one), sizeof NEEDLE);
    ck_assert_uint_eq(lab_count(guest, NEEDLE, sizeof NEEDLE - 1, 200), 1); /* only what is meant for it */
}
END_TEST

START_TEST(test_F8_foreign_flush)
{
    struct lab *l = lab_open(3);
    bool present = false;
    ok(net_rules_check(&present, e));
    ck_assert(present);
    lab_run(l->host, "nft flush ruleset");
    ok(net_rules_check(&present, e));
    ck_assert(!present);
    /* The ports still hold: no frame of one guest comes to another past the host, and no foreign MAC comes in. */
    OWN(fd) int raw = lab_raw(l->ns[0], "host0");
    OWN(fd) int neighbour = lab_raw(l->ns[1], "host0");
    OWN(fd) int bridge = lab_raw(l->host, "vms-services");
    inject(raw, udp4(l->nics[1].mac, l->nics[0].mac, "10.20.0.10", "10.20.0.11"));
    inject(raw, udp4("ff:ff:ff:ff:ff:ff", l->nics[0].mac, "10.20.0.10", "255.255.255.255"));
    inject(raw, udp4("01:00:5e:00:00:fb", l->nics[0].mac, "10.20.0.10", "224.0.0.251"));
    ck_assert_uint_eq(lab_count(neighbour, NEEDLE, sizeof NEEDLE - 1, 200), 0);
    lab_count(bridge, NEEDLE, sizeof NEEDLE - 1, 50);
    inject(raw, udp4(GATEWAY, l->nics[1].mac, "10.20.0.10", "10.20.0.1"));
    ck_assert_uint_eq(lab_count(bridge, NEEDLE, sizeof NEEDLE - 1, 100), 0);
    lab_rules(l);
    ok(net_rules_check(&present, e));
    ck_assert(present);
    lab_run(l->host, "nft flush chain inet vmsd from_guest");
    ok(net_rules_check(&present, e));
    ck_assert(!present);
}
END_TEST

static bool told(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    ck_assert_int_ge(poll(&p, 1, 2000), 0);
    return net_rules_touched(fd);
}

/* What this process does itself is no news. */
START_TEST(test_F8_told_of_a_flush)
{
    struct lab *l = lab_open(1);
    OWN(fd) int fd = -1;
    ok(net_rules_watch(&fd, e));
    ck_assert(!net_rules_touched(fd));
    lab_rules(l);
    ck_assert(!told(fd));
    lab_run(l->host, "nft flush ruleset");
    ck_assert(told(fd));
    ck_assert(!net_rules_touched(fd));
    lab_rules(l);
    ck_assert(!told(fd));
    lab_run(l->host, "for i in $(seq 300); do echo add table inet t$i; done | nft -f -"); /* more than is kept */
    ck_assert(told(fd));
    lab_run(l->host, "nft flush chain inet vmsd from_guest");
    ck_assert(told(fd));
}
END_TEST

/* There the kernel's word for who it was is no pid that we know. */
START_TEST(test_F8_own_changes_in_a_pid_namespace)
{
    struct lab *l = lab_open(1);
    OWN(fd) int fd = -1;
    int status = 1;
    ok(net_rules_watch(&fd, e));
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) { /* whoever left for a new namespace can start nothing once its first process has ended */
        pid_t inside = unshare(CLONE_NEWPID) < 0 ? -1 : fork();
        if (inside == 0) {
            lab_rules(l);
            _exit(told(fd) ? 2 : 0);
        }
        _exit(inside > 0 && waitpid(inside, &status, 0) == inside && status == 0 ? 0 : 1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(test_F9_reloads_under_traffic)
{
    struct lab *l = lab_open(3);
    lab_allow(l, 1, "g0", 80, 80);
    lab_rules(l);
    OWN(str) char *rules = NULL;
    ok(net_rules(&l->world, &rules, e));
    OWN(fd) int listener = lab_listen(l->ns[1], "10.20.0.11", 80);
    OWN(fd) int c = lab_connect(l->ns[0], "10.20.0.11", 80, 2000);
    ck_assert_int_ge(c, 0);
    OWN(fd) int server = accept(listener, NULL, NULL);
    struct flood f = { .raw = lab_raw(l->ns[0], "host0"), .f = udp4(GATEWAY, l->nics[0].mac, "10.20.0.10", "10.20.0.12") };
    OWN(fd) int victim = lab_raw(l->ns[2], "host0");
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, flood_run, &f), 0);
    for (int i = 0; i < 200; i++) {
        char got = 0;
        int64_t start = now_ms();
        struct pollfd p = { .fd = server, .events = POLLIN };
        ck_assert_int_eq(write(c, "x", 1), 1);
        ok(net_rules_apply(rules, e));
        /* A lost segment would come again after 200 ms. */
        ck_assert_msg(poll(&p, 1, 1000) == 1 && read(server, &got, 1) == 1, "reload %d", i);
        OWN(fd) int again = i % 10 ? -1 : lab_connect(l->ns[0], "10.20.0.11", 80, 150);
        ck_assert_msg(i % 10 || again >= 0, "reload %d: %s", i, strerror(errno));
        ck_assert_int_lt(now_ms() - start, 1000);
    }
    atomic_store(&f.stop, true);
    pthread_join(thread, NULL);
    ck_assert_uint_eq(lab_count(victim, NEEDLE, sizeof NEEDLE - 1, 100), 0);
    OWN(str) char *lost = lab_read(l->ns[0], "awk '/^Tcp:/ && ++n == 2 { print $13 }' /proc/net/snmp"); /* RetransSegs */
    ck_assert_str_eq(lost, "0\n");
    close(f.raw);
}
END_TEST

START_TEST(test_F10_recycled_address)
{
    struct lab *l = lab_open(3);
    lab_allow(l, 1, "g0", 80, 80);
    lab_rules(l);
    OWN(fd) int listener = lab_listen(l->ns[1], "10.20.0.11", 80);
    OWN(fd) int c = lab_connect(l->ns[0], "10.20.0.10", 1, 1); /* nobody listens: only warms up */
    OWN(fd) int before = lab_connect(l->ns[0], "10.20.0.11", 80, 2000);
    ck_assert(before >= 0 && lab_echo(before, listener));
    OWN(str) char *some = lab_read(l->host, "grep -c 10.20.0.10 /proc/net/nf_conntrack");
    ck_assert_int_gt(atoi(some), 0);
    /* g0 goes; a guest of another name gets its id, MAC and address, in a namespace of its own. */
    ok(net_link_remove(l->nics[0].ifname, e));
    l->guests[0].name = l->specs[0].name = "other";
    lab_rules(l);
    l->ns[0] = lab_ns();
    lab_attach(l, 0);
    OWN(str) char *none = lab_read(l->host, "grep -c 10.20.0.10 /proc/net/nf_conntrack; true");
    ck_assert_int_eq(atoi(none), 0);
    ck_assert(!lab_reaches(l->ns[0], "10.20.0.11", 80));
}
END_TEST

/* One guest opens connections without end: the host's table keeps room for the others. */
START_TEST(test_one_guest_does_not_fill_the_connection_table)
{
    struct lab *l = lab_open(2);
    struct spec_range nine = { 9, 9 };
    lab_allow(l, 1, "g0", 80, 80);
    l->allow[1].udp = (struct spec_ranges){ &nine, 1 };
    lab_rules(l);
    /* A busy machine takes longer to send than the usual 30 s that the kernel remembers a flow. */
    lab_run(l->host, "echo 600 >/proc/sys/net/netfilter/nf_conntrack_udp_timeout");
    OWN(fd) int raw = lab_raw(l->ns[0], "host0");
    for (unsigned port = 1000; port < 18000; port++) {
        struct frame f = ether(GATEWAY, l->nics[0].mac, ETH_P_IP);
        put_ipv4(&f, "10.20.0.10", "10.20.0.11", 0, port, 9);
        while (send(raw, f.b, f.n, 0) < 0)
            ck_assert_int_eq(errno, ENOBUFS);
    }
    OWN(str) char *flows = lab_read(l->host, "grep -c 'src=10.20.0.10 ' /proc/net/nf_conntrack");
    ck_assert_msg(atoi(flows) > 16000 && atoi(flows) < 16500, "%s", flows);
    OWN(fd) int s = lab_listen(l->ns[0], "10.20.0.10", 80);
    lab_allow(l, 0, "g1", 80, 80);
    lab_rules(l);
    ck_assert(lab_reaches(l->ns[1], "10.20.0.10", 80));
}
END_TEST

START_TEST(test_withdrawn_allowance_ends_its_connection)
{
    struct lab *l = lab_open(2);
    lab_allow(l, 1, "g0", 80, 80);
    lab_rules(l);
    OWN(fd) int listener = lab_listen(l->ns[1], "10.20.0.11", 80);
    OWN(fd) int c = lab_connect(l->ns[0], "10.20.0.11", 80, 2000);
    OWN(fd) int server = accept(listener, NULL, NULL);
    ck_assert(c >= 0 && server >= 0);
    l->specs[1].n_allow = 0;
    lab_rules(l);
    struct pollfd p = { .fd = server, .events = POLLIN };
    ck_assert_int_eq(write(c, "x", 1), 1);
    ck_assert_int_eq(poll(&p, 1, 500), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_hostile");
    TCase *t = tcase_create("hostile");
    tcase_set_timeout(t, 90);
    tcase_add_test(t, test_F1_spoofed_mac_ip_arp_ndp);
    tcase_add_test(t, test_F2_many_source_macs);
    tcase_add_test(t, test_F3_rogue_dhcp_and_ra);
    tcase_add_test(t, test_F4_vlan_llc_and_unknown_types);
    tcase_add_test(t, test_F5_services_of_the_host);
    tcase_add_test(t, test_F6_isolated_from_each_other);
    tcase_add_test(t, test_F7_flood_from_the_first_instant);
    tcase_add_test(t, test_F6_no_broadcast_of_the_host);
    tcase_add_test(t, test_F8_foreign_flush);
    tcase_add_test(t, test_F8_told_of_a_flush);
    tcase_add_test(t, test_F8_own_changes_in_a_pid_namespace);
    tcase_add_test(t, test_F9_reloads_under_traffic);
    tcase_add_test(t, test_F10_recycled_address);
    tcase_add_test(t, test_one_guest_does_not_fill_the_connection_table);
    tcase_add_test(t, test_withdrawn_allowance_ends_its_connection);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
