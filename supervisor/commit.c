/* From plan to jobs: first the intent is written, all of it or nothing, then the world follows. */
#include "apply.h"

#include "alert.h"
#include "bundles.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/log.h>

static bool skipped(const struct planned *p)
{
    return !p->text || (p->change && p->change->error);
}

static int commit_nics(struct store *s, struct planned *p, struct vm_err *e)
{
    for (unsigned i = 0; i < p->n_nics; i++) {
        struct net_nic *nic = &p->nics[i];
        struct store_nic row = {.guest = p->id, .index = i, .network = nic->network, .address = nic->address,
                                .address6 = nic->address6, .mac = nic->mac};

        net_ifname(p->id, i, nic->ifname);
        if (!*nic->mac)
            net_mac(p->id, i, nic->mac);
        if (store_put_nic(s, &row, e) < 0)
            return -1;
    }
    return store_drop_nics(s, p->id, (unsigned)p->n_nics, e);
}

static int commit_guest(struct store *s, const struct applying *a, struct planned *p, struct vm_err *e)
{
    if (!p->text && p->change && p->change->class == PLAN_REMOVE)
        return store_put_removing(s, p->id, p->purge, e);
    if (skipped(p))
        return 0;
    if (store_put_spec(s, p->name, p->text, a->bundle->sha256, &p->id, &p->slot, e) < 0)
        return -1;
    if (p->slot >= SLOTS_MAX)
        return vm_fail(e, VM_E_CONFLICT, "more than %d guests on one host; remove some first", SLOTS_MAX);
    if (p->unwished && store_put_wish(s, p->id, !p->dormant, e) < 0)
        return -1;
    if ((p->change->class == PLAN_REBUILD || p->new_root) && store_put_rebuilding(s, p->id, true, e) < 0)
        return -1;
    if (p->afresh && store_put_scripts(s, p->id, 0, "", e) < 0)
        return -1;
    return commit_nics(s, p, e);
}

/* {commit, changes: [{guest, class}]}; fields and values are in the bundle, which may hold what is nobody's business. What is
 * refused has no end of its own: the first of it is the result. */
static int record(struct store *s, const struct applying *a, struct vm_err *e)
{
    OWN(json) json_t *detail = json_object();
    OWN(str) char *text = NULL, *refused = NULL;
    json_t *changes = json_array();

    json_put(detail, "changes", changes);
    for (size_t i = 0; i < a->n_planned; i++) {
        const struct planned *p = &a->planned[i];

        if (p->change && p->change->error && !refused && !(refused = text_format("%s: %s", p->name, p->change->error)))
            return vm_no_memory(e);
        if (p->change && p->change->class != PLAN_NONE && !p->change->error)
            json_array_append_new(changes, json_pack("{ssss}", "guest", p->name, "class", plan_class_name(p->change->class)));
    }
    json_put_str(detail, "commit", a->commit);
    if (!(text = json_to_text(detail)))
        return vm_no_memory(e);
    return store_audit(s, &a->by, &(struct store_deed){"apply", a->bundle->sha256, text, refused}, e);
}

static int commit(struct store *s, void *arg, struct vm_err *e)
{
    struct applying *a = arg;

    for (size_t i = 0; i < a->networks.n; i++) {
        struct network_spec *n = NULL;
        int rc = network_spec_load(a->networks.v[i], &n, e);

        if (rc == 0)
            rc = store_put_network(s, n->name, a->networks.v[i], e);
        network_spec_free(n);
        if (rc < 0)
            return -1;
    }
    for (size_t i = 0; i < a->gone_networks.n; i++)
        if (store_put_network_removing(s, a->gone_networks.v[i], e) < 0)
            return -1;
    if ((a->host || a->host_gone) && store_put_host(s, a->host, e) < 0)
        return -1;
    for (size_t i = 0; i < a->n_planned; i++)
        if (commit_guest(s, a, &a->planned[i], e) < 0)
            return vm_context(e, "%s", a->planned[i].name);
    return record(s, a, e);
}

