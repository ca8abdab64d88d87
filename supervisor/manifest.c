#include "manifest.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

#define MANIFEST "manifest.json"
enum { MANIFEST_MAX = 8 << 20 };

static int open_dir(struct world *w, uint32_t id, struct vm_err *e)
{
    OWN(fd) int state = path_open_host(w->options->state_dir, O_RDONLY | O_DIRECTORY, e);
    char dir[40];

    snprintf(dir, sizeof dir, "guests/%u", id);
    return state < 0 ? -1 : path_mkdirs(state, dir, 0700, e);
}

static json_t *nic_json(const struct net_nic *n, const struct network_spec *network)
{
    json_t *o = json_object();

    json_put_str(o, "network", n->network);
    json_put_str(o, "address", n->address);
    json_put_str(o, "address6", n->address6);
    json_put_str(o, "mac", n->mac);
    json_put(o, "network_spec", network ? json_incref(network->json) : NULL);
    return o;
}

bool manifest_settled(const struct job *j)
{
    return j->provisioned_at && j->applied && !strcmp(j->applied, j->text) && !j->rebuilding &&
           j->scripts_done == j->spec->n_install;
}

/* A guest that is only started again has what it says already. */
static bool says(int dir, const char *text)
{
    OWN(str) char *old = NULL;
    size_t n;

    return path_read(dir, MANIFEST, MANIFEST_MAX, &old, &n, NULL) == 0 && !strcmp(old, text);
}

int manifest_write(const struct job *j, bool settled, struct vm_err *e)
{
    OWN(fd) int dir = open_dir(j->w, j->guest_id, e);
    OWN(json) json_t *o = json_object();
    OWN(str) char *text = NULL;
    json_t *nics = json_array(), *digests = json_array();

    for (size_t i = 0; i < j->n_nics; i++)
        if (j->nics[i].network)
            json_array_append_new(nics, nic_json(&j->nics[i], j->networks[i]));
    for (size_t i = 0; settled && i < j->spec->n_install; i++)
        json_array_append_new(digests, json_string(j->spec->install[i].digest));
    json_put_str(o, "name", j->name);
    json_put_int(o, "slot", j->slot);
    json_put_str(o, "spec", j->text);
    json_put_str(o, "bundle", j->bundle);
    json_put_str(o, "image", *j->image_ref.id ? j->image_ref.id : j->image);
    json_put(o, "up", json_boolean(j->up));
    json_put(o, "settled", json_boolean(settled));
    json_put_int(o, "provisioned_at", j->provisioned_at);
    json_put(o, "digests", digests);
    json_put(o, "nics", nics);
    if (dir < 0 || !(text = json_to_text(o)))
        return dir < 0 ? -1 : vm_no_memory(e);
    return says(dir, text) ? 0 : path_write(dir, MANIFEST, text, strlen(text), 0600, e);
}

struct lost {
    struct world *w;
    uint32_t id;
    json_t *manifest;
};

static int restore_nics(struct store *s, const struct lost *x, struct vm_err *e)
{
    const json_t *nics = json_object_get(x->manifest, "nics"), *n;
    size_t i;

    json_array_foreach (nics, i, n) {
        OWN(str) char *network = json_to_text(json_object_get(n, "network_spec"));
        struct store_nic row = {.guest = x->id, .index = (unsigned)i, .network = json_str(n, "network", ""),
                                .address = json_str(n, "address", ""), .address6 = json_str(n, "address6", ""),
                                .mac = json_str(n, "mac", "")};

        if (!network)
            return vm_no_memory(e);
        if (store_restore_network(s, row.network, network, e) < 0 || store_put_nic(s, &row, e) < 0)
            return -1;
    }
    return 0;
}

static int restore(struct store *s, void *arg, struct vm_err *e)
{
    const struct lost *x = arg;
    const json_t *m = x->manifest, *digests = json_object_get(m, "digests"), *d;
    OWN(text) struct text lines = {0};
    struct store_guest row = {
        .id = x->id,
        .slot = (uint32_t)json_int(m, "slot", 0),
        .name = json_str(m, "name", NULL),
        .spec = json_str(m, "spec", NULL),
        .bundle = json_str(m, "bundle", ""),
        .image = json_str(m, "image", NULL),
        .up = json_flag(m, "up", false),
        .scripts_done = (unsigned)json_array_size(digests),
        .applied_at = wall_ms(),
        .provisioned_at = json_int(m, "provisioned_at", 0),
    };
    size_t i;

    if (!row.name || !row.spec)
        return vm_fail(e, VM_E_INVALID, "no name or no spec");
    if (json_flag(m, "settled", false))
        row.applied = row.spec;
    json_array_foreach (digests, i, d)
        text_addf(&lines, "%s\n", json_string_value(d) ? json_string_value(d) : "");
    if (lines.failed)
        return vm_no_memory(e);
    row.script_digests = lines.s ? lines.s : "";
    return store_restore_guest(s, &row, e) < 0 ? -1 : restore_nics(s, x, e);
}

static int restore_one(struct world *w, uint32_t id, struct vm_err *e)
{
    OWN(fd) int dir = open_dir(w, id, e);
    OWN(str) char *text = NULL;
    OWN(json) json_t *manifest = NULL;
    size_t n;

    if (dir < 0 || path_read(dir, MANIFEST, MANIFEST_MAX, &text, &n, e) < 0 || !(manifest = json_from_text(text, n, e)))
        return -1;
    if (store_transaction(w->store, restore, &(struct lost){w, id, manifest}, e) < 0)
        return -1;
    log_warn(json_str(manifest, "name", NULL), "the store had lost it; it was put back from its manifest");
    return 0;
}

struct known {
    uint32_t *ids;
    size_t n;
};

static int forget_known(const struct store_guest *row, void *arg)
{
    struct known *k = arg;

    for (size_t i = 0; i < k->n; i++)
        if (k->ids[i] == row->id)
            k->ids[i--] = k->ids[--k->n];
    return 0;
}

void manifests_restore(struct world *w)
{
    struct known k = {0};
    struct vm_err e = {0};

    if (root_list(w->images, &k.ids, &k.n, &e) < 0 || store_guests(w->store, forget_known, &k, &e) < 0) {
        log_warn(NULL, "root disks: %s, continuing", e.text);
        k.n = 0;
    }
    for (size_t i = 0; i < k.n; i++) {
        if (restore_one(w, k.ids[i], &e) == 0)
            continue;
        log_error(NULL, "guests/%u has no row in the store, and %s; it is left alone: remove it once you have its data",
                  k.ids[i], e.text);
        if (store_skip_id(w->store, k.ids[i], &e) < 0)
            log_error(NULL, "guests/%u: %s", k.ids[i], e.text);
    }
    free(k.ids);
}
