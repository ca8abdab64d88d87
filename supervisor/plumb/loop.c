#include "loop_lag.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <systemd/sd-event.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/loop.h>

enum {
    WORKER_IDLE_S = 10,
    WORKER_STACK = 256 << 10,
    WORKERS_MAX = 1024,
};

/* What waits to run on the loop thread. */
struct task {
    struct task *next;
    void (*fn)(void *arg);
    void *arg;
};
struct task_list {
    struct task *first, **end;
};

/* A job waits for a worker by its task, and when it has run comes back to the loop by the same task. */
struct job {
    struct task task;
    struct loop *loop;
    struct loop_job is;
    bool cancelled;
};

struct worker {
    pthread_t thread;
    struct loop *loop;
    bool started; /* to be joined; the loop thread's own */
    bool ended;   /* under the lock */
};

struct signal_watch {
    struct signal_watch *next;
    sd_event_source *source;
    void (*fn)(int sig, void *arg);
    void *arg;
};

struct loop {
    /* The loop thread's own. */
    sd_event *event;
    sd_event_source *wake_source;
    struct signal_watch *signals;
    pthread_t thread;
    bool quit, closing;
    unsigned busy;

    int wake; /* eventfd: there are posts */
    unsigned n_workers;

    pthread_mutex_t lock; /* of all below; never held across a call-back */
    pthread_cond_t work;  /* there are jobs, or it is time to end */
    struct task_list posts, jobs;
    unsigned n_jobs, n_idle;
    bool ending;
    struct worker workers[];
};

struct loop_timer {
    sd_event_source *source;
    void (*fn)(void *arg);
    void *arg;
};

struct loop_watch {
    sd_event_source *source;
    void (*fn)(int fd, uint32_t revents, void *arg);
    void *arg;
};

/* sd-event gives negative error numbers. */
static int fail_event(int rc, struct vm_err *e, const char *what)
{
    errno = -rc;
    return vm_fail_sys(e, "%s", what);
}

static void list_reset(struct task_list *list)
{
    *list = (struct task_list){ .end = &list->first };
}

static void list_push(struct task_list *list, struct task *t)
{
    t->next = NULL;
    *list->end = t;
    list->end = &t->next;
}

static struct task *list_pop(struct task_list *list)
{
    struct task *t = list->first;
    if (t && !(list->first = t->next))
        list->end = &list->first;
    return t;
}

static struct task *list_take_all(struct task_list *list)
{
    struct task *first = list->first;
    list_reset(list);
    return first;
}

/* ---- posts ---- */

static void post_task(struct loop *l, struct task *t)
{
    pthread_mutex_lock(&l->lock);
    bool first = !l->posts.first;
    list_push(&l->posts, t);
    pthread_mutex_unlock(&l->lock);
    if (first)
        (void)!write(l->wake, &(uint64_t){ 1 }, sizeof(uint64_t));
}

/* A task frees itself or lives in its job, so it isn't touched after fn. Posts of these call-backs wait for the next
 * round: a call-back that posts itself again does not starve the fds. */
static void run_posts(struct loop *l)
{
    (void)!read(l->wake, &(uint64_t){ 0 }, sizeof(uint64_t));
    pthread_mutex_lock(&l->lock);
    struct task *t = list_take_all(&l->posts);
    pthread_mutex_unlock(&l->lock);
    for (struct task *next; t; t = next) {
        next = t->next;
        json_lost(); /* what another's work lost before is not this one's */
        t->fn(t->arg);
    }
}

static int on_wake(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
    (void)s, (void)fd, (void)revents;
    run_posts(arg);
    return 0;
}

struct post {
    struct task task;
    void (*fn)(void *arg);
    void *arg;
};

static void post_run(void *arg)
{
    struct post p = *(struct post *)arg;
    free(arg);
    p.fn(p.arg);
}

