#include "policy.h"

#include "address.h"

#include <search.h>
#include <string.h>

/* Where a packet of an allowance comes from: "ip saddr @tag4_core " and its family. */
struct source { char *match; bool v4, v6; };
struct sources { struct source *v; size_t n, cap; bool failed; };

static void sources_done(struct sources s)
{
    for (size_t i = 0; i < s.n; i++)
        free(s.v[i].match);
    free(s.v);
}
OWN_DEFINE(sources, struct sources, sources_done)

static void source_take(struct sources *s, char *match, bool v4, bool v6)
{
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        struct source *grown = realloc(s->v, cap * sizeof *grown);
        if (grown) {
            s->v = grown;
            s->cap = cap;
        }
    }
    if (!match || s->n == s->cap) {
        free(match);
        s->failed = true;
        return;
    }
    s->v[s->n++] = (struct source){ match, v4, v6 };
}

static int guest_order(const void *a, const void *b)
{
    return strcmp((*(const struct net_guest *const *)a)->name, (*(const struct net_guest *const *)b)->name);
}

int policy_open(const struct net_world *w, struct policy_book *out, struct vm_err *e)
{
    OWN(policy) struct policy_book b = { .n = w->n_guests };
    b.by_name = calloc(w->n_guests + 1, sizeof *b.by_name);
    if (!b.by_name)
        return vm_no_memory(e);
    for (size_t i = 0; i < w->n_guests; i++)
        b.by_name[i] = &w->guests[i];
    qsort(b.by_name, b.n, sizeof *b.by_name, guest_order);
    *out = b;
    b = (struct policy_book){ 0 };
    return 0;
}

struct body { unsigned number; char text[]; };

static int body_order(const void *a, const void *b)
{
    return strcmp(((const struct body *)a)->text, ((const struct body *)b)->text);
}

void policy_done(struct policy_book b)
{
    tdestroy(b.seen, free);
    strv_done(b.tags);
    text_done(b.chains);
    free(b.by_name);
}

static const struct net_guest *guest_find(const struct policy_book *b, const char *name)
{
    struct net_guest key = { .name = name };
    const struct net_guest *p = &key;
    const struct net_guest **at = b->n ? bsearch(&p, b->by_name, b->n, sizeof *b->by_name, guest_order) : NULL;
    return at ? *at : NULL;
}

