/* read.h: from nodes to canonical JSON and on to the structs. Private to supervisor/model. */
#ifndef VMSD_MODEL_READ_H
#define VMSD_MODEL_READ_H

#include "fields.h"
#include "trail.h"

struct reader {
    struct issues *issues;
    const char *base;        /* the bundle's */
    unsigned kind;           /* of the document */
    const struct doc *own;   /* what stands in another document was complained about there */
    struct trail at;
    bool loud, no_memory;
};

/* One document, or a map of it, as canonical JSON with what could be read; NULL: nothing could, or no memory. */
json_t *read_table(struct reader *r, const struct table *t, const struct node *at);
/* higher over lower, by the table's F_MERGE; of lower only what is a field of that kind. NULL: no memory. */
struct node *read_merge(struct arena *a, const struct table *t, unsigned kind, const struct node *lower,
                        const struct node *higher);

/* Takes out of canonical JSON what is equal to the defaults. false: no memory. */
bool view_prune(const struct table *t, unsigned kind, json_t *v);
/* The struct that canonical JSON stands for; json is taken. With lenient, what is missing stays NULL. */
int view_guest(json_t *json, bool lenient, struct guest_spec **out, struct vm_err *e);
int view_network(json_t *json, bool lenient, struct network_spec **out, struct vm_err *e);
int view_host(json_t *json, bool lenient, struct host_spec **out, struct vm_err *e);

/* One document that became a guest or a network. */
struct entry {
    struct guest_spec *guest;      /* one of both */
    struct network_spec *network;
    const struct node *root;       /* with the defaults merged in */
};
struct entries {
    struct entry *v;
    size_t n;
};

/* Sums of the bundle's files, each made once. */
struct sums;
struct sums *sums_new(const struct bundle *b);
void sums_free(struct sums *s);
OWN_DEFINE(sums, struct sums *, sums_free)
/* Checks what a guest names in the bundle and adds the digests to its JSON. false: no memory. */
bool derive_guest(struct sums *s, json_t *guest, const struct node *root, struct issues *is);

/* What no document alone can say. Both are sorted by name. false: no memory. */
bool cross_check(struct entries guests, struct entries networks, const struct spec_host *host, struct issues *is);
bool cross_check_net(struct entries guests, struct entries networks, struct issues *is);
const struct entry *entry_find(struct entries list, const char *name); /* the first of that name, or NULL */
const char *entry_name(const struct entry *one);

/* One use of something that only one may have. */
struct claim {
    const char *what;            /* the thing */
    const struct entry *by;
    char path[64];               /* where: "network[0].address" */
};
struct claims {
    struct claim *v;
    size_t n, cap;
    bool failed;
};
VM_PRINTF(4) void claim_add(struct claims *c, const char *what, const struct entry *by, const char *path, ...);
/* Complains about each thing that is claimed twice, at the later claim: "the address … is given twice". Empties c. */
void claims_check(struct claims *c, const char *noun, struct issues *is);

/* Complains at the node of that path: "PATH: what". */
VM_PRINTF(4) void entry_bad(struct issues *is, const struct entry *at, const char *path, const char *fmt, ...);

#endif
