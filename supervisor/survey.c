/* What the drivers said of themselves when they were last asked: for /v1/host, and for what is to be known of a guest. */
#include "world.h"

#include <stdlib.h>
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

/* What keeps a hypervisor, libvirtd for one, may take its time to answer, at the start of the host above all. */
struct asked {
    struct world *w;
    const struct vm_driver *driver;
    struct drv_report report;
};

static void ask(void *arg)
{
    struct asked *a = arg;

    a->driver->probe(&a->report);
}

static void answered(void *arg, bool cancelled)
{
    struct asked *a = arg;

    if (!cancelled)
        survey_put(a->w, a->driver, &a->report);
    free(a);
}

static void ask_later(struct world *w, const struct vm_driver *d)
{
    static const struct drv_report not_yet = {.why = "it was not asked yet"};
    struct asked *a = calloc(1, sizeof *a);

    survey_put(w, d, &not_yet);
    if (!a)
        return;
    *a = (struct asked){.w = w, .driver = d};
    if (loop_work(w->loop, (struct loop_job){ask, answered, a}, NULL) < 0)
        answered(a, true);
}

void survey_open(struct world *w)
{
    w->drivers = json_array();
    for (const struct vm_driver *const *d = drivers(); *d; d++) {
        struct drv_report r = {0};

        if ((*d)->kind == KIND_MICROVM) {
            ask_later(w, *d);
            continue;
        }
        (*d)->probe(&r);
        survey_put(w, *d, &r);
    }
}
