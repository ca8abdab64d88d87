#include "netlab.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/own.h>
#include <vmsd/text.h>

static int ns_own(void)
{
    int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void ns_enter(int ns)
{
    ck_assert_int_eq(setns(ns, CLONE_NEWNET), 0);
}

int lab_ns(void)
{
    OWN(fd) int home = ns_own();
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    int fd = ns_own();
    ck_assert_int_eq(system("ip link set lo up"), 0);
    ns_enter(home);
    return fd;
}

int lab_socket(int ns, int domain, int type, int protocol)
{
    OWN(fd) int home = ns_own();
    ns_enter(ns);
    int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
    ns_enter(home);
    ck_assert_int_ge(fd, 0);
    return fd;
}

char *lab_read(int ns, const char *command)
{
    OWN(fd) int home = ns_own();
    struct text t = { 0 };
    char some[4096];
    size_t n;
    ns_enter(ns);
    FILE *f = popen(command, "r");
    ck_assert_ptr_nonnull(f);
    while ((n = fread(some, 1, sizeof some, f)) > 0)
        text_add_bytes(&t, some, n);
    int rc = pclose(f);
    ns_enter(home);
    ck_assert_msg(rc == 0, "%s: status %d", command, rc);
    return text_take(&t);
}

void lab_run(int ns, const char *command)
{
    free(lab_read(ns, command));
}

struct lab *lab_world(size_t n)
{
    static struct lab the; /* one at a time: nothing to free */
    struct lab *l = &the;
    ck_assert_uint_le(n, LAB_GUESTS);
    memset(l, 0, sizeof *l);
    l->host = l->outside = -1;
    l->net = (struct network_spec){ .name = "services", .bridge = "vms-services", .subnet = "10.20.0.0/16",
                                    .subnet6 = "fd20::/64", .nat = true };
    l->closed = (struct network_spec){ .name = "closed", .bridge = "vms-closed", .subnet = "10.30.0.0/24" };
    l->nets[0] = &l->net;
    l->nets[1] = &l->closed;
    for (size_t i = 0; i < n; i++) {
        struct net_nic *nic = &l->nics[i];
        snprintf(l->names[i], sizeof l->names[i], "g%zu", i);
        net_ifname((uint32_t)i + 1, 0, nic->ifname);
        net_mac((uint32_t)i + 1, 0, nic->mac);
        snprintf(nic->address, sizeof nic->address, "10.20.%zu.%zu", (i + 10) / 256, (i + 10) % 256);
        snprintf(nic->address6, sizeof nic->address6, "fd20::%zx", i + 16);
        nic->network = "services";
        l->specs[i].name = l->names[i];
        l->guests[i] = (struct net_guest){ .id = (uint32_t)i + 1, .name = l->names[i], .spec = &l->specs[i], .nics = nic,
                                           .n_nics = 1 };
    }
    l->world = (struct net_world){ .networks = l->nets, .n_networks = 2, .guests = l->guests, .n_guests = n };
    return l;
}

void lab_rules(struct lab *l)
{
    OWN(str) char *rules = NULL;
    ok(net_rules(&l->world, &rules, e));
    ok(net_rules_apply(rules, e));
}

void lab_bridge(struct lab *l)
{
    for (size_t i = 0; i < 2; i++)
        ok(net_bridge_ensure(l->nets[i], e));
}

void lab_attach(struct lab *l, size_t i)
{
    const struct network_spec *n = strcmp(l->nics[i].network, "closed") == 0 ? &l->closed : &l->net;
    ok(net_veth_attach(&l->nics[i], 0, n, l->ns[i], e));
}

struct lab *lab_open(size_t n)
{
    struct lab *l = lab_world(n);
    ck_assert_int_eq(unshare(CLONE_NEWNET), 0);
    l->host = ns_own();
    ck_assert_int_eq(system("ip link set lo up"), 0);
    l->outside = lab_ns();
    ck_assert_int_eq(system("ip link add up0 type veth peer name eth0"), 0);
    OWN(str) char *move = text_format("ip link set eth0 netns /proc/%d/fd/%d", getpid(), l->outside);
    ck_assert_int_eq(system(move), 0);
    lab_run(l->host, "ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up");
    lab_run(l->outside, "ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad; ip link set eth0 up");
    lab_bridge(l);
    lab_rules(l);
    for (size_t i = 0; i < n && i < 8; i++) {
        l->ns[i] = lab_ns();
        lab_attach(l, i);
    }
    return l;
}

void lab_allow(struct lab *l, size_t i, const char *from, uint16_t lo, uint16_t hi)
{
    l->from[i] = from;
    l->ranges[i] = (struct spec_range){ lo, hi };
    l->allow[i] = (struct spec_allow){ .from = { &l->from[i], 1 }, .tcp = { &l->ranges[i], 1 } };
    l->specs[i].allow = &l->allow[i];
    l->specs[i].n_allow = 1;
}

void lab_publish(struct lab *l, size_t i, const char *at, uint16_t host, uint16_t guest, bool udp)
{
    struct guest_spec *s = &l->specs[i];
    ck_assert_uint_lt(s->n_ports, LAB_PORTS);
    s->ports = l->ports[i];
    s->ports[s->n_ports++] = (struct spec_port){ .address = at, .host = host, .guest = guest, .udp = udp };
}

static socklen_t address_of(const char *text, uint16_t port, struct sockaddr_storage *out)
{
    *out = (struct sockaddr_storage){ 0 };
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof *v4;
    }
    char bare[64];
    snprintf(bare, sizeof bare, "%s", text);
    char *zone = strchr(bare, '%');
    if (zone)
        *zone++ = '\0';
    ck_assert_int_eq(inet_pton(AF_INET6, bare, &v6->sin6_addr), 1);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    v6->sin6_scope_id = zone ? (uint32_t)atoi(zone) : 0;
    return sizeof *v6;
}

