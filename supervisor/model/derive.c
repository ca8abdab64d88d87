/* What a guest names in the bundle: is it there, and what is in it? */
#include "read.h"

#include <stdarg.h>
#include <string.h>
#include <vmsd/hash.h>

enum { INPUT_FILES_MAX = 10000000 }; /* files of inputs in all, each as often as a script names it: a second's work */

struct sums {
    const struct bundle *bundle;
    size_t inputs; /* so many yet */
    struct sum {
        char hex[HASH_HEX]; /* "" until somebody asks */
        bool is_template;   /* known to be one */
    } *of;         /* each file */
};

struct sums *sums_new(const struct bundle *b)
{
    struct sums *s = calloc(1, sizeof *s);

    if (s && !(s->of = calloc(b->n + 1, sizeof *s->of))) {
        free(s);
        return NULL;
    }
    if (s)
        s->bundle = b;
    return s;
}

void sums_free(struct sums *s)
{
    if (s)
        free(s->of);
    free(s);
}

static const char *sum_of(struct sums *s, size_t i)
{
    if (!*s->of[i].hex)
        hash_bytes(s->bundle->files[i].data, s->bundle->files[i].len, s->of[i].hex);
    return s->of[i].hex;
}

/* The first file whose path is not before path. */
static size_t lower_bound(const struct bundle *b, const char *path)
{
    size_t lo = 0, hi = b->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (strcmp(b->files[mid].path, path) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* All files that a path stands for: itself, or all below it. */
static size_t find(const struct bundle *b, const char *path, size_t *first)
{
    char below[BUNDLE_PATH_MAX + 2];
    size_t n = 0, length;

    *first = lower_bound(b, path);
    if (*first < b->n && !strcmp(b->files[*first].path, path))
        return 1;
    length = (size_t)snprintf(below, sizeof below, "%s/", path);
    if (length >= sizeof below)
        return 0;
    *first = lower_bound(b, below);
    while (*first + n < b->n && !strncmp(b->files[*first + n].path, below, length))
        n++;
    return n;
}

struct derive {
    struct sums *sums;
    const struct node *root;
    struct issues *issues;
};

VM_PRINTF(3) static void bad(struct derive *d, const char *path, const char *fmt, ...);

static void bad(struct derive *d, const char *path, const char *fmt, ...)
{
    char what[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    issue_at(d->issues, node_at(d->root, path), "%s: %s", path, what);
}

static void bad_absent(struct derive *d, const char *where, const char *path)
{
    enum { HINT_MAX = 300 };
    const struct bundle *b = d->sums->bundle;
    const char *near[HINT_MAX], *nearest = NULL;

    for (size_t i = 0; i < b->n && i < HINT_MAX; i++)
        near[i] = b->files[i].path;
    if (b->n <= HINT_MAX && !issues_full(d->issues))
        nearest = text_nearest(path, near, b->n);
    if (nearest)
        bad(d, where, "\"%s\" is not in the spec directory; did you mean \"%s\"?", path, nearest);
    else
        bad(d, where, "\"%s\" is not in the spec directory; expected a file there", path);
}

/* Index of the one file of that path, or -1 with a complaint. */
static ssize_t one_file(struct derive *d, const char *where, const char *path)
{
    size_t first, n = find(d->sums->bundle, path, &first);

    if (!n)
        bad_absent(d, where, path);
    else if (strcmp(d->sums->bundle->files[first].path, path) != 0)
        bad(d, where, "\"%s\" is a directory; expected a file", path);
    else
        return (ssize_t)first;
    return -1;
}

static void check_script(struct derive *d, const char *where, const struct bundle_file *f)
{
    if (!(f->mode & 0111) && (f->len < 2 || memcmp(f->data, "#!", 2) != 0))
        bad(d, where, "\"%s\" is neither executable nor begins with \"#!\"; expected a script; chmod +x it", f->path);
}

static bool add_json(struct hash *h, const json_t *v)
{
    OWN(str) char *text = v ? json_to_text(v) : NULL;

    hash_add_str(h, text);
    return !v || text;
}

static void add_inputs(struct derive *d, struct hash *h, size_t script, const json_t *inputs)
{
    const struct bundle *b = d->sums->bundle;
    char at[96];
    json_t *v;
    size_t i;

    json_array_foreach(inputs, i, v) {
        const char *path = json_string_value(v);
        size_t first, n = path ? find(b, path, &first) : 0;

        snprintf(at, sizeof at, "install[%zu].inputs[%zu]", script, i);
        if (!n)
            bad_absent(d, at, path ? path : "");
        if ((d->sums->inputs += n) > INPUT_FILES_MAX) {
            bad(d, at, "the scripts of all guests have more than %d files as inputs; name smaller directories", INPUT_FILES_MAX);
            break;
        }
        for (size_t k = 0; k < n; k++) {
            hash_add_str(h, b->files[first + k].path);
            hash_add_str(h, sum_of(d->sums, first + k));
        }
    }
    hash_add_str(h, "");
}

/* The sum over all that decides about running again, and so neither name, mode nor time-out. digest goes in as that of
 * the script before, and comes out as that of this one. */
static bool derive_script(struct derive *d, size_t i, json_t *script, const json_t *guest_env, char digest[HASH_HEX])
{
    const char *path = json_str(script, "script", NULL);
    struct hash *h = path ? hash_new() : NULL;
    char where[32];
    ssize_t file;
    bool fine;

    if (!path)
        return true;
    if (!h)
        return false;
    snprintf(where, sizeof where, "install[%zu]", i);
    hash_add_str(h, digest);
    if ((file = one_file(d, where, path)) >= 0) {
        check_script(d, where, &d->sums->bundle->files[file]);
        hash_add_str(h, sum_of(d->sums, (size_t)file));
    }
    fine = add_json(h, json_object_get(script, "args")) && add_json(h, json_object_get(script, "env")) &&
           add_json(h, guest_env);
    add_inputs(d, h, i, json_object_get(script, "inputs"));
    hash_add_str(h, json_str(script, "user", "root"));
    hash_end(h, digest);
    return fine && json_object_set_new(script, "digest", json_string(digest)) == 0;
}

static const char *any_value(const char *name, void *arg)
{
    (void)name;
    (void)arg;
    return "";
}

/* Which names have a value is known when it is written; whether it is a template at all, now. False: no memory. */
static bool check_template(struct derive *d, const char *where, size_t file)
{
    const struct bundle_file *f = &d->sums->bundle->files[file];
    bool *known = &d->sums->of[file].is_template;
    OWN(str) char *filled = NULL;
    struct vm_err why = {0};

    if (*known || issues_full(d->issues))
        return true;
    *known = spec_template(f->data, f->len, any_value, NULL, &filled, &why) == 0;
    if (!*known && why.code != VM_E_SYSTEM)
        bad(d, where, "%s: %s", f->path, why.text);
    return *known || why.code != VM_E_SYSTEM;
}

static bool derive_file(struct derive *d, size_t i, json_t *file)
{
    const char *path = json_str(file, "source", NULL);
    char where[64];
    ssize_t at;

    if (!path)
        return true;
    snprintf(where, sizeof where, "files[%zu].source", i);
    if ((at = one_file(d, where, path)) < 0)
        return true;
    if (json_flag(file, "template", false) && !check_template(d, where, (size_t)at))
        return false;
    return json_object_set_new(file, "digest", json_string(sum_of(d->sums, (size_t)at))) == 0;
}

bool derive_guest(struct sums *s, json_t *guest, const struct node *root, struct issues *is)
{
    struct derive d = {s, root, is};
    const json_t *env = json_object_get(guest, "env");
    char digest[HASH_HEX] = "";
    json_t *v;
    size_t i;

    json_array_foreach(json_object_get(guest, "install"), i, v) if (!derive_script(&d, i, v, env, digest)) return false;
    json_array_foreach(json_object_get(guest, "files"), i, v) if (!derive_file(&d, i, v)) return false;
    return true;
}
