/* The ruleset as text: golden files, and what it refuses. UPDATE_GOLDEN=1 writes the golden files anew. */
#include "netlab.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/own.h>

static void golden(const char *name, const char *got)
{
    char path[256], want[64 << 10];
    snprintf(path, sizeof path, "net/golden/%s.nft", name);
    if (getenv("UPDATE_GOLDEN")) {
        OWN(file) FILE *f = fopen(path, "w");
        ck_assert_ptr_nonnull(f);
        fputs(got, f);
        return;
    }
    OWN(file) FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "no %s", path);
    size_t n = fread(want, 1, sizeof want - 1, f);
    want[n] = '\0';
    ck_assert_str_eq(got, want);
}

static char *rules(struct lab *l)
{
    char *text = NULL;
    ok(net_rules(&l->world, &text, e));
    return text;
}

START_TEST(test_golden_empty)
{
    struct lab *l = lab_world(0);
    l->world.n_networks = 0;
    OWN(str) char *text = rules(l);
    golden("empty", text);
}
END_TEST

/* Everything that a spec can say, once. */
START_TEST(test_golden_full)
{
    struct lab *l = lab_world(6);
    struct spec_range services[] = { { 53, 53 } }, sloppy[] = { { 90, 100 }, { 80, 80 }, { 95, 110 }, { 81, 82 }, { 443, 443 } };
    struct spec_list web = { (const char *[]){ "web", NULL }, 1 };
    l->net.host_tcp = (struct spec_ranges){ services, 1 };
    l->net.host_udp = (struct spec_ranges){ services, 1 };
    l->specs[1].tags = l->specs[2].tags = web;
    lab_allow(l, 0, "tag:web", 5432, 5432);
    lab_allow(l, 1, "any", 1, 1);
    l->specs[1].allow->tcp = (struct spec_ranges){ sloppy, 5 };
    l->specs[1].allow->udp = (struct spec_ranges){ services, 1 };
    l->specs[1].allow->icmp = true;
    lab_allow(l, 2, "host", 9100, 9100);
    lab_allow(l, 3, "g0", 22, 22);
    lab_allow(l, 4, "g0", 22, 22); /* shares the chain of g3 */
    lab_allow(l, 5, "nobody", 22, 22);
    l->nics[5].network = "closed";
    strcpy(l->nics[5].address, "10.30.0.2");
    l->nics[5].address6[0] = '\0';
    lab_publish(l, 0, NULL, 8080, 80, false);
    lab_publish(l, 0, "192.0.2.1", 53, 5353, true);
    lab_publish(l, 1, "2001:db8::1", 8443, 443, false);
    lab_publish(l, 2, "::1", 8444, 443, false);
    lab_publish(l, 5, NULL, 2222, 22, false);
    OWN(str) char *text = rules(l);
    OWN(str) char *again = rules(l);
    ck_assert_str_eq(text, again);
    golden("full", text);
}
END_TEST

static void refused(struct lab *l, enum vm_errc code, const char *names)
{
    struct vm_err e = { 0 };
    char *text = NULL;
    ck_assert_int_eq(net_rules(&l->world, &text, &e), -1);
    ck_assert_msg(e.code == code && strstr(e.text, names), "%s", e.text);
    ck_assert_ptr_null(text);
}

START_TEST(test_two_guests_with_one_thing)
{
    struct lab *l = lab_world(2);
    strcpy(l->nics[1].address, l->nics[0].address);
    refused(l, VM_E_CONFLICT, "guests g0 and g1 both have address 10.20.0.10");
    l = lab_world(2);
    strcpy(l->nics[1].address6, "fd20:0:0::10"); /* the same in another spelling */
    refused(l, VM_E_CONFLICT, "guests g0 and g1 both have address fd20::10");
    l = lab_world(2);
    strcpy(l->nics[1].mac, l->nics[0].mac);
    refused(l, VM_E_CONFLICT, "guests g0 and g1 both have MAC");
    l = lab_world(2);
    lab_publish(l, 0, NULL, 80, 1, false);
    lab_publish(l, 1, NULL, 80, 2, false);
    refused(l, VM_E_CONFLICT, "guests g0 and g1 both have tcp port 80");
}
END_TEST

