#include "scripts.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

/* From the middle of the range that systemd's documents set aside for containers. */
enum { UID_FIRST = 0x30000000, UID_RANGE = 65536 };

int world_open(const struct options *o, struct loop *l, struct world **out, struct vm_err *e)
{
    struct world *w = calloc(1, sizeof *w);

    if (!w)
        return vm_no_memory(e);
    w->options = o;
    w->loop = l;
    w->started_at = wall_ms();
    *out = w;
    return 0;
}

void world_close(struct world *w)
{
    while (w->n_guests)
        world_drop_guest(w->guests[w->n_guests - 1]);
    while (w->n_networks)
        network_spec_free(w->networks[--w->n_networks]);
    free(w->guests);
    free(w->networks);
    image_store_close(w->images);
    store_close(w->store);
    json_decref(w->drivers);
    free(w->access);
    free(w->upstream);
    host_spec_free(w->host_spec);
    free(w->host_text);
    free(w);
}

/* Index of the first guest whose name is not below `name`. */
static size_t guest_at(const struct world *w, const char *name)
{
    size_t lo = 0, hi = w->n_guests;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (strcmp(w->guests[mid]->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

struct guest *world_guest(struct world *w, const char *name)
{
    size_t at = guest_at(w, name);

    return at < w->n_guests && !strcmp(w->guests[at]->name, name) ? w->guests[at] : NULL;
}

struct guest *world_guest_by_id(struct world *w, uint32_t id)
{
    for (size_t i = 0; i < w->n_guests; i++)
        if (w->guests[i]->id == id)
            return w->guests[i];
    return NULL;
}

const struct network_spec *world_network(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->n_networks; i++)
        if (!strcmp(w->networks[i]->name, name))
            return w->networks[i];
    return NULL;
}

static int guest_new(struct world *w, const char *name, uint32_t id, uint32_t slot, struct guest **out, struct vm_err *e)
{
    size_t at = guest_at(w, name);
    struct guest **grown = realloc(w->guests, (w->n_guests + 1) * sizeof *grown);
    struct guest *g = calloc(1, sizeof *g);

    if (grown)
        w->guests = grown;
    if (!grown || !g || !(g->name = strdup(name))) {
        free(g);
        return vm_no_memory(e);
    }
    g->w = w;
    g->id = id;
    g->slot = slot;
    g->up = true;
    g->keeper_fd = -1;
    memmove(w->guests + at + 1, w->guests + at, (w->n_guests - at) * sizeof *w->guests);
    w->guests[at] = g;
    w->n_guests++;
    *out = g;
    return 0;
}

int world_put_guest(struct world *w, uint32_t id, uint32_t slot, const char *text, const char *bundle, struct guest **out,
                    struct vm_err *e)
{
    OWN(guest_spec) struct guest_spec *spec = NULL;
    OWN(str) char *own_text = strdup(text), *own_bundle = strdup(bundle);
    struct guest *g;

    if (!own_text || !own_bundle)
        return vm_no_memory(e);
    if (slot >= SLOTS_MAX)
        return vm_fail(e, VM_E_CONFLICT, "more than %d guests", SLOTS_MAX);
    if (guest_spec_load(text, &spec, e) < 0)
        return -1;
    guest_spec_slim(spec);
    g = world_guest(w, spec->name);
    if (!g && guest_new(w, spec->name, id, slot, &g, e) < 0)
        return -1;
    guest_spec_free(g->spec);
    free(g->text);
    free(g->bundle);
    g->spec = TAKE(spec);
    g->text = TAKE(own_text);
    g->bundle = TAKE(own_bundle);
    g->removing = false;
    guest_dirty(g);
    if (out)
        *out = g;
    return 0;
}

int world_put_network(struct world *w, const char *text, struct vm_err *e)
{
    struct network_spec *spec = NULL, **grown;

    if (network_spec_load(text, &spec, e) < 0)
        return -1;
    for (size_t i = 0; i < w->n_networks; i++) {
        if (!strcmp(w->networks[i]->name, spec->name)) {
            network_spec_free(w->networks[i]);
            w->networks[i] = spec;
            return 0;
        }
    }
    grown = realloc(w->networks, (w->n_networks + 1) * sizeof *grown);
    if (!grown) {
        network_spec_free(spec);
        return vm_no_memory(e);
    }
    w->networks = grown;
    w->networks[w->n_networks++] = spec;
    return 0;
}

int world_put_host(struct world *w, const char *text, struct vm_err *e)
{
    struct host_spec *spec = NULL;

    if (host_spec_load(text, &spec, e) < 0)
        return -1;
    host_spec_free(w->host_spec);
    w->host_spec = spec;
    guest_set_text(&w->host_text, text);
    return 0;
}

void world_drop_network(struct world *w, const char *name)
{
    for (size_t i = 0; i < w->n_networks; i++) {
        if (!strcmp(w->networks[i]->name, name)) {
            network_spec_free(w->networks[i]);
            w->networks[i] = w->networks[--w->n_networks];
            return;
        }
    }
}

void world_drop_guest(struct guest *g)
{
    struct world *w = g->w;
    size_t at = guest_at(w, g->name);

    guest_unwatch_keeper(g);
    health_stop(g);
    agent_close(g->agent);
    usage_drop(g);
    scripts_drop(g);
    loop_timer_free(g->retry);
    loop_timer_free(g->cure);
    memmove(w->guests + at, w->guests + at + 1, (w->n_guests - at - 1) * sizeof *w->guests);
    w->n_guests--;
    guest_spec_free(g->spec);
    free(g->name);
    free(g->text);
    free(g->applied);
    free(g->bundle);
    free(g->image);
    free(g->script_digests);
    free(g->purge);
    free(g->error);
    free(g->nics);
    free(g->shown);
    free(g);
}

uint32_t slot_uid_base(uint32_t slot)
{
    return (uint32_t)UID_FIRST + slot * (uint32_t)UID_RANGE;
}

bool guest_changed(const struct guest *g)
{
    return !g->applied || strcmp(g->applied, g->text) != 0;
}

void guest_dirty(struct guest *g)
{
    free(g->shown);
    g->shown = NULL;
}

void guest_set_text(char **slot, const char *text)
{
    char *copy = text ? strdup(text) : NULL;

    if (text && !copy) {
        log_error(NULL, "no memory");
        abort();
    }
    free(*slot);
    *slot = copy;
}

char *guest_run_dir(const struct guest *g)
{
    return text_format("%s/guests/%u", g->w->options->run_dir, g->id);
}

char *guest_log_dir(const struct guest *g)
{
    return text_format("%s/guests/%u/log", g->w->options->state_dir, g->id);
}
