#include "job.h"
#include "leave.h"

#include <systemd/sd-daemon.h>
#include <vmsd/log.h>

/* As long as guests may take; so systemd is told again and again that vmsd is at it. */
enum { TELL_MS = 1000, PATIENCE_S = 15 };

static bool is_done(const struct world *w)
{
    for (size_t i = 0; i < w->n_guests; i++) {
        const struct guest *g = w->guests[i];

        if (g->job || (g->next && g->next->verb == JOB_STOP))
            return false;
    }
    return true;
}

static void look(void *arg)
{
    struct world *w = arg;

    if (is_done(w)) {
        loop_quit(w->loop);
        return;
    }
    sd_notifyf(0, "EXTEND_TIMEOUT_USEC=%d000000", PATIENCE_S);
    loop_timer_set(w->leaving, TELL_MS, 0);
}

bool leave(struct world *w)
{
    struct vm_err e = {0};

    if (loop_timer_new(w->loop, look, w, &w->leaving, &e) < 0) {
        log_warn(NULL, "the host goes down: %s; systemd stops the guests", e.text);
        return false;
    }
    log_info(NULL, "the host goes down: stopping the guests");
    for (size_t i = 0; i < w->n_guests; i++) {
        struct guest *g = w->guests[i];
        struct job *j = guest_is_up(g) || g->job ? job_new(g, JOB_STOP) : NULL;

        jobs_cut(g);
        if (j)
            job_submit(j);
    }
    look(w);
    return true;
}
