/* human.h: the API's values as people read them. Pure; null and what is missing show as "-". */
#ifndef VMCTL_HUMAN_H
#define VMCTL_HUMAN_H

#include <jansson.h>
#include <stdint.h>
#include <vmsd/text.h>

enum { HUMAN_MAX = 48 };

/* Each writes into out and returns it. v is borrowed and may be NULL. */
const char *human_size(const json_t *v, char out[static HUMAN_MAX]);
const char *human_percent(const json_t *v, char out[static HUMAN_MAX]);
const char *human_seconds(const json_t *v, char out[static HUMAN_MAX]);            /* a number of seconds */
const char *human_ago(const json_t *v, int64_t now, char out[static HUMAN_MAX]);   /* RFC 3339; now: wall_ms() */
const char *human_int(const json_t *v, char out[static HUMAN_MAX]);
/* Milliseconds since 1970, or -1 when it is no RFC 3339 time in UTC. */
int64_t human_time(const char *rfc3339);

/* The strings of a list with ", " between them; other values as compact JSON. Yours, "" when empty, NULL: no memory. */
char *human_list(const json_t *list);
/* Any value on one line: strings as they are, all others as compact JSON. Yours. */
char *human_value(const json_t *v);
/* "1 guest", "2 guests" */
const char *human_count(size_t n, const char *what, char out[static HUMAN_MAX]);

#endif
