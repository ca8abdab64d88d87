/* A guest as the API shows it. Lists of a thousand are read often and change seldom: the text is kept. */
#include "world.h"

#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

static json_t *strings(const struct spec_list *l)
{
    json_t *a = json_array();

    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(a, json_string(l->v[i]));
    return a;
}

static void put_time(json_t *o, const char *key, int64_t wall)
{
    char text[CLOCK_TEXT];

    json_put_str(o, key, wall ? wall_text(wall, text) : NULL);
}

static json_t *addresses(const struct guest *g)
{
    json_t *a = json_array();

    for (size_t i = 0; i < g->n_nics; i++) {
        if (*g->nics[i].address)
            json_array_append_new(a, json_string(g->nics[i].address));
        if (*g->nics[i].address6)
            json_array_append_new(a, json_string(g->nics[i].address6));
    }
    return a;
}

static json_t *binds(const struct guest_spec *s)
{
    json_t *a = json_array();

    for (size_t i = 0; i < s->n_binds; i++)
        json_array_append_new(a, json_pack("{ss ss sb}", "source", s->binds[i].source, "target", s->binds[i].target,
                                           "read_only", (int)s->binds[i].read_only));
    return a;
}

static json_t *volumes(const struct guest_spec *s)
{
    json_t *a = json_array();

    for (size_t i = 0; i < s->n_volumes; i++)
        json_array_append_new(a, json_pack("{ss ss sI}", "name", s->volumes[i].name, "target", s->volumes[i].target,
                                           "size", (json_int_t)s->volumes[i].size));
    return a;
}

static json_t *image(const struct spec_image *i)
{
    static const char *const kinds[] = {
        [IMAGE_RECIPE] = "", [IMAGE_DIRECTORY] = "directory:", [IMAGE_TAR] = "tar:", [IMAGE_DISK] = "disk:"};

    return json_sprintf("%s%s", kinds[i->kind], i->name);
}

json_t *guest_json(struct guest *g)
{
    json_t *o = json_object();
    bool up = guest_is_up(g);

    json_put_str(o, "name", g->name);
    json_put_str(o, "kind", g->spec->kind == KIND_CONTAINER ? "container" : "microvm");
    json_put_str(o, "driver", g->driver ? g->driver->name : NULL);
    json_put_str(o, "warning", survey_warning(g->w, g->driver));
    json_put(o, "tags", strings(&g->spec->tags));
    json_put(o, "image", image(&g->spec->image));
    json_put_str(o, "wish", g->up ? "up" : "down");
    json_put_str(o, "state", life_state_name(g->state));
    json_put(o, "provisioned", json_boolean(g->provisioned_at != 0));
    json_put_str(o, "health", health_name(health_of(g)));
    json_put(o, "addresses", addresses(g));
    json_put(o, "domains", strings(&g->spec->domains));
    json_put(o, "binds", binds(g->spec));
    json_put(o, "volumes", volumes(g->spec));
    json_put(o, "pid", up ? json_integer(g->proc.leader) : NULL);
    json_put_str(o, "boot_id", up ? g->boot_id : NULL);
    json_put_int(o, "restarts", g->restarts);
    put_time(o, "started_at", up ? g->started_at : 0);
    put_time(o, "applied_at", g->applied_at);
    put_time(o, "provisioned_at", g->provisioned_at);
    json_put(o, "drilled_at", NULL);
    json_put_int(o, "generation", g->generation);
    json_put_str(o, "error", g->error);
    json_put(o, "usage", usage_json(g));
    return o;
}

const char *guest_show(struct guest *g)
{
    if (!g->shown) {
        OWN(json) json_t *o = guest_json(g);

        g->shown = json_to_text(o);
    }
    return g->shown ? g->shown : "null";
}
