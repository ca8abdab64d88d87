/* turn.h: a loop that turns for a while. For tests with Check. */
#ifndef TURN_H
#define TURN_H

#include <check.h>
#include <vmsd/loop.h>

static inline void turn_end(void *arg)
{
    loop_quit(arg);
}

/* Until something else ends it, or for that long. */
static inline void turn(struct loop *l, int64_t ms)
{
    struct loop_timer *t;

    ck_assert_int_eq(loop_timer_new(l, turn_end, l, &t, NULL), 0);
    loop_timer_set(t, ms, 0);
    ck_assert_int_eq(loop_run(l, NULL), 0);
    loop_timer_free(t);
}

#endif
