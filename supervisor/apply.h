/* Plan and apply: from a bundle to jobs. Private to supervisor/. */
#ifndef APPLY_H
#define APPLY_H

#include "report.h"

enum apply_verb { APPLY_VALIDATE, APPLY_PLAN, APPLY_APPLY };

struct applying {
    struct world *w;
    enum apply_verb verb;
    struct http_request *request; /* NULL: answered, or the client went away */
    struct applying *next;        /* in the lane: one plans and commits at a time */
    bool prune;
    struct strv select, purge;
    char *base;
    struct store_actor by;
    char *commit;                 /* of git, that the specs are of, as the client or the tar says; or NULL */
    char *tar; size_t n_tar;

    struct bundle *bundle;
    struct spec_set *set;
    char **texts;                 /* canonical, one for each guest of the set */
    struct planned *planned; size_t n_planned;
    struct strv networks, gone_networks; /* texts to store; names that nobody uses any more */
    char *host; bool host_gone;   /* text to store, or NULL; there is none any more */
    struct strv orphans;
    struct strv bundles;          /* that guests use until the world has followed the commit */
    struct strv hypervisors;      /* that this host was asked for, each with why it cannot be had, or "" */
    int rc;
    struct vm_err err;
};

/* One guest of the plan. */
struct planned {
    struct plan_change *change;
    char *name, *text;            /* text NULL: it goes */
    uint32_t id, slot;            /* of a new guest: found by the commit */
    struct net_nic *nics; size_t n_nics;
    char *purge;                  /* volumes, a line each; or NULL */
    bool start;                   /* nothing changes, but it should run and does not */
    bool afresh;                  /* a secret changed: every script runs again */
    bool new_root;                /* the one that is there is of no use */
    bool unwished, dormant;       /* nobody has wished it up or down: new, or back from its removal; it stays down until somebody does */
};

void apply_serve(struct http_request *r, struct world *w, enum apply_verb verb);

/* plan.c */
/* Why the hypervisor of this microVM cannot be had, "" if it can; NULL: nobody has asked. */
const char *apply_lacks(const struct applying *a, const struct guest_spec *g);
int apply_plan(struct applying *a);    /* loop: fills planned, networks, orphans */
/* commit.c */
void apply_commit(struct applying *a); /* worker: all of it in one transaction, before anything is done */
void apply_adopt(struct applying *a, struct report *x); /* loop: the world follows, jobs are submitted */

#endif
