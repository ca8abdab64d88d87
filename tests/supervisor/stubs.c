/* What the head offers to its parts, as little as they need. */
#include "stubs.h"

#include <check.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

struct heard heard;

/* Weak: who tests guest.c has the real one. */
__attribute__((weak)) bool guest_is_up(const struct guest *g)
{
    return g->state == ST_RUNNING;
}

void guest_set_text(char **slot, const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    free(*slot);
    *slot = copy;
}

char *guest_run_dir(const struct guest *g)
{
    return text_format("/nowhere/%u", g->id);
}

void guest_dirty(struct guest *g)
{
    (void)g;
    heard.dirty++;
}

struct guest *world_guest_by_id(struct world *w, uint32_t id)
{
    for (size_t i = 0; i < w->n_guests; i++)
        if (w->guests[i]->id == id)
            return w->guests[i];
    return NULL;
}

void events_add(struct world *w, const char *guest, const char *type, json_t *body, const char *fmt, ...)
{
    va_list ap;

    (void)w, (void)guest, (void)type;
    va_start(ap, fmt);
    vsnprintf(heard.event, sizeof heard.event, fmt, ap);
    va_end(ap);
    json_decref(body);
    heard.events++;
}
