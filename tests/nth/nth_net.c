/* J1: the network: rules and addresses as values, and the kernel's side in a network namespace of its own. */
#include "nth.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/loop.h>
#include <vmsd/net.h>

static struct spec_range web_ports[] = {{80, 80}, {443, 443}}, own_ports[] = {{53, 53}};
static struct spec_allow allow = {
    .from = {(const char *[]){"b", "tag:web", NULL}, 2}, .tcp = {web_ports, 2}, .udp = {own_ports, 1}, .icmp = true};
static struct spec_port ports[] = {{.host = 8080, .guest = 80}, {.address = "::1", .host = 8443, .guest = 443}};
static struct guest_spec a = {.name = "a", .allow = &allow, .n_allow = 1, .ports = ports, .n_ports = 2};
static struct guest_spec b = {.name = "b", .tags = {(const char *[]){"web", NULL}, 1}};
static struct network_spec lab = {.name = "lab", .bridge = "vms-lab", .subnet = "10.20.0.0/24", .subnet6 = "fd20::/64", .nat = true,
                                  .host_udp = {own_ports, 1}, .domain = "lab.internal"};
static struct network_spec *const networks[] = {&lab};
static struct net_nic nics[] = {
    {.ifname = "vms1-0", .mac = "02:00:00:00:00:01", .address = "10.20.0.2", .network = "lab"},
    {.ifname = "vms2-0", .mac = "02:00:00:00:00:02", .address = "10.20.0.3", .address6 = "fd20::3", .network = "lab"},
};
static const struct net_guest guests[] = {{1, "a", &a, &nics[0], 1}, {2, "b", &b, &nics[1], 1}};
static const struct net_world world = {networks, 1, guests, 2};

static int rules(struct vm_err *e)
{
    OWN(str) char *text = NULL;
    int rc = net_rules(&world, &text, e);

    nth_over();
    if (!rc)
        nth_say("%s", text);
    return rc;
}

static int relay_rules(struct vm_err *e)
{
    struct net_relay_rule *v = NULL;
    size_t n = 0;
    int rc = net_relay_rules(&world, &v, &n, e);

    nth_over();
    for (size_t i = 0; !rc && i < n; i++)
        nth_say("%s:%u %s:%u;", v[i].listen_address, v[i].listen_port, v[i].to_address, v[i].to_port);
    free(v);
    return rc;
}

static int pick(struct vm_err *e)
{
    static const char *const taken[] = {"10.20.0.2", "10.20.0.3"};
    char out[NET_ADDR];
    int rc = net_pool_pick("10.20.0.0/24", taken, 2, out, e);

    nth_over();
    if (!rc)
        nth_say("%s", out);
    return rc;
}

static int setup(struct vm_err *e)
{
    OWN(strv) struct strv words = {0};
    int rc = net_setup(&nics[1], 0, &lab, &words, e);

    nth_over();
    for (size_t i = 0; !rc && i < words.n; i++)
        nth_say("%s ", words.v[i]);
    return rc;
}

static int relay(struct vm_err *e)
{
    struct net_relay_rule rule = {"127.0.0.1", 0, "127.0.0.1", 9};
    struct loop *l = NULL;
    struct net_relay *r = NULL;
    int rc = loop_open(1, &l, e) < 0 || net_relay_open(l, &r, e) < 0 || net_relay_set(r, &rule, 1, e) < 0 ? -1 : 0;

    nth_over();
    net_relay_close(r);
    if (l)
        loop_close(l);
    return rc;
}

/* ---- the kernel's side; libnftables does without an allocation of ours ---- */

static int guest_ns = -1;

static int bridge(struct vm_err *e)
{
    OWN(strv) struct strv links = {0};
    int rc = net_bridge_ensure(&lab, e) < 0 || net_links(&links, e) < 0 ? -1 : 0;

    nth_over();
    if (!rc)
        nth_say("%zu %s", links.n, links.v[0]);
    return rc;
}

static int veth(struct vm_err *e)
{
    OWN(strv) struct strv up = {0};
    int rc;

    nth_over();
    net_link_remove("vms2-0", NULL);
    if (net_bridge_ensure(&lab, e) < 0)
        return -1;
    nth_again();
    rc = net_veth_attach(&nics[1], 0, &lab, guest_ns, e) < 0 || net_rate_limit("vms2-0", 1 << 20, 1 << 20, e) < 0 ||
         net_ports(&up, e) < 0 || net_link_remove("vms2-0", e) < 0 ? -1 : 0;
    nth_over();
    if (!rc)
        nth_say("%zu", up.n);
    return rc;
}

static const struct nth_case cases[] = {
    {"rules", rules},
    {"relay rules", relay_rules},
    {"address", pick},
    {"setup", setup},
    {"relay", relay},
    {"bridge", bridge},
    {"veth", veth},
};

int main(int argc, char **argv)
{
    bool alone = unshare(CLONE_NEWNET) == 0 && (guest_ns = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) >= 0 &&
                 unshare(CLONE_NEWNET) == 0;

    if (!alone)
        puts("skipped: bridge, veth: not root");
    return test_J1_each_allocation_fails(argc, argv, cases, alone ? ARRAY_LEN(cases) : ARRAY_LEN(cases) - 2);
}
