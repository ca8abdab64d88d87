/* Which job runs when. A guest has at most one job that runs and one that waits: jobs converge, so two that wait are
 * one. Guests come up after those that they depend on, and go down before them. Loop thread only. */
#include "job.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

static void tell_end(struct job *j)
{
    json_t *line = json_object();

    json_put_str(line, "type", "guest");
    json_put_str(line, "guest", j->name);
    json_put_str(line, "state", job_state_name(j->state));
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
    struct unrun *x = j->id && (!j->ran || j->halted) ? calloc(1, sizeof *x) : NULL;

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

static void overtaken(struct guest *g, struct job *j)
{
    vm_fail(&j->err, VM_E_CONFLICT, "overtaken by a later wish");
    end_job(g, j, JOB_BLOCKED);
}

/* It has only taken the guest down, for others had to follow: it goes on when those are up again. */
static void go_on_later(struct guest *g, struct job *j)
{
    j->halting = j->restart = false;
    j->halted = true;
    j->state = JOB_QUEUED;
    j->step = NULL;
    job_uncopy(j);
    if (g->next)
        overtaken(g, j);
    else
        g->next = j;
    jobs_poke(g->w);
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
    if (j->halting && !failed) {
        go_on_later(g, j);
        return;
    }
    guest_set_text(&g->error, failed ? j->err.text : NULL);
    guest_dirty(g);
    end_job(g, j, failed ? JOB_FAILED : JOB_DONE); /* before the life goes on: its lines come first */
    if (removed && !g->next) {
        world_drop_guest(g);
        netsync_ask(w, NULL, NULL);
        jobs_poke(w);
        return;
    }
    if (failed)
        guest_feed(g, EV_JOB_FAILED, NULL);
    if (health_of(g) == HEALTH_UNHEALTHY) /* the job kept the policy's hands off it */
        guest_restart_unhealthy(g, "it was not healthy after a change");
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
    j->halted = false;
    j->began = now_ms();
    g->w->running_jobs++;
    guest_dirty(g);
    if (job_copy(j, g, &j->err) < 0 || loop_work(g->w->loop, (struct loop_job){run_job, job_done, j}, &j->err) < 0)
        job_done(j, false);
}

enum ready { READY, WAITS, BLOCKED };
enum { LOOKS_MAX = 1000 };

/* ---- down before what it depends on ---- */

static bool alive(const struct guest *g)
{
    return g->state == ST_STARTING || g->state == ST_RUNNING || g->state == ST_STOPPING;
}

static bool will_stop(const struct guest *g, const struct job *j)
{
    return j && !j->stopped && (j->verb != JOB_CONVERGE || j->restart || g->rebuilding);
}

/* Is it about to be taken down? What waits for others without end does not count: nobody should wait for that. */
static bool goes_down(const struct guest *g)
{
    return alive(g) && (will_stop(g, g->job) || (will_stop(g, g->next) && !g->next->patient));
}

/* looks: how many more guests may be looked at; where they are not enough, it is taken for a circle. */
static bool needs(struct guest *g, const struct guest *other, unsigned *looks)
{
    for (size_t i = 0; i < g->spec->depends_on.n; i++) {
        struct guest *d = world_guest(g->w, g->spec->depends_on.v[i]);

        if (d && (d == other || *looks == 0 || (--*looks, needs(d, other, looks))))
            return true;
    }
    return false;
}

/* Marks what must outlast a guest that goes down. Of guests that go round in a circle none waits for the other. */
static void mark_held(struct world *w)
{
    for (size_t i = 0; i < w->n_guests; i++)
        w->guests[i]->held = NULL;
    for (size_t i = 0; i < w->n_guests; i++) {
        struct guest *g = w->guests[i];

        for (size_t k = 0; (g->job || g->next) && k < g->spec->depends_on.n && goes_down(g); k++) {
            struct guest *d = world_guest(w, g->spec->depends_on.v[k]);
            unsigned looks = LOOKS_MAX;

            if (d && (d->job || d->next) && !needs(d, g, &looks))
                d->held = g;
        }
    }
}

static bool dependency_goes_down(const struct guest *g)
{
    for (size_t i = 0; i < g->spec->depends_on.n; i++) {
        const struct guest *d = world_guest(g->w, g->spec->depends_on.v[i]);

        if (d && d != g && goes_down(d))
            return true;
    }
    return false;
}

/* ---- up after what it depends on ---- */

static enum ready dependency(struct guest *g, const char *name);

/* What waits for what does not come does not come either. Specs of different applies may yet go round in a circle; and many
 * ways lead to one guest, which is looked at once in a search. */
static enum ready waits_in_turn(struct guest *d)
{
    enum ready r = WAITS;

    if (d->looked == d->w->search)
        return WAITS;
    d->looked = d->w->search;
    d->on_way = true;
    for (size_t i = 0; i < d->spec->depends_on.n && r != BLOCKED; i++)
        r = dependency(d, d->spec->depends_on.v[i]);
    d->on_way = false;
    return r == BLOCKED ? BLOCKED : WAITS;
}

static enum ready dependency(struct guest *g, const char *name)
{
    struct guest *d = world_guest(g->w, name);

    if (!d || d->removing || d->on_way)
        return BLOCKED;
    if (goes_down(d))
        return WAITS;
    if (d->job || d->next) {
        if (guest_is_up(d) && health_of(d) == HEALTH_HEALTHY && !d->next)
            return READY;
        return d->job || d->next->state != JOB_WAITING ? WAITS : waits_in_turn(d);
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

static enum ready wait_for(struct job *j, const char *name)
{
    if (j->state != JOB_WAITING) {
        j->state = JOB_WAITING;
        tell_waiting(j, name);
    }
    return WAITS;
}

/* May the waiting job of g begin? A guest that already runs is worked on without asking its dependencies. */
static enum ready ready(struct guest *g)
{
    struct job *j = g->next;

    if (g->ending)
        return WAITS;
    if (will_stop(g, j) && alive(g) && g->held)
        return wait_for(j, g->held->name);
    j->halting = j->verb == JOB_CONVERGE && will_stop(g, j) && guest_is_up(g) && dependency_goes_down(g);
    if (j->halting)
        return READY;
    if (j->verb == JOB_REMOVE && g->w->lane) /* what an apply has planned with stays until that is written */
        return WAITS;
    if (j->verb != JOB_CONVERGE || (guest_is_up(g) && !j->restart && !g->rebuilding))
        return READY;
    g->w->search++;
    for (size_t i = 0; i < g->spec->depends_on.n; i++) {
        const char *name = g->spec->depends_on.v[i];
        enum ready r = dependency(g, name);
        const struct guest *d = world_guest(g->w, name);
        bool gone = !d || d->removing; /* waiting for that would be for ever */

        if (r == READY)
            continue;
        if (r == BLOCKED && (!j->patient || gone)) {
            vm_fail(&j->err, VM_E_CONFLICT, "it depends on '%s', which %s", name,
                    gone ? "does not exist any more" : d->up ? "is not healthy" : "is down by wish");
            return BLOCKED;
        }
        return wait_for(j, name);
    }
    return READY;
}

/* Whoever stops or removes a guest does not wait until the installs of others are over. */
static unsigned slots(const struct world *w, const struct job *j)
{
    return j->verb == JOB_CONVERGE ? w->options->jobs : 2 * w->options->jobs;
}

/* It ran until it was taken down to start again: it does when it can, though nobody watches any more. */
static void come_back(struct guest *g)
{
    struct job *j = g->up && !g->removing ? job_new(g, JOB_CONVERGE) : NULL;

    if (!j)
        return;
    j->patient = true;
    job_submit(j);
}

static void poke(void *arg)
{
    struct world *w = arg;

    w->poked = false;
    mark_held(w);
    /* end_job may free a guest's job, never a guest, so the index stays good; whoever is blocked frees others. */
    for (bool again = true; again;) {
        again = false;
        for (size_t i = 0; i < w->n_guests && !w->stopping; i++) {
            struct guest *g = w->guests[i];
            enum ready r;

            if (!g->next || g->job || (w->leaving && g->next->verb != JOB_STOP))
                continue;
            r = ready(g);
            if (r == BLOCKED) {
                struct job *j = TAKE(g->next);
                bool halted = j->halted;

                guest_set_text(&g->error, j->err.text);
                guest_dirty(g);
                end_job(g, j, JOB_BLOCKED);
                if (halted)
                    come_back(g);
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
    struct job *old = TAKE(g->next);

    j->halted = old && old->halted;
    if (old && old->verb == j->verb && !old->watcher) { /* one that waits unwatched is taken up into this one */
        j->restart |= old->restart;
        end_row(old, "taken up into a later one");
        job_free(old);
    } else if (old) {
        overtaken(g, old);
    }
    g->next = j;
    loop_timer_free(g->retry);
    g->retry = NULL;
    guest_dirty(g);
    jobs_poke(j->w);
}
