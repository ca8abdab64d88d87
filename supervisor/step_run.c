/* A guest starts and ends. */
#include "manifest.h"
#include "steps.h"

#include <fcntl.h>
#include <string.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum { START_MS = 60000, KILL_MS = 10000, BOOT_LOOK_MS = 500, ASK_MS = 3000, NOTE_MAX = 4 << 20 };

/* ---- what it runs by ---- */

#define NOTE "spec"
#define OPEN_ROOT "open-root"

int run_note(struct job *j, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, e);

    return dir < 0 ? -1 : path_write(dir, NOTE, j->text, strlen(j->text), 0600, e);
}

char *run_noted(const struct job *j)
{
    OWN(fd) int dir = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, NULL);
    char *note = NULL;

    return dir >= 0 && path_read(dir, NOTE, NOTE_MAX, &note, NULL, NULL) == 0 ? note : NULL;
}

bool runs_otherwise(const struct job *j)
{
    OWN(plan_change) struct plan_change *c = NULL;
    OWN(str) char *note = run_noted(j);
    struct plan_actual have = {.name = j->name,
                               .applied = note ? note : j->applied,
                               .scripts_done = j->spec->n_install,
                               .resizes = j->driver && (j->driver->can & DRV_RESIZES)};

    return have.applied && plan_guest(&have, j->spec, &c, NULL) == 0 && c->class >= PLAN_RESTART;
}

static int note_open(struct job *j, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, e);

    if (dir < 0)
        return -1;
    return j->open_root ? path_write(dir, OPEN_ROOT, "", 0, 0600, e) : path_remove(dir, OPEN_ROOT, e);
}

bool runs_open(const struct job *j)
{
    OWN(fd) int dir = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, NULL);

    return dir >= 0 && path_exists(dir, OPEN_ROOT);
}

/* ---- the end ---- */

static int end_it(struct job *j, struct deadline d, struct vm_err *e)
{
    if (j->driver->stop(j->guest_id, j->run_dir, &j->proc, d, e) < 0)
        return -1;
    boot_remove_links(j);
    return 0;
}

static void set_down(struct guest *g, void *arg)
{
    (void)arg;
    if (g->job)
        g->job->stopped = true;
    guest_unwatch_keeper(g);
    guest_feed(g, EV_DOWN, NULL);
}

/* Its own init ends it most cleanly. Whatever comes of that, the driver waits, asks once more, and kills. */
static void ask_to_end(struct job *j, struct deadline d)
{
    OWN(strv) struct strv q = {0};
    int64_t ms = deadline_left(d) < ASK_MS ? deadline_left(d) : ASK_MS;
    struct vm_err e;

    strv_add(&q, "op=poweroff");
    if (job_boots(j) && ms && job_ask(j, &q, NULL, 0, ms, &e) < 0)
        log_debug(j->name, "its agent was asked to shut it down: %s", e.text);
}

static void expect_end(struct guest *g, void *arg)
{
    (void)arg;
    guest_unwatch_keeper(g);
}

/* The driver that it ran on is asked first, whatever its spec says by now. */
int step_stop(struct job *j, struct vm_err *e)
{
    struct deadline d = deadline_in(j->spec->stop_timeout_ms);
    struct drv_exit how;
    int rc;

    if (j->running) { /* before the life of the guest goes on: with that its session is over */
        job_on_loop(j, expect_end, NULL);
        ask_to_end(j, d);
    }
    job_feed(j, EV_STOP);
    if (!j->running && job_find(j, e) < 0)
        return -1;
    if (!j->driver && (!j->image || !(j->driver = driver_for(j->spec, NULL)))) {
        job_on_loop(j, set_down, NULL); /* it never ran, or what it left is nobody's here */
        return 0;
    }
    if (end_it(j, d, e) < 0)
        return -1;
    rc = j->driver->reap(j->guest_id, j->run_dir, &how, e);
    if (j->verb == JOB_STOP)
        manifest_write(j, manifest_settled(j), NULL);
    j->running = false;
    job_on_loop(j, set_down, NULL);
    return rc;
}

/* ---- what runs though nobody knew ---- */

static void adopted(struct guest *g, void *arg)
{
    const struct job *j = arg;

    guest_adopt(g, j->driver, &j->proc);
}

int job_find(struct job *j, struct vm_err *e)
{
    const struct vm_driver *found;
    struct drv_proc proc;
    struct drv_exit how;
    struct vm_err why = {0};

    if (driver_find(j->guest_id, j->run_dir, &found, &proc, &why) < 0)
        return why.code == VM_E_ABSENT ? 0 : vm_fail(e, why.code, "%s", why.text);
    j->driver = found;
    j->proc = proc;
    if (proc.phase != DRV_BOOTED) { /* a crash of vmsd before it was up: what runs is not ours to keep half-made */
        if (end_it(j, deadline_in(KILL_MS), e) < 0)
            return vm_context(e, "stop what an interrupted start left");
        found->reap(j->guest_id, j->run_dir, &how, NULL); /* now, for the next start may be another driver's */
        return 0;
    }
    j->running = true;
    if (j->verb == JOB_CONVERGE)
        job_on_loop(j, adopted, j);
    return 0;
}

/* ---- the start ---- */

static int make_dirs(struct job *j, struct vm_err *e)
{
    OWN(fd) int run = path_mkdirs_host(j->run_dir, 0700, e);
    OWN(fd) int log = run < 0 ? -1 : path_mkdirs_host(j->log_dir, 0700, e);

    return log < 0 ? -1 : path_remove(run, GUEST_RESTS, e);
}

static void set_proc(struct guest *g, void *arg)
{
    const struct job *j = arg;

    g->proc = j->proc;
    g->driver = j->driver;
}

static int start(struct job *j, struct vm_err *e)
{
    struct drv_guest view;
    int rc;

    if (job_boots(j) && boot_prepare(j, e) < 0) {
        boot_done(j);
        boot_remove_links(j);
        return -1;
    }
    job_feed(j, EV_SPAWN);
    job_borrow(j, &view);
    rc = j->driver->start(&view, deadline_in(START_MS), &j->proc, e);
    boot_done(j);
    if (rc < 0)
        boot_remove_links(j);
    return rc;
}

int step_start(struct job *j, struct vm_err *e)
{
    if (make_dirs(j, e) < 0 || run_note(j, e) < 0 || note_open(j, e) < 0 || manifest_write(j, manifest_settled(j), e) < 0 || start(j, e) < 0)
        return -1;
    job_on_loop(j, set_proc, j);
    if (attach_nics(j, e) == 0)
        return 0;
    end_it(j, deadline_in(0), NULL);
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

int step_boot(struct job *j, struct vm_err *e)
{
    if (await_boot(j, e) < 0) {
        if (j->w->stopping)
            return -1; /* it boots on, and is found after the next start */
        if (e->code == VM_E_TIMEOUT && !j->cut)
            vm_context(e, "boot_timeout of %lld s is over", (long long)(j->spec->boot_timeout_ms / 1000));
        end_it(j, deadline_in(KILL_MS), NULL);
        return -1;
    }
    j->running = true;
    job_on_loop(j, set_up, NULL);
    return 0;
}
