/* The pure part of the net room: names, MACs, pools. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/net.h>
#include <vmsd/own.h>

#include "net/address.h"

START_TEST(test_C12_port_names_do_not_collide)
{
    static const uint32_t ids[] = { 0, 1, 9, 10, 11, 99, 110, 4294967295u };
    char seen[8 * 12][NET_IFNAME];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(ids); i++)
        for (unsigned nic = 0; nic < 12; nic++) {
            char name[NET_IFNAME];
            uint32_t id = 7;
            unsigned back = 7;
            net_ifname(ids[i], nic, name);
            if (ids[i] == 4294967295u && nic >= 10) { /* no room: no name, rather than another's */
                ck_assert_str_eq(name, "");
                ck_assert(!net_ifname_parse(name, &id, &back));
                continue;
            }
            ck_assert(net_ifname_parse(name, &id, &back));
            ck_assert_uint_eq(id, ids[i]);
            ck_assert_uint_eq(back, nic);
            for (size_t k = 0; k < n; k++)
                ck_assert_str_ne(seen[k], name);
            strcpy(seen[n++], name);
        }
}
END_TEST

START_TEST(test_port_names_have_one_spelling)
{
    static const char *const bad[] = { "", "vms", "vms-", "vms1", "vms1-", "vms-0", "vms01-0", "vms1-00", "vms1-0x", "vms 1-0", "vms+1-0",
                                       "vms1--0", "vms-1-0", "vms4294967296-0", "vms1-4294967296", "VMS1-0", "xvms1-0",
                                       "vms-services", "vms99999999999999999999-0" };
    uint32_t id = 5;
    unsigned nic = 5;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!net_ifname_parse(bad[i], &id, &nic), "%s", bad[i]);
    ck_assert(id == 5 && nic == 5);
}
END_TEST

START_TEST(test_bridge_names)
{
    static const char *const good[] = { "vms-services", "br0", "a", "lan.7", "vms1", "123456789012345" };
    static const char *const bad[] = { "", ".", "..", ".x", "-x", "1234567890123456", "a/b", "a b", "a\"b", "a*", "a\nb", "ä", "vms1-0" };
    for (size_t i = 0; i < ARRAY_LEN(good); i++)
        ck_assert_msg(net_bridge_name_check(good[i], NULL) == 0, "%s", good[i]);
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(net_bridge_name_check(bad[i], NULL) == -1, "%s", bad[i]);
}
END_TEST

START_TEST(test_macs)
{
    static const char *const bad[] = { "", "06:00:00:00:00", "06:00:00:00:00:0", "06:00:00:00:00:001", "06-00-00-00-00-01",
                                       "07:00:00:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "02:76:6d:73:64:01",
                                       "02:76:6D:73:64:01", "0x:00:00:00:00:01", "06: 0:00:00:00:01", "06:00:00:00:00:-1",
                                       "6::00:00:00:0001" };
    char a[NET_MAC], b[NET_MAC], local[NET_ADDR];
    unsigned char bytes[6];
    net_mac(1, 0, a);
    net_mac(1, 0, b);
    ck_assert_str_eq(a, "06:00:00:00:00:01");
    ck_assert_str_eq(a, b);
    net_mac(1, 1, b);
    ck_assert_str_eq(b, "06:01:00:00:00:01");
    net_mac(4294967295u, 9, b);
    ck_assert_str_eq(b, "06:09:ff:ff:ff:ff");
    ck_assert(net_mac_parse("52:54:00:AB:cd:EF", bytes));
    ck_assert_int_eq(memcmp(bytes, "\x52\x54\x00\xab\xcd\xef", 6), 0);
    net_mac_link_local(bytes, local);
    ck_assert_str_eq(local, "fe80::5054:ff:feab:cdef");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!net_mac_parse(bad[i], bytes), "%s", bad[i]);
}
END_TEST

START_TEST(test_gateway)
{
    static const struct { const char *cidr, *gateway; } rows[] = {
        { "10.20.0.0/24", "10.20.0.1" }, { "10.20.0.77/24", "10.20.0.1" }, { "10.0.0.0/8", "10.0.0.1" },
        { "192.168.7.4/30", "192.168.7.5" }, { "fd00:20::/64", "fd00:20::1" }, { "fd00::8/126", "fd00::9" },
    };
    static const char *const bad[] = { "", "10.20.0.0", "10.20.0.0/", "10.20.0.0/31", "10.20.0.0/32", "10.20.0.0/7", "10.20.0/24",
                                       "10.20.0.0/024x", "/24", "fd00::/127", "fd00::/129", "x/24", "10.20.0.0/-1",
                                       "fd00:1111:2222:3333:4444:5555:6666:7777:8888:9999:0000:1111/64" };
    struct net_cidr c;
    char got[NET_ADDR];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        ck_assert_int_eq(net_cidr_parse(rows[i].cidr, &c, NULL), 0);
        net_address_text(net_cidr_gateway(&c), got);
        ck_assert_str_eq(got, rows[i].gateway);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct vm_err e = { 0 };
        ck_assert_msg(net_cidr_parse(bad[i], &c, &e) == -1, "%s", bad[i]);
        ck_assert_int_eq(e.code, VM_E_INVALID);
    }
}
END_TEST

