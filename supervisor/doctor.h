/* What the doctor looks at, and what it says about that. Private to supervisor/. */
#ifndef DOCTOR_H
#define DOCTOR_H

#include "world.h"

enum { DOCTOR_DRIVERS_MAX = 8 };

/* Plain facts; what could not be found out is 0, or says so. */
struct doctor_facts {
    struct drv_host host;
    struct { const char *name; enum spec_kind kind; struct drv_report report; } drivers[DOCTOR_DRIVERS_MAX];
    size_t n_drivers;
    struct net_facts net;
    struct vm_err net_error;         /* code: the network could not be asked */
    struct strv dropping;            /* chains of other firewalls that drop what they do not know, "ip filter FORWARD" */
    struct strv dns_guests;          /* guests whose address the host asks for names, "dns (10.20.0.53)" */
    struct strv circles;             /* guests that start after others which need them to start, a line each */
    struct strv orphans;             /* what belongs to no guest, "network interface vms7-0" */
    const char *run_dir, *state_dir; /* borrowed */
    bool run_tmpfs, grows, mmdebstrap, erofs, init, group, clock_known, clock_synced;
    uint64_t disk_total, disk_free;  /* bytes of the state directory's file system */
    uint64_t files_total, files_free; /* its inodes; 0: it does not count them */
    uint64_t host_memory, guest_memory; /* bytes; of guests that shall be up, together */
    uint64_t open_files;
    size_t n_guests, n_microvms, n_networks;
    int64_t wall;
};

/* doctor_facts.c; on a worker. A fact that cannot be had is no failure; -1: no memory. */
int doctor_look(struct world *w, struct doctor_facts *f, struct vm_err *e);
void doctor_facts_done(struct doctor_facts *f);
/* Pure: adds such chains of `nft -j list chains`. */
void doctor_dropping(const char *nft_json, size_t n, struct strv *out);
/* Pure: is the address one of the name servers of a resolv.conf? */
bool doctor_asks(const char *resolv, const char *address);

/* doctor_circle.c; pure. Indices into names: who starts after whom, who asks whom for names (all that ask the same one
 * stand together). */
struct doctor_need { size_t who, whom; };
struct doctor_needs { struct doctor_need *v; size_t n; };
void doctor_circles(const char *const *names, size_t n_guests, const struct doctor_needs *waits,
                    const struct doctor_needs *asks, struct strv *out);

/* doctor.c; pure: array of {level, what, why, mend}, yours. */
json_t *doctor_judge(const struct doctor_facts *f);

#endif