void loop_post(struct loop *l, void (*fn)(void *arg), void *arg)
{
    struct post *p = malloc(sizeof(*p));
    if (!p)
        abort(); /* the caller's story would stop in its middle, which nobody could notice */
    *p = (struct post){ .task = { .fn = post_run, .arg = p }, .fn = fn, .arg = arg };
    post_task(l, &p->task);
}

struct call {
    struct task task;
    void (*fn)(void *arg);
    void *arg;
    sem_t ran;
};

static void call_run(void *arg)
{
    struct call *c = arg;
    c->fn(c->arg);
    sem_post(&c->ran);
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
    if (loop_is_here(l)) {
        fn(arg);
        return;
    }
    struct call c = { .task = { .fn = call_run, .arg = &c }, .fn = fn, .arg = arg };
    sem_init(&c.ran, 0, 0);
    post_task(l, &c.task);
    while (sem_wait(&c.ran) < 0 && errno == EINTR)
        ;
    sem_destroy(&c.ran);
}

bool loop_is_here(const struct loop *l)
{
    return pthread_equal(l->thread, pthread_self());
}

/* ---- workers ---- */

static void job_done(void *arg)
{
    struct job j = *(struct job *)arg;
    free(arg);
    j.loop->busy--;
    j.is.done(j.is.arg, j.cancelled);
}

/* The next job, or NULL when this worker's time is over. Called with the lock. */
static struct job *worker_wait(struct loop *l)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += WORKER_IDLE_S;

    l->n_idle++;
    for (int rc = 0; !l->jobs.first && !l->ending && rc != ETIMEDOUT;)
        rc = pthread_cond_timedwait(&l->work, &l->lock, &until);
    l->n_idle--;

    struct task *t = list_pop(&l->jobs);
    if (!t)
        return NULL;
    l->n_jobs--;
    return t->arg;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct loop *l = w->loop;

    pthread_setname_np(pthread_self(), "worker");
    pthread_mutex_lock(&l->lock);
    for (struct job *j; (j = worker_wait(l));) {
        pthread_mutex_unlock(&l->lock);
        json_lost();
        j->is.run(j->is.arg);
        post_task(l, &j->task);
        pthread_mutex_lock(&l->lock);
    }
    w->ended = true;
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Called with the lock. 0 or an error number. */
static int worker_start(struct loop *l, struct worker *w)
{
    if (w->started)
        pthread_join(w->thread, NULL); /* has ended: holds nothing any more and is about to return */
    *w = (struct worker){ .loop = l };
    pthread_attr_t attr;
    int rc = pthread_attr_init(&attr);
    if (rc)
        return rc;
    pthread_attr_setstacksize(&attr, WORKER_STACK);

    sigset_t all, before; /* signals are the loop thread's */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&w->thread, &attr, worker_main, w);
    w->started = !rc;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

/* A thread more if there are more jobs than idle threads and the bound allows. A failure counts only where no thread
 * is left that would come to the job. Called with the lock. */
static int workers_grow(struct loop *l)
{
    if (l->n_jobs <= l->n_idle)
        return 0;
    struct worker *spare = NULL;
    bool any = false;
    for (struct worker *w = l->workers; w < l->workers + l->n_workers; w++) {
        if (w->started && !w->ended)
            any = true;
        else if (!spare)
            spare = w;
    }
    int rc = spare ? worker_start(l, spare) : 0;
    return any ? 0 : rc;
}

int loop_work(struct loop *l, struct loop_job job, struct vm_err *e)
{
    if (l->closing)
        return vm_fail(e, VM_E_UNAVAILABLE, "the daemon is stopping; try again when it is back");
    struct job *j = malloc(sizeof(*j));
    if (!j)
        return vm_no_memory(e);
    *j = (struct job){ .task = { .fn = job_done, .arg = j }, .loop = l, .is = job };

    pthread_mutex_lock(&l->lock);
    l->n_jobs++;
    int rc = workers_grow(l);
    if (rc) {
        l->n_jobs--;
    } else {
        list_push(&l->jobs, &j->task);
        pthread_cond_signal(&l->work);
    }
    pthread_mutex_unlock(&l->lock);
    if (rc) {
        free(j);
        errno = rc;
        return vm_fail_sys(e, "start a worker thread");
    }
    l->busy++;
    return 0;
}

