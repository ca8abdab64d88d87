/* <vmsd/text.h>: text that grows, vectors of strings, words with a meaning. Floor 0. Any thread. */
#ifndef VMSD_TEXT_H
#define VMSD_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

/* A text that grows. Start with { 0 }. A failed allocation sets failed, later calls do nothing: check once at the end. */
struct text {
    char *s; /* NUL-terminated, or NULL while empty */
    size_t len, cap;
    bool failed;
};
void text_add(struct text *t, const char *s);
void text_add_bytes(struct text *t, const void *p, size_t n);
VM_PRINTF(2) void text_addf(struct text *t, const char *fmt, ...);
char *text_take(struct text *t); /* yours, never NULL unless failed; t is empty again */
void text_done(struct text t);
OWN_DEFINE(text, struct text, text_done)

/* NULL-terminated vector of strings, as exec wants it. Start with { 0 }; failed as above. */
struct strv {
    char **v; /* NULL while empty */
    size_t n, cap;
    bool failed;
};
void strv_add(struct strv *v, const char *s); /* copies */
VM_PRINTF(2) void strv_addf(struct strv *v, const char *fmt, ...);
bool strv_has(const struct strv *v, const char *s);
void strv_done(struct strv v);
OWN_DEFINE(strv, struct strv, strv_done)

/* What stands behind the next line break; NULL: there is none. */
const char *text_next_line(const char *s);

/* printf into memory that is yours; NULL: no memory. */
VM_PRINTF(1) char *text_format(const char *fmt, ...);

/* Words with a meaning. All return false and touch nothing when the word is not one. */
bool text_to_u64(const char *s, uint64_t *out);          /* decimal digits only */
bool text_to_size(const char *s, uint64_t *bytes);       /* 512M, 2G, 4096: binary units K M G T */
bool text_to_duration(const char *s, int64_t *ms);       /* 250ms, 5s, 10m, 1h, 7d */
bool text_is_label(const char *s, size_t max);           /* DNS label: a-z 0-9 -, not at the ends, 1..max bytes */
bool text_is_domain(const char *s);                      /* labels joined by dots, 1..253 bytes */
bool text_is_clean(const char *s, size_t n);             /* valid UTF-8 without C0, C1, DEL and bidi controls */
size_t text_clean_part(const char *s, size_t n);         /* bytes before the first that is not */

/* Appends s with everything a terminal might act upon (C0 but for the given exceptions, C1, DEL, bidi, bad UTF-8)
 * as \xNN. keep: characters that pass as they are, "\n\t" say; may be NULL. */
void text_add_visible(struct text *t, const char *s, size_t n, const char *keep);

/* The candidate nearest to word by edit distance, or NULL when none is near enough to be a typing error. */
const char *text_nearest(const char *word, const char *const *candidates, size_t n);

enum { TEXT_HUMAN = 16 };
const char *text_human_size(uint64_t bytes, char out[static TEXT_HUMAN]);     /* "1.5G" */
const char *text_human_duration(int64_t ms, char out[static TEXT_HUMAN]);     /* "3d4h", "12s" */

#endif
