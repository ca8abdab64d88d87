#include "api.h"
#include "apply.h"

#include "boot.h"
#include "bundles.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum { COMMIT_MAX = 80 };

static void query_list(const struct http_request *r, const char *name, struct strv *out)
{
    const char *s;

    for (size_t i = 0; (s = http_query_nth(r, name, i)); i++)
        strv_add(out, s);
}

static void applying_free(struct applying *a)
{
    for (size_t i = 0; i < a->n_planned; i++) {
        struct planned *p = &a->planned[i];

        plan_change_free(p->change);
        free(p->name);
        free(p->text);
        free(p->nics);
        free(p->purge);
    }
    for (size_t i = 0; a->set && a->texts && i < a->set->n_guests; i++)
        free(a->texts[i]);
    free(a->texts);
    free(a->planned);
    spec_set_free(a->set);
    bundle_free(a->bundle);
    free(a->commit);
    strv_done(a->select);
    strv_done(a->purge);
    strv_done(a->networks);
    strv_done(a->gone_networks);
    free(a->host);
    strv_done(a->orphans);
    strv_done(a->bundles);
    strv_done(a->hypervisors);
    free(a->base);
    free(a->tar);
    free(a);
}

static bool recipe_known(const struct options *o, const char *name)
{
    for (size_t i = 0; i < o->recipes.n; i++) {
        OWN(fd) int dir = path_open_host(o->recipes.v[i], O_PATH | O_DIRECTORY, NULL);

        if (dir >= 0 && path_exists(dir, name))
            return true;
    }
    return false;
}

/* What is to be known before a microVM is run here, once for each hypervisor that is asked for. That there is none is no
 * error of the spec: the plan keeps what runs from it, and a guest that is new fails alone. */
static void look_at_hypervisor(struct applying *a, struct spec_look *at, const struct guest_spec *g)
{
    const struct vm_driver *d;
    struct drv_report r = {0};
    struct vm_err why = {0};

    if (apply_lacks(a, g))
        return;
    d = driver_for(g, &why);
    strv_add(&a->hypervisors, g->hypervisor);
    strv_add(&a->hypervisors, d ? "" : why.text);
    if (d)
        d->probe(&r);
    if (r.usable && *r.warning)
        spec_warn(at, "kind", "%s: %s", d->name, r.warning);
}

static void look_at_file(struct spec_look *at, enum boot_file what, const char *field, const char *path)
{
    struct vm_err why = {0};

    if (path && boot_file_check(what, path, &why) < 0)
        spec_complain(at, field, "%s", why.text);
}

static void look_at_microvm(struct applying *a, struct spec_look *at, const struct guest_spec *g)
{
    look_at_file(at, BOOT_KERNEL, "kernel", g->kernel);
    look_at_file(at, BOOT_INITRAMFS, "initramfs", g->initramfs);
    for (size_t i = 0; i < g->n_binds; i++) {
        OWN(fd) int fd = path_open_host(g->binds[i].source, O_PATH, NULL);
        char path[40];
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0 || S_ISDIR(st.st_mode))
            continue; /* what is not there may come before the guest does */
        snprintf(path, sizeof path, "binds[%zu].source", i);
        spec_complain(at, path, "%s is no directory, and a microVM can be lent nothing else; use files, or a directory",
                      g->binds[i].source);
    }
    if (a->verb != APPLY_VALIDATE)
        look_at_hypervisor(a, at, g);
}

/* What only the host can tell: recipes, secrets, and what a microVM would run on. */
static void look(struct spec_look *at, struct guest_spec *g, void *arg)
{
    struct applying *a = arg;
    const struct options *o = a->w->options;
    struct vm_err why = {0};
    char path[32];
    size_t bad;

    if (g->image.kind == IMAGE_RECIPE && !recipe_known(o, g->image.name))
        spec_complain(at, "image", "there is no recipe '%s' in %s; name another, or add its directory there",
                      g->image.name, o->recipes.n ? o->recipes.v[0] : "any directory");
    if (g->kind == KIND_MICROVM)
        look_at_microvm(a, at, g);
    if (a->verb == APPLY_VALIDATE || secrets_digest(g, o->state_dir, &bad, &why) == 0)
        return;
    snprintf(path, sizeof path, "secrets[%zu]", bad);
    spec_complain(at, path, "%s", why.text);
}

