/* What vmsd does when it starts: it reads its intent, looks at what runs, and makes the two one again. A guest that runs
 * is never touched for it. */
#include "bundles.h"
#include "job.h"
#include "manifest.h"
#include "scripts.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

struct load {
    struct world *w;
    struct vm_err err;
};

static int load_network(const struct store_network *n, void *arg)
{
    struct load *l = arg;
    struct network_spec *going = NULL;

    if (!n->removing)
        return world_put_network(l->w, n->spec, &l->err) < 0 ? vm_context(&l->err, "network '%s' of the store", n->name) : 0;
    if (network_spec_load(n->spec, &going, NULL) == 0)
        netsync_forget(l->w, going);
    network_spec_free(going);
    return 0;
}

/* One row that cannot be read costs one guest, not all of them. */
static int load_guest(const struct store_guest *row, void *arg)
{
    struct load *l = arg;
    struct guest *g;
    struct vm_err e = {0};

    if (world_put_guest(l->w, row->id, row->slot, row->spec, row->bundle, &g, &e) < 0) {
        log_error(row->name, "its row in the store cannot be read: %s; it is left alone", e.text);
        return 0;
    }
    guest_set_text(&g->applied, row->applied);
    guest_set_text(&g->image, row->image);
    guest_set_text(&g->script_digests, row->script_digests);
    guest_set_text(&g->purge, row->purge);
    guest_set_text(&g->error, row->error);
    g->up = row->up;
    g->removing = row->removing;
    g->rebuilding = row->rebuilding;
    g->scripts_done = row->scripts_done;
    g->generation = row->generation;
    g->restarts = row->restarts;
    g->applied_at = row->applied_at;
    g->provisioned_at = row->provisioned_at;
    g->silent_until = row->silent_until;
    g->state = row->image ? ST_STOPPED : ST_ABSENT;
    return 0;
}

static int load_nic(const struct store_nic *row, void *arg)
{
    struct load *l = arg;
    struct guest *g = world_guest_by_id(l->w, row->guest);
    struct net_nic *nics;

    if (!g || row->index >= g->spec->n_nics || row->index != g->n_nics)
        return 0;
    if (!(nics = realloc(g->nics, (g->n_nics + 1) * sizeof *nics)))
        return vm_no_memory(&l->err);
    g->nics = nics;
    nics[g->n_nics] = (struct net_nic){.network = g->spec->nics[row->index].network};
    snprintf(nics[g->n_nics].address, NET_ADDR, "%s", row->address ? row->address : "");
    snprintf(nics[g->n_nics].address6, NET_ADDR, "%s", row->address6 ? row->address6 : "");
    snprintf(nics[g->n_nics].mac, NET_MAC, "%s", row->mac ? row->mac : "");
    net_ifname(g->id, row->index, nics[g->n_nics].ifname);
    g->n_nics++;
    return 0;
}

static int load_script(uint32_t guest, const struct store_script *row, void *arg)
{
    struct load *l = arg;
    struct guest *g = world_guest_by_id(l->w, guest);

    if (g)
        scripts_put(g, row);
    return 0;
}

static int mark_cut(uint32_t guest, const char *step, void *arg)
{
    struct load *l = arg;
    struct guest *g = world_guest_by_id(l->w, guest);

    if (g) {
        log_warn(g->name, "vmsd ended in step %s, continuing from there", step ? step : "(none)");
        g->cut = true;
        g->cut_stopping |= step && !strcmp(step, "stop");
    }
    return 0;
}

/* One that cannot be read costs who would be told of alerts, and no guest. */
static int load_host(struct world *w, struct vm_err *e)
{
    OWN(str) char *text = NULL;

    if (store_host(w->store, &text, e) < 0)
        return -1;
    if (world_put_host(w, text, e) == 0)
        return 0;
    log_error(NULL, "the host's own spec in the store cannot be read: %s; nobody is told of alerts before it is applied again", e->text);
    return world_put_host(w, NULL, e);
}