/* The spec reader refuses these; should one slip through, it must not become nft text. */
START_TEST(test_C4_nothing_is_injected)
{
    static const char *const addresses[] = { "10.20.0.1", "10.20.0.0", "10.20.255.255", "10.21.0.1", "10.20.0.9 }", "fd20::9", "x" };
    for (size_t i = 0; i < ARRAY_LEN(addresses); i++) {
        struct lab *l = lab_world(1);
        strcpy(l->nics[0].address, addresses[i]);
        refused(l, VM_E_INVALID, "guest g0");
    }
    struct lab *l = lab_world(1);
    lab_allow(l, 0, "tag:a } ; flush ruleset", 1, 1);
    refused(l, VM_E_INVALID, "not a tag");
    l = lab_world(0);
    l->net.bridge = "vms\"; x";
    refused(l, VM_E_INVALID, "network services");
    l = lab_world(1);
    strcpy(l->nics[0].mac, "02:76:6d:73:64:01"); /* the gateway's */
    refused(l, VM_E_INVALID, "guest g0");
    l = lab_world(1);
    strcpy(l->nics[0].ifname, "eth0");
    refused(l, VM_E_INVALID, "guest g0");
    l = lab_world(1);
    lab_publish(l, 0, "localhost", 80, 80, false);
    refused(l, VM_E_INVALID, "guest g0");
}
END_TEST

START_TEST(test_F10_nothing_of_a_former_guest)
{
    struct lab *l = lab_world(2);
    lab_allow(l, 1, "g0", 80, 80);
    OWN(str) char *before = rules(l);
    ck_assert_ptr_nonnull(strstr(before, "ip saddr { 10.20.0.10 } tcp dport { 80 } accept"));
    l->guests[0].name = l->specs[0].name = "other"; /* the same id, MAC and address */
    OWN(str) char *after = rules(l);
    ck_assert_ptr_null(strstr(after, "saddr { 10.20.0.10 }"));
    ck_assert_ptr_null(strstr(after, "dport { 80 }"));
}
END_TEST

START_TEST(test_relay_rules)
{
    struct lab *l = lab_world(2);
    OWN(mem) void *memory = NULL;
    struct net_relay_rule *r;
    size_t n = 0;
    l->nics[1].address6[0] = '\0';
    lab_publish(l, 0, NULL, 80, 1, false);         /* has both: NAT, and ::1 by relay */
    lab_publish(l, 0, NULL, 81, 1, true);          /* UDP is not relayed */
    lab_publish(l, 0, "192.0.2.1", 82, 1, false);  /* IPv4 only */
    lab_publish(l, 1, NULL, 83, 1, false);         /* IPv4 guest: all of IPv6 by relay */
    lab_publish(l, 1, "2001:db8::1", 84, 1, false);
    lab_publish(l, 1, "::1", 85, 1, false);
    ok(net_relay_rules(&l->world, &r, &n, e));
    memory = r;
    static const struct net_relay_rule want[] = { { "::1", 80, "10.20.0.10", 1 }, { "::", 83, "10.20.0.11", 1 },
                                                  { "2001:db8::1", 84, "10.20.0.11", 1 }, { "::1", 85, "10.20.0.11", 1 } };
    ck_assert_uint_eq(n, ARRAY_LEN(want));
    for (size_t i = 0; i < n; i++) {
        ck_assert_str_eq(r[i].listen_address, want[i].listen_address);
        ck_assert_uint_eq(r[i].listen_port, want[i].listen_port);
        ck_assert_str_eq(r[i].to_address, want[i].to_address);
        ck_assert_uint_eq(r[i].to_port, want[i].to_port);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_rules");
    TCase *t = tcase_create("rules");
    tcase_add_test(t, test_golden_empty);
    tcase_add_test(t, test_golden_full);
    tcase_add_test(t, test_two_guests_with_one_thing);
    tcase_add_test(t, test_C4_nothing_is_injected);
    tcase_add_test(t, test_F10_nothing_of_a_former_guest);
    tcase_add_test(t, test_relay_rules);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
