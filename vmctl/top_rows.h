/* top_rows.h: what 'vmctl top' shows: the guests' numbers, their rates since the last look, sorted and filtered. Pure. */
#ifndef VMCTL_TOP_ROWS_H
#define VMCTL_TOP_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <vmsd/text.h>

/* key, title, JSON's place or how it comes about is in top_rows.c */
#define TOP_SORTS(X) X(NAME, 'N', "name") X(CPU, 'c', "cpu") X(MEMORY, 'm', "memory") X(DISK, 'd', "disk") X(NET, 'n', "net") \
    X(PRESSURE, 'p', "pressure") X(HEALTH, 'h', "health") X(AGE, 'a', "age") X(HOST, 'H', "host")
#define X(id, key, word) TOP_##id,
enum top_sort { TOP_SORTS(X) TOP_SORT_COUNT };
#undef X

struct top {
    json_t *guests, *before; /* of the API: as last seen, and net counters by label from before that */
    size_t hosts, here;      /* of several: how many there are, and how many answered; else 0 */
    int64_t at, before_at;   /* milliseconds, any clock that only goes forward */
    enum top_sort sort;
    bool reverse;
    char filter[64];         /* part of a name, a state, a host or a tag; "": all */
    struct strv names;       /* labels of the rows that are shown, in their order */
};

/* Takes what the API told at that time. -1: no memory, or it is no list of guests. */
int top_update(struct top *t, const json_t *doc, int64_t at);
/* The guest of such a label, borrowed; or NULL. */
const json_t *top_guest(const struct top *t, const char *label);
/* A key that sorts: the first time the largest first (names: the first), again the other way round. false: no such key. */
bool top_key(struct top *t, int key);
/* Appends one line over all guests, then a title and a row for each guest that is shown, none wider than width; t->names
 * then has their names. now: wall time. */
int top_render(struct top *t, size_t width, int64_t now, struct text *out);
void top_done(struct top *t);

#endif
