/* start, stop, restart, rebuild, remove: the wish is written, then a job fulfils it. */
#include "api.h"
#include "wish.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct wish {
    struct world *w;
    struct http_request *request;
    enum wish_verb verb;
    uint32_t id;
    char *name, *purge;
    bool wait;
    int64_t uid, pid, job; /* job: its id, written with the wish */
    int rc;
    struct vm_err err;
};

static const char *const verb_names[] = {
    [WISH_START] = "start",     [WISH_STOP] = "stop",     [WISH_RESTART] = "restart",
    [WISH_REBUILD] = "rebuild", [WISH_REMOVE] = "remove",
};

static int write_wish(struct store *s, void *arg, struct vm_err *e)
{
    struct wish *x = arg;

    if (x->verb == WISH_REMOVE) {
        if (store_put_removing(s, x->id, x->purge, e) < 0)
            return -1;
    } else if (store_put_wish(s, x->id, x->verb != WISH_STOP, e) < 0) {
        return -1;
    }
    if (x->verb == WISH_REBUILD && store_put_rebuilding(s, x->id, true, e) < 0)
        return -1;
    if (store_job_begin(s, x->id, x->name, verb_names[x->verb], &x->job, e) < 0)
        return -1;
    return store_audit(s, x->uid, x->pid, verb_names[x->verb], x->name, NULL, e);
}

static void wish_run(void *arg)
{
    struct wish *x = arg;

    x->rc = store_transaction(x->w->store, write_wish, x, &x->err);
    if (x->rc < 0 && x->err.sys == ENOSPC && (x->verb == WISH_STOP || x->verb == WISH_REMOVE)) {
        store_use_reserve(x->w->store);
        x->rc = store_transaction(x->w->store, write_wish, x, &x->err);
    }
}

/* Its data may be half gone: nothing but an apply, once it is away, makes it anew. */
static bool refused(const struct guest *g, enum wish_verb verb, struct vm_err *e)
{
    if (!g->removing || verb == WISH_REMOVE)
        return false;
    vm_fail(e, VM_E_CONFLICT, "'%s' is being removed; apply its spec to have it again", g->name);
    return true;
}

static struct job *fulfil(struct wish *x, struct guest *g)
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
    guest_set_text(&g->purge, x->purge);
    j->id = x->job;
    j->class = classes[x->verb];
    j->restart = x->verb == WISH_RESTART || x->verb == WISH_REBUILD;
    j->wait_health = verb == JOB_CONVERGE;
    return j;
}

static void wish_free(struct wish *x)
{
    free(x->name);
    free(x->purge);
    free(x);
}

static void wish_answer(struct wish *x, struct job *j)
{
    struct report *report;

    if (!x->wait || !x->request || !(report = report_new(x->w))) {
        json_t *o = json_object();

        json_put(o, "job", job_json(j));
        if (x->request)
            http_reply_json(x->request, 202, o);
        else
            json_decref(o);
        job_submit(j);
        return;
    }
    report_listen(report, x->request);
    report->changed = 1;
    report_submit(report, j);
    report_seal(report);
}

static void wish_done(void *arg, bool cancelled)
{
    struct wish *x = arg;
    struct guest *g = world_guest_by_id(x->w, x->id);
    struct job *j = NULL;

    if (cancelled)
        x->rc = vm_fail(&x->err, VM_E_UNAVAILABLE, "vmsd is ending");
    else if (x->rc == 0 && !g)
        x->rc = vm_fail(&x->err, VM_E_ABSENT, "'%s' was removed meanwhile", x->name);
    else if (x->rc == 0 && refused(g, x->verb, &x->err))
        x->rc = -1;
    else if (x->rc == 0 && !(j = fulfil(x, g)))
        x->rc = vm_no_memory(&x->err);
    if (x->rc == 0 && x->verb != WISH_START)
        jobs_cut(g);
    if (x->rc == 0)
        wish_answer(x, j);
    else if (x->request)
        http_reply_error(x->request, &x->err);
    wish_free(x);
}

static void aborted(void *arg)
{
    ((struct wish *)arg)->request = NULL;
}

/* All volumes of the guest, a name a line; or NULL. */
static char *all_volumes(const struct guest *g)
{
    struct text t = {0};

    for (size_t i = 0; i < g->spec->n_volumes; i++)
        text_addf(&t, "%s\n", g->spec->volumes[i].name);
    return t.len ? text_take(&t) : NULL;
}

void wish_serve(struct http_request *r, struct guest *g, enum wish_verb verb)
{
    struct wish *x = calloc(1, sizeof *x);
    struct vm_err e = {0};

    if (!x || refused(g, verb, &e)) {
        if (!x)
            vm_no_memory(&e);
        free(x);
        http_reply_error(r, &e);
        return;
    }
    *x = (struct wish){.w = g->w, .request = r, .verb = verb, .id = g->id, .wait = api_flag(r, "wait"),
                       .uid = http_peer(r)->uid, .pid = http_peer(r)->pid};
    guest_set_text(&x->name, g->name);
    if (verb == WISH_REMOVE && api_flag(r, "purge"))
        x->purge = all_volumes(g);
    http_on_abort(r, aborted, x);
    if (loop_work(g->w->loop, (struct loop_job){wish_run, wish_done, x}, &e) < 0) {
        http_reply_error(r, &e);
        wish_free(x);
    }
}