/* ---- the loop ---- */

static int loop_init(struct loop *l, struct vm_err *e)
{
    int rc = sd_event_new(&l->event);
    if (rc < 0)
        return fail_event(rc, e, "make the event loop");
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake < 0)
        return vm_fail_sys(e, "make an eventfd");
    rc = sd_event_add_io(l->event, &l->wake_source, l->wake, EPOLLIN, on_wake, l);
    if (rc < 0)
        return fail_event(rc, e, "watch the eventfd");
    return 0;
}

int loop_open(unsigned workers, struct loop **out, struct vm_err *e)
{
    if (workers < 1 || workers > WORKERS_MAX)
        return vm_fail(e, VM_E_INVALID, "%u workers is outside 1..%d", workers, WORKERS_MAX);
    struct loop *l = calloc(1, sizeof(*l) + workers * sizeof(l->workers[0]));
    if (!l)
        return vm_no_memory(e);
    l->wake = -1;
    l->n_workers = workers;
    l->thread = pthread_self();
    list_reset(&l->posts);
    list_reset(&l->jobs);

    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->work, &attr);
    pthread_condattr_destroy(&attr);
    pthread_mutex_init(&l->lock, NULL);

    if (loop_init(l, e) < 0) {
        loop_close(l);
        return -1;
    }
    *out = l;
    return 0;
}

static void cancel_jobs(struct loop *l)
{
    pthread_mutex_lock(&l->lock);
    struct task *t = list_take_all(&l->jobs);
    l->n_jobs = 0;
    pthread_mutex_unlock(&l->lock);
    for (struct task *next; t; t = next) {
        next = t->next;
        ((struct job *)t->arg)->cancelled = true;
        job_done(t->arg);
    }
}

/* Posts run on while the jobs end: a job may be waiting in loop_call. */
static void finish_jobs(struct loop *l)
{
    while (l->busy > 0) {
        (void)poll(&(struct pollfd){ .fd = l->wake, .events = POLLIN }, 1, -1);
        run_posts(l);
    }
    pthread_mutex_lock(&l->lock);
    l->ending = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (struct worker *w = l->workers; w < l->workers + l->n_workers; w++) {
        if (w->started)
            pthread_join(w->thread, NULL);
    }
    while (l->posts.first)
        run_posts(l);
}

void loop_drain(struct loop *l)
{
    if (l->closing)
        return;
    l->closing = true;
    cancel_jobs(l);
    finish_jobs(l);
}

void loop_close(struct loop *l)
{
    if (!l)
        return;
    loop_drain(l);
    while (l->posts.first) /* by what was freed since it drained */
        run_posts(l);
    for (struct signal_watch *w = l->signals, *next; w; w = next) {
        next = w->next;
        sd_event_source_disable_unref(w->source);
        free(w);
    }
    sd_event_source_disable_unref(l->wake_source);
    sd_event_unref(l->event);
    fd_drop(l->wake);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

/* As sd_event_run, but for the watch over what the call-backs take. */
static int turn(struct loop *l)
{
    struct loop_lag lag;
    int rc = sd_event_prepare(l->event);
    if (rc == 0)
        rc = sd_event_wait(l->event, UINT64_MAX);
    if (rc <= 0)
        return rc;
    json_lost();
    loop_lag_begin(&lag);
    rc = sd_event_dispatch(l->event);
    loop_lag_end(&lag);
    return rc;
}

/* Not sd_event_loop: it can't be entered again after its end. */
int loop_run(struct loop *l, struct vm_err *e)
{
    while (!l->quit) {
        int rc = turn(l);
        if (rc < 0)
            return fail_event(rc, e, "run the event loop");
    }
    l->quit = false;
    return 0;
}

void loop_quit(struct loop *l)
{
    l->quit = true;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *arg)
{
    (void)s;
    struct signal_watch *w = arg;
    w->fn((int)si->ssi_signo, w->arg);
    return 0;
}

int loop_signal(struct loop *l, int sig, void (*fn)(int sig, void *arg), void *arg, struct vm_err *e)
{
    struct signal_watch *w = malloc(sizeof(*w));
    if (!w)
        return vm_no_memory(e);
    *w = (struct signal_watch){ .next = l->signals, .fn = fn, .arg = arg };

    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, sig);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    int rc = sd_event_add_signal(l->event, &w->source, sig, on_signal, w);
    if (rc < 0) {
        free(w);
        return fail_event(rc, e, "watch a signal");
    }
    l->signals = w;
    return 0;
}

