/* op=setup on interfaces of a network namespace of its own; and its file. tests/guest shows the rest in real guests. */
#include <check.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/agent.h"

#define MAC_A "02:00:00:00:00:0a"
#define MAC_B "02:00:00:00:00:0b"

static struct vm_err e;

static void sh(const char *script)
{
    int status = system(script);
    ck_assert_msg(status == 0, "%s", script);
}

/* What a command prints, its blanks made one. */
static const char *out(const char *command)
{
    static char text[4096];
    FILE *f = popen(command, "r");
    size_t n = 0;
    for (int c, last = ' '; (c = fgetc(f)) != EOF && n < sizeof(text) - 1; last = c) {
        if (c != ' ' || last != ' ')
            text[n++] = (char)c;
    }
    text[n] = '\0';
    pclose(f);
    return text;
}

static int setup(const char *first, ...) __attribute__((sentinel));
static int setup(const char *first, ...)
{
    static char words[FRAME_PAYLOAD_MAX];
    size_t n = 0;
    va_list ap;
    va_start(ap, first);
    for (const char *w = first; w; w = va_arg(ap, const char *)) {
        memcpy(words + n, w, strlen(w) + 1);
        n += strlen(w) + 1;
    }
    va_end(ap);
    e = (struct vm_err){ 0 };
    return setup_net(&(struct request){ words, n }, &e);
}

static void namespaces(void)
{
    ck_assert_int_eq(unshare(CLONE_NEWNET | CLONE_NEWNS), 0);
    ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
    sh("ip link add name ea address " MAC_A " type veth peer name eb address " MAC_B " && ip link set ea up && ip link set eb up");
}

START_TEST(test_names_and_addresses)
{
    static const char host0[] = "nic=" MAC_A " host0", host1[] = "nic=" MAC_B " host1";
    for (int again = 0; again < 2; again++) {
        ck_assert_msg(setup(host0, host1, "address=host0 10.0.0.2/32", "address=host1 10.1.0.2/24", "address=host0 fd00::2/128",
                            "neighbour=host0 10.0.0.1 02:00:00:00:00:01", "route=host0 10.0.0.1/32",
                            "route=host0 0.0.0.0/0 10.0.0.1", "route=host0 ::/0 fd00::1", NULL) == 0, "%s", e.text);
        ck_assert_str_eq(out("ip -o a show scope global | awk '{print $2,$4}' | sort"),
                         "host0 10.0.0.2/32\nhost0 fd00::2/128\nhost1 10.1.0.2/24\n");
        ck_assert_str_eq(out("(ip r show dev host0; ip -6 r show default) | sed 's/linkdown //'; ip n show nud permanent | grep -v 33:33"),
                         "default via 10.0.0.1 proto static onlink \n10.0.0.1 proto static scope link \n"
                         "default via fd00::1 dev host0 proto static metric 1024 onlink pref medium\n"
                         "10.0.0.1 dev host0 lladdr 02:00:00:00:00:01 PERMANENT \n");
        ck_assert_str_eq(out("ip -br l show up | awk '{sub(\"@.*\", \"\", $1); print $1}' | sort -r"), "lo\nhost1\nhost0\n");
        ck_assert_str_eq(out("cat /proc/sys/net/ipv6/conf/host0/accept_ra /proc/sys/net/ipv6/conf/host1/autoconf"), "0\n0\n");
    }
}
END_TEST

START_TEST(test_names_swapped)
{
    ck_assert(setup("nic=" MAC_A " host0", "nic=" MAC_B " host1", "address=host0 10.0.0.2/32", NULL) == 0);
    ck_assert_msg(setup("nic=" MAC_A " host1", "nic=" MAC_B " host0", "address=host0 10.0.0.2/32", NULL) == 0, "%s", e.text);
    ck_assert_str_eq(out("ip -o l | awk '/host/ {sub(\"@.*\", \"\", $2); print $2, $(NF-2)}'; ip -o -4 a | awk '/ host0/ {print $2,$4}'"),
                     "host0 " MAC_B "\nhost1 " MAC_A "\nhost0 10.0.0.2/32\n");
}
END_TEST

