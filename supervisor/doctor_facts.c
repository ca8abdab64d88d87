/* What the doctor looks at. */
#include "doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/timex.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/clock.h>
#include <vmsd/path.h>

enum { CHILD_MS = 5000, CHAINS_MAX = 4 << 20, ORPHANS_SHOWN = 20 };

/* What the worker needs to know of the world: copied on the loop. */
struct snapshot {
    struct world *w;
    struct doctor_facts *facts;
    uint32_t *ids;
    size_t n_ids;
    struct strv bridges;
    struct strv names, addresses; /* one of each: an address and whose it is */
    struct strv guests;           /* names of all, in the order of … */
    struct doctor_needs waits, asks; /* … these */
    bool failed;
};

static void snapshot_done(struct snapshot s)
{
    free(s.ids);
    strv_done(s.bridges);
    strv_done(s.names);
    strv_done(s.addresses);
    strv_done(s.guests);
    free(s.waits.v);
    free(s.asks.v);
}
OWN_DEFINE(snapshot, struct snapshot, snapshot_done)

static void take_address(struct snapshot *s, const struct guest *g, const char *address)
{
    if (!*address)
        return;
    strv_add(&s->names, g->name);
    strv_add(&s->addresses, address);
}

static void add_need(struct snapshot *s, struct doctor_needs *to, size_t who, size_t whom)
{
    struct doctor_need *v = realloc(to->v, (to->n + 1) * sizeof *v);

    if (!v) {
        s->failed = true;
        return;
    }
    to->v = v;
    v[to->n++] = (struct doctor_need){who, whom};
}

static size_t place_of(const struct world *w, const struct guest *g)
{
    for (size_t i = 0; i < w->n_guests; i++)
        if (w->guests[i] == g)
            return i;
    return SIZE_MAX;
}

static bool has_address(const struct guest *g, const char *address)
{
    for (size_t i = 0; i < g->n_nics; i++)
        if (!strcmp(g->nics[i].address, address) || !strcmp(g->nics[i].address6, address))
            return true;
    return false;
}

/* Guests ask the servers of their first network; with a second server outside there is no circle. */
static void take_asks(struct snapshot *s, const struct network_spec *n, size_t server)
{
    for (size_t i = 0; i < s->w->n_guests; i++) {
        const struct guest *g = s->w->guests[i];

        if (g->n_nics && !strcmp(g->nics[0].network, n->name) && i != server)
            add_need(s, &s->asks, i, server);
    }
}

static void take_needs(struct snapshot *s)
{
    struct world *w = s->w;

    for (size_t i = 0; i < w->n_guests; i++) {
        const struct guest *g = w->guests[i];

        strv_add(&s->guests, g->name);
        for (size_t k = 0; k < g->spec->depends_on.n; k++) {
            const struct guest *d = world_guest(w, g->spec->depends_on.v[k]);

            if (d)
                add_need(s, &s->waits, i, place_of(w, d));
        }
    }
    for (size_t i = 0; i < w->n_networks; i++)
        for (size_t k = 0; w->networks[i]->dns.n == 1 && k < w->n_guests; k++)
            if (has_address(w->guests[k], w->networks[i]->dns.v[0]))
                take_asks(s, w->networks[i], k);
}

static void take_snapshot(void *arg)
{
    struct snapshot *s = arg;
    struct world *w = s->w;

    s->facts->host_memory = w->host_memory;
    s->facts->n_guests = w->n_guests;
    s->facts->n_networks = w->n_networks;
    if (!(s->ids = calloc(w->n_guests + 1, sizeof *s->ids)))
        s->failed = true;
    for (size_t i = 0; i < w->n_guests && !s->failed; i++) {
        const struct guest *g = w->guests[i];

        s->ids[s->n_ids++] = g->id;
        s->facts->n_microvms += g->spec->kind == KIND_MICROVM;
        if (g->up)
            s->facts->guest_memory += g->spec->memory;
        for (size_t k = 0; k < g->n_nics; k++) {
            take_address(s, g, g->nics[k].address);
            take_address(s, g, g->nics[k].address6);
        }
    }
    for (size_t i = 0; i < w->n_networks; i++)
        strv_add(&s->bridges, w->networks[i]->bridge);
    take_needs(s);
    s->failed |= s->guests.failed || s->bridges.failed || s->names.failed || s->addresses.failed;
}

static bool knows(const struct snapshot *s, uint64_t id)
{
    for (size_t i = 0; i < s->n_ids; i++)
        if (s->ids[i] == id)
            return true;
    return false;
}