static void read_run(void *arg)
{
    struct applying *a = arg;
    struct spec_host host = {.memory = a->w->host_memory, .look = look, .arg = a};

    a->rc = bundle_from_tar(a->tar, a->n_tar, a->base, &a->bundle, &a->err);
    free(a->tar);
    a->tar = NULL;
    if (a->rc == 0)
        a->rc = spec_set_read(a->bundle, &host, &a->set, &a->err);
    if (a->rc < 0 || a->set->n_errors)
        return;
    a->texts = calloc(a->set->n_guests + 1, sizeof *a->texts);
    if (!a->texts)
        a->rc = vm_no_memory(&a->err);
    for (size_t i = 0; a->rc == 0 && i < a->set->n_guests; i++)
        if (!(a->texts[i] = json_to_text(a->set->guests[i]->json)))
            a->rc = vm_no_memory(&a->err);
}

static json_t *issues_json(const struct applying *a)
{
    json_t *list = json_array();

    for (size_t i = 0; i < a->set->n_issues; i++) {
        const struct spec_issue *s = &a->set->issues[i];
        json_t *o = json_object();

        json_put_str(o, "file", s->file);
        json_put_int(o, "line", s->line);
        json_put_int(o, "column", s->column);
        json_put(o, "warning", json_boolean(s->warning));
        json_put_str(o, "what", s->what);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *plan_json(const struct applying *a)
{
    json_t *o = json_object(), *changes = json_array(), *orphans = json_array();

    for (size_t i = 0; i < a->n_planned; i++)
        if (a->planned[i].change && a->planned[i].change->class != PLAN_NONE)
            json_array_append_new(changes, plan_change_json(a->planned[i].change));
    for (size_t i = 0; i < a->orphans.n; i++)
        json_array_append_new(orphans, json_string(a->orphans.v[i]));
    json_put(o, "changes", changes);
    json_put(o, "orphans", orphans);
    json_put(o, "errors", issues_json(a));
    return o;
}

/* The answer to validate, to plan, and to an apply that goes no further. */
static void answer(struct applying *a)
{
    json_t *o;

    if (!a->request)
        return;
    if (a->rc < 0) {
        http_reply_error(a->request, &a->err);
        return;
    }
    if (a->verb == APPLY_VALIDATE) {
        o = json_object();
        json_put(o, "issues", issues_json(a));
        json_put_int(o, "guests", (int64_t)a->set->n_guests);
        json_put_int(o, "networks", (int64_t)a->set->n_networks);
    } else {
        o = plan_json(a);
    }
    http_reply_json(a->request, 200, o);
}

static void lane_next(struct world *w);

static void lane_leave(struct applying *a)
{
    struct world *w = a->w;

    w->lane = a->next;
    applying_free(a);
    jobs_poke(w);
    if (w->lane)
        lane_next(w);
}

static struct report *begin_report(struct applying *a)
{
    struct report *x = report_new(a->w);
    OWN(json) json_t *plan = plan_json(a);

    x->apply = true;
    if (a->request)
        report_listen(x, a->request);
    a->request = NULL;
    json_put_str(plan, "type", "plan");
    report_line(x, plan);
    return x;
}

static void commit_run(void *arg)
{
    apply_commit(arg);
}

static void commit_done(void *arg, bool cancelled)
{
    struct applying *a = arg;

    if (cancelled)
        a->rc = vm_fail(&a->err, VM_E_UNAVAILABLE, "vmsd is ending");
    if (a->rc < 0) {
        answer(a);
    } else {
        struct report *x = begin_report(a);

        apply_adopt(a, x);
        report_seal(x);
    }
    lane_leave(a);
}

static void refuse(struct applying *a)
{
    struct report *x = begin_report(a);

    x->failed = (unsigned)a->set->n_errors;
    report_seal(x);
}

/* The head of the lane has been read: it plans against the world as it is now. */
static void lane_next(struct world *w)
{
    struct applying *a = w->lane;

    if (a->rc == 0 && !a->set->n_errors)
        a->rc = apply_plan(a);
    if (a->rc == 0 && a->verb == APPLY_APPLY && a->set->n_errors) {
        refuse(a);
    } else if (a->rc == 0 && a->verb == APPLY_APPLY) {
        bundles_in_use(w, &a->bundles);
        if (loop_work(w->loop, (struct loop_job){commit_run, commit_done, a}, &a->err) == 0)
            return;
        a->rc = -1;
        answer(a);
    } else {
        answer(a);
    }
    lane_leave(a);
}

static void read_done(void *arg, bool cancelled)
{
    struct applying *a = arg, **end = &a->w->lane;

    if (cancelled) {
        applying_free(a);
        return;
    }
    if (a->verb == APPLY_VALIDATE || a->rc < 0) {
        answer(a);
        applying_free(a);
        return;
    }
    while (*end)
        end = &(*end)->next;
    *end = a;
    if (a->w->lane == a)
        lane_next(a->w);
}

static void aborted(void *arg)
{
    ((struct applying *)arg)->request = NULL;
}

/* What git archive writes first: a header of type g, and in it "52 comment=COMMIT". */
static bool tar_commit(const char *tar, size_t n, char out[static COMMIT_MAX + 1])
{
    enum { BLOCK = 512, TYPE = 156 };
    char head[128] = "";

    if (n < (size_t)2 * BLOCK || tar[TYPE] != 'g')
        return false;
    memcpy(head, tar + BLOCK, sizeof head - 1);
    return sscanf(head, "%*d comment=%64[0-9a-f]", out) == 1;
}

/* It is a note for people, and proves nothing. */
static int take_commit(struct applying *a, const char *said, struct vm_err *e)
{
    char found[COMMIT_MAX + 1];
    size_t n = said ? strspn(said, "0123456789abcdefghijklmnopqrstuvwxyz-+.") : 0;

    if (said && (!n || said[n] || n > COMMIT_MAX))
        return vm_fail(e, VM_E_INVALID, "commit: expected a commit of git, with -dirty behind it if its files were changed");
    if (!said && tar_commit(a->tar, a->n_tar, found))
        said = found;
    if (said)
        guest_set_text(&a->commit, said);
    return 0;
}

void apply_serve(struct http_request *r, struct world *w, enum apply_verb verb)
{
    struct applying *a = calloc(1, sizeof *a);
    const char *base = http_query(r, "base");
    struct vm_err e = {0};
    size_t n = 0;
    const void *body = http_body(r, &n);

    if (!a || !(a->tar = malloc(n + 1))) {
        free(a);
        vm_no_memory(&e);
        http_reply_error(r, &e);
        return;
    }
    memcpy(a->tar, body ? body : "", n);
    a->n_tar = n;
    a->w = w;
    a->verb = verb;
    a->request = r;
    a->prune = api_flag(r, "prune");
    a->by = access_actor(r);
    query_list(r, "select", &a->select);
    query_list(r, "purge", &a->purge);
    if (base)
        guest_set_text(&a->base, base);
    http_on_abort(r, aborted, a);
    if (base && base[0] != '/')
        vm_fail(&e, VM_E_INVALID, "base: expected an absolute directory of the host, not '%.40s'", base);
    if (e.code != VM_E_OK || take_commit(a, http_query(r, "commit"), &e) < 0 ||
        loop_work(w->loop, (struct loop_job){read_run, read_done, a}, &e) < 0) {
        http_reply_error(r, &e);
        applying_free(a);
    }
}
