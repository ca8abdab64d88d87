#include "hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/hosts.h>
#include <vmsd/path.h>
#include <vmsd/plan.h>
#include "cli.h"
#include "term.h"

#define SCHEME "ssh://"
enum { LOOK_MS = 20, AGAIN_MS = 5000 };

/* ---- which ---- */

/* hosts.yaml, and the directory that it lies in. */
struct book {
    const char *path;
    char *dir;
    struct hosts_file *file;
};

static void book_done(struct book b)
{
    free(b.dir);
    hosts_file_free(b.file);
}
OWN_DEFINE(book, struct book, book_done)

static const char *book_path(const struct cli *cli)
{
    const char *said = cli_value(cli, OPT_HOSTS), *env = getenv("VMSD_HOSTS");

    return said ? said : env && *env ? env : HOSTS_FILE;
}

static int book_read(struct book *b, struct vm_err *e)
{
    OWN(str) char *text = NULL, *real = realpath(b->path, NULL);
    OWN(fd) int fd = real ? path_open_host(real, O_RDONLY | O_NONBLOCK, e) : -1;
    size_t n;

    if (!real)
        return vm_fail_sys(e, "open '%.200s'", b->path);
    if (fd < 0 || path_read_fd(fd, b->path, SPEC_FILE_MAX, &text, &n, e) < 0 ||
        hosts_file_read(b->path, text, n, &b->file, e) < 0)
        return -1;
    return (b->dir = text_format("%s", dirname(real))) ? 0 : vm_no_memory(e);
}

static int book_check(const struct book *b, struct vm_err *e)
{
    for (size_t i = 0; i + 1 < b->file->n_issues; i++) {
        OWN(str) char *said = spec_issue_text(&b->file->issues[i]);

        if (said)
            fprintf(stderr, "%s\n", said); /* text_add_visible made it */
    }
    if (!b->file->n_issues)
        return 0;
    OWN(str) char *last = spec_issue_text(&b->file->issues[b->file->n_issues - 1]);
    return last ? vm_fail(e, VM_E_INVALID, "%s", last) : vm_no_memory(e);
}

static struct host *host_add(struct hosts *all, const char *name)
{
    struct host *h = &all->v[all->n++];

    *h = (struct host){.name = strdup(name)};
    h->client.host = h->name;
    return h;
}

static int take_url(struct hosts *all, const char *url, struct vm_err *e)
{
    struct host *h = host_add(all, url);

    h->client.remote = &h->remote;
    if (!h->name)
        return vm_no_memory(e);
    return remote_parse(&h->remote, url, e) < 0 ? vm_context(e, "-H") : 0;
}

static int take_entry(struct hosts *all, const struct book *b, const struct hosts_entry *x, struct vm_err *e)
{
    struct host *h = host_add(all, x->name);
    OWN(str) char *url = x->ssh ? text_format(SCHEME "%s", x->ssh) : NULL;

    for (size_t i = 0; i < x->specs.n; i++)
        strv_addf(&h->specs, "%s%s%s", x->specs.v[i][0] == '/' ? "" : b->dir, x->specs.v[i][0] == '/' ? "" : "/", x->specs.v[i]);
    h->client.socket = h->socket = x->socket ? strdup(x->socket) : NULL;
    if (!h->name || h->specs.failed || !(x->socket ? h->socket : url))
        return vm_no_memory(e);
    if (x->socket && strlen(x->socket) >= sizeof((struct sockaddr_un *)NULL)->sun_path)
        return vm_fail(e, VM_E_INVALID, "%s:%u:%u: socket: a path longer than the kernel takes", b->path, x->line, x->column);
    if (x->socket)
        return 0;
    h->client.remote = &h->remote;
    return remote_parse(&h->remote, url, e) < 0 ? vm_context(e, "%s:%u:%u", b->path, x->line, x->column) : 0;
}

static bool has(const struct hosts *all, const char *name)
{
    for (size_t i = 0; i < all->n; i++)
        if (!strcmp(all->v[i].name, name))
            return true;
    return false;
}

