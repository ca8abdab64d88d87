/* What no document alone can say: names that are there, once; no circles; no path into the host's own heart. */
#include "read.h"

#include <stdarg.h>
#include <string.h>

const char *entry_name(const struct entry *one)
{
    return one->guest ? one->guest->name : one->network->name;
}

const struct entry *entry_find(struct entries list, const char *name)
{
    size_t lo = 0, hi = list.n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (strcmp(entry_name(&list.v[mid]), name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < list.n && !strcmp(entry_name(&list.v[lo]), name) ? &list.v[lo] : NULL;
}

/* "PATH: what", at the node of that path. */
__attribute__((format(printf, 5, 0))) static void say(struct issues *is, const struct entry *at, const char *path, bool warning,
                                                      const char *fmt, va_list ap)
{
    const struct node *node = node_at(at->root, path);
    char what[640];

    vsnprintf(what, sizeof what, fmt, ap);
    issue_add(is, node->doc->file, node->line, node->column, warning, "%s: %s", path, what);
}

void entry_bad(struct issues *is, const struct entry *at, const char *path, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(is, at, path, false, fmt, ap);
    va_end(ap);
}

void claim_add(struct claims *c, const char *what, const struct entry *by, const char *path, ...)
{
    va_list ap;

    if (!what)
        return;
    if (c->n == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 256;
        struct claim *v = realloc(c->v, cap * sizeof *v);

        if (!v) {
            c->failed = true;
            return;
        }
        c->v = v;
        c->cap = cap;
    }
    c->v[c->n] = (struct claim){.what = what, .by = by};
    va_start(ap, path);
    vsnprintf(c->v[c->n].path, sizeof c->v->path, path, ap);
    va_end(ap);
    c->n++;
}

static int claim_order(const void *a, const void *b)
{
    const struct claim *x = a, *y = b;
    int c = strcmp(x->what, y->what);

    return c ? c : x->by != y->by ? (x->by < y->by ? -1 : 1) : strcmp(x->path, y->path);
}

void claims_check(struct claims *c, const char *noun, struct issues *is)
{
    size_t first = 0;

    if (c->n)
        qsort(c->v, c->n, sizeof *c->v, claim_order);
    for (size_t i = 1; i < c->n; i++) {
        const struct node *at = node_at(c->v[first].by->root, c->v[first].path);

        if (strcmp(c->v[i].what, c->v[first].what) != 0)
            first = i;
        else
            entry_bad(is, c->v[i].by, c->v[i].path,
                      "the %s %s is given twice, first for \"%s\" (%s:%u); expected it once", noun, c->v[i].what,
                      entry_name(c->v[first].by), at->doc->file, at->line);
    }
    c->n = 0;
}

struct spec_look {
    struct issues *issues;
    const struct entry *entry;
};

struct cross {
    struct entries guests, networks;
    struct issues *issues;
    const char **tags; /* of all guests, sorted */
    size_t n_tags;
    struct claims claims;
};

static int string_order(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool collect_tags(struct cross *x)
{
    size_t n = 0;

    for (size_t i = 0; i < x->guests.n; i++)
        n += x->guests.v[i].guest->tags.n;
    if (!(x->tags = calloc(n + 1, sizeof *x->tags)))
        return false;
    for (size_t i = 0; i < x->guests.n; i++)
        for (size_t k = 0; k < x->guests.v[i].guest->tags.n; k++)
            x->tags[x->n_tags++] = x->guests.v[i].guest->tags.v[k];
    qsort(x->tags, x->n_tags, sizeof *x->tags, string_order);
    return true;
}

/* "; did you mean …?" among the names of a list, where that is not too much work. */
static const char *nearest(const struct cross *x, struct entries list, const char *word, char out[static 80])
{
    enum { HINT_MAX = 300 };
    const char *names[HINT_MAX], *near;

    *out = '\0';
    if (list.n > HINT_MAX || strlen(word) < 2 || issues_full(x->issues))
        return out;
    for (size_t i = 0; i < list.n; i++)
        names[i] = entry_name(&list.v[i]);
    if ((near = text_nearest(word, names, list.n)))
        snprintf(out, 80, "; did you mean \"%s\"?", near);
    return out;
}

static void check_names(struct cross *x, const struct entry *at)
{
    const struct guest_spec *g = at->guest;
    char path[64], hint[80];

    if (!strcmp(g->name, "host") || !strcmp(g->name, "any"))
        entry_bad(x->issues, at, "name", "\"%s\" means something else in allow; expected another name", g->name);
    for (size_t i = 0; i < g->depends_on.n; i++) {
        const char *name = g->depends_on.v[i];

        snprintf(path, sizeof path, "depends_on[%zu]", i);
        if (!entry_find(x->guests, name))
            entry_bad(x->issues, at, path, "no guest \"%s\"; expected the name of a guest%s", name,
                      nearest(x, x->guests, name, hint));
    }
    for (size_t i = 0; i < g->n_nics; i++) {
        const char *name = g->nics[i].network;

        snprintf(path, sizeof path, "network[%zu].name", i);
        if (name && !entry_find(x->networks, name))
            entry_bad(x->issues, at, path, "no network \"%s\"; expected the name of a spec of kind network%s", name,
                      nearest(x, x->networks, name, hint));
    }
}

static void check_peer(struct cross *x, const struct entry *at, const char *path, const char *peer)
{
    const char *tag = strncmp(peer, "tag:", 4) ? NULL : peer + 4;
    char hint[80];

    if (tag && !bsearch(&tag, x->tags, x->n_tags, sizeof *x->tags, string_order))
        entry_bad(x->issues, at, path, "no guest has the tag \"%s\"; expected a tag that is in use", tag);
    else if (!tag && strcmp(peer, "host") != 0 && strcmp(peer, "any") != 0 && !entry_find(x->guests, peer))
        entry_bad(x->issues, at, path, "no guest \"%s\"; expected the name of a guest, tag:NAME, host or any%s", peer,
                  nearest(x, x->guests, peer, hint));
}

static void check_allow(struct cross *x, const struct entry *at)
{
    char path[64];

    for (size_t i = 0; i < at->guest->n_allow; i++) {
        for (size_t k = 0; k < at->guest->allow[i].from.n; k++) {
            snprintf(path, sizeof path, "allow[%zu].from[%zu]", i, k);
            check_peer(x, at, path, at->guest->allow[i].from.v[k]);
        }
    }
}

/* Is a the same as b, or a directory above it? */
static bool holds(const char *a, const char *b)
{
    size_t n = strlen(a);

    return !strcmp(a, "/") || (!strncmp(a, b, n) && (b[n] == '/' || !b[n]));
}

/* What gives a guest the host, by itself or by something below. The daemon checks again, by what the paths are. */
static void check_source(struct cross *x, const struct entry *at, const char *path, const char *source)
{
    static const char *const heart[] = {"/proc", "/sys", "/dev", "/run/vmsd", "/var/run/vmsd", "/var/lib/vmsd"};

    for (size_t k = 0; source && k < ARRAY_LEN(heart); k++) {
        if (holds(source, heart[k]) || holds(heart[k], source)) {
            entry_bad(x->issues, at, path, "%s gives the guest %s of the host; expected a directory of its own", source,
                      heart[k]);
            return;
        }
    }
}

/* Below these every guest's init mounts file systems of its own, which would hide what is mounted there. */
static void check_target(struct cross *x, const struct entry *at, const char *path, const char *target)
{
    static const char *const own[] = {"/dev", "/proc", "/run", "/sys", "/tmp"};

    for (size_t k = 0; target && k < ARRAY_LEN(own); k++)
        if (holds(own[k], target))
            entry_bad(x->issues, at, path, "every guest mounts %s anew, which hides %s; expected another directory", own[k],
                      target);
}

static void check_mounts(struct cross *x, const struct entry *at)
{
    const struct guest_spec *g = at->guest;
    char path[48];

    for (size_t i = 0; i < g->n_binds; i++) {
        snprintf(path, sizeof path, "binds[%zu].source", i);
        check_source(x, at, path, g->binds[i].source);
        snprintf(path, sizeof path, "binds[%zu].target", i);
        check_target(x, at, path, g->binds[i].target);
    }
    for (size_t i = 0; i < g->n_volumes; i++) {
        snprintf(path, sizeof path, "volumes[%zu].target", i);
        check_target(x, at, path, g->volumes[i].target);
    }
}

static void check_guest(struct cross *x, const struct entry *at)
{
    const struct guest_spec *g = at->guest;
    struct claims targets = {0};
    char path[48];

    check_names(x, at);
    check_allow(x, at);
    if (g->image.kind == IMAGE_DIRECTORY)
        check_source(x, at, "image.directory", g->image.name);
    check_mounts(x, at);
    for (size_t i = 0; i < g->n_binds; i++)
        claim_add(&targets, g->binds[i].target, at, "binds[%zu].target", i);
    for (size_t i = 0; i < g->n_volumes; i++)
        claim_add(&targets, g->volumes[i].target, at, "volumes[%zu].target", i);
    claims_check(&targets, "target", x->issues);
    for (size_t i = 0; i < g->n_files; i++)
        claim_add(&targets, g->files[i].target, at, "files[%zu].target", i);
    claims_check(&targets, "target", x->issues);
    for (size_t i = 0; i < g->n_secrets; i++)
        claim_add(&targets, g->secrets[i].name, at, "secrets[%zu].name", i);
    claims_check(&targets, "secret", x->issues);
    x->claims.failed |= targets.failed;
    free(targets.v);
    for (size_t i = 0; i < g->n_health && !g->n_nics; i++) {
        if (g->health[i].kind != CHECK_TCP && g->health[i].kind != CHECK_HTTP)
            continue;
        snprintf(path, sizeof path, "health[%zu]", i);
        spec_warn(&(struct spec_look){x->issues, at}, path, "asks a port of a guest without network; expected exec or units, or a network");
    }
}

static void check_once(struct cross *x)
{
    struct claims *c = &x->claims;

    for (size_t i = 0; i < x->guests.n; i++)
        claim_add(c, x->guests.v[i].guest->name, &x->guests.v[i], "name");
    claims_check(c, "guest", x->issues);
    for (size_t i = 0; i < x->networks.n; i++)
        claim_add(c, x->networks.v[i].network->name, &x->networks.v[i], "name");
    claims_check(c, "network", x->issues);
    for (size_t i = 0; i < x->guests.n; i++)
        for (size_t k = 0; k < x->guests.v[i].guest->n_volumes; k++)
            claim_add(c, x->guests.v[i].guest->volumes[k].name, &x->guests.v[i], "volumes[%zu].name", k);
    claims_check(c, "volume", x->issues);
    for (size_t i = 0; i < x->guests.n; i++)
        for (size_t k = 0; k < x->guests.v[i].guest->domains.n; k++)
            claim_add(c, x->guests.v[i].guest->domains.v[k], &x->guests.v[i], "domains[%zu]", k);
    claims_check(c, "domain", x->issues);
}

/* Walks along depends_on without recursion; met: 0 not yet, 1 on the way, 2 done. */
struct circle {
    const struct cross *x;
    size_t *way, *next, n_way;
    unsigned char *met;
};

static void complain_circle(struct circle *c, size_t to)
{
    enum { SHOWN_MAX = 12 };
    const struct entry *all = c->x->guests.v, *last = &all[c->way[c->n_way - 1]];
    OWN(text) struct text t = {0};
    size_t from = c->n_way - 1;
    char path[32];

    while (c->way[from] != to)
        from--;
    for (size_t i = from; i < c->n_way; i++) {
        if (i - from < SHOWN_MAX)
            text_addf(&t, "%s -> ", entry_name(&all[c->way[i]]));
        else if (i - from == SHOWN_MAX)
            text_add(&t, "… -> ");
    }
    text_add(&t, entry_name(&all[to]));
    snprintf(path, sizeof path, "depends_on[%zu]", c->next[c->way[c->n_way - 1]] - 1);
    entry_bad(c->x->issues, last, path, "a circle: %s; expected guests that can start one after the other",
              t.failed ? "" : t.s);
}

static void walk_circle(struct circle *c, size_t start)
{
    c->way[c->n_way++] = start;
    c->met[start] = 1;
    while (c->n_way) {
        size_t at = c->way[c->n_way - 1];
        const struct spec_list *deps = &c->x->guests.v[at].guest->depends_on;
        const struct entry *dep;
        size_t to;

        if (c->next[at] == deps->n) {
            c->met[at] = 2;
            c->n_way--;
            continue;
        }
        if (!(dep = entry_find(c->x->guests, deps->v[c->next[at]++])))
            continue;
        to = (size_t)(dep - c->x->guests.v);
        if (c->met[to] == 1) {
            complain_circle(c, to);
        } else if (!c->met[to]) {
            c->met[to] = 1;
            c->way[c->n_way++] = to;
        }
    }
}

static bool check_circles(struct cross *x)
{
    size_t n = x->guests.n;
    OWN(mem) void *way = calloc(n + 1, sizeof(size_t));
    OWN(mem) void *next = calloc(n + 1, sizeof(size_t));
    OWN(mem) void *met = calloc(n + 1, 1);
    struct circle c = {.x = x, .way = way, .next = next, .met = met};

    if (!way || !next || !met)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!c.met[i])
            walk_circle(&c, i);
    return true;
}

static void check_memory(struct cross *x, const struct spec_host *host)
{
    char sum_text[TEXT_HUMAN], host_text[TEXT_HUMAN];
    uint64_t sum = 0;

    for (size_t i = 0; i < x->guests.n; i++)
        if (x->guests.v[i].guest->autostart)
            sum += x->guests.v[i].guest->memory;
    if (host && host->memory && sum > host->memory && x->guests.n)
        issue_add(x->issues, x->guests.v[0].root->doc->file, 0, 0, true,
                  "all guests together may use %s of memory, the host has %s; expected less, or swap",
                  text_human_size(sum, sum_text), text_human_size(host->memory, host_text));
}

void spec_complain(struct spec_look *at, const char *path, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(at->issues, at->entry, path, false, fmt, ap);
    va_end(ap);
}

void spec_warn(struct spec_look *at, const char *path, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(at->issues, at->entry, path, true, fmt, ap);
    va_end(ap);
}

static void ask_host(struct cross *x, const struct spec_host *host)
{
    if (!host || !host->look || x->issues->errors)
        return;
    for (size_t i = 0; i < x->guests.n; i++) {
        struct spec_look at = {x->issues, &x->guests.v[i]};

        host->look(&at, x->guests.v[i].guest, host->arg);
    }
}

bool cross_check(struct entries guests, struct entries networks, const struct spec_host *host, struct issues *is)
{
    struct cross x = {.guests = guests, .networks = networks, .issues = is};
    bool fine = collect_tags(&x);

    for (size_t i = 0; fine && i < guests.n; i++)
        check_guest(&x, &guests.v[i]);
    if (fine) {
        check_once(&x);
        fine = check_circles(&x) && cross_check_net(guests, networks, is) && !x.claims.failed;
        check_memory(&x, host);
        ask_host(&x, host);
    }
    free(x.tags);
    free(x.claims.v);
    return fine;
}
