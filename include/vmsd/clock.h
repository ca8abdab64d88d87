/* <vmsd/clock.h>: monotonic time for decisions, wall time for people. Floor 0. Any thread. */
#ifndef VMSD_CLOCK_H
#define VMSD_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

int64_t now_ms(void);  /* CLOCK_MONOTONIC */
int64_t wall_ms(void); /* CLOCK_REALTIME since 1970, only ever shown or stored, never compared */

/* RFC 3339 in UTC with milliseconds, "2026-11-20T09:48:00.123Z". out has room for CLOCK_TEXT bytes. */
enum { CLOCK_TEXT = 32 };
const char *wall_text(int64_t wall, char out[static CLOCK_TEXT]);

/* A moment on the monotonic clock until which a call may take. */
struct deadline {
    int64_t at;
    const atomic_bool *cut; /* once it is set the time is over, whatever the clock says; NULL: nobody can */
};
struct deadline deadline_in(int64_t ms);
int64_t deadline_left(struct deadline d); /* milliseconds, never below 0 */
int deadline_poll_ms(struct deadline d);  /* for poll(2): what is left, but no longer than a cut may go unnoticed */

void sleep_ms(int64_t ms); /* workers only */

#endif
