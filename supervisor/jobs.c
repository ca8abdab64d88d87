/* A job: what it carries, what it tells, and how it reaches the loop from its worker. */
#include "job.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

const char *job_verb_name(enum job_verb v)
{
    static const char *const names[] = {[JOB_CONVERGE] = "converge", [JOB_STOP] = "stop", [JOB_REMOVE] = "remove"};

    return names[v];
}

struct job *job_new(struct guest *g, enum job_verb verb)
{
    struct job *j = calloc(1, sizeof *j);

    if (!j || !(j->name = strdup(g->name))) {
        free(j);
        return NULL;
    }
    j->w = g->w;
    j->guest_id = g->id;
    j->verb = verb;
    j->created_at = wall_ms();
    j->asked_at = now_ms();
    return j;
}

static void drop(void *slot)
{
    void **p = slot;

    free(*p);
    *p = NULL;
}

void job_uncopy(struct job *j)
{
    void *copies[] = {&j->networks, &j->nics, &j->mounts, &j->mount_paths, &j->initramfs, &j->cmdline, &j->text, &j->bundle,
                      &j->applied, &j->digests, &j->run_dir, &j->log_dir, &j->purge, &j->image};

    guest_spec_free(TAKE(j->spec));
    guest_spec_free(TAKE(j->was));
    for (size_t i = 0; i < j->n_nics && j->networks; i++)
        network_spec_free(j->networks[i]);
    j->n_nics = j->n_mounts = 0;
    for (size_t i = 0; i < ARRAY_LEN(copies); i++)
        drop(copies[i]);
}

void job_free(struct job *j)
{
    if (!j)
        return;
    job_uncopy(j);
    free(j->name);
    free(j);
}

static int copy_nics(struct job *j, struct guest *g, struct vm_err *e)
{
    j->n_nics = g->n_nics;
    if (!g->n_nics)
        return 0;
    j->nics = calloc(g->n_nics, sizeof *j->nics);
    j->networks = calloc(g->n_nics, sizeof(struct network_spec *));
    if (!j->nics || !j->networks)
        return vm_no_memory(e);
    for (size_t i = 0; i < g->n_nics; i++) {
        const struct network_spec *n = world_network(g->w, g->nics[i].network);
        OWN(str) char *text = n ? json_to_text(n->json) : NULL;

        j->nics[i] = g->nics[i];
        j->nics[i].network = NULL;
        if (!text && j->verb != JOB_CONVERGE)
            continue; /* it may leave together with its guests */
        if (!text)
            return vm_fail(e, VM_E_ABSENT, "network '%s' does not exist", g->nics[i].network);
        if (network_spec_load(text, &j->networks[i], e) < 0)
            return -1;
        j->nics[i].network = j->networks[i]->name;
    }
    return 0;
}

int job_copy(struct job *j, struct guest *g, struct vm_err *e)
{
    guest_set_text(&j->text, g->text);
    guest_set_text(&j->bundle, g->bundle);
    guest_set_text(&j->applied, g->applied);
    guest_set_text(&j->digests, g->script_digests ? g->script_digests : "");
    guest_set_text(&j->purge, g->purge);
    guest_set_text(&j->image, g->image);
    j->run_dir = guest_run_dir(g);
    j->log_dir = guest_log_dir(g);
    j->slot = g->slot;
    j->scripts_done = g->scripts_done;
    j->restarts = g->restarts;
    j->provisioned_at = g->provisioned_at;
    j->applied_at = g->applied_at;
    j->up = g->up;
    j->running = guest_is_up(g);
    j->rebuilding = g->rebuilding;
    j->proc = g->proc;
    j->driver = g->driver;
    if (!j->run_dir || !j->log_dir)
        return vm_no_memory(e);
    if (guest_spec_load(g->text, &j->spec, e) < 0)
        return -1;
    return copy_nics(j, g, e);
}

static void tell_watcher(struct job *j, json_t *line)
{
    if (j->watcher)
        j->watcher->line(j->watcher, line);
    json_decref(line);
}

struct told {
    struct job *j;
    json_t *line;
};

static void told_on_loop(void *arg)
{
    struct told *t = arg;

    tell_watcher(t->j, t->line);
    free(t);
}

void job_tell(struct job *j, json_t *line)
{
    struct told *t;

    if (loop_is_here(j->w->loop)) {
        tell_watcher(j, line);
        return;
    }
    if (json_lost()) { /* of this thread; the loop cannot know */
        json_decref(line);
        line = NULL;
    }
    if (!(t = malloc(sizeof *t))) {
        json_decref(line);
        return;
    }
    *t = (struct told){j, line};
    loop_post(j->w->loop, told_on_loop, t);
}

const char *job_state_name(enum job_state s)
{
    static const char *const names[] = {
        [JOB_QUEUED] = "queued", [JOB_WAITING] = "waiting", [JOB_RUNNING] = "running",
        [JOB_DONE] = "done",     [JOB_FAILED] = "failed",   [JOB_BLOCKED] = "blocked",
    };

    return names[s];
}

