/* The story of one guest, from image to health, step by step. Every step may be done again. Workers only. */
#include "job.h"
#include "latch.h"
#include "manifest.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum {
    IMAGE_MS = 1800000,
    START_MS = 60000,
    AGENT_MS = 30000,
    KILL_MS = 10000,
    BOOT_LOOK_MS = 500,
    HEALTH_LOOK_MS = 200,
    HEALTH_SLACK_MS = 10000,
    HEALTH_QUIET_MS = 3000, /* then it is told what is waited for */
    START_NOTE_MAX = 4 << 20,
};

static void tell_output(const char *text, void *arg)
{
    struct job *j = arg;
    json_t *line = json_object();

    json_put_str(line, "type", "output");
    json_put_str(line, "guest", j->name);
    json_put_str(line, "step", j->step);
    json_put(line, "text", json_sprintf("%s\n", text));
    job_tell(j, line);
}

/* The root stays on the image that it was made on, even when the recipe of that name has changed since. */
static bool image_of_root(struct job *j)
{
    return j->image && !j->rebuilding && root_exists(j->w->images, j->guest_id) &&
           image_find(j->w->images, j->image, &j->image_ref, NULL) == 0;
}

static void set_image(struct guest *g, void *arg)
{
    guest_set_text(&g->image, arg);
}

static int do_image(struct job *j, struct vm_err *e)
{
    struct deadline d = deadline_in(IMAGE_MS);

    if (image_of_root(j))
        return 0;
    d.cut = &j->cut;
    if (image_ensure(j->w->images, &j->spec->image, (struct image_progress){tell_output, j}, d, &j->image_ref, e) < 0)
        return -1;
    if (store_put_image(j->w->store, j->guest_id, j->image_ref.id, e) < 0)
        return -1;
    job_on_loop(j, set_image, j->image_ref.id);
    return 0;
}

static void set_rebuilt(struct guest *g, void *arg)
{
    (void)arg;
    g->rebuilding = false;
    g->scripts_done = 0;
    g->provisioned_at = 0;
    guest_set_text(&g->script_digests, "");
}

static int do_root(struct job *j, struct vm_err *e)
{
    if (j->rebuilding && root_remove(j->w->images, j->guest_id, e) < 0)
        return -1;
    if (root_ensure(j->w->images, j->guest_id, j->spec->disk, j->root, e) < 0)
        return -1;
    if (!j->rebuilding)
        return 0;
    if (store_put_rebuilding(j->w->store, j->guest_id, false, e) < 0)
        return -1;
    j->rebuilding = false;
    j->scripts_done = 0;
    j->provisioned_at = 0;
    guest_set_text(&j->digests, "");
    job_on_loop(j, set_rebuilt, NULL);
    return 0;
}

/* Volumes and binds become mounts; a volume whose file grew under a running guest is grown in it. */
static int do_volumes(struct job *j, struct vm_err *e)
{
    const struct guest_spec *s = j->spec;
    struct drv_guest view;
    bool grown;

    j->mounts = calloc(s->n_volumes + s->n_binds + 1, sizeof *j->mounts);
    j->mount_paths = calloc(s->n_volumes + 1, sizeof *j->mount_paths);
    if (!j->mounts || !j->mount_paths)
        return vm_no_memory(e);
    for (size_t i = 0; i < s->n_volumes; i++) {
        const struct spec_volume *v = &s->volumes[i];

        if (volume_ensure(j->w->images, v, j->name, j->mount_paths[i], &grown, e) < 0)
            return -1;
        j->mounts[j->n_mounts++] =
            (struct drv_mount){.disk = !v->directory, .source = j->mount_paths[i], .target = v->target, .mapped = true};
        job_borrow(j, &view);
        if (grown && j->running && j->driver->grow(&view, &j->proc, j->mount_paths[i], e) < 0)
            return vm_context(e, "grow volume '%s'", v->name);
    }
    for (size_t i = 0; i < s->n_binds; i++) {
        const struct spec_bind *b = &s->binds[i];

        j->mounts[j->n_mounts++] = (struct drv_mount){
            .source = b->source, .target = b->target, .read_only = b->read_only, .mapped = b->mapped};
    }
    return 0;
}

/* Rules stand before a link comes up. */
static int do_network(struct job *j, struct vm_err *e)
{
    for (size_t i = 0; i < j->n_nics; i++)
        if (net_bridge_ensure(j->networks[i], e) < 0)
            return vm_context(e, "network '%s'", j->networks[i]->name);
    return netsync_wait(j->w, e);
}