/* ---- leftovers ---- */

static void look_at_links(const struct snapshot *s, struct strv *orphans)
{
    OWN(strv) struct strv links = {0};
    uint32_t id;
    unsigned nic;

    if (net_links(&links, NULL) < 0)
        return;
    for (size_t i = 0; i < links.n; i++) {
        bool known = net_ifname_parse(links.v[i], &id, &nic) ? knows(s, id) : strv_has(&s->bridges, links.v[i]);

        if (!known)
            strv_addf(orphans, "network interface %s", links.v[i]);
    }
}

static void look_at_run_dirs(const struct snapshot *s, struct strv *orphans)
{
    const char *run = s->w->options->run_dir;
    OWN(str) char *path = text_format("%s/guests", run);
    OWN(dir) DIR *d = dir_take(path ? path_open_host(path, O_RDONLY | O_DIRECTORY, NULL) : -1);
    uint64_t id;

    for (const struct dirent *x; d && (x = readdir(d));)
        if (text_to_u64(x->d_name, &id) && !knows(s, id))
            strv_addf(orphans, "runtime directory %s/%s", path, x->d_name);
}

static void look_at_roots(const struct snapshot *s, struct strv *orphans)
{
    uint32_t *ids = NULL;
    size_t n = 0;

    if (root_list(s->w->images, &ids, &n, NULL) < 0)
        return;
    for (size_t i = 0; i < n; i++)
        if (!knows(s, ids[i]))
            strv_addf(orphans, "disk %s/guests/%u", s->w->options->state_dir, ids[i]);
    free(ids);
}

static void look_for_orphans(const struct snapshot *s, struct strv *orphans)
{
    OWN(strv) struct strv all = {0};

    look_at_links(s, &all);
    look_at_run_dirs(s, &all);
    look_at_roots(s, &all);
    for (size_t i = 0; i < all.n && i < ORPHANS_SHOWN; i++)
        strv_add(orphans, all.v[i]);
    if (all.n > ORPHANS_SHOWN)
        strv_addf(orphans, "and %zu more", all.n - ORPHANS_SHOWN);
}

/* ---- other firewalls ---- */

void doctor_dropping(const char *nft_json, size_t n, struct strv *out)
{
    OWN(json) json_t *all = json_from_text(nft_json, n, NULL);
    json_t *item;
    size_t i;

    json_array_foreach (json_object_get(all, "nftables"), i, item) {
        const json_t *c = json_object_get(item, "chain");
        const char *table = json_str(c, "table", "");

        if (!c || !strcmp(table, "vmsd") || strcmp(json_str(c, "hook", ""), "forward"))
            continue;
        /* firewalld accepts by policy and rejects by its last rule. */
        if (!strcmp(json_str(c, "policy", ""), "drop") || !strcmp(table, "firewalld"))
            strv_addf(out, "%s %s %s", json_str(c, "family", ""), table, json_str(c, "name", ""));
    }
}

static void look_at_nft(struct strv *out)
{
    static char *const argv[] = {"nft", "-j", "list", "chains", NULL};
    struct child_plan plan = {.argv = argv, .output_max = CHAINS_MAX};
    struct child_end end = {0};

    if (child_run(&plan, deadline_in(CHILD_MS), &end, NULL) == 0 && end.status == 0 && end.output)
        doctor_dropping(end.output, end.n, out);
    free(end.output);
}

/* iptables of the old kind does not show in nft. Asking it would load its modules, so only where they are. */
static void look_at_iptables(struct strv *out)
{
    static char *const argv[] = {"iptables-legacy", "-S", "FORWARD", NULL};
    OWN(fd) int fd = path_open_host("/proc/net/ip_tables_names", O_RDONLY, NULL);
    OWN(str) char *tables = NULL, *rules = NULL;

    if (fd < 0 || path_read_fd(fd, "ip_tables_names", 4096, &tables, NULL, NULL) < 0 || !strstr(tables, "filter"))
        return;
    if (child_must(argv, deadline_in(CHILD_MS), &rules, NULL) == 0 && rules && strstr(rules, "-P FORWARD DROP"))
        strv_add(out, "iptables-legacy filter FORWARD");
}

/* ---- the rest ---- */

