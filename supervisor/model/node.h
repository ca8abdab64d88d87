/* node.h: what a spec file says, as a tree in which everything knows where it stands. Private to supervisor/model. */
#ifndef VMSD_MODEL_NODE_H
#define VMSD_MODEL_NODE_H

#include "arena.h"
#include "issue.h"

enum {
    NODES_MAX = 32768,   /* values in one document, aliases counted as often as they are used */
    ANCHORS_MAX = 64,    /* in one document */
    BRACKETS_MAX = 1000, /* open ones, wherever they stand */
    STRING_MAX = 4096,   /* bytes of one string */
    DOCS_MAX = SPEC_GUESTS_MAX + 1000
};

struct doc {
    const char *file;
    struct node *root;
};

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };
struct node {
    const struct doc *doc;
    enum node_kind kind;
    bool plain;              /* a scalar without quotes, which may be a number, a bool or null */
    unsigned line, column;
    unsigned weight, height; /* values in it, and levels below it */
    size_t n;                /* bytes, items or pairs */
    union {
        const char *text;    /* NUL-terminated, no NUL within */
        struct node **items; /* n of a list; of a map n times key, value */
    };
};

struct docs {
    const char *expected; /* of a document; NULL: a spec */
    struct doc **v;
    size_t n, cap;
};

/* Reads every document of one YAML or JSON file. What is wrong goes to is; documents before it are kept.
 * -1: no memory. */
int yaml_read(const char *file, const char *data, size_t n, struct arena *a, struct docs *out, struct issues *is);

/* What a plain scalar is in YAML's core schema. */
enum scalar { SCALAR_NULL = 1, SCALAR_BOOL = 2, SCALAR_INT = 4, SCALAR_FLOAT = 8, SCALAR_STRING = 16 };
enum scalar node_scalar(const struct node *s);
const char *node_kind_name(const struct node *s);    /* "a list", "a number", … */
/* Value of a key, or NULL; *key (may be NULL) gets the key's own node. */
struct node *node_get(const struct node *map, const char *key, struct node **where);
/* The node at a path such as "health[1].every", or the deepest one on the way that exists: a list of one and a map of
 * one may have been written without their brackets. */
const struct node *node_at(const struct node *root, const char *path);
VM_PRINTF(3) void issue_at(struct issues *is, const struct node *at, const char *fmt, ...);

#endif