static int word_order(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void source_set(struct sources *s, struct strv *addresses, bool v6)
{
    OWN(text) struct text t = { 0 };
    if (addresses->failed)
        s->failed = true;
    if (!addresses->n)
        return;
    qsort(addresses->v, addresses->n, sizeof *addresses->v, word_order);
    text_addf(&t, "%s saddr { ", v6 ? "ip6" : "ip");
    for (size_t i = 0; i < addresses->n; i++)
        if (i == 0 || strcmp(addresses->v[i], addresses->v[i - 1]) != 0)
            text_addf(&t, "%s%s", i ? ", " : "", addresses->v[i]);
    text_add(&t, " } ");
    source_take(s, text_take(&t), !v6, v6);
}

/* Names that no guest of the world has are passed over: nobody comes from there. */
static int sources_read(struct policy_book *b, const struct spec_allow *a, struct sources *s, struct vm_err *e)
{
    OWN(strv) struct strv v4 = { 0 };
    OWN(strv) struct strv v6 = { 0 };
    for (size_t i = 0; i < a->from.n; i++) {
        const char *from = a->from.v[i];
        const struct net_guest *g;
        if (strcmp(from, "any") == 0) {
            sources_done(*s);
            *s = (struct sources){ 0 };
            source_take(s, strdup(""), true, true);
            return s->failed ? vm_no_memory(e) : 0;
        }
        if (strncmp(from, "tag:", 4) == 0) {
            const char *tag = from + 4;
            if (!text_is_label(tag, SPEC_NAME_MAX))
                return vm_fail(e, VM_E_INVALID, "allow: '%s' is not a tag", tag);
            if (!strv_has(&b->tags, tag))
                strv_add(&b->tags, tag);
            source_take(s, text_format("ip saddr @tag4_%s ", tag), true, false);
            source_take(s, text_format("ip6 saddr @tag6_%s ", tag), false, true);
        } else if (strcmp(from, "host") != 0 && (g = guest_find(b, from))) {
            for (size_t k = 0; k < g->n_nics; k++) {
                if (g->nics[k].address[0])
                    strv_add(&v4, g->nics[k].address);
                if (g->nics[k].address6[0])
                    strv_add(&v6, g->nics[k].address6);
            }
        }
    }
    source_set(s, &v4, false);
    source_set(s, &v6, true);
    return s->failed || b->tags.failed ? vm_no_memory(e) : 0;
}

static int range_order(const void *a, const void *b)
{
    return (int)((const struct spec_range *)a)->lo - (int)((const struct spec_range *)b)->lo;
}

int policy_ports(struct text *t, const char *prefix, const struct spec_ranges *ranges, struct vm_err *e)
{
    OWN(mem) void *memory = calloc(ranges->n + 1, sizeof(struct spec_range));
    struct spec_range *v = memory;
    if (!v)
        return vm_no_memory(e);
    if (ranges->n)
        memcpy(v, ranges->v, ranges->n * sizeof *v);
    qsort(v, ranges->n, sizeof *v, range_order);
    for (size_t i = 0; i < ranges->n;) {
        struct spec_range r = v[i];
        for (i++; i < ranges->n && v[i].lo <= (unsigned)r.hi + 1; i++)
            r.hi = v[i].hi > r.hi ? v[i].hi : r.hi;
        text_addf(t, "%s%s%u", t->len ? ", " : "", prefix, r.lo);
        if (r.hi > r.lo)
            text_addf(t, "-%u", r.hi);
    }
    return 0;
}

static int body_protocol(struct text *body, const struct source *from, const char *proto, const struct spec_ranges *ports,
                         struct vm_err *e)
{
    OWN(text) struct text list = { 0 };
    if (!ports->n)
        return 0;
    if (policy_ports(&list, "", ports, e) < 0)
        return -1;
    if (list.failed)
        return vm_no_memory(e);
    text_addf(body, "\t\t%s%s dport { %s } accept\n", from->match, proto, list.s);
    return 0;
}

static int body_allow(struct text *body, const struct spec_allow *a, const struct source *from, struct vm_err *e)
{
    if (body_protocol(body, from, "tcp", &a->tcp, e) < 0 || body_protocol(body, from, "udp", &a->udp, e) < 0)
        return -1;
    if (a->icmp && from->v4)
        text_addf(body, "\t\t%sicmp type echo-request accept\n", from->match);
    if (a->icmp && from->v6)
        text_addf(body, "\t\t%sicmpv6 type echo-request accept\n", from->match);
    return 0;
}

static bool opens_to_host(const struct spec_allow *a)
{
    for (size_t i = 0; i < a->from.n; i++)
        if (strcmp(a->from.v[i], "host") == 0 || strcmp(a->from.v[i], "any") == 0)
            return true;
    return false;
}

/* The number of the chain with this body: an old one, or a new one that is written now. */
static int body_number(struct policy_book *b, const char *body, unsigned *number, struct vm_err *e)
{
    size_t n = strlen(body) + 1;
    OWN(mem) void *memory = malloc(sizeof(struct body) + n);
    struct body *fresh = memory;
    if (!fresh)
        return vm_no_memory(e);
    fresh->number = b->n_chains;
    memcpy(fresh->text, body, n);
    struct body **at = tsearch(fresh, &b->seen, body_order);
    if (!at)
        return vm_no_memory(e);
    *number = (*at)->number;
    if (*at == fresh) {
        memory = NULL; /* the tree's now */
        b->n_chains++;
        text_addf(&b->chains, "\tchain allow_%u {\n%s\t}\n", *number, body);
    }
    return 0;
}

int policy_chain(struct policy_book *b, const struct net_guest *g, bool host, char out[static POLICY_CHAIN],
                 struct vm_err *e)
{
    static const struct source anywhere = { .match = "", .v4 = true, .v6 = true };
    OWN(text) struct text body = { 0 };
    unsigned number;
    for (size_t i = 0; i < g->spec->n_allow; i++) {
        const struct spec_allow *a = &g->spec->allow[i];
        OWN(sources) struct sources from = { 0 };
        if (host) {
            if (opens_to_host(a) && body_allow(&body, a, &anywhere, e) < 0)
                return -1;
            continue;
        }
        if (sources_read(b, a, &from, e) < 0)
            return vm_context(e, "guest %s", g->name);
        for (size_t k = 0; k < from.n; k++)
            if (body_allow(&body, a, &from.v[k], e) < 0)
                return -1;
    }
    out[0] = '\0';
    if (body.failed)
        return vm_no_memory(e);
    if (!body.len)
        return 0;
    if (body_number(b, body.s, &number, e) < 0)
        return -1;
    snprintf(out, POLICY_CHAIN, "allow_%u", number);
    return 0;
}
