/* Recipes: a directory NAME/ with recipe.json, and if need be an executable `customize`. docs/images.md describes both.
 * A recipe is read once, as a whole; what is built is what was hashed. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/hash.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

#define FORMAT "vmsd image 1" /* change it when the same recipe gives another tree */
#define RECIPE_FILE "recipe.json"
#define CUSTOMIZE_FILE "customize"

#if defined(__x86_64__)
#define DEBIAN_ARCH "amd64"
#elif defined(__aarch64__)
#define DEBIAN_ARCH "arm64"
#else
#error "what does Debian call this machine?"
#endif

enum { FILE_BYTES_MAX = 256 << 10, WORD_MAX = 200 };

struct recipe {
    char *suite, *variant;
    struct strv components, packages, exclude, include;
    char *customize;               /* or NULL */
    size_t n_customize;
    char id[IMAGE_ID];
};

void recipe_free(struct recipe *r)
{
    if (!r)
        return;
    free(r->suite);
    free(r->variant);
    strv_done(r->components);
    strv_done(r->packages);
    strv_done(r->exclude);
    strv_done(r->include);
    free(r->customize);
    free(r);
}
OWN_DEFINE(recipe, struct recipe *, recipe_free)

const char *recipe_id(const struct recipe *r)
{
    return r->id;
}

/* ---- reading ---- */

