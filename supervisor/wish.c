/* start, stop, restart, rebuild, remove: the wish is written, for all guests that it is about or for none; then jobs
 * fulfil it. */
#include "api.h"
#include "wish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One guest of a wish. err: it is refused, or there is none of that name. */
struct wanted {
    uint32_t id;
    char *name, *purge;
    int64_t job; /* its id, written with the wish */
    struct vm_err err;
};

struct wish {
    struct world *w;
    struct http_request *request; /* NULL: the client went away */
    enum wish_verb verb;
    bool alone, wait;             /* alone: of one guest, whose refusal is the request's; else it waits always */
    struct store_actor by;
    int rc;
    struct vm_err err;
    size_t n;
    struct wanted list[];
};

static const char *const verb_names[] = {
    [WISH_START] = "start",     [WISH_STOP] = "stop",     [WISH_RESTART] = "restart",
    [WISH_REBUILD] = "rebuild", [WISH_REMOVE] = "remove",
};

/* ---- on a worker ---- */

static int write_one(struct store *s, const struct wish *x, struct wanted *g, struct vm_err *e)
{
    if (x->verb == WISH_REMOVE) {
        if (store_put_removing(s, g->id, g->purge, e) < 0)
            return -1;
    } else if (store_put_wish(s, g->id, x->verb != WISH_STOP, e) < 0) {
        return -1;
    }
    if (x->verb == WISH_REBUILD && store_put_rebuilding(s, g->id, true, e) < 0)
        return -1;
    if (store_job_begin(s, g->id, g->name, verb_names[x->verb], &g->job, e) < 0)
        return -1;
    return store_audit(s, &x->by, &(struct store_deed){.verb = verb_names[x->verb], .what = g->name}, e);
}

static int write_all(struct store *s, void *arg, struct vm_err *e)
{
    struct wish *x = arg;

    for (size_t i = 0; i < x->n; i++)
        if (x->list[i].err.code == VM_E_OK && write_one(s, x, &x->list[i], e) < 0)
            return -1;
    return 0;
}

static void wish_run(void *arg)
{
    struct wish *x = arg;

    x->rc = store_transaction(x->w->store, write_all, x, &x->err);
    if (x->rc < 0 && x->err.sys == ENOSPC && (x->verb == WISH_STOP || x->verb == WISH_REMOVE)) {
        store_use_reserve(x->w->store);
        x->rc = store_transaction(x->w->store, write_all, x, &x->err);
    }
}

/* ---- on the loop ---- */

static void wish_free(struct wish *x)
{
    for (size_t i = 0; i < x->n; i++) {
        free(x->list[i].name);
        free(x->list[i].purge);
    }
    free(x);
}

/* Its data may be half gone: nothing but an apply, once it is away, makes it anew. */
static bool refused(const struct guest *g, enum wish_verb verb, struct vm_err *e)
{
    if (!g->removing || verb == WISH_REMOVE)
        return false;
    vm_fail(e, VM_E_CONFLICT, "'%s' is being removed; apply its spec to have it again", g->name);
    return true;
}

static struct job *job_for(const struct wish *x, const struct wanted *want, struct guest *g)
{
    static const enum plan_class classes[] = {
        [WISH_START] = PLAN_LIVE,      [WISH_STOP] = PLAN_RESTART,  [WISH_RESTART] = PLAN_RESTART,
        [WISH_REBUILD] = PLAN_REBUILD, [WISH_REMOVE] = PLAN_REMOVE,
    };
    enum job_verb verb = x->verb == WISH_STOP ? JOB_STOP : x->verb == WISH_REMOVE ? JOB_REMOVE : JOB_CONVERGE;
    struct job *j = job_new(g, verb);

    if (!j)
        return NULL;
    g->up = x->verb != WISH_STOP && x->verb != WISH_REMOVE;
    g->removing = x->verb == WISH_REMOVE;
    g->rebuilding |= x->verb == WISH_REBUILD;
    if (x->verb == WISH_REBUILD)
        g->provisioned_at = 0;
    g->backoff = (struct life_backoff){0}; /* a person asked: count anew */
    guest_set_text(&g->purge, want->purge);
    j->id = want->job;
    j->class = classes[x->verb];
    j->restart = x->verb == WISH_RESTART || x->verb == WISH_REBUILD;
    j->wait_health = verb == JOB_CONVERGE;
    return j;
}

/* NULL: the guest's err says why not. */
static struct job *fulfil(struct wish *x, struct wanted *want)
{
    struct guest *g = want->err.code == VM_E_OK ? world_guest_by_id(x->w, want->id) : NULL;
    struct job *j = NULL;

    if (!g && want->err.code == VM_E_OK)
        vm_fail(&want->err, VM_E_ABSENT, "'%s' was removed meanwhile", want->name);
    else if (g && !refused(g, x->verb, &want->err) && !(j = job_for(x, want, g)))
        vm_no_memory(&want->err);
    if (j && x->verb != WISH_START)
        jobs_cut(g);
    return j;
}

static void tell(struct wish *x)
{
    struct report *report = report_new(x->w);

    if (x->request)
        report_listen(report, x->request);
    for (size_t i = 0; i < x->n; i++) {
        struct job *j = fulfil(x, &x->list[i]);

        if (j) {
            report->changed++;
            report_submit(report, j);
        } else {
            report_error(report, x->list[i].name, x->list[i].err.text);
        }
    }
    report_seal(report);
}

