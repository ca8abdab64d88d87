/* What happens to a guest, and what follows from it. */
#include "job.h"
#include "usage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum { WATCH_RETRY_MS = 3000, JOB_RETRY_MS = 1000 };

bool guest_is_up(const struct guest *g)
{
    return g->state == ST_RUNNING;
}

static void retry_later(struct guest *g, int64_t ms, void (*fn)(void *arg))
{
    loop_timer_free(g->retry);
    g->retry = NULL;
    if (loop_timer_new(g->w->loop, fn, g, &g->retry, NULL) == 0)
        loop_timer_set(g->retry, ms, ms / 10);
}

static void retry_cancel(struct guest *g)
{
    loop_timer_free(g->retry);
    g->retry = NULL;
}

static void bring_up(struct guest *g, bool restart)
{
    struct job *j = job_new(g, JOB_CONVERGE);

    if (!j)
        return;
    j->restart = restart;
    j->patient = true;
    g->restarts++;
    job_submit(j);
}

static void start_again(void *arg)
{
    struct guest *g = arg;

    if (g->job) { /* it ended under a job that does not mind: when that is done, then */
        retry_later(g, JOB_RETRY_MS, start_again);
        return;
    }
    if (g->up && !g->removing && !g->next)
        bring_up(g, false);
}

static void leave(struct guest *g)
{
    health_stop(g);
    guest_drop_agent(g, "the guest ended");
    inside_drop(g);
    g->up_since = 0;
    g->started_at = 0;
}

static void schedule_restart(struct guest *g, int64_t ran_ms)
{
    char shown[TEXT_HUMAN];
    int64_t wait;

    if (!g->up || g->resting || g->removing || g->next || g->w->stopping || g->w->leaving) /* next: it brings it up, or shall not */
        return;
    if (!life_restarts(&g->spec->restart, false))
        return; /* a start that failed; an end that the policy leaves at rest does not come this far */
    wait = life_backoff_next(&g->backoff, &g->spec->restart, now_ms(), ran_ms);
    if (wait < 0) {
        guest_set_text(&g->error, "it keeps ending: given up after too many restarts; see its logs, then apply or start it");
        events_add(g->w, g->name, "crash-loop", NULL, "%u restarts in %s: given up", g->spec->restart.give_up,
                   text_human_duration(g->spec->restart.give_up_window_ms, shown));
        return;
    }
    events_add(g->w, g->name, "restart-planned", json_pack("{sf}", "wait", (double)wait / 1000), "starts again in %s",
               text_human_duration(wait, shown));
    retry_later(g, wait, start_again);
}

/* Milliseconds that it has been up: an adopted guest has been for longer than we know it. */
static int64_t up_for(const struct guest *g)
{
    struct timespec boot;
    int64_t ms;

    clock_gettime(CLOCK_BOOTTIME, &boot);
    ms = (int64_t)boot.tv_sec * 1000 + boot.tv_nsec / 1000000 -
         (int64_t)g->proc.keeper.start * 1000 / sysconf(_SC_CLK_TCK);
    return ms > 0 ? ms : 0;
}

static void watch(struct guest *g)
{
    g->n_linked = g->n_nics;
    g->up_since = now_ms() - up_for(g);
    g->started_at = wall_ms() - up_for(g);
    snprintf(g->boot_id, sizeof g->boot_id, "%d-%llx", (int)g->proc.leader, (unsigned long long)g->proc.keeper.start);
    retry_cancel(g);
}

bool guest_feed(struct guest *g, enum life_event ev, const char *why)
{
    enum life_state was = g->state;
    int64_t ran = g->up_since ? now_ms() - g->up_since : 0;
    struct life_cell go;
    json_t *body;

    if (!life_step(g->state, ev, &go)) {
        log_error(g->name, "event %s does not fit state %s", life_event_name(ev), life_state_name(g->state));
        return false;
    }
    g->state = (enum life_state)go.next;
    guest_dirty(g);
    if (go.act == ACT_WATCH)
        watch(g);
    if (go.act == ACT_LEAVE || go.act == ACT_RETRY)
        leave(g);
    if (g->state != was) {
        body = json_object();
        json_put_str(body, "from", life_state_name(was));
        json_put_str(body, "to", life_state_name(g->state));
        events_add(g->w, g->name, "state", body, "%s%s%s", life_state_name(g->state), why ? ": " : "", why ? why : "");
    }
    if (go.act == ACT_RETRY)
        schedule_restart(g, ran);
    jobs_poke(g->w);
    return true;
}

