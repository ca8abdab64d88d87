/* Desired against actual, on the loop: what an apply will change. */
#include "apply.h"

#include <stdlib.h>
#include <string.h>

static bool selected(const struct applying *a, const char *name, const struct spec_list *tags)
{
    return select_match(&a->select, name, tags);
}

static bool same_secrets(const struct guest *g, const struct guest_spec *want)
{
    OWN(json) json_t *have = json_from_text(g->text, strlen(g->text), NULL);
    json_t *x = json_object_get(have, "secrets"), *y = json_object_get(want->json, "secrets");

    return x == y || (x && y && json_equal(x, y));
}

/* A change of a secret alone runs every script again: they are what brings a secret to where it is used. Once that is
 * written, an apply after a failed script goes on from that script. */
static void count_secrets(struct planned *p, const struct guest *g, const struct guest_spec *want)
{
    struct plan_change *c = p->change;

    p->afresh = g && want->n_install && !same_secrets(g, want);
    if (!p->afresh)
        return;
    c->first_script = 0;
    if (c->class < PLAN_SCRIPTS)
        c->class = PLAN_SCRIPTS;
}

/* v: addresses that are taken, by guests of the world and by what this bundle asks for; held: addresses and MACs of the
 * world, sorted; left: guests that stay as they are, out of the directory or not selected. */
struct holding { const char *what; const struct guest *guest; size_t nic; };
struct taken {
    const char **v;
    size_t n;
    struct holding *held;
    size_t n_held;
    const struct guest **left;
    size_t n_left;
};

static int list_taken(const struct applying *a, struct taken *t, struct vm_err *e)
{
    size_t max = 0;

    for (size_t i = 0; i < a->w->n_guests; i++)
        max += 2 * a->w->guests[i]->n_nics;
    for (size_t i = 0; i < a->set->n_guests; i++)
        max += 4 * a->set->guests[i]->n_nics; /* what it asks for, and what the plan picks */
    if (!(t->v = calloc(max + 1, sizeof *t->v)))
        return vm_no_memory(e);
    for (size_t i = 0; i < a->w->n_guests; i++) {
        const struct guest *g = a->w->guests[i];

        for (size_t k = 0; k < g->n_nics; k++) {
            t->v[t->n++] = g->nics[k].address;
            t->v[t->n++] = g->nics[k].address6;
        }
    }
    for (size_t i = 0; i < a->set->n_guests; i++) {
        const struct guest_spec *s = a->set->guests[i];

        for (size_t k = 0; k < s->n_nics; k++) {
            t->v[t->n++] = s->nics[k].address ? s->nics[k].address : "";
            t->v[t->n++] = s->nics[k].address6 ? s->nics[k].address6 : "";
        }
    }
    return 0;
}

static const struct network_spec *set_network(const struct applying *a, const char *name)
{
    for (size_t i = 0; i < a->set->n_networks; i++)
        if (!strcmp(a->set->networks[i]->name, name))
            return a->set->networks[i];
    return NULL;
}

/* The spec's address, else the one that the guest already has there, else the first free one. A subnet may have moved. */
static int pick(const char *asked, const char *had, const char *subnet, struct taken *t, char out[static NET_ADDR],
                struct vm_err *e)
{
    if (!subnet)
        return 0;
    if (asked || net_pool_has(subnet, had)) {
        snprintf(out, NET_ADDR, "%s", asked ? asked : had);
        return 0;
    }
    if (net_pool_pick(subnet, t->v, t->n, out, e) < 0)
        return -1;
    t->v[t->n++] = out;
    return 0;
}

