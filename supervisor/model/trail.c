#include "trail.h"

#include <stdarg.h>
#include <stdio.h>

size_t trail_push(struct trail *t, const char *fmt, ...)
{
    size_t was = t->n, room = sizeof t->text - was;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(t->text + was, room, fmt, ap);
    va_end(ap);
    t->n = n < 0 ? was : (size_t)n < room ? was + (size_t)n : sizeof t->text - 1;
    return was;
}

size_t trail_push_key(struct trail *t, const char *key)
{
    return trail_push(t, "%s%s", t->n ? "." : "", key);
}

void trail_pop(struct trail *t, size_t was)
{
    t->n = was;
    t->text[was] = '\0';
}