/* ---- timers ---- */

static int on_timer(sd_event_source *s, uint64_t usec, void *arg)
{
    (void)s, (void)usec;
    struct loop_timer *t = arg;
    t->fn(t->arg); /* may free t */
    return 0;
}

int loop_timer_new(struct loop *l, void (*fn)(void *arg), void *arg, struct loop_timer **out, struct vm_err *e)
{
    struct loop_timer *t = malloc(sizeof(*t));
    if (!t)
        return vm_no_memory(e);
    *t = (struct loop_timer){ .fn = fn, .arg = arg };
    int rc = sd_event_add_time(l->event, &t->source, CLOCK_MONOTONIC, UINT64_MAX, 1, on_timer, t);
    if (rc < 0) {
        free(t);
        return fail_event(rc, e, "make a timer");
    }
    loop_timer_stop(t);
    *out = t;
    return 0;
}

/* From the clock and not from sd-event's idea of now, which is the time of the last wake-up. */
static uint64_t usec_from_now(int64_t ms)
{
    const int64_t far_ms = INT64_C(1) << 40; /* 34 years */
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    ms = ms < 0 ? 0 : ms > far_ms ? far_ms : ms;
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 + (uint64_t)ms * 1000;
}

void loop_timer_set(struct loop_timer *t, int64_t ms, int64_t slack_ms)
{
    sd_event_source_set_time(t->source, usec_from_now(ms));
    /* 0 would mean sd-event's default of 250 ms. */
    sd_event_source_set_time_accuracy(t->source, slack_ms > 0 ? (uint64_t)slack_ms * 1000 : 1);
    sd_event_source_set_enabled(t->source, SD_EVENT_ONESHOT);
}

void loop_timer_stop(struct loop_timer *t)
{
    sd_event_source_set_enabled(t->source, SD_EVENT_OFF);
}

void loop_timer_free(struct loop_timer *t)
{
    if (!t)
        return;
    sd_event_source_disable_unref(t->source);
    free(t);
}

/* ---- watches ---- */

static int on_fd(sd_event_source *s, int fd, uint32_t revents, void *arg)
{
    (void)s;
    struct loop_watch *w = arg;
    w->fn(fd, revents, w->arg); /* may free w */
    return 0;
}

int loop_watch_new(struct loop *l, int fd, uint32_t events, void (*fn)(int fd, uint32_t revents, void *arg), void *arg,
                   struct loop_watch **out, struct vm_err *e)
{
    struct loop_watch *w = malloc(sizeof(*w));
    if (!w)
        return vm_no_memory(e);
    *w = (struct loop_watch){ .fn = fn, .arg = arg };
    int rc = sd_event_add_io(l->event, &w->source, fd, events, on_fd, w);
    if (rc < 0) {
        free(w);
        return fail_event(rc, e, "watch a file descriptor");
    }
    *out = w;
    return 0;
}

void loop_watch_set(struct loop_watch *w, uint32_t events)
{
    sd_event_source_set_io_events(w->source, events);
}

void loop_watch_free(struct loop_watch *w)
{
    if (!w)
        return;
    sd_event_source_disable_unref(w->source);
    free(w);
}
