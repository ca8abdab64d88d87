/* Which job runs when. A guest has at most one job that runs and one that waits: jobs converge, so two that wait are
 * one. */
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
    return j;
}

void job_free(struct job *j)
{
    if (!j)
        return;
    guest_spec_free(j->spec);
    guest_spec_free(j->was);
    for (size_t i = 0; i < j->n_nics && j->networks; i++)
        network_spec_free(j->networks[i]);
    free(j->networks);
    free(j->nics);
    free(j->mounts);
    free(j->mount_paths);
    free(j->initramfs);
    free(j->cmdline);
    free(j->name);
    free(j->text);
    free(j->bundle);
    free(j->applied);
    free(j->digests);
    free(j->run_dir);
    free(j->log_dir);
    free(j->purge);
    free(j->image);
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
    if (!(t = malloc(sizeof *t))) {
        json_decref(line);
        return;
    }
    *t = (struct told){j, line};
    loop_post(j->w->loop, told_on_loop, t);
}

static const char *const state_names[] = {
    [JOB_QUEUED] = "queued", [JOB_WAITING] = "waiting", [JOB_RUNNING] = "running",
    [JOB_DONE] = "done",     [JOB_FAILED] = "failed",   [JOB_BLOCKED] = "blocked",
};

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
    json_put_str(o, "state", state_names[j->state]);
    json_put_str(o, "step", j->step);
    json_put_str(o, "created_at", wall_text(j->created_at, at));
    json_put_str(o, "error", j->state != JOB_RUNNING && j->err.code ? j->err.text : NULL); /* else a worker's yet */
    return o;
}

static void tell_end(struct job *j)
{
    json_t *line = json_object();

    json_put_str(line, "type", "guest");
    json_put_str(line, "guest", j->name);
    json_put_str(line, "state", state_names[j->state]);
    json_put_str(line, "class", plan_class_name(j->class));
    json_put(line, "duration", json_real(j->began ? (double)(now_ms() - j->began) / 1000 : 0));
    json_put_str(line, "error", j->state == JOB_DONE ? NULL : j->err.text);
    job_tell(j, line);
    if (j->watcher)
        j->watcher->ended(j->watcher, j);
}

/* The row of a wish whose job never ran: a job that runs ends its own. */
struct unrun {
    struct store *store;
    int64_t id;
    char *why;
};

static void unrun_write(void *arg)
{
    const struct unrun *x = arg;

    store_job_end(x->store, x->id, x->why, NULL);
}

static void unrun_done(void *arg, bool cancelled)
{
    struct unrun *x = arg;

    (void)cancelled; /* stays open, and its guest is looked at after the next start */
    free(x->why);
    free(x);
}

static void end_row(struct job *j, const char *why)
{
    struct unrun *x = j->id && !j->ran ? calloc(1, sizeof *x) : NULL;

    if (!x)
        return;
    *x = (struct unrun){.store = j->w->store, .id = j->id};
    guest_set_text(&x->why, why);
    if (loop_work(j->w->loop, (struct loop_job){unrun_write, unrun_done, x}, NULL) < 0)
        unrun_done(x, true);
}

static void end_job(struct guest *g, struct job *j, enum job_state how)
{
    j->state = how;
    end_row(j, j->err.text);
    if (how == JOB_FAILED)
        events_add(g->w, g->name, "job-failed", NULL, "%s", j->err.text);
    else if (how == JOB_DONE && !j->quiet)
        events_add(g->w, g->name, "job-done", NULL, "%s", j->verb == JOB_CONVERGE ? "up to date" : job_verb_name(j->verb));
    tell_end(j);
    job_free(j);
}

static void run_job(void *arg)
{
    struct job *j = arg;

    j->ran = true;
    if (job_story(j, &j->err) < 0 && j->err.code == VM_E_OK)
        vm_fail(&j->err, VM_E_SYSTEM, "it failed without a reason");
}

static void job_done(void *arg, bool cancelled)
{
    struct job *j = arg;
    struct world *w = j->w;
    struct guest *g = world_guest_by_id(w, j->guest_id);
    bool failed = j->err.code != VM_E_OK;
    bool removed = j->verb == JOB_REMOVE && !failed;

    w->running_jobs--;
    if (!g || cancelled) {
        job_free(j);
        return;
    }
    g->job = NULL;
    guest_set_text(&g->error, failed ? j->err.text : NULL);
    guest_dirty(g);
    end_job(g, j, failed ? JOB_FAILED : JOB_DONE); /* before the life goes on: its lines come first */
    if (removed && !g->next) {
        world_drop_guest(g);
        netsync_ask(w, NULL, NULL);
        jobs_poke(w);
        return;
    }
    if (failed) {
        guest_feed(g, EV_JOB_FAILED, NULL);
        if (health_of(g) == HEALTH_UNHEALTHY) /* it became so while the job kept the policy's hands off it */
            guest_restart_unhealthy(g, "it was not healthy after a change");
    }
    guest_redial(g);
    guest_seek(g);
    jobs_poke(w);
}

