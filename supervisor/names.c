/* The names of guests: what each knows of its neighbours, and whom it asks for the rest. */
#include "world.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/hash.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum { RESOLV_MAX = 64 << 10 };

static bool share_network(const struct guest *a, const struct guest *b)
{
    for (size_t i = 0; i < a->n_nics; i++)
        for (size_t k = 0; k < b->n_nics; k++)
            if (!strcmp(a->nics[i].network, b->nics[k].network))
                return true;
    return false;
}

static void add_lines(struct text *t, struct world *w, const struct guest *g)
{
    for (size_t i = 0; i < g->n_nics; i++) {
        const struct network_spec *n = world_network(w, g->nics[i].network);
        const char *addresses[] = {g->nics[i].address, g->nics[i].address6};

        for (size_t k = 0; k < ARRAY_LEN(addresses); k++) {
            if (!*addresses[k])
                continue;
            text_addf(t, "%s", addresses[k]);
            if (n)
                text_addf(t, " %s.%s", g->name, n->domain);
            text_addf(t, " %s", g->name);
            for (size_t d = 0; d < g->spec->domains.n; d++)
                text_addf(t, " %s", g->spec->domains.v[d]);
            text_add(t, "\n");
        }
    }
}

char *names_hosts(struct world *w, const struct guest *g)
{
    struct text t = {0};

    text_add(&t, "# Kept by vmsd: changes here are lost.\n127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
    for (size_t i = 0; i < w->n_guests; i++)
        if (!w->guests[i]->removing && (w->guests[i] == g || share_network(w->guests[i], g)))
            add_lines(&t, w, w->guests[i]);
    return text_take(&t);
}

char *names_resolv(struct world *w, const struct guest *g)
{
    const struct network_spec *n = g->n_nics ? world_network(w, g->nics[0].network) : NULL;
    struct text t = {0};
    bool own = false;

    if (!n)
        return NULL;
    for (size_t i = 0; i < n->dns.n; i++)
        own |= !strcmp(n->dns.v[i], g->nics[0].address) || !strcmp(n->dns.v[i], g->nics[0].address6);
    if (n->dns.n && !own) {
        text_addf(&t, "# Kept by vmsd: changes here are lost.\nsearch %s\n", n->domain);
        for (size_t i = 0; i < n->dns.n; i++)
            text_addf(&t, "nameserver %s\n", n->dns.v[i]);
        return text_take(&t);
    }
    text_addf(&t, "# Kept by vmsd, from the host's: changes here are lost.\n%s", w->upstream ? w->upstream : "");
    return text_take(&t);
}

/* Adds what the file says, but for resolvers on a loopback: in a guest that would be the guest's own. Is any left? */
static bool add_resolvers(struct text *t, const char *file)
{
    OWN(fd) int fd = path_open_host(file, O_RDONLY | O_NONBLOCK, NULL);
    OWN(str) char *all = NULL;
    char net[5]; /* "127.", or all of "::1" */
    bool any = false;

    if (fd < 0 || path_read_fd(fd, file, RESOLV_MAX, &all, NULL, NULL) < 0)
        return false;
    for (char *rest = all, *line; (line = strsep(&rest, "\n"));) {
        bool server = sscanf(line, "nameserver %4s", net) == 1;

        if (strchr("#;", *line) || (server && (!strcmp(net, "127.") || !strcmp(net, "::1"))))
            continue;
        any |= server;
        text_addf(t, "%s\n", line);
    }
    return any;
}

/* Where a program of the host answers on its loopback, the real ones are kept beside it. */
char *names_upstream(void)
{
    static const char *const files[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf",
                                        "/run/NetworkManager/no-stub-resolv.conf"};
    struct text t = {0};

    for (size_t i = 0; i < ARRAY_LEN(files); i++, t.len = 0)
        if (add_resolvers(&t, files[i]))
            return text_take(&t);
    text_add(&t, "# The host has no resolver that a guest could reach: give the network `dns`.\n");
    return text_take(&t);
}

void names_take_upstream(struct world *w, char *take_text)
{
    OWN(str) char *text = take_text;

    if (!text || (w->upstream && !strcmp(w->upstream, text)))
        return;
    free(w->upstream);
    w->upstream = TAKE(text);
    names_push(w);
}

json_t *names_json(struct world *w)
{
    json_t *list = json_array();

    for (size_t i = 0; i < w->n_guests; i++) {
        struct guest *g = w->guests[i];

        for (size_t k = 0; k < g->n_nics; k++) {
            const struct network_spec *n = world_network(w, g->nics[k].network);
            json_t *names = json_array(), *addresses = json_array(), *o = json_object();

            json_array_append_new(names, json_sprintf("%s.%s", g->name, n ? n->domain : "internal"));
            for (size_t d = 0; d < g->spec->domains.n; d++)
                json_array_append_new(names, json_string(g->spec->domains.v[d]));
            if (*g->nics[k].address)
                json_array_append_new(addresses, json_string(g->nics[k].address));
            if (*g->nics[k].address6)
                json_array_append_new(addresses, json_string(g->nics[k].address6));
            json_put_str(o, "guest", g->name);
            json_put_str(o, "network", g->nics[k].network);
            json_put(o, "names", names);
            json_put(o, "addresses", addresses);
            json_array_append_new(list, o);
        }
    }
    return list;
}

static void pushed(const struct agent_result *r, void *arg)
{
    (void)arg;
    if (!r->ok)
        log_debug(NULL, "names of a guest: %s", r->error);
}

/* A file of names, with its sum. */
struct names_file {
    char *key, *text;             /* key: the networks that it is for */
    char sum[HASH_HEX];
};

static void file_take(struct names_file *f, char *take_text)
{
    f->text = take_text;
    if (take_text)
        hash_bytes(take_text, strlen(take_text), f->sum);
}

/* Writes it into the guest, unless it is what was written last. */
static void push_file(struct guest *g, const char *name, const struct names_file *f, char last[static HASH_HEX])
{
    const char *dir = g->spec->security.read_only_root ? NAMES_DIR : "/etc";
    OWN(strv) struct strv q = {0};
    struct agent_stream *s = NULL;

    if (!f->text || !strcmp(f->sum, last))
        return;
    strv_add(&q, "op=put");
    strv_addf(&q, "path=%s/%s", dir, name);
    strv_add(&q, "mode=644");
    if (q.failed || agent_request(g->agent, &q, (struct agent_stream_events){.end = pushed, .arg = g}, &s, NULL) < 0)
        return;
    if (agent_stream_write(s, f->text, strlen(f->text)) == 0) {
        memcpy(last, f->sum, HASH_HEX);
        agent_stream_eof(s);
    } else {
        agent_stream_cancel(s);
    }
}

static bool hears_names(const struct guest *g)
{
    return g->n_nics && guest_is_up(g) && agent_is_up(g->agent) && !g->w->stopping;
}

static void push_both(struct guest *g, const struct names_file *hosts)
{
    struct names_file resolv = {0};

    push_file(g, "hosts", hosts, g->hosts_sum);
    file_take(&resolv, names_resolv(g->w, g));
    push_file(g, "resolv.conf", &resolv, g->resolv_sum);
    free(resolv.text);
}

void names_push_to(struct guest *g)
{
    struct names_file hosts = {0};

    if (!hears_names(g))
        return;
    file_take(&hosts, names_hosts(g->w, g));
    push_both(g, &hosts);
    free(hosts.text);
}

static char *networks_of(const struct guest *g)
{
    struct text t = {0};

    for (size_t i = 0; i < g->n_nics; i++)
        text_addf(&t, "%s/", g->nics[i].network);
    return text_take(&t);
}

/* The list that guests on these networks share: made for the first of them, whom it also names. */
static const struct names_file *shared_hosts(struct guest *g, struct names_file *list, size_t *n)
{
    OWN(str) char *key = networks_of(g);
    struct names_file *f = &list[*n];

    for (size_t i = 0; i < *n && key; i++)
        if (!strcmp(list[i].key, key))
            return &list[i];
    if (!key)
        return NULL;
    *f = (struct names_file){.key = TAKE(key)};
    file_take(f, names_hosts(g->w, g));
    (*n)++;
    return f;
}

void names_push(struct world *w)
{
    struct names_file *list = calloc(w->n_guests + 1, sizeof *list);
    size_t n = 0;

    for (size_t i = 0; i < w->n_guests && list; i++) {
        const struct names_file *hosts = hears_names(w->guests[i]) ? shared_hosts(w->guests[i], list, &n) : NULL;

        if (hosts)
            push_both(w->guests[i], hosts);
    }
    for (size_t i = 0; i < n; i++) {
        free(list[i].key);
        free(list[i].text);
    }
    free(list);
}
