#include "measures.h"

#include "profile.h"

#include <stdlib.h>
#include <vmsd/clock.h>

enum { EVERY_MS = 10000, SLACK_MS = 2000, STALE_MS = 60000 };

struct measures {
    struct loop *loop;
    struct loop_timer *timer;
    json_t *last, *next;         /* next: a worker's, while it looks */
    int64_t at;                  /* monotonic: of last */
};

static void look_run(void *arg)
{
    struct measures *m = arg;

    m->next = profile_measures();
    if (json_lost()) { /* half of it would look like a host that cannot tell */
        json_decref(m->next);
        m->next = NULL;
    }
}

static void look_done(void *arg, bool cancelled)
{
    struct measures *m = arg;

    json_decref(m->last);
    m->last = TAKE(m->next);
    m->at = now_ms();
    if (!cancelled)
        loop_timer_set(m->timer, EVERY_MS, SLACK_MS);
}

/* A disk that does not answer holds up this and nothing else. */
static void look(void *arg)
{
    struct measures *m = arg;

    if (loop_work(m->loop, (struct loop_job){look_run, look_done, m}, NULL) < 0)
        loop_timer_set(m->timer, EVERY_MS, SLACK_MS);
}

int measures_open(struct world *w, struct vm_err *e)
{
    struct measures *m = calloc(1, sizeof *m);

    if (!m)
        return vm_no_memory(e);
    w->measures = m;
    m->loop = w->loop;
    if (loop_timer_new(w->loop, look, m, &m->timer, e) < 0)
        return -1;
    loop_timer_set(m->timer, 0, 0);
    return 0;
}

void measures_close(struct world *w)
{
    struct measures *m = TAKE(w->measures);

    if (!m)
        return;
    loop_timer_free(m->timer);
    json_decref(m->last);
    json_decref(m->next);
    free(m);
}

const json_t *measures_last(const struct world *w)
{
    const struct measures *m = w->measures;

    return m && m->last && now_ms() - m->at < STALE_MS ? m->last : NULL;
}
