/* The checks of a guest, one by one, for who shows them. Loop thread only. Private to supervisor/. */
#ifndef HEALTH_H
#define HEALTH_H

#include "numbers.h"
#include "world.h"

/* Borrowed until the loop turns. */
struct health_view {
    const char *name;            /* unique among those of its guest; safe to show */
    bool ok;
    int64_t last_at, duration_ms; /* of the last result; last_at is wall, 0: none yet */
    const struct numbers *numbers; /* or NULL */
};
bool health_look(const struct guest *g, size_t i, struct health_view *out); /* false: it has no i-th */

#endif
