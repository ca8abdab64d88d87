#include "arena.h"

#include <stdalign.h>
#include <stdint.h>
#include <string.h>

enum { BLOCK_MIN = 1024, BLOCK_MAX = 1 << 20 };

struct block {
    struct block *next;
    size_t used, size;
    alignas(max_align_t) char bytes[];
};

struct arena {
    struct block *top;
    size_t size; /* of all blocks */
    bool full;
};

struct arena *arena_new(void)
{
    return calloc(1, sizeof(struct arena));
}

void *arena_take(struct arena *a, size_t n)
{
    struct block *b = a->top;
    void *p;

    if (n > SIZE_MAX / 2)
        return NULL;
    n = (n + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (!b || b->size - b->used < n) {
        size_t size = b ? b->size * 2 : BLOCK_MIN;

        if (size > BLOCK_MAX)
            size = BLOCK_MAX;
        if (size < n)
            size = n;
        a->full |= size > ARENA_MAX - a->size;
        if (a->full || !(b = calloc(1, sizeof *b + size)))
            return NULL;
        a->size += size;
        b->size = size;
        b->next = a->top;
        a->top = b;
    }
    p = b->bytes + b->used;
    b->used += n;
    return p;
}

bool arena_is_full(const struct arena *a)
{
    return a->full;
}

char *arena_copy(struct arena *a, const char *s, size_t n)
{
    char *p = arena_take(a, n + 1);

    if (p && n)
        memcpy(p, s, n);
    return p;
}

void arena_free(struct arena *a)
{
    if (!a)
        return;
    for (struct block *b = a->top, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}
