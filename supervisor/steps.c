/* The story of one guest, from image to health, step by step. Workers only. */
#include "manifest.h"
#include "steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum { END_TRIES = 20, END_PAUSE_MS = 100 };

bool job_boots(const struct job *j)
{
    return j->driver && (j->driver->can & DRV_BOOTS_KERNEL);
}

void job_output(const char *text, void *arg)
{
    struct job *j = arg;
    json_t *line = json_object();

    json_put_str(line, "type", "output");
    json_put_str(line, "guest", j->name);
    json_put_str(line, "step", j->step);
    json_put(line, "text", json_sprintf("%s\n", text));
    job_tell(j, line);
}

static void set_applied(struct guest *g, void *arg)
{
    const struct job *j = arg;

    guest_set_text(&g->applied, j->text);
    g->applied_at = j->applied_at;
    if (j->provisioned_at)
        g->provisioned_at = j->provisioned_at;
    health_start(g);
    guest_dirty(g);
}

static int settle(struct job *j, struct vm_err *e)
{
    bool fresh = j->provisioned_at == 0;

    if (fresh || !j->applied || strcmp(j->applied, j->text))
        j->applied_at = wall_ms(); /* a mere restart applies nothing */
    if (fresh)
        j->provisioned_at = j->applied_at;
    /* The store last: what it holds is applied is not done again. */
    if (manifest_write(j, true, e) < 0 ||
        store_put_applied(j->w->store, j->guest_id, j->text, j->applied_at, fresh, e) < 0)
        return -1;
    job_on_loop(j, set_applied, j);
    return 0;
}

static void follow_health(struct guest *g, void *arg)
{
    (void)arg;
    health_start(g);
}

struct said {
    const struct vm_driver *driver;
    struct drv_report report;
};

static void tell_said(struct guest *g, void *arg)
{
    const struct said *x = arg;

    survey_put(g->w, x->driver, &x->report);
    if (*x->report.warning)
        events_add(g->w, g->name, "driver-warning", NULL, "%s: %s", x->driver->name, x->report.warning);
}

/* Which driver, and what is to be known about it: that it only emulates, say. */
static int choose_driver(struct job *j, struct vm_err *e)
{
    struct said x = {0};

    if (!(j->driver = driver_for(j->spec, e)))
        return vm_context(e, "kind: %s", j->spec->kind == KIND_CONTAINER ? "container" : "microvm");
    if (!job_boots(j))
        return 0;
    x.driver = j->driver;
    j->driver->probe(&x.report);
    job_on_loop(j, tell_said, &x);
    return 0;
}

static int bring_up(struct job *j, struct vm_err *e)
{
    bool was_up = j->running;

    if (!was_up) {
        job_feed(j, EV_PREPARE);
        if (choose_driver(j, e) < 0 || job_step(j, "image", step_image, e) < 0 || job_step(j, "root", step_root, e) < 0)
            return -1;
    }
    if ((j->spec->n_volumes || j->spec->n_binds) && job_step(j, "volumes", step_volumes, e) < 0)
        return -1;
    if (j->n_nics && job_step(j, "network", step_network, e) < 0)
        return -1;
    if (!was_up && (job_step(j, "start", step_start, e) < 0 || job_step(j, "boot", step_boot, e) < 0))
        return -1;
    if (was_up && job_step(j, "live", step_live, e) < 0)
        return -1;
    if (job_step(j, "agent", step_agent, e) < 0)
        return -1;
    return was_up && changes_inside(j) ? job_step(j, "inside", step_inside, e) : 0;
}

static void tell_lost(struct guest *g, void *arg)
{
    (void)arg;
    events_add(g->w, g->name, "link-lost", NULL, "its link was removed, and nothing but a restart gives it another one");
}

/* Must what runs be stopped first? */
static int must_stop(struct job *j, bool *stop, struct vm_err *e)
{
    bool lost = false;

    *stop = j->restart || j->rebuilding || runs_otherwise(j);
    if (*stop)
        return 0;
    if (mend_nics(j, &lost, e) < 0)
        return -1;
    if (!lost)
        return 0;
    if (j->quiet && j->spec->restart.policy == RESTART_NO)
        return vm_fail(e, VM_E_BACKEND, "its link was removed; vmctl restart %s gives it another one", j->name);
    job_on_loop(j, tell_lost, NULL);
    *stop = true;
    return 0;
}

/* What a running guest with a kernel of its own was given, for what it must do itself about a change. */
static int load_was(struct job *j, struct vm_err *e)
{
    OWN(str) char *note = job_boots(j) ? run_noted(j) : NULL;

    return note ? guest_spec_load(note, &j->was, e) : 0;
}

/* ---- a read-only root ----
 *
 * Scripts and files need one that can be written. So where there is something to be put into it the guest starts twice:
 * with a writable root for that, and then as it stays. */

/* The spec is this job's own copy. */
static void set_open(struct job *j, bool open)
{
    j->open_root = open;
    j->spec->security.read_only_root = !open;
}

static bool must_open(const struct job *j)
{
    return !j->provisioned_at || !j->applied || strcmp(j->applied, j->text) || job_installs(j);
}

static int seal(struct job *j, struct vm_err *e)
{
    set_open(j, false);
    if (job_step(j, "stop", step_stop, e) < 0 || bring_up(j, e) < 0)
        return -1;
    return job_step(j, "files", job_files, e);
}