/* The keeper ended: a worker asks the driver how, and takes away links that outlive it; the loop decides what follows. */
struct ending {
    struct world *w;
    uint32_t id;
    char *run_dir;
    const struct vm_driver *driver;
    struct spec_restart policy;
    struct strv links;
    struct drv_exit how;
};

static bool rests(const struct spec_restart *policy, const struct drv_exit *how)
{
    return how->kind != EXIT_REBOOT && !life_restarts(policy, how->kind == EXIT_POWEROFF);
}

static int note_rest(const char *run_dir, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, e);

    return dir < 0 ? -1 : path_write(dir, GUEST_RESTS, "", 0, 0600, e);
}

static void ending_run(void *arg)
{
    struct ending *x = arg;
    struct vm_err e;

    if (x->driver->reap(x->id, x->run_dir, &x->how, &e) < 0) {
        x->how.kind = EXIT_UNKNOWN;
        log_warn(NULL, "%s: %s, continuing; its next start clears up", x->run_dir, e.text);
    }
    if (rests(&x->policy, &x->how) && note_rest(x->run_dir, &e) < 0)
        log_warn(NULL, "%s: %s, continuing; a restart of vmsd starts it", x->run_dir, e.text);
    for (size_t i = 0; i < x->links.n; i++)
        if (net_link_remove(x->links.v[i], &e) < 0)
            log_warn(NULL, "remove '%s': %s, continuing", x->links.v[i], e.text);
}

/* name: for programs. text: of a container; vm: of a microVM, where that is another thing. */
static const struct { const char *name, *text, *vm; } exits[] = {
    [EXIT_UNKNOWN] = {"unknown", "ended, nobody knows how", NULL},
    [EXIT_POWEROFF] = {"poweroff", "was shut down from inside", NULL},
    [EXIT_REBOOT] = {"reboot", "reboots", NULL},
    [EXIT_CRASH] = {"crash", "crashed", "its hypervisor crashed"},
    [EXIT_FAILED_START] = {"failed-start", "could not be started", NULL},
    [EXIT_KILLED] = {"killed", "was killed", "its hypervisor was killed"},
    [EXIT_PANIC] = {"panic", "its kernel panicked", NULL},
};

static const char *exit_text(const struct guest *g, enum drv_exit_kind kind)
{
    bool boots = g->driver && (g->driver->can & DRV_BOOTS_KERNEL);

    return boots && exits[kind].vm ? exits[kind].vm : exits[kind].text;
}

static void after_exit(struct guest *g, const struct drv_exit *how)
{
    bool clean = how->kind == EXIT_POWEROFF;
    struct vm_err e = {0};

    vm_fail(&e, VM_E_BACKEND, "%s%s%s", exit_text(g, how->kind), how->text[0] ? ": " : "", how->text);
    events_add(g->w, g->name, "ended", json_pack("{ss}", "how", exits[how->kind].name), "%s", e.text);
    if (how->kind == EXIT_REBOOT) { /* asked for from inside: at once, but a reboot loop meets the back-off too */
        g->up_since = g->up_since && now_ms() - g->up_since > 30000 ? now_ms() - LIFE_STABLE_MS : g->up_since;
        guest_feed(g, EV_EXIT, e.text);
        return;
    }
    g->resting = rests(&g->spec->restart, how);
    guest_set_text(&g->error, clean ? NULL : e.text);
    guest_feed(g, EV_EXIT, e.text);
    if (clean && g->resting)
        guest_feed(g, EV_DOWN, NULL);
}

static void ending_done(void *arg, bool cancelled)
{
    struct ending *x = arg;
    struct guest *g = world_guest_by_id(x->w, x->id);

    if (g)
        g->ending = false;
    if (g && !(cancelled && g->w->stopping) && g->state == ST_RUNNING && g->keeper_fd < 0)
        after_exit(g, &x->how);
    jobs_poke(x->w);
    strv_done(x->links);
    free(x->run_dir);
    free(x);
}

