/* "http_target.h": what a request line names, taken apart. Pure. Private to plumb. Any thread. */
#ifndef PLUMB_HTTP_TARGET_H
#define PLUMB_HTTP_TARGET_H

#include <stdbool.h>
#include <stddef.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

enum {
    HTTP_TARGET_MAX = 8192,
    HTTP_SEGMENTS_MAX = 16,
    HTTP_QUERY_MAX = 64,
};

struct http_target {
    char *text; /* holds all that the others point to, decoded in place */
    const char *segment[HTTP_SEGMENTS_MAX];
    size_t n_segments;
    struct {
        const char *key, *value;
    } query[HTTP_QUERY_MAX];
    size_t n_query;
};

/* Only the canonical spelling of a path is taken: no empty, "." or ".." segment, nothing encoded that needs no
 * encoding; each segment is decoded once, then A-Z a-z 0-9 and -._~:@+,= are allowed. Query values are decoded as forms
 * are ("+" is a blank), and must be UTF-8 without control characters. */
int target_parse(const char *raw, struct http_target *out, struct vm_err *e);
void target_done(struct http_target t);

/* Patterns look like "/v1/guests/{name}/exec". */
bool target_matches(const struct http_target *t, const char *pattern);
const char *target_arg(const struct http_target *t, const char *pattern, const char *name); /* or NULL */
const char *target_query(const struct http_target *t, const char *key, size_t nth);         /* or NULL */

#endif
