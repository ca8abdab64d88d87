/* What the drivers said of themselves when they were last asked: for /v1/host, and for what is to be known of a guest. */
#include "world.h"

#include <string.h>

static json_t *report_json(const struct vm_driver *d, const struct drv_report *r)
{
    json_t *o = json_object();

    json_put_str(o, "name", d->name);
    json_put_str(o, "kind", d->kind == KIND_CONTAINER ? "container" : "microvm");
    json_put(o, "usable", json_boolean(r->usable));
    json_put_str(o, "why", r->usable ? NULL : r->why);
    json_put_str(o, "version", r->version[0] ? r->version : NULL);
    json_put_str(o, "warning", r->usable && r->warning[0] ? r->warning : NULL);
    return o;
}

void survey_open(struct world *w)
{
    w->drivers = json_array();
    for (const struct vm_driver *const *d = drivers(); *d; d++) {
        struct drv_report r = {0};

        (*d)->probe(&r);
        json_array_append_new(w->drivers, report_json(*d, &r));
    }
}

static size_t place_of(const struct world *w, const struct vm_driver *d)
{
    json_t *o;
    size_t i;

    json_array_foreach (w->drivers, i, o)
        if (!strcmp(json_str(o, "name", ""), d->name))
            break;
    return i;
}

void survey_put(struct world *w, const struct vm_driver *d, const struct drv_report *r)
{
    size_t at = place_of(w, d);
    json_t *now = report_json(d, r);

    if (at < json_array_size(w->drivers) && json_equal(json_array_get(w->drivers, at), now)) {
        json_decref(now);
        return;
    }
    if (at < json_array_size(w->drivers))
        json_array_set_new(w->drivers, at, now);
    else
        json_array_append_new(w->drivers, now);
    for (size_t i = 0; i < w->n_guests; i++)
        if (w->guests[i]->driver == d)
            guest_dirty(w->guests[i]);
}

const char *survey_warning(const struct world *w, const struct vm_driver *d)
{
    return d ? json_str(json_array_get(w->drivers, place_of(w, d)), "warning", NULL) : NULL;
}