/* The files are there before a row names them. One apply commits at a time, so nothing that is just kept is swept up. */
void apply_commit(struct applying *a)
{
    bool files = false;
    struct vm_err e;

    for (size_t i = 0; i < a->n_planned; i++)
        files |= a->planned[i].text != NULL;
    if (files)
        a->rc = bundle_keep(a->w->options->state_dir, a->bundle, &a->err);
    if (a->rc == 0 && (a->n_planned || a->networks.n || a->gone_networks.n || a->host_gone))
        a->rc = store_transaction(a->w->store, commit, a, &a->err);
    if (a->rc == 0 && bundles_sweep(a->w, &a->bundles, &e) < 0)
        log_warn(NULL, "old bundles: %s, continuing", e.text);
}

static void adopt_nics(struct guest *g, struct planned *p)
{
    free(g->nics);
    g->nics = TAKE(p->nics);
    g->n_nics = p->n_nics;
    for (size_t i = 0; i < g->n_nics; i++) /* borrowed from the spec, which now is the guest's */
        g->nics[i].network = g->spec->nics[i].network;
}

static void submit(struct report *x, struct guest *g, const struct planned *p, enum job_verb verb)
{
    struct job *j = job_new(g, verb);

    if (!j) {
        report_error(x, g->name, "no memory");
        return;
    }
    j->class = p->change && p->change->class != PLAN_NONE ? p->change->class : PLAN_LIVE;
    j->restart = j->class == PLAN_RESTART || j->class == PLAN_REBUILD;
    j->wait_health = verb == JOB_CONVERGE;
    g->backoff = (struct life_backoff){0}; /* a person asked: count anew */
    report_submit(x, j);
}

static void tell_down(struct report *x, const struct guest *g)
{
    OWN(json) json_t *line = json_pack("{ss ss ss}", "type", "guest", "guest", g->name, "state", "done");

    json_put_str(line, "text", "it is down by wish: the change is put on it when it is started");
    report_line(x, line);
}

static void adopt_guest(struct applying *a, struct planned *p, struct report *x)
{
    struct vm_err e = {0};
    struct guest *g;

    if (p->change && p->change->network)
        return;
    if (p->change && p->change->error) {
        report_error(x, p->name, p->change->error);
        return;
    }
    if (p->change && p->change->class == PLAN_REMOVE) {
        if ((g = world_guest_by_id(a->w, p->id))) {
            g->removing = true;
            g->up = false;
            jobs_cut(g);
            guest_set_text(&g->purge, p->purge);
            x->changed++;
            submit(x, g, p, JOB_REMOVE);
        }
        return;
    }
    if (!p->text) {
        g = world_guest(a->w, p->name);
    } else if (world_put_guest(a->w, p->id, p->slot, p->text, a->bundle->sha256, &g, &e) < 0) {
        report_error(x, p->name, e.text); /* it is written, and taken up by the next start; the others go on */
        return;
    } else {
        adopt_nics(g, p);
        if (p->unwished)
            g->up = !p->dormant;
        if (p->change->class == PLAN_REBUILD || p->new_root) {
            g->rebuilding = true;
            g->provisioned_at = 0;
        }
        g->generation++;
        x->changed += p->change->class != PLAN_NONE;
        if (p->afresh)
            g->scripts_done = 0;
    }
    if (!g)
        return;
    if (!g->up)
        tell_down(x, g);
    else
        submit(x, g, p, JOB_CONVERGE);
}

void apply_adopt(struct applying *a, struct report *x)
{
    struct vm_err e = {0};

    for (size_t i = 0; i < a->networks.n; i++)
        if (world_put_network(a->w, a->networks.v[i], &e) < 0)
            report_error(x, NULL, e.text);
    for (size_t i = 0; i < a->gone_networks.n; i++) {
        netsync_forget(a->w, world_network(a->w, a->gone_networks.v[i]));
        world_drop_network(a->w, a->gone_networks.v[i]);
    }
    if (a->host || a->host_gone) {
        if (world_put_host(a->w, a->host, &e) < 0)
            report_error(x, NULL, e.text);
        alerts_changed(a->w);
    }
    x->changed += (unsigned)(a->networks.n + a->gone_networks.n) + (a->host || a->host_gone);
    for (size_t i = 0; i < a->n_planned; i++)
        adopt_guest(a, &a->planned[i], x);
    for (size_t i = 0; i < a->set->n_guests; i++)
        if (select_match(&a->select, a->set->guests[i]->name, &a->set->guests[i]->tags))
            strv_add(&x->guests, a->set->guests[i]->name);
    if (a->n_planned || a->networks.n || a->gone_networks.n)
        netsync_ask(a->w, NULL, NULL);
}
