/* hosts.yaml: from nodes to hosts. */
#include "node.h"

#include <string.h>
#include <vmsd/hosts.h>

struct whole {
    struct hosts_file file; /* first: what the caller has */
    struct arena *arena;
    struct issues issues;
    bool no_memory;
};

static const char *text_of(struct whole *w, const struct node *v, const char *key)
{
    if (v->kind == NODE_SCALAR && v->n && node_scalar(v) == SCALAR_STRING)
        return v->text;
    issue_at(&w->issues, v, "%s: %s; expected a text", key, v->kind == NODE_SCALAR && !v->n ? "nothing" : node_kind_name(v));
    return NULL;
}

static void take_ssh(struct whole *w, struct hosts_entry *h, const struct node *v)
{
    if (!(h->ssh = text_of(w, v, "ssh")))
        return;
    if (!strncmp(h->ssh, "ssh://", 6))
        h->ssh += 6;
}

static void take_socket(struct whole *w, struct hosts_entry *h, const struct node *v)
{
    if ((h->socket = text_of(w, v, "socket")) && h->socket[0] != '/')
        issue_at(&w->issues, v, "socket: %s; expected an absolute path on this host", h->socket);
}

/* A list of one may be written without its brackets. */
static void take_list(struct whole *w, struct spec_list *list, const struct node *v, const char *key)
{
    struct node *one = (struct node *)v, *const *items = v->kind == NODE_LIST ? v->items : &one;
    size_t n = v->kind == NODE_LIST ? v->n : 1;

    if (!(list->v = arena_take(w->arena, (n + 1) * sizeof(char *)))) {
        w->no_memory = true;
        return;
    }
    for (size_t i = 0; i < n; i++)
        if ((list->v[list->n] = text_of(w, items[i], key)))
            list->n++;
}

static void take_specs(struct whole *w, struct hosts_entry *h, const struct node *v)
{
    take_list(w, &h->specs, v, "specs");
}

static void take_tags(struct whole *w, struct hosts_entry *h, const struct node *v)
{
    take_list(w, &h->tags, v, "tags");
}

static const struct {
    const char *key;
    void (*take)(struct whole *w, struct hosts_entry *h, const struct node *v);
} fields[] = {{"ssh", take_ssh}, {"socket", take_socket}, {"specs", take_specs}, {"tags", take_tags}};

static void take_field(struct whole *w, struct hosts_entry *h, const struct node *key, const struct node *value)
{
    const char *words[ARRAY_LEN(fields)], *near;

    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        words[i] = fields[i].key;
        if (!strcmp(key->text, fields[i].key)) {
            fields[i].take(w, h, value);
            return;
        }
    }
    near = text_nearest(key->text, words, ARRAY_LEN(words));
    issue_at(&w->issues, key, "%s: unknown; %s%s%s", key->text, near ? "did you mean '" : "expected ssh, socket, specs or tags",
             near ? near : "", near ? "'?" : "");
}

static void take_host(struct whole *w, const struct node *key, const struct node *value)
{
    struct hosts_entry *h = &w->file.v[w->file.n++];
    const struct node *ssh = value->kind == NODE_MAP ? node_get(value, "ssh", NULL) : value;

    *h = (struct hosts_entry){.name = key->text, .line = ssh ? ssh->line : key->line, .column = ssh ? ssh->column : key->column};
    if (!text_is_domain(key->text) || !strcmp(key->text, "all")) /* -H all */
        issue_at(&w->issues, key, "%s: no name for a host; expected one like 'left' or 'left.example', and not 'all'", key->text);
    if (value->kind == NODE_MAP)
        for (size_t i = 0; i < value->n; i++)
            take_field(w, h, value->items[2 * i], value->items[2 * i + 1]);
    else if (value->kind != NODE_SCALAR)
        issue_at(&w->issues, value, "%s: %s; expected what ssh reaches it by, or a map with it", key->text, node_kind_name(value));
    else if (node_scalar(value) != SCALAR_NULL)
        take_ssh(w, h, value);
    if (h->ssh && h->socket)
        issue_at(&w->issues, key, "%s: both ssh and socket; keep one of them", key->text);
    if (!h->ssh && !h->socket)
        h->ssh = h->name;
}

static void take_all(struct whole *w, const struct docs *docs, const char *file)
{
    const struct node *root = docs->n ? docs->v[0]->root : NULL;

    if (docs->n > 1)
        issue_at(&w->issues, docs->v[1]->root, "a second document; expected one, with all hosts");
    if (!root && !w->issues.n)
        issue_add(&w->issues, file, 0, 0, false, "names no host; expected a line for each, as in 'left: root@left.example'");
    if (!root)
        return;
    if (root->n > HOSTS_MAX) {
        issue_at(&w->issues, root, "%zu hosts; expected at most %d", root->n, HOSTS_MAX);
        return;
    }
    if (!(w->file.v = arena_take(w->arena, (root->n + 1) * sizeof *w->file.v))) {
        w->no_memory = true;
        return;
    }
    for (size_t i = 0; i < root->n; i++)
        take_host(w, root->items[2 * i], root->items[2 * i + 1]);
}

int hosts_file_read(const char *file, const char *data, size_t n, struct hosts_file **out, struct vm_err *e)
{
    struct docs docs = {.expected = "a map with a name for each host"};
    struct whole *w = calloc(1, sizeof *w);

    if (!w || !(w->arena = arena_new())) {
        free(w);
        return vm_no_memory(e);
    }
    if (yaml_read(file, data, n, w->arena, &docs, &w->issues) < 0)
        w->no_memory = true;
    else
        take_all(w, &docs, file);
    free(docs.v);
    issues_end(&w->issues);
    w->file.issues = w->issues.v;
    w->file.n_issues = w->issues.n;
    if (w->no_memory || w->issues.failed) {
        hosts_file_free(&w->file);
        return vm_no_memory(e);
    }
    *out = &w->file;
    return 0;
}

void hosts_file_free(struct hosts_file *f)
{
    struct whole *w = (struct whole *)f;

    if (!w)
        return;
    issues_done(w->issues);
    arena_free(w->arena);
    free(w);
}
