/* How the install scripts of a guest last ended. Loop thread only. Private to supervisor/. */
#ifndef SCRIPTS_H
#define SCRIPTS_H

#include "world.h"

struct script_result {
    char *script;                /* NULL: it has not run */
    int64_t started_at, duration_ms; /* wall */
    int exit_code;               /* 128 and the signal that ended it; -1: it did not end by itself */
    bool ok;
};
/* Best effort: without memory it is forgotten. */
void scripts_put(struct guest *g, const struct store_script *r);
void scripts_drop(struct guest *g);

#endif