/* Those of the book that a name, a glob or "tag:TAG" means, unless they are there already. */
static int take_pattern(struct hosts *all, const struct book *b, const char *pattern, struct vm_err *e)
{
    struct strv one = {.v = (char *[]){(char *)pattern, NULL}, .n = 1};
    OWN(mem) const char **names = calloc(b->file->n + 1, sizeof *names);
    bool found = false;
    const char *near;

    if (!names)
        return vm_no_memory(e);
    for (size_t i = 0; i < b->file->n; i++) {
        const struct hosts_entry *x = &b->file->v[i];

        names[i] = x->name;
        if (strcmp(pattern, "all") != 0 && !select_match(&one, x->name, &x->tags))
            continue;
        found = true;
        if (!has(all, x->name) && take_entry(all, b, x, e) < 0)
            return -1;
    }
    if (found)
        return 0;
    near = text_nearest(pattern, names, b->file->n);
    return vm_fail(e, VM_E_INVALID, "-H %.100s: '%.100s' names no such host%s%.100s%s", pattern, b->path,
                   near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static bool is_url(const char *s)
{
    return !strncmp(s, SCHEME, strlen(SCHEME));
}

static int book_open(struct book *b, const struct strv *wanted, struct vm_err *e)
{
    const char *first = wanted->v[0];

    for (size_t i = 0; i < wanted->n && is_url(first); i++)
        first = wanted->v[i];
    if (is_url(first))
        return 0;
    if (access(b->path, F_OK) < 0 && errno == ENOENT)
        return vm_fail(e, VM_E_INVALID, "-H %.100s: expected " SCHEME "[USER@]HOST[:PORT][/SOCKET], or a name out of a "
                       HOSTS_FILE ", and there is no '%.100s'; --hosts names it", first, b->path);
    return book_read(b, e) < 0 ? -1 : book_check(b, e);
}

static int take_all(struct hosts *all, const struct strv *wanted, const struct book *b, struct vm_err *e)
{
    for (size_t i = 0; i < wanted->n; i++) {
        const char *said = wanted->v[i];

        if (!is_url(said) ? take_pattern(all, b, said, e) < 0 : !has(all, said) && take_url(all, said, e) < 0)
            return -1;
    }
    if (all->n > CLIENT_STREAMS_MAX)
        return vm_fail(e, VM_E_INVALID, "%zu hosts at once are too many; at most %d", all->n, CLIENT_STREAMS_MAX);
    return 0;
}

int hosts_choose(struct cli *cli, struct vm_err *e)
{
    OWN(book) struct book b = {.path = book_path(cli)};
    OWN(strv) struct strv wanted = {0};
    const struct strv *said = &cli->values[OPT_HOST];
    const char *env = getenv("VMSD_HOST");
    struct hosts *all = &cli->hosts;

    for (size_t i = 0; i < said->n; i++)
        strv_add(&wanted, said->v[i]);
    if (!wanted.n && cli_has(cli, OPT_HOSTS))
        strv_add(&wanted, "all");
    else if (!wanted.n && env && *env)
        strv_add(&wanted, env);
    if (!wanted.n)
        return wanted.failed ? vm_no_memory(e) : 0;
    if (wanted.failed)
        return vm_no_memory(e);
    if (book_open(&b, &wanted, e) < 0)
        return -1;
    if (!(all->v = calloc(wanted.n + (b.file ? b.file->n : 0), sizeof *all->v)))
        return vm_no_memory(e);
    if (take_all(all, &wanted, &b, e) < 0)
        return -1;
    all->several = all->n > 1 || wanted.n > 1 || (!is_url(wanted.v[0]) && strcmp(wanted.v[0], all->v[0].name) != 0);
    for (size_t i = 0; i < all->n; i++)
        all->v[i].remote.mute = all->several;
    if (!all->several)
        cli->client = all->v[0].client;
    return 0;
}

void hosts_names(const struct cli *cli, struct strv *out)
{
    OWN(book) struct book b = {.path = book_path(cli)};

    if (book_read(&b, NULL) < 0)
        return;
    strv_add(out, "all");
    for (size_t i = 0; i < b.file->n; i++)
        strv_add(out, b.file->v[i].name);
}

void hosts_done(struct hosts *h)
{
    for (size_t i = 0; i < h->n; i++) {
        remote_done(&h->v[i].remote);
        free(h->v[i].name);
        free(h->v[i].socket);
        strv_done(h->v[i].specs);
    }
    free(h->v);
    *h = (struct hosts){0};
}

/* ---- several ---- */

void host_fail(struct host *h, const struct vm_err *e)
{
    term_complain("%s: %s", h->name, e->text);
    h->status = h->client.unreached ? EXIT_UNREACHED : vm_err_exit(e->code);
}

int hosts_reach(struct hosts *all)
{
    size_t waiting, here = 0;

    for (size_t i = 0; i < all->n; i++) {
        struct vm_err e = {0};

        if (all->v[i].client.remote && remote_begin(&all->v[i].remote, &e) < 0)
            host_fail(&all->v[i], &e);
    }
    do {
        waiting = here = 0;
        for (size_t i = 0; i < all->n; i++) {
            struct host *h = &all->v[i];
            struct vm_err e = {0};
            int rc = host_left_out(h) ? 0 : h->client.remote ? remote_look(&h->remote, &e) : 1;

            if (rc < 0) {
                h->client.unreached = true;
                host_fail(h, &e);
            }
            h->client.socket = h->socket ? h->socket : h->remote.socket;
            here += rc > 0;
            waiting += rc == 0 && !host_left_out(h);
        }
        if (waiting)
            sleep_ms(LOOK_MS);
    } while (waiting);
    return here ? 0 : -1;
}

struct client *host_client(struct host *h, struct vm_err *e)
{
    struct remote *r = h->client.remote;
    bool early = r && !r->ssh && now_ms() - r->began < AGAIN_MS;
    int there = !r ? 1 : early ? 0 : remote_begin(r, e) < 0 ? -1 : remote_look(r, e);

    if (there == 0)
        vm_fail(e, VM_E_UNAVAILABLE, "%s is not reached yet", r->host);
    if (r && there > 0)
        h->client.socket = r->socket;
    return there > 0 ? &h->client : NULL;
}

int hosts_gather(struct hosts *all, struct transfer *t, json_t **docs, struct vm_err *e)
{
    for (size_t i = 0; i < all->n; i++)
        t[i].at = host_left_out(&all->v[i]) ? NULL : &all->v[i].client;
    if (client_gather(NULL, t, all->n, NULL, NULL, docs, e) < 0)
        return -1;
    for (size_t i = 0; i < all->n; i++)
        if (t[i].failed)
            host_fail(&all->v[i], &t[i].err);
    return 0;
}

json_t *hosts_mark(const char *host, const json_t *object)
{
    json_t *marked = json_object();

    if (!marked || json_object_set_new(marked, "host", json_string(host)) < 0 ||
        json_object_update_missing(marked, (json_t *)object) < 0) {
        json_decref(marked);
        return NULL;
    }
    return marked;
}

int hosts_guests(struct cli *cli, json_t **out, struct vm_err *e)
{
    struct hosts *all = &cli->hosts;
    OWN(json) json_t *list = NULL;
    OWN(mem) struct transfer *t = NULL;
    OWN(mem) json_t **docs = NULL;

    if (!all->several)
        return client_json(&cli->client, "GET", "/v1/guests", out, e);
    t = calloc(all->n, sizeof *t);
    docs = calloc(all->n, sizeof(json_t *));
    if (!t || !docs || !(list = json_array()))
        return vm_no_memory(e);
    for (size_t i = 0; i < all->n; i++)
        t[i] = (struct transfer){.method = "GET", .path = "/v1/guests"};
    if (hosts_gather(all, t, docs, e) < 0)
        return -1;
    for (size_t i = 0; i < all->n; i++) {
        hosts_merge(all->v[i].name, json_object_get(docs[i], "guests"), list);
        json_decref(docs[i]);
    }
    *out = json_pack("{s:O}", "guests", list);
    return *out ? 0 : vm_no_memory(e);
}

void hosts_turn(struct cli *cli, const json_t *guest)
{
    const char *name = json_str(guest, "host", NULL);

    for (size_t i = 0; name && i < cli->hosts.n; i++) {
        if (strcmp(cli->hosts.v[i].name, name) != 0)
            continue;
        cli->client = cli->hosts.v[i].client;
        cli_turn(cli->hosts.v[i].name);
    }
}

char *hosts_command(const char *host)
{
    return text_format("vmctl%s%s", host ? " -H " : "", host ? host : "");
}

char *hosts_label(const json_t *object, const char *key)
{
    const char *host = json_str(object, "host", NULL);

    return text_format("%s%s%s", host ? host : "", host ? "/" : "", json_str(object, key, ""));
}

void hosts_merge(const char *host, const json_t *list, json_t *into)
{
    json_t *one;
    size_t i;

    json_array_foreach(list, i, one) {
        if (json_is_string(one)) {
            OWN(str) char *name = text_format("%s/%s", host, json_string_value(one));

            json_array_append_new(into, name ? json_string(name) : NULL);
        } else {
            json_array_append_new(into, hosts_mark(host, one));
        }
    }
}

int hosts_status(const struct hosts *h, int status)
{
    for (size_t i = 0; i < h->n; i++) {
        int there = h->v[i].status;

        /* That guests are not healthy says the least of all. */
        if (there && (!status || status == EXIT_UNHEALTHY || (there != EXIT_UNHEALTHY && there > status)))
            status = there;
    }
    return status;
}