static int converge(struct job *j, struct vm_err *e)
{
    bool stop = false;

    if (!j->running && job_find(j, e) < 0)
        return -1;
    if (j->running && must_stop(j, &stop, e) < 0)
        return -1;
    if (j->quiet && j->running && !stop) { /* adopted: nothing of it changes, we only need to hear it again */
        if (job_step(j, "agent", step_agent, e) < 0)
            return -1;
        job_on_loop(j, follow_health, NULL);
        return 0;
    }
    if (stop && job_step(j, "stop", step_stop, e) < 0)
        return -1;
    if (j->halting)
        return 0;
    if (j->running && load_was(j, e) < 0)
        return -1;
    if (j->spec->security.read_only_root)
        set_open(j, j->running ? runs_open(j) : must_open(j));
    if (bring_up(j, e) < 0 || job_step(j, "files", job_files, e) < 0 || job_install(j, e) < 0 ||
        (j->open_root && seal(j, e) < 0) || settle(j, e) < 0)
        return -1;
    return j->wait_health ? job_step(j, "health", step_health, e) : 0;
}

struct volume_look {
    const char *name;
    bool of_another;
};

/* What another guest has is not this one's to delete. */
static void look_at_volume(struct guest *g, void *arg)
{
    struct volume_look *v = arg;

    for (size_t i = 0; i < g->w->n_guests; i++) {
        const struct guest *other = g->w->guests[i];

        for (size_t k = 0; other != g && k < other->spec->n_volumes; k++)
            v->of_another |= !strcmp(other->spec->volumes[k].name, v->name);
    }
}

static int remove_it(struct job *j, struct vm_err *e)
{
    OWN(fd) int run = path_open_host(j->w->options->run_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(fd) int state = run < 0 ? -1 : path_open_host(j->w->options->state_dir, O_RDONLY | O_DIRECTORY, e);
    char dir[40];

    if (state < 0)
        return -1;
    for (size_t i = 0; i < j->n_nics; i++)
        if (net_link_remove(j->nics[i].ifname, e) < 0)
            return -1;
    snprintf(dir, sizeof dir, "guests/%u", j->guest_id);
    if (path_remove(run, dir, e) < 0 || root_remove(j->w->images, j->guest_id, e) < 0 || path_remove(state, dir, e) < 0)
        return -1;
    for (char *rest = j->purge, *name; (name = strsep(&rest, "\n"));) {
        struct volume_look v = {.name = name};

        job_on_loop(j, look_at_volume, &v);
        if (*name && !v.of_another && volume_remove(j->w->images, name, e) < 0)
            return -1;
    }
    return store_drop_guest(j->w->store, j->guest_id, e);
}

static int take_away(struct job *j, struct vm_err *e)
{
    if (job_step(j, "stop", step_stop, e) < 0 || job_step(j, "remove", remove_it, e) < 0)
        return -1;
    job_feed(j, EV_REMOVED);
    return 0;
}

/* A moment's trouble of the disk shall not leave it open: that would be made up for by the next start only. */
static void write_end(struct job *j, const char *error)
{
    struct vm_err why;

    for (int i = 0; i < END_TRIES; i++) {
        if ((j->verb == JOB_REMOVE && !error) || store_put_error(j->w->store, j->guest_id, error, &why) == 0)
            if (store_job_end(j->w->store, j->id, error, &why) == 0)
                return;
        if (why.sys == ENOSPC)
            store_use_reserve(j->w->store);
        sleep_ms(END_PAUSE_MS);
    }
    log_warn(j->name, "the end of its job is not written: %s, continuing; the next start of vmsd makes up for it", why.text);
}

/* The wish for it has been written before; this is what became of it. */
static void audit_end(const struct job *j, const char *error)
{
    OWN(json) json_t *detail = json_pack("{sI ss}", "job", (json_int_t)j->id, "class", plan_class_name(j->class));
    OWN(str) char *text = json_to_text(detail);
    struct vm_err e = {0};

    if (!text)
        vm_no_memory(&e);
    else
        store_audit(j->w->store, &store_vmsd, &(struct store_deed){.verb = "end", .what = j->name, .detail = text, .result = error}, &e);
    if (e.code != VM_E_OK)
        log_warn(j->name, "audit of the end of its job: %s, continuing", e.text);
}

int job_story(struct job *j, struct vm_err *e)
{
    int rc;

    if (job_begin(j, e) < 0 || (j->restarts && store_put_restarts(j->w->store, j->guest_id, j->restarts, e) < 0))
        return -1;
    switch (j->verb) {
    case JOB_STOP:
        rc = job_step(j, "stop", step_stop, e);
        break;
    case JOB_REMOVE:
        rc = take_away(j, e);
        break;
    default:
        rc = converge(j, e);
    }
    if (rc == 0 && j->halting)
        return 0; /* it goes on later */
    if (rc < 0 && j->cut)
        vm_fail(e, VM_E_CONFLICT, "overtaken by a later wish%s%s", j->step ? " in step " : "", j->step ? j->step : "");
    if (rc < 0 && j->w->stopping)
        return rc; /* cut off by our own end: stays open in the store, and goes on after the next start */
    write_end(j, rc < 0 ? e->text : NULL);
    if (!j->quiet) /* a guest that vmsd only found again is none of anybody's wishes */
        audit_end(j, rc < 0 ? e->text : NULL);
    return rc;
}