json_t *job_json(const struct job *j)
{
    json_t *o;
    char at[CLOCK_TEXT];

    if (!j)
        return json_null();
    o = json_object();
    json_put_int(o, "id", j->id);
    json_put_str(o, "guest", j->name);
    json_put_str(o, "verb", job_verb_name(j->verb));
    json_put_str(o, "class", plan_class_name(j->class));
    json_put_str(o, "state", job_state_name(j->state));
    json_put_str(o, "step", j->step);
    json_put_str(o, "created_at", wall_text(j->created_at, at));
    json_put_str(o, "error", j->state != JOB_RUNNING && j->err.code ? j->err.text : NULL); /* else a worker's yet */
    return o;
}

struct on_loop {
    struct job *j;
    void (*fn)(struct guest *g, void *arg);
    void *arg;
};

static void on_loop(void *arg)
{
    struct on_loop *x = arg;

    x->fn(world_guest_by_id(x->j->w, x->j->guest_id), x->arg);
}

void job_on_loop(struct job *j, void (*fn)(struct guest *g, void *arg), void *arg)
{
    loop_call(j->w->loop, on_loop, &(struct on_loop){j, fn, arg});
}

static void feed(struct guest *g, void *arg)
{
    guest_feed(g, *(enum life_event *)arg, NULL);
}

void job_feed(struct job *j, enum life_event ev)
{
    job_on_loop(j, feed, &ev);
}

static struct agent *agent_of(void *arg)
{
    const struct job *j = arg;
    struct guest *g = world_guest_by_id(j->w, j->guest_id);

    return g ? g->agent : NULL;
}

struct agent_wait job_agent(struct job *j)
{
    return (struct agent_wait){.loop = j->w->loop, .get = agent_of, .arg = j};
}

static const char *some(const char *s)
{
    return s && *s ? s : NULL;
}

void job_borrow(const struct job *j, struct drv_guest *out)
{
    bool boots = j->driver && (j->driver->can & DRV_BOOTS_KERNEL);

    *out = (struct drv_guest){
        .id = j->guest_id,
        .uid_base = slot_uid_base(j->slot),
        .spec = j->spec,
        .image = boots ? j->disk : j->image_ref.tree,
        .root = j->root,
        .kernel = j->spec->kernel ? j->spec->kernel : some(j->kernel.kernel),
        .initramfs = j->initramfs,
        .modules = j->spec->kernel ? NULL : some(j->kernel.modules),
        .cmdline = j->cmdline,
        .run_dir = j->run_dir,
        .log_dir = j->log_dir,
        .mounts = j->mounts,
        .n_mounts = j->n_mounts,
        .taps = j->taps,
        .n_taps = j->n_taps,
    };
}

struct begun {
    struct job *j;
    const char *step;
    int64_t id;
};

static void show_step(void *arg)
{
    struct begun *b = arg;

    b->j->id = b->id;
    if (!b->step)
        return;
    snprintf(b->j->step_text, sizeof b->j->step_text, "%s", b->step);
    b->j->step = b->j->step_text;
}

int job_begin(struct job *j, struct vm_err *e)
{
    struct begun b = {.j = j};

    if (j->id)
        return 0;
    if (store_job_begin(j->w->store, j->guest_id, j->name, job_verb_name(j->verb), &b.id, e) < 0)
        return -1;
    loop_call(j->w->loop, show_step, &b);
    return 0;
}

int job_step(struct job *j, const char *name, int (*act)(struct job *j, struct vm_err *e), struct vm_err *e)
{
    int64_t began = now_ms();
    json_t *line;
    int rc;

    if (j->cut)
        return vm_fail(e, VM_E_CONFLICT, "%s: not begun", name);
    if (j->w->stopping)
        return vm_fail(e, VM_E_UNAVAILABLE, "vmsd is ending");
    loop_call(j->w->loop, show_step, &(struct begun){j, name, j->id});
    line = json_object();
    json_put_str(line, "type", "step");
    json_put_str(line, "guest", j->name);
    json_put_str(line, "step", name);
    json_put_str(line, "state", "started");
    json_put_str(line, "text", j->step_about);
    job_tell(j, json_deep_copy(line)); /* the loop's alone */
    rc = store_step_begin(j->w->store, j->id, name, e); /* not written: not done */
    if (rc == 0)
        rc = act(j, e);
    if (rc < 0)
        vm_context(e, "%s", name);
    if (store_step_end(j->w->store, j->id, name, rc < 0 ? e->text : NULL, rc < 0 ? NULL : e) < 0)
        rc = -1;
    json_put_str(line, "state", rc < 0 ? "failed" : "done");
    json_put(line, "duration", json_real((double)(now_ms() - began) / 1000));
    if (rc < 0)
        json_put_str(line, "text", e->text);
    job_tell(j, line);
    return rc;
}
