/* The session with a guest's agent. While the guest runs and no job works on it, a lost session is made again. */
#include "boot.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum {
    RETRY_MS = 3000,
    CALL_MS = 10000,
    DIALS_MAX = 12, /* at once: guests that do not answer leave workers for everything else */
};

static void dial_again(void *arg);

static void dial_later(struct guest *g)
{
    loop_timer_free(g->retry);
    g->retry = NULL;
    if (loop_timer_new(g->w->loop, dial_again, g, &g->retry, NULL) == 0)
        loop_timer_set(g->retry, RETRY_MS, RETRY_MS / 10);
}

/* ---- dialling ---- */

struct dial {
    struct job *job; /* copies of what the driver needs, never submitted */
    struct world *w;
    uint32_t id;
    int fd;
    char token[BOOT_TOKEN];
    struct vm_err err;
};

static void dial_run(void *arg)
{
    struct dial *d = arg;
    struct drv_guest view;

    job_borrow(d->job, &view);
    if (boot_token_read(d->job->run_dir, d->token, &d->err) < 0 ||
        d->job->driver->agent(&view, &d->job->proc, deadline_in(CALL_MS), &d->fd, &d->err) < 0)
        d->fd = -1;
}

static void dial_done(void *arg, bool cancelled)
{
    struct dial *d = arg;
    struct guest *g = world_guest_by_id(d->w, d->id);

    d->w->dials--;
    (void)cancelled; /* no thread was to be had, say: dialled later like one that does not answer */
    if (g && guest_is_up(g) && !g->agent && !g->job && !d->w->stopping) {
        if (d->fd >= 0)
            guest_take_agent(g, take_fd(&d->fd), d->token);
        else
            dial_later(g);
    }
    fd_drop(d->fd);
    job_free(d->job);
    free(d);
}

static void dial_again(void *arg)
{
    struct guest *g = arg;
    struct dial *d;

    loop_timer_free(g->retry);
    g->retry = NULL;
    if (!guest_is_up(g) || g->agent || g->job || g->w->stopping)
        return;
    if (g->w->dials == DIALS_MAX || !(d = calloc(1, sizeof *d))) {
        dial_later(g);
        return;
    }
    g->w->dials++;
    *d = (struct dial){.w = g->w, .id = g->id, .fd = -1, .job = job_new(g, JOB_CONVERGE)};
    if (!d->job || job_copy(d->job, g, &d->err) < 0 ||
        loop_work(g->w->loop, (struct loop_job){dial_run, dial_done, d}, NULL) < 0)
        dial_done(d, true);
}

void guest_redial(struct guest *g)
{
    if (guest_is_up(g) && !g->agent && !g->job && !g->next && !g->retry && !g->w->stopping)
        dial_later(g);
}

/* ---- up and down ---- */

/* Whoever waits for the session hears of it once. */
static void tell_waiter(struct guest *g, bool up, const char *why)
{
    struct agent_waiter x = g->agent_waiter;

    g->agent_waiter = (struct agent_waiter){0};
    if (x.fn)
        x.fn(g, up, why, x.arg);
}

static void ready(struct guest *g)
{
    g->agent_ready = true;
    tell_waiter(g, true, NULL);
    names_push_to(g);
}

static void was_set_up(const struct agent_result *r, void *arg)
{
    struct guest *g = arg;

    if (r->lost)
        return; /* the session ended, and its end is told by whoever ended it */
    if (r->ok) {
        ready(g);
        return;
    }
    log_warn(g->name, "its agent could not set it up: %s", r->error);
    tell_waiter(g, false, r->error);
}

/* A guest that boots a kernel is told who it is, whenever a session begins: its first setup is of the boot, and the
 * clock is of now. */
static int set_up(struct guest *g, struct vm_err *e)
{
    const struct network_spec **networks = calloc(g->n_nics + 1, sizeof *networks);
    OWN(strv) struct strv q = {0};
    struct agent_stream *s = NULL;
    int rc = networks ? 0 : vm_no_memory(e);

    for (size_t i = 0; i < g->n_nics && rc == 0; i++)
        if (!(networks[i] = world_network(g->w, g->nics[i].network)))
            rc = vm_fail(e, VM_E_ABSENT, "network '%s' does not exist", g->nics[i].network);
    if (rc == 0)
        rc = boot_request(g->name, g->nics, networks, g->n_nics, &q, e);
    free(networks);
    return rc < 0 ? -1 : agent_request(g->agent, &q, (struct agent_stream_events){.end = was_set_up, .arg = g}, &s, e);
}

static void agent_up(void *arg)
{
    struct guest *g = arg;
    struct vm_err e = {0};

    if (!g->driver || !(g->driver->can & DRV_BOOTS_KERNEL)) {
        ready(g);
    } else if (set_up(g, &e) < 0) {
        log_warn(g->name, "it was not set up: %s", e.text);
        tell_waiter(g, false, e.text);
    }
}

void guest_drop_agent(struct guest *g, const char *why)
{
    agent_close(g->agent);
    g->agent = NULL;
    g->agent_ready = false;
    g->hosts_sum[0] = g->resolv_sum[0] = '\0';
    tell_waiter(g, false, why);
}

static void agent_down(void *arg, const char *why)
{
    struct guest *g = arg;

    guest_drop_agent(g, why);
    if (guest_is_up(g) && !g->job && !g->w->stopping) {
        log_warn(g->name, "its agent went away: %s, dialling again", why);
        dial_later(g);
    }
}

void guest_take_agent(struct guest *g, int fd, const char *token)
{
    struct agent_events ev = {.up = agent_up, .down = agent_down, .arg = g, .token = *token ? token : NULL};
    struct vm_err e = {0};

    agent_close(g->agent);
    g->agent = NULL;
    g->agent_ready = false;
    if (g->w->stopping) { /* the loop turns no more: nobody would hear its answer */
        fd_drop(fd);
        guest_drop_agent(g, "vmsd is ending");
    } else if (agent_open(g->w->loop, fd, ev, &g->agent, &e) < 0) {
        agent_down(g, e.text);
    }
}

void guest_on_agent(struct guest *g, void (*fn)(struct guest *g, bool up, const char *why, void *arg), void *arg)
{
    g->agent_waiter = (struct agent_waiter){fn, arg};
}
