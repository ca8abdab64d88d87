#include <vmsd/agent.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { FEED = 64 << 10 };

/* Lives on the worker's stack, which leaves only when the stream has ended. All but what the lock guards belongs to the
 * loop thread until then. */
struct waiting {
    const struct agent_wait *w;
    struct agent_exec *x;
    struct agent_stream *stream; /* NULL: not begun, or ended */
    struct vm_err *e;
    int rc;
    size_t fed, cap;

    pthread_mutex_t lock;
    pthread_cond_t change;
    bool ended;
    struct agent_result *r;
};

static void keep_output(struct waiting *wt, const void *p, size_t n)
{
    struct agent_exec *x = wt->x;
    if (n > x->output_max - x->n_output)
        n = x->output_max - x->n_output;
    if (n == 0)
        return;
    if (x->n_output + n + 1 > wt->cap) {
        size_t cap = 2 * (x->n_output + n) + 1;
        char *grown = realloc(x->output, cap);
        if (!grown)
            return;
        x->output = grown;
        wt->cap = cap;
    }
    memcpy(x->output + x->n_output, p, n);
    x->n_output += n;
    x->output[x->n_output] = '\0';
}

static void on_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct waiting *wt = arg;
    keep_output(wt, p, n);
    if (wt->x->on_output)
        wt->x->on_output(ch, p, n, wt->x->arg);
}

static void feed(void *arg)
{
    struct waiting *wt = arg;
    const struct agent_exec *x = wt->x;
    while (wt->fed < x->n_input) {
        size_t n = x->n_input - wt->fed;
        n = n > FEED ? FEED : n;
        if (agent_stream_write(wt->stream, (const char *)x->input + wt->fed, n) < 0)
            return; /* and again when drained */
        wt->fed += n;
    }
    agent_stream_eof(wt->stream);
}

static void on_end(const struct agent_result *r, void *arg)
{
    struct waiting *wt = arg;
    wt->stream = NULL;
    pthread_mutex_lock(&wt->lock);
    *wt->r = *r;
    wt->ended = true;
    pthread_cond_signal(&wt->change);
    pthread_mutex_unlock(&wt->lock);
}

static void begin(void *arg)
{
    struct waiting *wt = arg;
    struct agent *a = wt->w->get(wt->w->arg);
    struct agent_stream_events ev = { .data = on_data, .drained = feed, .end = on_end, .arg = wt };

    if (!a)
        wt->rc = vm_fail(wt->e, VM_E_UNAVAILABLE,
                         "the guest's agent is not there; try again when the guest has booted");
    else
        wt->rc = agent_request(a, &wt->x->request, ev, &wt->stream, wt->e);
    if (wt->rc == 0)
        feed(wt);
}

static void cancel(void *arg)
{
    struct waiting *wt = arg;
    if (wt->stream)
        agent_stream_cancel(wt->stream);
}

/* True: it ended in time. False: it was cancelled, and has ended by now. */
static bool wait_for_end(struct waiting *wt, struct deadline d)
{
    struct timespec until = { .tv_sec = d.at / 1000, .tv_nsec = d.at % 1000 * 1000000 };
    int rc = 0;

    pthread_mutex_lock(&wt->lock);
    while (!wt->ended && rc != ETIMEDOUT)
        rc = pthread_cond_timedwait(&wt->change, &wt->lock, &until);
    bool in_time = wt->ended;
    pthread_mutex_unlock(&wt->lock);
    if (in_time)
        return true;

    loop_call(wt->w->loop, cancel, wt);
    pthread_mutex_lock(&wt->lock);
    while (!wt->ended) /* the session bounds it: the agent answers, or goes down */
        pthread_cond_wait(&wt->change, &wt->lock);
    pthread_mutex_unlock(&wt->lock);
    return false;
}

int agent_exec_wait(const struct agent_wait *w, struct agent_exec *x, struct deadline d, struct agent_result *r,
                    struct vm_err *e)
{
    struct waiting wt = { .w = w, .x = x, .e = e, .r = r };
    pthread_condattr_t attr;

    x->output = NULL;
    x->n_output = 0;
    pthread_mutex_init(&wt.lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&wt.change, &attr);
    pthread_condattr_destroy(&attr);

    loop_call(w->loop, begin, &wt);
    if (wt.rc == 0 && !wait_for_end(&wt, d))
        wt.rc = vm_fail(e, VM_E_TIMEOUT, "it took too long and was ended");
    else if (wt.rc == 0 && r->lost)
        wt.rc = vm_fail(e, VM_E_UNAVAILABLE, "lost the guest's agent: %s", r->error);

    pthread_cond_destroy(&wt.change);
    pthread_mutex_destroy(&wt.lock);
    return wt.rc;
}