static void start_job(struct guest *g)
{
    struct job *j = g->next;

    g->next = NULL;
    g->job = j;
    g->resting = false;
    loop_timer_free(g->retry);
    g->retry = NULL;
    j->state = JOB_RUNNING;
    j->began = now_ms();
    g->w->running_jobs++;
    guest_dirty(g);
    if (job_copy(j, g, &j->err) < 0 || loop_work(g->w->loop, (struct loop_job){run_job, job_done, j}, &j->err) < 0)
        job_done(j, false);
}

enum ready { READY, WAITS, BLOCKED };
enum { DEPTH_MAX = 64 };

/* depth: specs of different applies may yet go round in a circle. */
static enum ready dependency(struct guest *g, const char *name, unsigned depth)
{
    struct guest *d = world_guest(g->w, name);

    if (!d || d->removing)
        return BLOCKED;
    if (d->job || d->next) {
        if (guest_is_up(d) && health_of(d) == HEALTH_HEALTHY && !d->next)
            return READY;
        if (d->job || d->next->state != JOB_WAITING)
            return WAITS;
        for (size_t i = 0; i < d->spec->depends_on.n; i++) /* what waits for what does not come does not come either */
            if (depth == DEPTH_MAX || dependency(d, d->spec->depends_on.v[i], depth + 1) == BLOCKED)
                return BLOCKED;
        return WAITS;
    }
    if (guest_is_up(d) && (health_of(d) == HEALTH_HEALTHY || health_of(d) == HEALTH_NONE))
        return READY;
    if (guest_is_up(d) && d->health && health_of(d) == HEALTH_STARTING)
        return WAITS;
    return BLOCKED; /* down, unhealthy, or its job failed before anybody looked at its health */
}

static void tell_waiting(struct job *j, const char *name)
{
    json_t *line = json_object();

    json_put_str(line, "type", "waiting");
    json_put_str(line, "guest", j->name);
    json_put(line, "for", json_pack("[s]", name));
    job_tell(j, line);
}

/* May the waiting job of g begin? A guest that already runs is worked on without asking its dependencies. */
static enum ready ready(struct guest *g)
{
    struct job *j = g->next;

    if (g->ending)
        return WAITS;
    if (j->verb == JOB_REMOVE && g->w->lane) /* what an apply has planned with stays until that is written */
        return WAITS;
    if (j->verb != JOB_CONVERGE || (guest_is_up(g) && !j->restart && !g->rebuilding))
        return READY;
    for (size_t i = 0; i < g->spec->depends_on.n; i++) {
        const char *name = g->spec->depends_on.v[i];
        enum ready r = dependency(g, name, 0);
        const struct guest *d = world_guest(g->w, name);
        bool gone = !d || d->removing; /* waiting for that would be for ever */

        if (r == READY)
            continue;
        if (r == BLOCKED && (!j->patient || gone)) {
            vm_fail(&j->err, VM_E_CONFLICT, "it depends on '%s', which %s", name,
                    gone ? "does not exist any more" : d->up ? "is not healthy" : "is down by wish");
            return BLOCKED;
        }
        if (j->state != JOB_WAITING) {
            j->state = JOB_WAITING;
            tell_waiting(j, name);
        }
        return WAITS;
    }
    return READY;
}

/* Whoever stops or removes a guest does not wait until the installs of others are over. */
static unsigned slots(const struct world *w, const struct job *j)
{
    return j->verb == JOB_CONVERGE ? w->options->jobs : 2 * w->options->jobs;
}

static void poke(void *arg)
{
    struct world *w = arg;

    w->poked = false;
    /* end_job may free a guest's job, never a guest, so the index stays good; whoever is blocked frees others. */
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < w->n_guests && !w->stopping; i++) {
            struct guest *g = w->guests[i];
            enum ready r;

            if (!g->next || g->job)
                continue;
            r = ready(g);
            if (r == BLOCKED) {
                struct job *j = TAKE(g->next);

                guest_set_text(&g->error, j->err.text);
                guest_dirty(g);
                end_job(g, j, JOB_BLOCKED);
                again = true;
            } else if (r == READY && w->running_jobs < slots(w, g->next)) {
                start_job(g);
            }
        }
    }
}

void jobs_poke(struct world *w)
{
    if (w->poked)
        return;
    w->poked = true;
    loop_post(w->loop, poke, w);
}

void jobs_cancel_waiting(struct guest *g)
{
    struct job *j = TAKE(g->next);

    if (!j)
        return;
    vm_fail(&j->err, VM_E_CONFLICT, "overtaken by a later wish");
    end_job(g, j, JOB_BLOCKED);
}

void jobs_cut(struct guest *g)
{
    if (!g->job || g->job->verb != JOB_CONVERGE)
        return;
    g->job->cut = true;
    guest_drop_agent(g, "a later wish overtakes what was under way"); /* a script, say: its end would be long in coming */
}

void job_submit(struct job *j)
{
    struct guest *g = world_guest_by_id(j->w, j->guest_id);
    struct job *old = g->next;

    if (old && old->verb == j->verb && !old->watcher) { /* one that waits unwatched is taken up into this one */
        j->restart |= old->restart;
        g->next = NULL;
        end_row(old, "taken up into a later one");
        job_free(old);
    } else if (old) {
        jobs_cancel_waiting(g);
    }
    g->next = j;
    loop_timer_free(g->retry);
    g->retry = NULL;
    guest_dirty(g);
    jobs_poke(j->w);
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
