/* <vmsd/plan.h>: desired against actual, and what the difference costs. Floor 1, pure. Any thread. */
#ifndef VMSD_PLAN_H
#define VMSD_PLAN_H

#include <vmsd/spec.h>

/* From the gentlest to the hardest; a guest's class is the hardest of its fields'. */
#define PLAN_CLASSES(X) \
    X(NONE, "none") X(LIVE, "live") X(SCRIPTS, "scripts") X(RESTART, "restart") X(REBUILD, "rebuild") \
    X(CREATE, "create") X(REMOVE, "remove")
#define X(id, name) PLAN_##id,
enum plan_class { PLAN_CLASSES(X) PLAN_COUNT };
#undef X
const char *plan_class_name(enum plan_class c);

struct plan_field { char *field; char *from, *to; enum plan_class class; }; /* from, to: compact JSON or NULL (absent) */
struct plan_change {
    char *guest;                   /* or "network NAME", or "the host" */
    bool network;                  /* of no guest */
    enum plan_class class;
    bool downtime, destroys_data;  /* destroys_data: the writable root is thrown away (volumes stay) */
    char *error;                   /* this change is impossible (a disk that shrinks, say): one line; or NULL */
    struct plan_field *fields; size_t n_fields;
    size_t first_script;           /* index of the first script that will run; n_install: none */
    struct strv scripts;           /* paths of all install scripts; those from first_script on will run */
};

/* What actually is, as far as the plan needs it: NULL applied: no such guest yet. */
struct plan_actual {
    const char *name;
    const char *applied;           /* canonical text of the spec it was last brought to, or NULL */
    size_t scripts_done;           /* install scripts of `applied` that succeeded on this root, in order */
    bool network;
    bool resizes;                  /* what runs it changes cpus and memory of a microVM while it runs: live, not restart */
};

/* One guest. want NULL: it left the directory (class REMOVE). *out is yours; class NONE means: nothing to do. */
int plan_guest(const struct plan_actual *have, const struct guest_spec *want, struct plan_change **out,
               struct vm_err *e);
int plan_network(const struct plan_actual *have, const struct network_spec *want, struct plan_change **out,
                 struct vm_err *e);
int plan_host(const char *applied, const struct host_spec *want, struct plan_change **out, struct vm_err *e);
void plan_change_free(struct plan_change *c);
OWN_DEFINE(plan_change, struct plan_change *, plan_change_free)
json_t *plan_change_json(const struct plan_change *c); /* {guest, class, fields, downtime, destroys_data, error, scripts} */

/* Selection by names, globs ("db*") and "tag:NAME"; an empty list selects all. */
bool select_match(const struct strv *patterns, const char *name, const struct spec_list *tags);

/* Orders n guests so that each comes after those it depends on, and otherwise as they stand: order[] gets indices.
 * Cycles are spec errors. -1: no memory. */
int plan_order(struct guest_spec *const *guests, size_t n, size_t *order);

#endif