static void watch_again(void *arg)
{
    struct guest *g = arg;

    retry_cancel(g);
    if (!guest_is_up(g) || g->keeper_fd >= 0)
        return;
    guest_watch_keeper(g);
    guest_redial(g);
}

static void keeper_ended(int fd, uint32_t revents, void *arg)
{
    struct guest *g = arg;
    struct ending *x;

    (void)fd;
    (void)revents;
    guest_unwatch_keeper(g);
    if (g->state != ST_RUNNING) /* the job that starts or stops it sees it too, and knows more */
        return;
    if (!(x = calloc(1, sizeof *x)))
        return;
    *x = (struct ending){.w = g->w, .id = g->id, .run_dir = guest_run_dir(g), .driver = g->driver,
                         .policy = g->spec->restart};
    for (size_t i = 0; i < g->n_nics && (g->driver->can & DRV_TAKES_TAPS); i++)
        strv_add(&x->links, g->nics[i].ifname);
    g->ending = true;
    if (loop_work(g->w->loop, (struct loop_job){ending_run, ending_done, x}, NULL) < 0)
        ending_done(x, true);
}

void guest_unwatch_keeper(struct guest *g)
{
    loop_watch_free(g->keeper_watch);
    g->keeper_watch = NULL;
    g->keeper_fd = fd_drop(g->keeper_fd);
}

void guest_watch_keeper(struct guest *g)
{
    struct vm_err e = {0};

    guest_unwatch_keeper(g);
    g->keeper_fd = proc_id_open(&g->proc.keeper, &e);
    if (g->keeper_fd < 0 && e.code == VM_E_ABSENT) {
        keeper_ended(-1, 0, g);
        return;
    }
    if (g->keeper_fd >= 0 &&
        loop_watch_new(g->w->loop, g->keeper_fd, EPOLLIN, keeper_ended, g, &g->keeper_watch, &e) == 0)
        return;
    guest_unwatch_keeper(g); /* no fd left, say: that tells nothing about the guest */
    log_warn(g->name, "its end cannot be watched: %s, trying again", e.text);
    retry_later(g, WATCH_RETRY_MS, watch_again);
}

/* Whoever works on it, or is going to, looks at its health again when that is done. */
static bool left_to_policy(const struct guest *g)
{
    return g->up && !g->removing && !g->job && !g->next && guest_is_up(g) && g->spec->restart.policy != RESTART_NO;
}

/* The pause is over. It may have become well by itself, or have been started anew. */
static void restart_if_unhealthy(void *arg)
{
    struct guest *g = arg;

    if (left_to_policy(g) && health_of(g) == HEALTH_UNHEALTHY)
        bring_up(g, true);
}

void guest_restart_unhealthy(struct guest *g, const char *why)
{
    char shown[TEXT_HUMAN];
    int64_t wait;

    if (!left_to_policy(g))
        return;
    wait = life_backoff_next(&g->backoff, &g->spec->restart, now_ms(), g->up_since ? now_ms() - g->up_since : 0);
    if (wait < 0) {
        guest_set_text(&g->error, "it stays unhealthy: given up after too many restarts; see vmctl show and its logs");
        events_add(g->w, g->name, "crash-loop", NULL, "still unhealthy after %u restarts: given up",
                   g->spec->restart.give_up);
        guest_dirty(g);
        return;
    }
    events_add(g->w, g->name, "restart-planned", json_pack("{sf}", "wait", (double)wait / 1000),
               "unhealthy, restarts in %s: %s", text_human_duration(wait, shown), why);
    loop_timer_free(g->cure);
    g->cure = NULL;
    if (loop_timer_new(g->w->loop, restart_if_unhealthy, g, &g->cure, NULL) == 0)
        loop_timer_set(g->cure, wait, wait / 10);
}

void guest_health_changed(struct guest *g, enum health_state now, const char *why)
{
    events_add(g->w, g->name, "health", NULL, "%s%s%s", health_name(now), why ? ": " : "", why ? why : "");
    if (now == HEALTH_UNHEALTHY && !agent_is_up(g->agent))
        events_add(g->w, g->name, "hangs", NULL, "its agent answers no more: it hangs, or only the agent has ended");
    guest_dirty(g);
    if (now == HEALTH_UNHEALTHY)
        guest_restart_unhealthy(g, why ? why : "a check fails");
    jobs_poke(g->w);
}