static int plan_nics(struct applying *a, struct planned *p, const struct guest_spec *want, const struct guest *have,
                     struct taken *t, struct vm_err *e)
{
    p->n_nics = want->n_nics;
    if (!want->n_nics)
        return 0;
    if (!(p->nics = calloc(want->n_nics, sizeof *p->nics)))
        return vm_no_memory(e);
    for (size_t i = 0; i < want->n_nics; i++) {
        const struct spec_nic *s = &want->nics[i];
        const struct network_spec *n = set_network(a, s->network);
        const struct net_nic *had = NULL;
        struct net_nic *nic = &p->nics[i];

        for (size_t k = 0; have && k < have->n_nics; k++)
            if (!strcmp(have->nics[k].network, s->network))
                had = &have->nics[k];
        nic->network = s->network;
        if (s->mac)
            snprintf(nic->mac, sizeof nic->mac, "%s", s->mac);
        if (pick(s->address, had ? had->address : "", n ? n->subnet : NULL, t, nic->address, e) < 0 ||
            pick(s->address6, had ? had->address6 : "", n ? n->subnet6 : NULL, t, nic->address6, e) < 0)
            return vm_context(e, "%s: network '%s'", want->name, s->network);
    }
    return 0;
}

static struct planned *planned_new(struct applying *a, const char *name)
{
    struct planned *p = &a->planned[a->n_planned++];

    guest_set_text(&p->name, name);
    return p;
}

static bool published(const struct world *w, const struct spec_port *p)
{
    for (size_t i = 0; i < w->n_guests; i++)
        for (size_t k = 0; k < w->guests[i]->spec->n_ports; k++)
            if (w->guests[i]->spec->ports[k].host == p->host && w->guests[i]->spec->ports[k].udp == p->udp)
                return true;
    return false;
}

static int by_name(const void *name, const void *spec)
{
    return strcmp(name, (*(struct guest_spec *const *)spec)->name);
}

static const struct guest_spec *spec_of(const struct applying *a, const char *name)
{
    struct guest_spec **found =
        a->set->n_guests ? bsearch(name, a->set->guests, a->set->n_guests, sizeof *a->set->guests, by_name) : NULL;

    return found ? *found : NULL;
}

/* Does nothing of this apply concern it? */
static bool is_left(const struct applying *a, const struct guest *g)
{
    const struct guest_spec *s = spec_of(a, g->name);

    return s ? !selected(a, s->name, &s->tags) : !a->prune || !selected(a, g->name, &g->spec->tags);
}

static bool same_port(const struct spec_port *p, const struct spec_port *q)
{
    return p->host == q->host && p->udp == q->udp && (!p->address || !q->address || !strcmp(p->address, q->address));
}

static const struct guest *publisher_of(const struct taken *t, const struct spec_port *p)
{
    for (size_t i = 0; i < t->n_left; i++)
        for (size_t k = 0; k < t->left[i]->spec->n_ports; k++)
            if (same_port(&t->left[i]->spec->ports[k], p))
                return t->left[i];
    return NULL;
}

static bool needs_network(const struct taken *t, const char *name)
{
    for (size_t i = 0; i < t->n_left; i++)
        for (size_t k = 0; k < t->left[i]->n_nics; k++)
            if (!strcmp(t->left[i]->nics[k].network, name))
                return true;
    return false;
}

/* A guest that has the volume and neither gives it up in this bundle nor goes. */
static const struct guest *owner_of(const struct taken *t, const char *volume)
{
    for (size_t i = 0; i < t->n_left; i++)
        for (size_t k = 0; k < t->left[i]->spec->n_volumes; k++)
            if (!strcmp(t->left[i]->spec->volumes[k].name, volume))
                return t->left[i];
    return NULL;
}

static bool gives_up(const struct applying *a, const struct guest *g, size_t nic)
{
    const struct guest_spec *s = spec_of(a, g->name);

    return !is_left(a, g) &&
           (!s || nic >= s->n_nics || (s->nics[nic].address && strcmp(s->nics[nic].address, g->nics[nic].address)));
}

static int holding_order(const void *a, const void *b)
{
    return strcmp(((const struct holding *)a)->what, ((const struct holding *)b)->what);
}

