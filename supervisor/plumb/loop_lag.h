/* loop_lag.h: tells of a call-back that held up the loop. Private to plumb/. The loop thread only.
 *
 * While one call-back waits for a disk or counts for long, no guest's end is seen and no request is answered. A loop that
 * did not run because the machine was busy with others, or because vmsd was stopped, has nothing to be told of. */
#ifndef VMSD_LOOP_LAG_H
#define VMSD_LOOP_LAG_H

#include <stdint.h>

struct loop_lag {
    int64_t wall_ms, cpu_ms;
    long waits;
};

void loop_lag_begin(struct loop_lag *l);
void loop_lag_end(struct loop_lag *l); /* logs a warning if it was too long */

#endif