static int load(struct world *w, struct vm_err *e)
{
    struct load l = {.w = w};

    if (load_host(w, e) < 0 || store_networks(w->store, load_network, &l, e) < 0 || store_guests(w->store, load_guest, &l, e) < 0 ||
        store_nics(w->store, load_nic, &l, e) < 0 || store_all_scripts(w->store, load_script, &l, e) < 0 ||
        store_jobs_cut(w->store, mark_cut, &l, e) < 0)
        return -1;
    if (l.err.code != VM_E_OK && e)
        *e = l.err;
    return l.err.code == VM_E_OK ? 0 : -1;
}

static bool rested(const char *run_dir)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, NULL);

    return dir >= 0 && path_exists(dir, GUEST_RESTS);
}

static void adopt(struct guest *g)
{
    OWN(str) char *run = guest_run_dir(g);
    struct vm_err e = {0};
    const struct vm_driver *d;
    struct drv_proc proc;

    if (!run)
        return;
    g->resting = rested(run);
    if (driver_find(g->id, run, &d, &proc, &e) == 0) {
        if (proc.phase == DRV_BOOTED)
            guest_adopt(g, d, &proc);
        else
            g->cut = true; /* between start and boot: the job that goes on takes it from there */
    } else if (e.code == VM_E_UNAVAILABLE) {
        guest_feed(g, EV_LOST, e.text);
        guest_seek(g);
    }
}

void guest_resume(struct guest *g)
{
    enum job_verb verb = g->removing ? JOB_REMOVE : g->up ? JOB_CONVERGE : JOB_STOP;
    bool up = guest_is_up(g);
    struct job *j;

    if (g->state == ST_UNKNOWN)
        return; /* when it has been found */
    if (!g->removing && !g->up && !up && !g->cut)
        return;
    if (!up && !g->cut && !g->removing && (!g->spec->autostart || g->resting))
        return;
    if (!(j = job_new(g, verb)))
        return;
    j->patient = true;
    j->restart = g->cut_stopping; /* it may look up and be on its way down */
    j->quiet = up && !g->cut && !guest_changed(g);
    job_submit(j);
}

static void settle(struct guest *g)
{
    OWN(str) char *log = guest_log_dir(g);
    struct vm_err e = {0};

    if (log && !guest_is_up(g) && g->state != ST_UNKNOWN && !g->cut && driver_settle(log, &e) < 0)
        log_warn(g->name, "what it could read before the host went down: %s, continuing", e.text);
}

/* Only what an intent of ours names: links of ids that this store does not know are somebody else's. */
static int sweep_link(struct world *w, const char *link, struct vm_err *e)
{
    struct guest *g;
    unsigned nic;
    uint32_t id;

    if (!net_ifname_parse(link, &id, &nic))
        return 0;
    g = world_guest_by_id(w, id);
    return !g || guest_is_up(g) || g->state == ST_UNKNOWN || g->cut ? 0 : net_link_remove(link, e);
}

/* Links of guests that do not run are left over from a crash. */
static void sweep_links(struct world *w)
{
    OWN(strv) struct strv links = {0};
    struct vm_err e = {0};

    if (net_links(&links, &e) < 0) {
        log_warn(NULL, "links: %s, continuing", e.text);
        return;
    }
    for (size_t i = 0; i < links.n; i++)
        if (sweep_link(w, links.v[i], &e) < 0)
            log_warn(NULL, "remove '%s': %s, continuing", links.v[i], e.text);
}

static void sweep_bundles(struct world *w)
{
    OWN(strv) struct strv none = {0};
    struct vm_err e = {0};

    if (bundles_sweep(w, &none, &e) < 0)
        log_warn(NULL, "old bundles: %s, continuing", e.text);
}

int recover(struct world *w, struct vm_err *e)
{
    manifests_restore(w);
    if (load(w, e) < 0)
        return -1;
    sweep_bundles(w);
    for (size_t i = 0; i < w->n_guests; i++)
        adopt(w->guests[i]);
    for (size_t i = 0; i < w->n_guests; i++)
        settle(w->guests[i]);
    sweep_links(w);
    for (size_t i = 0; i < w->n_networks; i++)
        if (net_bridge_ensure(w->networks[i], e) < 0)
            log_error(NULL, "network '%s': %s, continuing", w->networks[i]->name, e->text);
    netsync_ask(w, NULL, NULL); /* before anything starts: jobs wait for it in their step `network` */
    for (size_t i = 0; i < w->n_guests; i++)
        guest_resume(w->guests[i]);
    return 0;
}
