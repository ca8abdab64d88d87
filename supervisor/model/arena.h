/* arena.h: memory that is given back all at once. Private to supervisor/model. */
#ifndef VMSD_MODEL_ARENA_H
#define VMSD_MODEL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <vmsd/own.h>

/* Ten thousand guests, with defaults, take less than half of it. */
enum { ARENA_MAX = 512 << 20 };

struct arena;
struct arena *arena_new(void);                         /* NULL: no memory */
void *arena_take(struct arena *a, size_t n);           /* zeroed and aligned; NULL: no memory, or full */
bool arena_is_full(const struct arena *a);             /* more than ARENA_MAX was wanted */
char *arena_copy(struct arena *a, const char *s, size_t n); /* with a NUL behind; NULL: no memory */
void arena_free(struct arena *a);
OWN_DEFINE(arena, struct arena *, arena_free)

#endif