static void answer_alone(struct wish *x)
{
    struct job *j = fulfil(x, &x->list[0]);
    json_t *o;

    if (!j) {
        if (x->request)
            http_reply_error(x->request, &x->list[0].err);
        return;
    }
    o = json_object();
    json_put(o, "job", job_json(j));
    if (x->request)
        http_reply_json(x->request, 202, o);
    else
        json_decref(o);
    job_submit(j);
}

static void wish_done(void *arg, bool cancelled)
{
    struct wish *x = arg;

    if (cancelled)
        x->rc = vm_fail(&x->err, VM_E_UNAVAILABLE, "vmsd is ending");
    if (x->rc < 0) {
        if (x->request)
            http_reply_error(x->request, &x->err);
    } else if (x->alone && !x->wait) {
        answer_alone(x);
    } else {
        tell(x); /* to nobody, when whoever asked went away: it is done nevertheless */
    }
    wish_free(x);
}

static void aborted(void *arg)
{
    ((struct wish *)arg)->request = NULL;
}

static void wish_go(struct wish *x)
{
    struct vm_err e = {0};

    http_on_abort(x->request, aborted, x);
    if (loop_work(x->w->loop, (struct loop_job){wish_run, wish_done, x}, &e) == 0)
        return;
    http_reply_error(x->request, &e);
    wish_free(x);
}

static struct wish *wish_new(struct http_request *r, struct world *w, enum wish_verb verb, size_t n)
{
    struct wish *x = calloc(1, sizeof *x + n * sizeof x->list[0]);

    if (x)
        *x = (struct wish){.w = w, .request = r, .verb = verb, .n = n, .by = access_actor(r)};
    return x;
}

/* All volumes of the guest, a name a line; or NULL. */
static char *all_volumes(const struct guest *g)
{
    struct text t = {0};

    for (size_t i = 0; i < g->spec->n_volumes; i++)
        text_addf(&t, "%s\n", g->spec->volumes[i].name);
    return t.len ? text_take(&t) : NULL;
}

static void want(struct wanted *x, const struct guest *g, enum wish_verb verb, bool purge)
{
    x->id = g->id;
    if (verb == WISH_REMOVE && purge)
        x->purge = all_volumes(g);
    refused(g, verb, &x->err);
}

void wish_serve(struct http_request *r, struct guest *g, enum wish_verb verb)
{
    struct wish *x = wish_new(r, g->w, verb, 1);
    struct vm_err e = {0};

    if (x) {
        guest_set_text(&x->list[0].name, g->name);
        want(&x->list[0], g, verb, api_flag(r, "purge"));
        e = x->list[0].err;
        x->alone = true;
        x->wait = api_flag(r, "wait");
    } else {
        vm_no_memory(&e);
    }
    if (x && e.code == VM_E_OK) {
        wish_go(x);
        return;
    }
    http_reply_error(r, &e);
    if (x)
        wish_free(x);
}

/* ---- several at once ---- */

static bool verb_of(const char *name, enum wish_verb *out)
{
    for (size_t i = 0; i < ARRAY_LEN(verb_names); i++) {
        if (strcmp(name, verb_names[i]))
            continue;
        *out = (enum wish_verb)i;
        return true;
    }
    return false;
}

static int fill(struct wish *x, json_t *names, bool purge, struct vm_err *e)
{
    OWN(json) json_t *seen = json_object();
    json_t *name;
    size_t i;

    json_array_foreach (names, i, name) {
        struct guest *g = json_is_string(name) ? world_guest(x->w, json_string_value(name)) : NULL;

        if (!json_is_string(name))
            return vm_fail(e, VM_E_INVALID, "guests: expected names");
        if (json_object_get(seen, json_string_value(name)))
            return vm_fail(e, VM_E_INVALID, "guests: '%.40s' stands there twice", json_string_value(name));
        json_put(seen, json_string_value(name), json_true());
        guest_set_text(&x->list[i].name, json_string_value(name));
        if (g)
            want(&x->list[i], g, x->verb, purge);
        else
            vm_fail(&x->list[i].err, VM_E_ABSENT, "there is no guest '%.40s'", x->list[i].name);
    }
    return 0;
}

void wishes_post(struct http_request *r, void *arg)
{
    struct world *w = arg;
    OWN(json) json_t *body = NULL;
    json_t *guests = NULL;
    const char *verb = NULL;
    int purge = 0;
    enum wish_verb v = WISH_START;
    struct vm_err e = {0};
    struct wish *x = NULL;
    json_error_t why;
    size_t n;
    const void *p = http_body(r, &n);

    body = json_from_text(p ? p : "", n, &e);
    if (body && json_unpack_ex(body, &why, JSON_STRICT, "{s:s, s:o, s?b}", "verb", &verb, "guests", &guests, "purge",
                               &purge) < 0)
        vm_fail(&e, VM_E_INVALID, "the request: %.150s", why.text);
    else if (body && !verb_of(verb, &v))
        vm_fail(&e, VM_E_INVALID, "verb: expected start, stop, restart, rebuild or remove");
    else if (body && (!json_is_array(guests) || json_array_size(guests) > SLOTS_MAX))
        vm_fail(&e, VM_E_INVALID, "guests: expected a list of names");
    else if (body && !(x = wish_new(r, w, v, json_array_size(guests))))
        vm_no_memory(&e);
    else if (x)
        fill(x, guests, purge, &e);
    if (x && e.code == VM_E_OK) {
        wish_go(x);
        return;
    }
    http_reply_error(r, &e);
    if (x)
        wish_free(x);
}