START_TEST(test_what_was_not_told_goes)
{
    sh("ip l set ea up; ip a add 10.5.0.1/24 dev ea; ip a add 10.5.0.2/24 dev ea; ip r add 10.6.0.0/16 via 10.5.0.9;"
       "ip r add 10.7.0.0/16 dev ea metric 7; ip a add fd01::1/64 dev ea; ip n add 10.5.0.7 lladdr 02:00:00:00:00:07 dev ea nud permanent");
    ck_assert_msg(setup("nic=" MAC_A " ea", "address=ea 10.5.0.2/24", "route=ea 10.7.0.0/16", NULL) == 0, "%s", e.text);
    ck_assert_str_eq(out("ip -o a show scope global | awk '{print $2,$4}'"), "ea 10.5.0.2/24\n");
    ck_assert_str_eq(out("ip r | sed 's/linkdown //'; ip n show nud permanent | grep -v 33:33"),
                     "10.5.0.0/24 dev ea proto kernel scope link src 10.5.0.2 \n10.7.0.0/16 dev ea proto static scope link \n");
    sh("ip -6 a show dev ea | grep -q fe80"); /* the kernel's own stays */
}
END_TEST

START_TEST(test_others_are_left_alone)
{
    sh("ip l set eb up; ip a add 10.5.0.1/24 dev eb; ip r add default via 10.5.0.9");
    ck_assert(setup("nic=" MAC_A " host0", "address=host0 10.0.0.2/32", NULL) == 0);
    ck_assert_str_eq(out("ip r | sed 's/linkdown //'"), "default via 10.5.0.9 dev eb \n10.5.0.0/24 dev eb proto kernel scope link src 10.5.0.1 \n");
    ck_assert(setup("nic=" MAC_A " host0", "route=host0 0.0.0.0/0 10.0.0.1", NULL) < 0);
    ck_assert_str_eq(e.text, "host0: set the route 0.0.0.0: File exists");
}
END_TEST

START_TEST(test_bounds)
{
    static char words[FRAME_PAYLOAD_MAX];
    size_t n = 0;
    pairs_add(words, sizeof(words), &n, "nic", MAC_A " ea");
    for (int i = 0; i <= 256; i++) {
        char one[40];
        if (i == 256)
            ck_assert_msg(setup_net(&(struct request){ words, n }, &e) == 0, "%s", e.text);
        snprintf(one, sizeof(one), "ea 10.0.%d.%d/32", i / 200, i % 200 + 1);
        pairs_add(words, sizeof(words), &n, "address", one);
    }
    ck_assert_str_eq(out("ip -o -4 a show dev ea | wc -l"), "256\n");
    ck_assert(setup_net(&(struct request){ words, n }, &e) < 0);
    ck_assert_str_eq(e.text, "ea: ea has more than 256 of address=");
    sh("ip a add 10.9.9.9/32 dev ea");
    ck_assert(setup("nic=" MAC_A " ea", NULL) < 0);
    ck_assert_str_eq(e.text, "ea: more than 256 of the kind 'address' are set");
}
END_TEST