START_TEST(test_pool_is_taken_whole)
{
    static const char *const all[] = { "10.1.1.3", "10.1.1.2", "fd00::2", "10.1.1.2", "10.1.1.6", "10.1.1.5", "10.1.1.4", "9.9.9.9", "" };
    static const struct { size_t n; const char *next; } rows[] = {
        { 0, "10.1.1.2" }, { 1, "10.1.1.2" }, { 2, "10.1.1.4" }, { 4, "10.1.1.4" }, { 6, "10.1.1.4" }, { 7, NULL }, { 9, NULL },
    };
    char got[NET_ADDR];
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct vm_err e = { 0 };
        int rc = net_pool_pick("10.1.1.0/29", all, rows[i].n, got, &e);
        if (rows[i].next) {
            ck_assert_int_eq(rc, 0);
            ck_assert_str_eq(got, rows[i].next);
        } else {
            ck_assert_int_eq(rc, -1); /* .7 is the broadcast */
            ck_assert_int_eq(e.code, VM_E_ABSENT);
        }
    }
    ck_assert_int_eq(net_pool_pick("fd00::/64", all, ARRAY_LEN(all), got, NULL), 0);
    ck_assert_str_eq(got, "fd00::3");
    ck_assert_int_eq(net_pool_pick("fd00::/126", (const char *[]){ "fd00::2" }, 1, got, NULL), 0);
    ck_assert_str_eq(got, "fd00::3"); /* IPv6 has no broadcast */
    ck_assert_int_eq(net_pool_pick("10.1.1.0/40", NULL, 0, got, NULL), -1);
}
END_TEST

/* What a guest that sets up its own nic is told is what net_veth_attach does for others. */
START_TEST(test_setup_of_a_nic)
{
    static const char *const first[] = {
        "nic=06:00:00:00:00:07 host0",
        "address=host0 10.20.0.10/32", "neighbour=host0 10.20.0.1 02:76:6d:73:64:01", "route=host0 0.0.0.0/0 10.20.0.1",
        "address=host0 fd20::10/128",  "neighbour=host0 fd20::1 02:76:6d:73:64:01",   "route=host0 ::/0 fd20::1",
    };
    static const char *const second[] = {
        "nic=06:01:00:00:00:07 host1",
        "address=host1 10.20.0.10/32", "neighbour=host1 10.20.0.1 02:76:6d:73:64:01", "route=host1 10.20.0.0/24 10.20.0.1",
    };
    struct network_spec n = { .name = "lan", .subnet = "10.20.0.0/24", .subnet6 = "fd20::/64" };
    struct net_nic nic = { .ifname = "vms7-0", .mac = "06:00:00:00:00:07", .address = "10.20.0.10", .address6 = "fd20::10" };
    OWN(strv) struct strv out = { 0 };
    struct vm_err e = { 0 };
    ck_assert_int_eq(net_setup(&nic, 0, &n, &out, NULL), 0);
    ck_assert_uint_eq(out.n, ARRAY_LEN(first));
    for (size_t i = 0; i < out.n; i++)
        ck_assert_str_eq(out.v[i], first[i]);
    strcpy(nic.ifname, "vms7-1");
    strcpy(nic.mac, "06:01:00:00:00:07");
    nic.address6[0] = '\0';
    ck_assert_int_eq(net_setup(&nic, 1, &n, &out, NULL), 0);
    ck_assert_uint_eq(out.n, ARRAY_LEN(first) + ARRAY_LEN(second));
    for (size_t i = 0; i < ARRAY_LEN(second); i++)
        ck_assert_str_eq(out.v[ARRAY_LEN(first) + i], second[i]);
    strcpy(nic.address, "10.21.0.10");
    ck_assert_int_eq(net_setup(&nic, 1, &n, &out, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "10.21.0.10"));
    ck_assert_uint_eq(out.n, ARRAY_LEN(first) + ARRAY_LEN(second));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_address");
    TCase *t = tcase_create("address");
    tcase_add_test(t, test_C12_port_names_do_not_collide);
    tcase_add_test(t, test_port_names_have_one_spelling);
    tcase_add_test(t, test_bridge_names);
    tcase_add_test(t, test_macs);
    tcase_add_test(t, test_gateway);
    tcase_add_test(t, test_pool_is_taken_whole);
    tcase_add_test(t, test_setup_of_a_nic);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