static int attach_nics(struct job *j, struct vm_err *e)
{
    OWN(fd) int ns = -1;

    if (!j->driver->netns || j->driver->netns(&j->proc, &ns, e) < 0)
        return j->driver->netns ? -1 : 0;
    for (unsigned i = 0; i < j->n_nics; i++) {
        const struct spec_limits *l = &j->spec->limits;

        if (net_veth_attach(&j->nics[i], i, j->networks[i], ns, e) < 0)
            return vm_context(e, "attach to network '%s'", j->networks[i]->name);
        if ((l->net_rx || l->net_tx) && net_rate_limit(j->nics[i].ifname, l->net_rx, l->net_tx, e) < 0)
            return vm_context(e, "limits.net");
    }
    return 0;
}

static void set_proc(struct guest *g, void *arg)
{
    const struct job *j = arg;

    g->proc = j->proc;
    g->driver = j->driver;
}

static int make_dirs(struct job *j, struct vm_err *e)
{
    OWN(fd) int run = path_mkdirs_host(j->run_dir, 0700, e);
    OWN(fd) int log = run < 0 ? -1 : path_mkdirs_host(j->log_dir, 0700, e);

    return log < 0 ? -1 : 0;
}

static int kill_it(struct job *j, int64_t grace_ms, struct vm_err *e)
{
    return j->driver->stop(j->guest_id, j->run_dir, &j->proc, deadline_in(grace_ms), e);
}

#define START_NOTE "spec"

/* What it is started by, as long as it runs: an apply that was cut off or failed may want something else by now. */
static int note_start(struct job *j, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, e);

    return dir < 0 ? -1 : path_write(dir, START_NOTE, j->text, strlen(j->text), 0600, e);
}

/* Does it run by a spec that differs in what only a restart changes? */
static bool started_otherwise(const struct job *j)
{
    OWN(fd) int dir = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, NULL);
    OWN(plan_change) struct plan_change *c = NULL;
    OWN(str) char *note = NULL;
    struct plan_actual have = {.name = j->name, .applied = j->applied, .scripts_done = j->spec->n_install};

    if (dir >= 0 && path_read(dir, START_NOTE, START_NOTE_MAX, &note, NULL, NULL) == 0)
        have.applied = note;
    return have.applied && plan_guest(&have, j->spec, &c, NULL) == 0 && c->class >= PLAN_RESTART;
}

static int do_start(struct job *j, struct vm_err *e)
{
    struct drv_guest view;

    if (make_dirs(j, e) < 0)
        return -1;
    /* A crash of vmsd between the start and its record: what runs is not ours to keep half-made. */
    if (j->driver->adopt(j->guest_id, j->run_dir, &j->proc, NULL) == 0 && kill_it(j, KILL_MS, e) < 0)
        return vm_context(e, "stop what an interrupted start left");
    if (note_start(j, e) < 0 || manifest_write(j, false, e) < 0)
        return -1;
    job_feed(j, EV_SPAWN);
    job_borrow(j, &view);
    if (j->driver->start(&view, deadline_in(START_MS), &j->proc, e) < 0)
        return -1;
    job_on_loop(j, set_proc, j);
    if (attach_nics(j, e) == 0)
        return 0;
    kill_it(j, 0, NULL);
    return -1;
}

static void set_up(struct guest *g, void *arg)
{
    (void)arg;
    guest_feed(g, EV_UP, NULL);
    guest_watch_keeper(g);
}

/* In short pieces, for it may be cut. */
static int await_boot(struct job *j, struct vm_err *e)
{
    struct deadline d = deadline_in(j->spec->boot_timeout_ms);
    struct drv_guest view;
    int64_t left;

    job_borrow(j, &view);
    do {
        left = deadline_left(d);
        *e = (struct vm_err){0};
        if (j->driver->wait_booted(&view, &j->proc, deadline_in(left < BOOT_LOOK_MS ? left : BOOT_LOOK_MS), e) == 0)
            return 0;
        if (e->code != VM_E_TIMEOUT || j->w->stopping)
            return -1;
    } while (left > BOOT_LOOK_MS && !j->cut);
    return -1;
}

static int do_boot(struct job *j, struct vm_err *e)
{
    if (await_boot(j, e) < 0) {
        if (j->w->stopping)
            return -1; /* it boots on, and is found after the next start */
        if (e->code == VM_E_TIMEOUT && !j->cut)
            vm_context(e, "boot_timeout of %lld s is over", (long long)(j->spec->boot_timeout_ms / 1000));
        kill_it(j, KILL_MS, NULL);
        return -1;
    }
    j->running = true;
    job_on_loop(j, set_up, NULL);
    return 0;
}