bool doctor_asks(const char *resolv, const char *address)
{
    size_t n = strlen(address);

    for (const char *line = resolv; line; line = text_next_line(line)) {
        const char *at = line + strspn(line, " \t");

        if (strncmp(at, "nameserver", 10) || !strspn(at + 10, " \t"))
            continue;
        at += 10 + strspn(at + 10, " \t");
        if (!strncmp(at, address, n) && (!at[n] || strchr(" \t\r\n#;", at[n])))
            return true;
    }
    return false;
}

/* Behind systemd-resolved's stub the true servers stand in a file of its own. */
static void look_at_resolvers(const struct snapshot *s, struct strv *out)
{
    static const char *const files[] = {"/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        OWN(fd) int fd = path_open_host(files[i], O_RDONLY, NULL);
        OWN(str) char *text = NULL;

        if (fd < 0 || path_read_fd(fd, files[i], 64 << 10, &text, NULL, NULL) < 0)
            continue;
        for (size_t k = 0; k < s->addresses.n; k++) {
            OWN(str) char *who = text_format("%s (%s)", s->names.v[k], s->addresses.v[k]);

            if (who && doctor_asks(text, s->addresses.v[k]) && !strv_has(out, who))
                strv_add(out, who);
        }
    }
}

static bool group_there(const char *name)
{
    struct group g, *found = NULL;
    char memory[4096];

    /* ERANGE: it is there, and has many members. */
    return getgrnam_r(name, &g, memory, sizeof memory, &found) == ERANGE || found;
}

static void look_at_space(struct doctor_facts *f)
{
    OWN(fd) int state = path_open_host(f->state_dir, O_PATH | O_DIRECTORY, NULL);
    OWN(fd) int run = path_open_host(f->run_dir, O_PATH | O_DIRECTORY, NULL);
    struct statfs fs;

    if (state >= 0 && fstatfs(state, &fs) == 0) {
        f->disk_total = (uint64_t)fs.f_blocks * (uint64_t)fs.f_bsize;
        f->disk_free = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
        f->files_total = fs.f_files;
        f->files_free = fs.f_ffree;
    }
    f->run_tmpfs = run >= 0 && fstatfs(run, &fs) == 0 && fs.f_type == TMPFS_MAGIC;
}

static void look_at_process(struct doctor_facts *f)
{
    struct rlimit files = {0};
    struct timex t = {0};
    int state = adjtimex(&t);

    f->grows = prctl(PR_CAPBSET_READ, CAP_SYS_RESOURCE) == 1;
    getrlimit(RLIMIT_NOFILE, &files);
    f->open_files = files.rlim_cur;
    f->wall = wall_ms();
    f->clock_known = state >= 0;
    f->clock_synced = state >= 0 && !(t.status & STA_UNSYNC);
}

static void look_at_drivers(struct doctor_facts *f)
{
    drv_host_probe(&f->host);
    for (const struct vm_driver *const *d = drivers(); *d && f->n_drivers < DOCTOR_DRIVERS_MAX; d++) {
        f->drivers[f->n_drivers].name = (*d)->name;
        f->drivers[f->n_drivers].kind = (*d)->kind;
        (*d)->probe(&f->drivers[f->n_drivers++].report);
    }
}

int doctor_look(struct world *w, struct doctor_facts *f, struct vm_err *e)
{
    OWN(snapshot) struct snapshot s = {.w = w, .facts = f};

    *f = (struct doctor_facts){.run_dir = w->options->run_dir, .state_dir = w->options->state_dir};
    loop_call(w->loop, take_snapshot, &s);
    if (s.failed)
        return vm_no_memory(e);
    look_at_drivers(f);
    if (net_probe(&f->net, &f->net_error) == 0)
        f->net_error = (struct vm_err){0};
    look_at_nft(&f->dropping);
    look_at_iptables(&f->dropping);
    look_at_resolvers(&s, &f->dns_guests);
    look_for_orphans(&s, &f->orphans);
    look_at_space(f);
    look_at_process(f);
    f->mmdebstrap = child_there("mmdebstrap");
    f->erofs = child_there("mkfs.erofs");
    f->init = access(w->options->init, X_OK) == 0;
    doctor_circles((const char *const *)s.guests.v, s.guests.n, &s.waits, &s.asks, &f->circles);
    f->group = group_there("vmsd");
    return f->dropping.failed || f->dns_guests.failed || f->circles.failed || f->orphans.failed ? vm_no_memory(e) : 0;
}

void doctor_facts_done(struct doctor_facts *f)
{
    strv_done(f->dropping);
    strv_done(f->dns_guests);
    strv_done(f->circles);
    strv_done(f->orphans);
}