static void hold(struct taken *t, const struct guest *g, size_t nic, const char *what)
{
    if (*what)
        t->held[t->n_held++] = (struct holding){what, g, nic};
}

/* What guests of the world have: looked up for every guest that is planned. */
static int list_held(const struct applying *a, struct taken *t, struct vm_err *e)
{
    size_t nics = 0;

    for (size_t i = 0; i < a->w->n_guests; i++)
        nics += a->w->guests[i]->n_nics;
    t->held = calloc(3 * nics + 1, sizeof *t->held);
    t->left = calloc(a->w->n_guests + 1, sizeof(struct guest *));
    if (!t->held || !t->left)
        return vm_no_memory(e);
    for (size_t i = 0; i < a->w->n_guests; i++) {
        const struct guest *g = a->w->guests[i];

        if (g->removing)
            continue;
        if (is_left(a, g))
            t->left[t->n_left++] = g;
        for (size_t k = 0; k < g->n_nics; k++) {
            hold(t, g, k, g->nics[k].address);
            hold(t, g, k, g->nics[k].address6);
            hold(t, g, k, g->nics[k].mac);
        }
    }
    qsort(t->held, t->n_held, sizeof *t->held, holding_order);
    return 0;
}

/* A guest that has the address, or the MAC, and keeps it. */
static const struct guest *holder_of(const struct applying *a, const struct taken *t, const char *what, const char *but)
{
    const struct holding key = {.what = what};
    const struct holding *h = what && t->n_held ? bsearch(&key, t->held, t->n_held, sizeof key, holding_order) : NULL;

    while (h && h > t->held && !strcmp(h[-1].what, what))
        h--;
    for (; h && h < t->held + t->n_held && !strcmp(h->what, what); h++)
        if (strcmp(h->guest->name, but) && !gives_up(a, h->guest, h->nic))
            return h->guest;
    return NULL;
}

static void check_nics(const struct applying *a, const struct taken *t, const struct guest_spec *want, struct plan_change *c)
{
    for (size_t i = 0; i < want->n_nics; i++) {
        const char *asked[] = {want->nics[i].address, want->nics[i].address6, want->nics[i].mac};

        for (size_t k = 0; k < ARRAY_LEN(asked) && !c->error; k++) {
            const struct guest *g = holder_of(a, t, asked[k], want->name);

            if (g)
                c->error = text_format("network[%s]: guest '%s' has %s; give this one another, or remove that first",
                                       want->nics[i].network, g->name, asked[k]);
        }
    }
}

/* Is its network another one by now, so that its addresses are of no use there? */
static bool moved(const struct applying *a, const struct guest *g)
{
    for (size_t i = 0; i < g->n_nics; i++) {
        const struct network_spec *n = set_network(a, g->nics[i].network);

        if (n && (!net_pool_has(n->subnet, g->nics[i].address) || !n->subnet6 != !*g->nics[i].address6 ||
                  (n->subnet6 && !net_pool_has(n->subnet6, g->nics[i].address6))))
            return true;
    }
    return false;
}

const char *apply_lacks(const struct applying *a, const struct guest_spec *g)
{
    for (size_t i = 0; i + 1 < a->hypervisors.n; i += 2)
        if (!strcmp(a->hypervisors.v[i], g->hypervisor))
            return a->hypervisors.v[i + 1];
    return NULL;
}

/* What runs is not ended for a change that nothing here could start again. */
static void check_hypervisor(const struct applying *a, const struct guest *g, const struct guest_spec *want,
                             struct plan_change *c)
{
    const char *lacks = want->kind == KIND_MICROVM ? apply_lacks(a, want) : NULL;

    if (lacks && *lacks && !c->error && c->class >= PLAN_RESTART && g && guest_is_up(g))
        c->error = text_format("kind: microvm: %s", lacks);
}

/* What others on this host have already is not taken from them. */
static void check_taken(const struct applying *a, const struct taken *t, const struct guest_spec *want,
                        struct plan_change *c)
{
    struct vm_err why;