int lab_listen(int ns, const char *address, uint16_t port)
{
    struct sockaddr_storage a;
    socklen_t n = address_of(address, port, &a);
    int fd = lab_socket(ns, a.ss_family, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ck_assert_msg(bind(fd, (struct sockaddr *)&a, n) == 0, "bind %s: %s", address, strerror(errno));
    ck_assert_int_eq(listen(fd, 64), 0);
    return fd;
}

int lab_connect_as(int ns, unsigned uid, const char *address, uint16_t port, int ms)
{
    struct sockaddr_storage a;
    socklen_t n = address_of(address, port, &a);
    setfsuid(uid); /* a socket is its maker's */
    int fd = lab_socket(ns, a.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), why = 0;
    setfsuid(0);
    socklen_t n_why = sizeof why;
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    if (connect(fd, (struct sockaddr *)&a, n) == 0)
        return fd;
    if (errno != EINPROGRESS)
        why = errno;
    else if (poll(&p, 1, ms) != 1)
        why = ETIMEDOUT;
    else
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n_why);
    if (why == 0)
        return fd;
    close(fd);
    errno = why;
    return -1;
}

int lab_connect(int ns, const char *address, uint16_t port, int ms)
{
    return lab_connect_as(ns, 0, address, port, ms);
}

bool lab_reaches(int ns, const char *address, uint16_t port)
{
    OWN(fd) int fd = lab_connect(ns, address, port, 700);
    return fd >= 0;
}

bool lab_echo(int from, int listener)
{
    char got[8] = "";
    struct pollfd p = { .fd = listener, .events = POLLIN };
    OWN(fd) int to = poll(&p, 1, 2000) == 1 ? accept(listener, NULL, NULL) : -1;
    if (to < 0 || write(from, "there", 5) != 5)
        return false;
    p.fd = to;
    if (poll(&p, 1, 2000) != 1 || read(to, got, sizeof got) != 5 || write(to, "back", 4) != 4)
        return false;
    p.fd = from;
    return poll(&p, 1, 2000) == 1 && read(from, got, sizeof got) == 4 && memcmp(got, "back", 4) == 0;
}

int lab_raw(int ns, const char *ifname)
{
    OWN(fd) int home = ns_own();
    ns_enter(ns);
    int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
    struct sockaddr_ll a = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(ifname) };
    ck_assert_int_gt(a.sll_ifindex, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    ns_enter(home);
    return fd;
}

static bool frame_holds(const unsigned char *frame, size_t n_frame, const void *needle, size_t n)
{
    return memmem(frame, n_frame, needle, n) != NULL;
}

unsigned lab_count(int raw, const void *needle, size_t n, int ms)
{
    unsigned char frame[4096];
    unsigned seen = 0;
    struct deadline d = deadline_in(ms);
    for (;;) {
        struct sockaddr_ll from;
        socklen_t n_from = sizeof from;
        ssize_t got = recvfrom(raw, frame, sizeof frame, 0, (struct sockaddr *)&from, &n_from);
        if (got > 0) {
            seen += from.sll_pkttype != PACKET_OUTGOING && frame_holds(frame, (size_t)got, needle, n);
            continue;
        }
        int64_t left = deadline_left(d);
        struct pollfd p = { .fd = raw, .events = POLLIN };
        if (left == 0 || poll(&p, 1, (int)left) == 0)
            return seen;
    }
}
