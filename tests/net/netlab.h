/* netlab.h: a small world for tests of the net room: specs written by hand, guests as network namespaces, an "outside".
 *
 * lab_open puts the calling (forked) test process into a fresh network namespace, which plays the host. */
#ifndef NETLAB_H
#define NETLAB_H

#include <check.h>
#include <stdbool.h>
#include <vmsd/net.h>

enum { LAB_GUESTS = 1200, LAB_PORTS = 4 };

struct lab {
    int host;                    /* namespaces */
    int ns[8];                   /* of the first guests */
    int outside;                 /* 192.0.2.2, 2001:db8::2; the host's end is 192.0.2.1, 2001:db8::1, "up0" */
    struct network_spec net, closed; /* "services" 10.20.0.0/24 + fd20::/64 with NAT; "closed" 10.30.0.0/24 without */
    struct network_spec *nets[2];
    struct guest_spec specs[LAB_GUESTS];
    struct net_nic nics[LAB_GUESTS];
    struct net_guest guests[LAB_GUESTS];
    char names[LAB_GUESTS][16];
    const char *from[LAB_GUESTS];
    struct spec_range ranges[LAB_GUESTS];
    struct spec_allow allow[LAB_GUESTS];
    struct spec_port ports[LAB_GUESTS][LAB_PORTS];
    struct net_world world;
};

/* n guests g0… with ids 1…, addresses 10.20.0.10… and fd20::10…, no allowances; nothing in the kernel yet. */
struct lab *lab_world(size_t n);
/* The same in the kernel: bridge, rules, the first guests attached, and an outside. */
struct lab *lab_open(size_t n);
void lab_rules(struct lab *l);     /* builds and applies the rules of the world as it is now */
void lab_attach(struct lab *l, size_t i);
void lab_bridge(struct lab *l);
/* allow {from: [from], tcp: [lo-hi]} for guest i; one allowance a guest. */
void lab_allow(struct lab *l, size_t i, const char *from, uint16_t lo, uint16_t hi);
void lab_publish(struct lab *l, size_t i, const char *at, uint16_t host, uint16_t guest, bool udp);

int lab_ns(void);                  /* a fresh namespace, lo up */
int lab_socket(int ns, int domain, int type, int protocol); /* a socket that lives in ns */
void lab_run(int ns, const char *command); /* by sh in ns; must succeed */
char *lab_read(int ns, const char *command); /* its output, yours */

int lab_listen(int ns, const char *address, uint16_t port); /* TCP */
/* A connection made within ms, or -1 with errno; as uid (0: root). */
int lab_connect(int ns, const char *address, uint16_t port, int ms);
int lab_connect_as(int ns, unsigned uid, const char *address, uint16_t port, int ms);
bool lab_echo(int from, int listener); /* bytes go both ways over a fresh accept of listener */
bool lab_reaches(int ns, const char *address, uint16_t port); /* connect within 700 ms, then closed */
int lab_raw(int ns, const char *ifname);  /* AF_PACKET bound to an interface, frames in and out */
unsigned lab_count(int raw, const void *needle, size_t n, int ms); /* frames that hold the bytes within ms */

#define ok(call) \
    do { \
        struct vm_err e_ = { 0 }; \
        struct vm_err *e = &e_; \
        int rc_ = (call); \
        ck_assert_msg(rc_ == 0, "%s: %s", #call, e_.text); \
    } while (0)
#define fails(want, call) \
    do { \
        struct vm_err e_ = { 0 }; \
        struct vm_err *e = &e_; \
        int rc_ = (call); \
        ck_assert_msg(rc_ == -1, "%s: succeeded", #call); \
        ck_assert_msg(e_.code == VM_E_##want, "%s: %s %s", #call, vm_err_name(e_.code), e_.text); \
    } while (0)

#endif