    for (size_t i = 0; i < want->n_ports && !c->error; i++) {
        const struct guest *g = publisher_of(t, &want->ports[i]);

        if (g)
            c->error = text_format("ports[%zu].host: guest '%s' publishes it; remove that first, or take another port", i, g->name);
        else if (!published(a->w, &want->ports[i]) && net_port_free(&want->ports[i], &why) < 0)
            c->error = text_format("ports[%zu].host: %s", i, why.text);
    }
    for (size_t i = 0; i < want->n_volumes && !c->error; i++) {
        const struct guest *g = owner_of(t, want->volumes[i].name);

        if (g)
            c->error = text_format("volumes[%s]: it belongs to guest '%s'; remove that first, or give this another name",
                                   want->volumes[i].name, g->name);
    }
    check_nics(a, t, want, c);
}

/* An apply that did not come to its end may have made its root anew, for what nobody wants any more, and a removal that did
 * not may have taken half of it: it is of no use then, whatever was completed before. */
static int check_root(const struct guest *g, const struct guest_spec *want, struct planned *p, struct vm_err *e)
{
    struct plan_actual have = {.name = want->name, .applied = g->text};
    OWN(plan_change) struct plan_change *c = NULL;

    if (!g->image || (!g->removing && g->applied && !strcmp(g->applied, g->text)))
        return 0;
    if (plan_guest(&have, want, &c, e) < 0)
        return -1;
    p->new_root = g->removing || c->class == PLAN_REBUILD;
    if (!p->new_root || !g->applied || p->change->class == PLAN_REBUILD)
        return 0;
    p->change->class = PLAN_REBUILD;
    p->change->downtime = p->change->destroys_data = true;
    p->change->first_script = 0;
    return 0;
}

static bool up_to_date(const struct guest *g, const char *text)
{
    return g && g->applied && !strcmp(g->applied, text) && !strcmp(g->text, text) && !g->rebuilding && !g->removing &&
           g->scripts_done == g->spec->n_install;
}

static int plan_one(struct applying *a, size_t i, struct taken *t, struct vm_err *e)
{
    const struct guest_spec *want = a->set->guests[i];
    struct guest *g = world_guest(a->w, want->name);
    struct plan_actual have = {.name = want->name,
                               .applied = g ? g->applied : NULL,
                               .scripts_done = g ? g->scripts_done : 0,
                               .resizes = g && guest_is_up(g) && (g->driver->can & DRV_RESIZES)};
    bool moves = g && moved(a, g);
    struct planned *p;

    if (!moves && up_to_date(g, a->texts[i])) {
        if (guest_is_up(g) || !g->up || g->job || g->next)
            return 0;
        p = planned_new(a, want->name);
        p->start = true;
        return 0;
    }
    if (g && !g->up && !g->removing && !moves && !strcmp(g->text, a->texts[i]))
        return 0; /* written already; it is put on it when somebody starts it */
    p = planned_new(a, want->name);
    p->unwished = !g || g->removing;
    p->dormant = p->unwished && !want->autostart;
    guest_set_text(&p->text, a->texts[i]);
    if (plan_guest(&have, want, &p->change, e) < 0 || (g && check_root(g, want, p, e) < 0))
        return -1;
    if (g && g->removing && g->job && g->job->verb == JOB_REMOVE)
        guest_set_text(&p->change->error, "it is being removed; apply again when that is done");
    count_secrets(p, g, want);
    check_taken(a, t, want, p->change);
    if (g && g->rebuilding && p->change->class < PLAN_REBUILD)
        p->change->class = PLAN_REBUILD;
    check_hypervisor(a, g, want, p->change);
    if (moves && p->change->class < PLAN_RESTART) {
        p->change->class = PLAN_RESTART;
        p->change->downtime = guest_is_up(g);
    }
    if (p->change->class == PLAN_NONE)
        p->start = true; /* written otherwise, meaning the same; or cut off before its end */
    return p->change->error ? 0 : plan_nics(a, p, want, g, t, e);
}

