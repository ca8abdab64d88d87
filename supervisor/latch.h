/* A worker waits for one answer from the loop. Private to supervisor/. */
#ifndef LATCH_H
#define LATCH_H

#include <pthread.h>
#include <stdbool.h>
#include <vmsd/clock.h>
#include <vmsd/err.h>

struct latch {
    pthread_mutex_t lock;
    pthread_cond_t open;
    bool opened;
    int rc;
    struct vm_err err;
};

void latch_init(struct latch *x);
void latch_open(struct latch *x, const struct vm_err *e); /* e NULL: success */
bool latch_opens(struct latch *x, struct deadline d);     /* by then; waits for that */
int latch_wait(struct latch *x, struct vm_err *e);        /* and destroys it */

#endif