START_TEST(test_nonsense)
{
    static const struct { const char *word, *error; } rows[] = {
        { "nic=02:00:00:00:00 ea", "'02:00:00:00:00' is no MAC address" },
        { "nic=02:00:00:00:00:0a:0b ea", "'02:00:00:00:00:0a:0b' is no MAC address" },
        { "nic=02:00:00:00:00:99 ea", "no interface has the MAC address 02:00:00:00:00:99" },
        { "nic=" MAC_A, "nic=" MAC_A " is not MAC NAME" },
        { "nic=" MAC_A " ", "nic=" MAC_A "  is not MAC NAME" },
        { "nic=" MAC_A " ../x", "nic=" MAC_A " ../x is not MAC NAME" },
        { "nic=" MAC_A " sixteen-bytes-xx", "nic=" MAC_A " sixteen-bytes-xx is not MAC NAME" },
        { "address=ea", "ea: address=ea is not NAME ADDRESS/LENGTH" },
        { "address=ea 10.0.0.1", "ea: address=ea 10.0.0.1 is not NAME ADDRESS/LENGTH" },
        { "address=ea 10.0.0.1/33", "ea: address=ea 10.0.0.1/33 is not NAME ADDRESS/LENGTH" },
        { "address=ea 10.0.0.1/-1", "ea: address=ea 10.0.0.1/-1 is not NAME ADDRESS/LENGTH" },
        { "address=ea fd00::1/129", "ea: address=ea fd00::1/129 is not NAME ADDRESS/LENGTH" },
        { "address=ea 10.0.0.1/24 x", "ea: address=ea 10.0.0.1/24 x is not NAME ADDRESS/LENGTH" },
        { "route=ea 0.0.0.0/0 fd00::1", "ea: route=ea 0.0.0.0/0 fd00::1 is not NAME DESTINATION/LENGTH [GATEWAY]" },
        { "neighbour=ea 10.0.0.1 x", "ea: neighbour=ea 10.0.0.1 x is not NAME ADDRESS MAC" },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert(setup("nic=" MAC_A " ea", rows[i].word, NULL) < 0);
        ck_assert_str_eq(e.text, rows[i].error);
    }
}
END_TEST

static int from_file(const char *text, size_t n)
{
    char path[] = "/tmp/vms-setup-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, text, n), (ssize_t)n);
    close(fd);
    e = (struct vm_err){ 0 };
    int rc = setup_from_file(path, &e);
    unlink(path);
    return rc;
}

START_TEST(test_file)
{
    static const char good[] = "\nnic=" MAC_A " host0\n\naddress=host0 10.0.0.2/32\nmount=share0 /srv\nmount=vol0 /a ro";
    ck_assert(from_file(good, sizeof(good) - 1) < 0);
    ck_assert_str_eq(e.text, "no disk 'root' in this guest"); /* all else was done */
    ck_assert_str_eq(out("ip -o -4 a show dev host0 | awk '{print $4}'"), "10.0.0.2/32\n");
    ck_assert(from_file("a=b\0\n", 5) < 0);
    ck_assert_ptr_nonnull(strstr(e.text, "is no text of at most 64 KiB"));
    ck_assert(from_file("hostname", 8) < 0);
    ck_assert_ptr_nonnull(strstr(e.text, "does not hold lines of KEY=VALUE"));
    static const char late[] = "clock=9223372035059581356.1\n"; /* no sum of it overflows */
    ck_assert(from_file(late, sizeof(late) - 1) < 0);
    ck_assert_ptr_nonnull(strstr(e.text, "is not SECONDS.NANOSECONDS"));
    static char large[FRAME_PAYLOAD_MAX + 1];
    memset(large, '\n', sizeof(large));
    ck_assert(from_file(large, sizeof(large)) < 0);
    ck_assert_ptr_nonnull(strstr(e.text, "is no text of at most 64 KiB"));
    ck_assert(setup_from_file("/nowhere", &e) < 0);
    ck_assert_str_eq(e.text, "open '/nowhere': No such file or directory");
}
END_TEST

int main(void)
{
    if (geteuid() != 0) {
        puts("skipped: needs root");
        return 77;
    }
    Suite *s = suite_create("agent-setup");
    TCase *t = tcase_create("agent-setup");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, namespaces, NULL);
    tcase_add_test(t, test_names_and_addresses);
    tcase_add_test(t, test_names_swapped);
    tcase_add_test(t, test_what_was_not_told_goes);
    tcase_add_test(t, test_others_are_left_alone);
    tcase_add_test(t, test_bounds);
    tcase_add_test(t, test_nonsense);
    tcase_add_test(t, test_file);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