/* Letters, digits and `more`, nothing that mmdebstrap would read as an option, a list or a query. */
static bool is_word(const char *s, const char *more)
{
    size_t n = strlen(s);

    if (n == 0 || n > WORD_MAX || *s == '-')
        return false;
    for (; *s; s++)
        if (!(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') && !(*s >= '0' && *s <= '9') && !strchr(more, *s))
            return false;
    return true;
}

static int read_word(const json_t *j, const char *key, const char *otherwise, char **out, struct vm_err *e)
{
    const json_t *v = json_object_get(j, key);
    const char *s = v ? json_string_value(v) : otherwise;

    if (!s || !is_word(s, "-._+"))
        return vm_fail(e, VM_E_INVALID, "%s: '%s' must be one word", RECIPE_FILE, key);
    return (*out = strdup(s)) ? 0 : vm_no_memory(e);
}

/* "linux-image-cloud-${arch}": some packages are called after the machine that they are for. *out is yours. */
static char *expand_arch(const char *word)
{
    static const char variable[] = "${arch}";
    const char *at = strstr(word, variable);

    if (!at)
        return strdup(word);
    return text_format("%.*s" DEBIAN_ARCH "%s", (int)(at - word), word, at + strlen(variable));
}

static int read_words(const json_t *j, const char *key, const char *more, struct strv *out, struct vm_err *e)
{
    const json_t *list = json_object_get(j, key), *v;
    size_t i;

    if (list && !json_is_array(list))
        return vm_fail(e, VM_E_INVALID, "%s: '%s' must be a list of words", RECIPE_FILE, key);
    json_array_foreach (list, i, v) {
        const char *word = json_string_value(v);
        OWN(str) char *s = word ? expand_arch(word) : NULL;
        if (word && !s)
            return vm_no_memory(e);
        if (!s || !is_word(s, more))
            return vm_fail(e, VM_E_INVALID, "%s: '%s': entry %zu is no plain word", RECIPE_FILE, key, i + 1);
        strv_add(out, s);
    }
    return out->failed ? vm_no_memory(e) : 0;
}

static int recipe_parse(struct recipe *r, const char *text, size_t n, struct vm_err *e)
{
    static const char *const keys[] = {"suite", "variant", "components", "packages", "exclude", "include", NULL};
    OWN(json) json_t *j = json_from_text(text, n, e);
    const char *key;
    json_t *v;

    if (!j)
        return vm_context(e, RECIPE_FILE);
    if (!json_is_object(j))
        return vm_fail(e, VM_E_INVALID, "%s is no object", RECIPE_FILE);
    json_object_foreach (j, key, v) {
        size_t i = 0;
        while (keys[i] && strcmp(keys[i], key))
            i++;
        if (!keys[i])
            return vm_fail(e, VM_E_INVALID,
                           "%s: unknown key '%.60s'; it takes suite, variant, components, packages, exclude "
                           "and include",
                           RECIPE_FILE, key);
    }
    if (read_word(j, "suite", NULL, &r->suite, e) < 0 || read_word(j, "variant", "minbase", &r->variant, e) < 0 ||
        read_words(j, "components", "-", &r->components, e) < 0 ||
        read_words(j, "packages", "-.+", &r->packages, e) < 0 ||
        read_words(j, "exclude", "/*-._+", &r->exclude, e) < 0 ||
        read_words(j, "include", "/*-._+", &r->include, e) < 0)
        return -1;
    if (!r->components.n)
        strv_add(&r->components, "main");
    return r->components.failed ? vm_no_memory(e) : 0;
}

static int recipe_read(int dir, struct recipe *r, struct vm_err *e)
{
    OWN(str) char *text = NULL;
    size_t n = 0;
    struct hash *h;

    if (path_read(dir, RECIPE_FILE, FILE_BYTES_MAX, &text, &n, e) < 0 || recipe_parse(r, text, n, e) < 0)
        return -1;
    if (path_exists(dir, CUSTOMIZE_FILE) &&
        path_read(dir, CUSTOMIZE_FILE, FILE_BYTES_MAX, &r->customize, &r->n_customize, e) < 0)
        return -1;
    if (!(h = hash_new()))
        return vm_no_memory(e);
    hash_add_str(h, FORMAT);
    hash_add_str(h, RECIPE_FILE);
    hash_add(h, text, n + 1); /* with the NUL, so that the two files cannot run together */
    hash_add_str(h, CUSTOMIZE_FILE);
    hash_add(h, r->customize, r->n_customize);
    hash_end(h, r->id);
    return 0;
}

static int keep_name(const char *name, void *names, struct vm_err *e)
{
    strv_add(names, name);
    return ((struct strv *)names)->failed ? vm_no_memory(e) : 0;
}

int recipe_open(const struct image_store *s, const char *name, struct recipe **out, struct vm_err *e)
{
    OWN(recipe) struct recipe *r = calloc(1, sizeof *r);
    OWN(text) struct text where = {0};
    OWN(strv) struct strv names = {0};
    const char *near;

    if (!r)
        return vm_no_memory(e);
    if (!text_is_domain(name))
        return vm_fail(e, VM_E_INVALID, "recipe name '%.60s' must be of a-z, 0-9, '-' and '.'", name);
    for (size_t i = 0; i < s->recipes.n; i++) {
        OWN(fd) int all = path_open_host(s->recipes.v[i], O_RDONLY | O_DIRECTORY, NULL);
        OWN(fd) int dir = all < 0 ? -1 : path_open(all, name, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, NULL);
        if (dir >= 0) {
            if (recipe_read(dir, r, e) < 0)
                return vm_context(e, "recipe '%s'", name);
            *out = TAKE(r);
            return 0;
        }
        text_addf(&where, "%s%s", where.len ? ", " : "", s->recipes.v[i]);
        if (all >= 0)
            store_each(all, false, keep_name, &names, NULL); /* only for a hint */
    }
    if ((near = text_nearest(name, (const char *const *)names.v, names.n)))
        return vm_fail(e, VM_E_ABSENT, "no recipe '%s' in %.120s; did you mean '%.60s'?", name, where.s, near);
    return vm_fail(e, VM_E_ABSENT, "no recipe '%s' in %.200s; images are described by a directory NAME/" RECIPE_FILE,
                   name, where.len ? where.s : "any directory, as none is configured");
}

/* ---- building ---- */

/* All words of v as "--option=a,b,c". */
static void add_joined(struct strv *argv, const char *option, const struct strv *v)
{
    OWN(text) struct text t = {0};

    text_addf(&t, "--%s=", option);
    for (size_t i = 0; i < v->n; i++)
        text_addf(&t, "%s%s", i ? "," : "", v->v[i]);
    if (t.failed)
        argv->failed = true;
    else if (v->n)
        strv_add(argv, t.s);
}

/* In a mount and a pid namespace of its own: what a hook mounts or leaves running is gone with it. */
static void build_args(const struct recipe *r, const char *builder, bool sources, struct strv *argv)
{
    static const char *const isolated[] = {"unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"};

    for (size_t i = 0; i < ARRAY_LEN(isolated); i++)
        strv_add(argv, isolated[i]);
    strv_add(argv, builder);
    strv_add(argv, "--mode=root");
    strv_add(argv, "--format=directory");
    strv_addf(argv, "--variant=%s", r->variant);
    add_joined(argv, "components", &r->components);
    add_joined(argv, "include", &r->packages);
    for (size_t i = 0; i < r->exclude.n; i++)
        strv_addf(argv, "--dpkgopt=path-exclude=%s", r->exclude.v[i]);
    for (size_t i = 0; i < r->include.n; i++)
        strv_addf(argv, "--dpkgopt=path-include=%s", r->include.v[i]);
    if (r->customize)
        /* Of what is only unpacked mmdebstrap knows no later moment. */
        strv_addf(argv, "--%s-hook=cp customize \"$1\"/.customize && env -u TMPDIR chroot \"$1\" /.customize && "
                        "rm \"$1\"/.customize", strcmp(r->variant, "extract") ? "customize" : "extract");
    strv_add(argv, r->suite);
    strv_add(argv, "tree");
    if (sources)
        strv_add(argv, "-");
}

static int build_failed(const struct image_store *s, const struct lines *l, int status, struct vm_err *e)
{
    if (l->full)
        return store_no_space(e);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        return vm_fail(e, VM_E_UNAVAILABLE, "'%s' can't be run; install the packages mmdebstrap and util-linux",
                       s->builder);
    /* apt's first complaint is the cause; "setup failed" only says that a hook or a package did, which spoke before. */
    bool cause = l->first_error[0] && strncmp(l->first_error, "setup failed", 12);
    const char *said = cause ? l->first_error : l->last[0] ? l->last : "failed silently";
    return vm_fail(e, VM_E_BACKEND, "mmdebstrap: %.250s", said);
}

int recipe_build(const struct image_make *m, struct vm_err *e)
{
    static const char *const proxies[] = {"http_proxy", "https_proxy", "no_proxy"};
    OWN(str) char *sources = NULL;
    OWN(strv) struct strv argv = {0};
    OWN(strv) struct strv env = {0};
    const char *proxy;
    const struct recipe *r = m->src->recipe;
    struct lines l = {.progress = m->progress};
    struct child_end end;

    if (sources_of_host(r->suite, &r->components, m->deadline, &sources, e) < 0)
        return -1;
    if (r->customize && path_write(m->scratch, CUSTOMIZE_FILE, r->customize, r->n_customize, 0755, e) < 0)
        return -1;
    build_args(r, m->s->builder, *sources, &argv);
    strv_add(&env, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    strv_add(&env, "LC_ALL=C.UTF-8");
    strv_addf(&env, "TMPDIR=%s", m->path); /* what a killed build leaves goes with its scratch directory */
    for (size_t i = 0; i < ARRAY_LEN(proxies); i++)
        if ((proxy = getenv(proxies[i])))
            strv_addf(&env, "%s=%s", proxies[i], proxy);
    if (argv.failed || env.failed)
        return vm_no_memory(e);
    struct child_starter by = {.verb = STARTER_BUILD, .at = m->scratch, .in = -1};
    struct child_plan plan = {
        .argv = argv.v, .env = env.v, .input = sources, .n_input = strlen(sources),
        .on_output = lines_take, .arg = &l, .starter = &by,
    };
    if (child_run(&plan, m->deadline, &end, e) < 0)
        return vm_context(e, "build with mmdebstrap");
    free(end.output);
    lines_end(&l);
    return end.status == 0 ? 0 : build_failed(m->s, &l, end.status, e);
}
