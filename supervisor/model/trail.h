/* trail.h: where in a spec one is, "network[0].address", on the way down and back. Private to supervisor/model.
 *
 *     size_t was = trail_push(&t, "[%zu]", i);
 *     …
 *     trail_pop(&t, was); */
#ifndef VMSD_MODEL_TRAIL_H
#define VMSD_MODEL_TRAIL_H

#include <stddef.h>
#include <vmsd/err.h>

struct trail { char text[256]; size_t n; }; /* what does not fit is left out */
VM_PRINTF(2) size_t trail_push(struct trail *t, const char *fmt, ...);
size_t trail_push_key(struct trail *t, const char *key); /* with a dot before it, but for the first */
void trail_pop(struct trail *t, size_t was);

#endif