static char *purge_list(const struct applying *a, const struct guest_spec *s)
{
    struct text t = {0};

    for (size_t i = 0; i < s->n_volumes; i++)
        if (strv_has(&a->purge, s->volumes[i].name))
            text_addf(&t, "%s\n", s->volumes[i].name);
    if (t.len)
        return text_take(&t);
    text_done(t);
    return NULL;
}

static int plan_orphan(struct applying *a, struct guest *g, struct vm_err *e)
{
    struct plan_actual have = {.name = g->name, .applied = g->applied ? g->applied : g->text};
    struct planned *p;

    strv_add(&a->orphans, g->name);
    if (!a->prune)
        return 0;
    p = planned_new(a, g->name);
    p->id = g->id;
    p->purge = purge_list(a, g->spec);
    return plan_guest(&have, NULL, &p->change, e);
}

static int plan_networks(struct applying *a, const struct taken *t, struct vm_err *e)
{
    for (size_t i = 0; i < a->set->n_networks; i++) {
        const struct network_spec *want = a->set->networks[i];
        const struct network_spec *had = world_network(a->w, want->name);
        OWN(str) char *text = json_to_text(want->json), *applied = had ? json_to_text(had->json) : NULL;
        struct plan_actual have = {.name = want->name, .applied = applied, .network = true};

        if (!text || (had && !applied))
            return vm_no_memory(e);
        if (applied && !strcmp(text, applied))
            continue;
        strv_add(&a->networks, text);
        if (plan_network(&have, want, &planned_new(a, want->name)->change, e) < 0)
            return -1;
    }
    for (size_t i = 0; i < a->w->n_networks && a->prune; i++)
        if (!set_network(a, a->w->networks[i]->name) && !needs_network(t, a->w->networks[i]->name))
            strv_add(&a->gone_networks, a->w->networks[i]->name);
    return 0;
}

static int plan_the_host(struct applying *a, struct vm_err *e)
{
    OWN(str) char *text = a->set->host ? json_to_text(a->set->host->json) : NULL;

    a->host_gone = !a->set->host && a->prune && a->w->host_text;
    if (!a->set->host)
        return 0;
    if (!text)
        return vm_no_memory(e);
    if (a->w->host_text && !strcmp(text, a->w->host_text))
        return 0;
    a->host = TAKE(text);
    return plan_host(a->w->host_text, a->set->host, &planned_new(a, "the host")->change, e);
}

/* Then it is an orphan as before: applied again, it goes. */
static bool removal_failed(const struct guest *g)
{
    return g->removing && !g->job && !g->next;
}

int apply_plan(struct applying *a)
{
    struct taken t = {0};
    int rc;

    a->planned = calloc(a->set->n_guests + a->w->n_guests + a->set->n_networks + 2, sizeof *a->planned);
    if (!a->planned)
        return vm_no_memory(&a->err);
    rc = list_taken(a, &t, &a->err);
    if (rc == 0)
        rc = list_held(a, &t, &a->err);
    if (rc == 0)
        rc = plan_networks(a, &t, &a->err);
    if (rc == 0)
        rc = plan_the_host(a, &a->err);
    for (size_t i = 0; rc == 0 && i < a->set->n_guests; i++)
        if (selected(a, a->set->guests[i]->name, &a->set->guests[i]->tags))
            rc = plan_one(a, i, &t, &a->err);
    for (size_t i = 0; rc == 0 && i < a->w->n_guests; i++) {
        struct guest *g = a->w->guests[i];

        if ((!g->removing || removal_failed(g)) && !spec_of(a, g->name) && selected(a, g->name, &g->spec->tags))
            rc = plan_orphan(a, g, &a->err);
    }
    free(t.v);
    free(t.held);
    free(t.left);
    return rc;
}