/* A running guest whose links or bridges are gone (removed by hand, or vmsd was killed before it made them) gets them
 * again. */
static int mend_nics(struct job *j, struct vm_err *e)
{
    OWN(strv) struct strv ports = {0};
    bool whole = true;

    if (j->n_nics && net_ports(&ports, e) < 0)
        return -1;
    for (size_t i = 0; i < j->n_nics; i++)
        whole &= strv_has(&ports, j->nics[i].ifname);
    return whole ? 0 : do_network(j, e) < 0 ? -1 : attach_nics(j, e);
}

/* Puts on a running guest what can be changed while it runs. */
static int do_live(struct job *j, struct vm_err *e)
{
    struct drv_guest view;

    if (mend_nics(j, e) < 0)
        return -1;
    job_borrow(j, &view);
    if (j->driver->limits && j->driver->limits(&view, &j->proc, e) < 0 && e->code != VM_E_UNAVAILABLE)
        return -1;
    for (size_t i = 0; i < j->n_nics; i++)
        if (net_rate_limit(j->nics[i].ifname, j->spec->limits.net_rx, j->spec->limits.net_tx, e) < 0 &&
            e->code != VM_E_UNAVAILABLE)
            return -1;
    *e = (struct vm_err){0};
    return 0;
}

struct dialled {
    struct latch latch;
    int fd;
    bool need;
};

static void agent_answered(struct guest *g, bool up, const char *why, void *arg)
{
    struct dialled *d = arg;
    struct vm_err e = {0};

    (void)g;
    if (!up)
        vm_fail(&e, VM_E_BACKEND, "the agent does not answer: %s", why);
    latch_open(&d->latch, up ? NULL : &e);
}

static void needs_agent(struct guest *g, void *arg)
{
    ((struct dialled *)arg)->need = !agent_is_up(g->agent);
}

static void take_agent(struct guest *g, void *arg)
{
    struct dialled *d = arg;

    guest_on_agent(g, agent_answered, d);
    guest_take_agent(g, take_fd(&d->fd));
}

static int do_agent(struct job *j, struct vm_err *e)
{
    struct dialled d = {.fd = -1};
    struct drv_guest view;

    job_on_loop(j, needs_agent, &d);
    if (!d.need)
        return 0;
    job_borrow(j, &view);
    if (j->driver->agent(&view, &j->proc, deadline_in(AGENT_MS), &d.fd, e) < 0)
        return -1;
    latch_init(&d.latch);
    job_on_loop(j, take_agent, &d);
    return latch_wait(&d.latch, e); /* the session has deadlines of its own: it comes up or goes down */
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
    if (store_put_applied(j->w->store, j->guest_id, j->text, j->applied_at, fresh, e) < 0)
        return -1;
    if (fresh)
        j->provisioned_at = j->applied_at;
    job_on_loop(j, set_applied, j);
    return manifest_write(j, true, e);
}

static void follow_health(struct guest *g, void *arg)
{
    (void)arg;
    health_start(g);
}

struct look {
    enum health_state health;
    bool up;
    char why[200];
};

static void look_at_health(struct guest *g, void *arg)
{
    struct look *l = arg;
    OWN(json) json_t *checks = health_json(g);
    json_t *c;
    size_t i;

    l->health = health_of(g);
    l->up = guest_is_up(g);
    json_array_foreach (checks, i, c) {
        const char *state = json_str(c, "state", "");

        if (strcmp(state, "ok"))
            snprintf(l->why, sizeof l->why, "%s: %s", json_str(c, "check", ""), json_str(c, "message", state));
    }
}

static int64_t health_patience(const struct guest_spec *s)
{
    int64_t longest = 0;

    for (size_t i = 0; i < s->n_health; i++) {
        const struct spec_check *c = &s->health[i];
        int64_t ms = c->start_period_ms + (int64_t)(c->failures + c->successes) * (c->every_ms + c->timeout_ms);

        if (ms > longest)
            longest = ms;
    }
    return longest + HEALTH_SLACK_MS;
}

