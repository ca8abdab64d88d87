#include "latch.h"

#include <time.h>

void latch_init(struct latch *x)
{
    *x = (struct latch){0};
    pthread_mutex_init(&x->lock, NULL);
    pthread_cond_init(&x->open, NULL);
}

void latch_open(struct latch *x, const struct vm_err *e)
{
    pthread_mutex_lock(&x->lock);
    if (e) {
        x->err = *e;
        x->rc = -1;
    }
    x->opened = true;
    pthread_cond_signal(&x->open); /* under the lock: the waiter may destroy it as soon as it can take it */
    pthread_mutex_unlock(&x->lock);
}

bool latch_opens(struct latch *x, struct deadline d)
{
    bool opened;

    pthread_mutex_lock(&x->lock);
    while (!x->opened && deadline_left(d)) {
        int64_t at = now_ms() + deadline_poll_ms(d);
        struct timespec until = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};

        pthread_cond_clockwait(&x->open, &x->lock, CLOCK_MONOTONIC, &until);
    }
    opened = x->opened;
    pthread_mutex_unlock(&x->lock);
    return opened;
}

int latch_wait(struct latch *x, struct vm_err *e)
{
    int rc;

    pthread_mutex_lock(&x->lock);
    while (!x->opened)
        pthread_cond_wait(&x->open, &x->lock);
    rc = x->rc;
    if (rc < 0 && e)
        *e = x->err;
    pthread_mutex_unlock(&x->lock);
    pthread_mutex_destroy(&x->lock);
    pthread_cond_destroy(&x->open);
    return rc;
}
