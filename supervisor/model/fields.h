/* fields.h: the one table that knows the spec. Private to supervisor/model.
 *
 * From its rows grow the reader, the range checks, the defaults, the view that code reads, the classes of the plan, the
 * JSON Schema and the reference. */
#ifndef VMSD_MODEL_FIELDS_H
#define VMSD_MODEL_FIELDS_H

#include "node.h"
#include <vmsd/json.h>
#include <vmsd/plan.h>

/* Which documents may carry a field. */
enum kinds {
    K_CONTAINER = 1, K_MICROVM = 2, K_NETWORK = 4, K_DEFAULTS = 8, K_HOST = 16,
    K_GUEST = K_CONTAINER | K_MICROVM,
};
#define DOC_KINDS(X) X(CONTAINER, "container") X(MICROVM, "microvm") X(NETWORK, "network") X(DEFAULTS, "defaults") \
    X(HOST, "host")
extern const char *const kind_names[]; /* NULL-terminated, in the order of enum kinds */
const char *kind_name(enum kinds one);

struct field;
struct word_cx {
    const char *base;  /* what relative host paths refer to, or NULL */
    char why[200];     /* "is not a size": what is wrong with a word */
    char hint[160];    /* what to do, or "" */
};

/* A scalar with a meaning. */
struct word {
    const char *name;     /* in the reference: "size" */
    const char *expected; /* in complaints: "a size such as 512M" */
    const char *pattern;  /* for the schema, an ECMA regular expression; or NULL */
    unsigned accepts;     /* of enum scalar */
    /* From text to canonical JSON; NULL with cx->why when it is none, or without it when there is no memory. */
    json_t *(*parse)(const struct field *f, const char *text, struct word_cx *cx);
    /* From canonical JSON into the struct; false: it is not what parse gives. NULL for strings, which are borrowed. */
    bool (*view)(const struct field *f, const json_t *v, void *at, struct arena *arena);
};

enum shape { ONE, LIST, ENV };

enum field_flag {
    F_NEED = 1,      /* must be given */
    F_ONE_OF = 2,    /* exactly one of its table's fields with this flag */
    F_MERGE = 4,     /* a map that is merged with that of the defaults, key by key */
    F_DERIVED = 8,   /* computed, not written by users */
    F_WHOLE = 16,    /* no fractions */
    F_GROWS = 32,    /* a change to less is refused by the plan */
    F_FIXED = 64,    /* a change is refused by the plan */
    F_SPARSE = 128,  /* may stay NULL in the struct */
    F_SOME = 256,    /* a list that is not empty */
    F_RESIZES = 512, /* of a microVM: live, where what runs it can do that */
};

struct field {
    const char *key;
    enum shape shape;
    const struct word *word;        /* a scalar, or each item; or: */
    const struct table *sub;        /* a map of its own, or each item */
    unsigned flags;
    unsigned kinds;                 /* 0: all that have the table */
    double min, max;                /* of numbers, sizes (bytes), durations (ms), lengths of strings; 0,0: any */
    size_t items;                   /* at most in a list; 0: ITEMS_MAX */
    const char *const *choices;     /* NULL-terminated */
    const char *otherwise;          /* default, as one would write it */
    const char *computed;           /* default that follows from other fields, in words */
    enum plan_class change, change_vm; /* 0: as the field that holds it; change_vm: of a microVM, if it differs */
    size_t at, n_at, size;          /* member of the struct, its count, its size; NO_MEMBER */
    const char *doc, *example;
};

struct table {
    const char *title;              /* "volume" */
    const struct field *rows;
    size_t n;
    const char *bare;               /* key that a scalar stands for, where a map is expected */
    const char *id;                 /* key by which the plan knows an item again; NULL: its place */
    size_t size, kind_at;           /* of the struct; where it keeps which F_ONE_OF was given; NO_MEMBER */
    /* What no row alone can say: NULL, or the complaint. */
    const char *(*check)(const json_t *v);
};

enum { ITEMS_MAX = 256, KEYS_MAX = 256 };
#define NO_MEMBER SIZE_MAX

extern const struct table guest_table, network_table, host_table;
const struct table *table_of(enum kinds one);

/* "" and everything else that a row may leave out. */
static inline bool field_has(const struct field *f, unsigned kind)
{
    return !f->kinds || (f->kinds & kind);
}
const struct field *table_find(const struct table *t, const char *key, unsigned kind);
/* The default as canonical JSON, yours; NULL when there is none (or no memory, with *failed set). */
json_t *field_default(const struct field *f, bool *failed);
bool env_key(const char *s);

/* words.c, word_net.c, word_path.c */
extern const struct word word_bool, word_true, word_count, word_number, word_size, word_duration, word_backoff,
    word_give_up, word_choice, word_label, word_tag, word_peer, word_file_name, word_text, word_arg, word_env_name,
    word_user, word_owner, word_mode, word_capability, word_sha256, word_numbers;
extern const char *const capability_names[]; /* NULL-terminated */
extern const struct word word_domain, word_port, word_ports, word_host_port, word_address, word_address4,
    word_address6, word_cidr4, word_cidr6, word_mac, word_interface, word_url_path, word_url_host;
extern const struct word word_host_path, word_guest_path, word_bundle_path;
extern const struct word word_percent, word_url, word_mail; /* word_host.c */

/* For parse functions: fills cx->why (and hint) and returns NULL. */
VM_PRINTF(2) json_t *word_wrong(struct word_cx *cx, const char *fmt, ...);
enum { WORD_BOUND = 32 };
/* A bound of a field in the unit in which one would write it: "16M". */
const char *word_bound(const struct field *f, double v, char out[static WORD_BOUND]);
json_t *word_range(const struct field *f, const char *text, double v, struct word_cx *cx); /* the number, if it fits */

#endif