static int do_health(struct job *j, struct vm_err *e)
{
    struct deadline d = deadline_in(health_patience(j->spec));
    int64_t quiet_until = now_ms() + HEALTH_QUIET_MS;
    struct look l = {0}, told = {0};

    for (;;) {
        job_on_loop(j, look_at_health, &l);
        if (l.health == HEALTH_HEALTHY)
            return 0;
        if (now_ms() >= quiet_until && strcmp(l.why, told.why)) {
            tell_output(l.why, j);
            told = l;
        }
        if (!l.up)
            return vm_fail(e, VM_E_BACKEND, "it ended before it was healthy; see vmctl logs %s", j->name);
        if (j->w->stopping || j->cut)
            return vm_fail(e, VM_E_UNAVAILABLE, "not waited for any longer");
        if (l.health == HEALTH_UNHEALTHY || deadline_left(d) == 0) {
            j->unhealthy = true;
            return vm_fail(e, VM_E_BACKEND, "unhealthy: %s", l.why[0] ? l.why : "no check has passed");
        }
        sleep_ms(HEALTH_LOOK_MS);
    }
}

static void set_down(struct guest *g, void *arg)
{
    (void)arg;
    guest_unwatch_keeper(g);
    guest_feed(g, EV_DOWN, NULL);
}

static int do_stop(struct job *j, struct vm_err *e)
{
    struct drv_exit how;

    job_feed(j, EV_STOP);
    if (!j->image) { /* never made, so never started: maybe of a kind that no driver here can run */
        job_on_loop(j, set_down, NULL);
        return 0;
    }
    if (!j->driver && !(j->driver = driver_for(j->spec, e)))
        return -1;
    if (kill_it(j, j->spec->stop_timeout_ms, e) < 0)
        return -1;
    j->driver->reap(j->guest_id, j->run_dir, &how, NULL);
    if (j->verb == JOB_STOP)
        manifest_write(j, j->applied && !strcmp(j->applied, j->text), NULL);
    j->running = false;
    job_on_loop(j, set_down, NULL);
    return 0;
}

static int bring_up(struct job *j, struct vm_err *e)
{
    bool was_up = j->running;

    if (!was_up) {
        job_feed(j, EV_PREPARE);
        if (!(j->driver = driver_for(j->spec, e)) || job_step(j, "image", do_image, e) < 0 ||
            job_step(j, "root", do_root, e) < 0)
            return -1;
    }
    if ((j->spec->n_volumes || j->spec->n_binds) && job_step(j, "volumes", do_volumes, e) < 0)
        return -1;
    if (j->n_nics && job_step(j, "network", do_network, e) < 0)
        return -1;
    if (!was_up && (job_step(j, "start", do_start, e) < 0 || job_step(j, "boot", do_boot, e) < 0))
        return -1;
    if (was_up && job_step(j, "live", do_live, e) < 0)
        return -1;
    return job_step(j, "agent", do_agent, e);
}

static int converge(struct job *j, struct vm_err *e)
{
    bool otherwise = j->running && started_otherwise(j);

    if (j->quiet && j->running && !otherwise) { /* adopted: nothing of it changes, we only need to hear it again */
        if (mend_nics(j, e) < 0 || job_step(j, "agent", do_agent, e) < 0)
            return -1;
        job_on_loop(j, follow_health, NULL);
        return 0;
    }
    if (j->running && (j->restart || j->rebuilding || otherwise) && job_step(j, "stop", do_stop, e) < 0)
        return -1;
    if (bring_up(j, e) < 0 || job_step(j, "files", job_files, e) < 0 || job_install(j, e) < 0 || settle(j, e) < 0)
        return -1;
    return j->wait_health ? job_step(j, "health", do_health, e) : 0;
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

static int do_remove(struct job *j, struct vm_err *e)
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
    if (job_step(j, "stop", do_stop, e) < 0 || job_step(j, "remove", do_remove, e) < 0)
        return -1;
    job_feed(j, EV_REMOVED);
    return 0;
}

int job_story(struct job *j, struct vm_err *e)
{
    struct vm_err ignored;
    int rc;

    if (job_begin(j, e) < 0 || (j->restarts && store_put_restarts(j->w->store, j->guest_id, j->restarts, e) < 0))
        return -1;
    switch (j->verb) {
    case JOB_STOP:
        rc = job_step(j, "stop", do_stop, e);
        break;
    case JOB_REMOVE:
        rc = take_away(j, e);
        break;
    default:
        rc = converge(j, e);
    }
    if (rc < 0 && j->cut)
        vm_fail(e, VM_E_CONFLICT, "overtaken by a later wish%s%s", j->step ? " in step " : "", j->step ? j->step : "");
    if (rc < 0 && j->w->stopping)
        return rc; /* cut off by our own end: stays open in the store, and goes on after the next start */
    if (j->verb != JOB_REMOVE || rc < 0)
        store_put_error(j->w->store, j->guest_id, rc < 0 ? e->text : NULL, &ignored);
    store_job_end(j->w->store, j->id, rc < 0 ? e->text : NULL, &ignored);
    return rc;
}
