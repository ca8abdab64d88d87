/* What is thought of one health check after its results so far: pure, no clock, no I/O. Private to supervisor/. */
#ifndef VERDICT_H
#define VERDICT_H

#include <stdbool.h>
#include <stdint.h>
#include <vmsd/spec.h>

/* UNKNOWN: the check could not be made at all, which says nothing about the guest. */
enum outcome { OUTCOME_PASSED, OUTCOME_FAILED, OUTCOME_UNKNOWN };

/* From good to bad: a guest is as well as the worst of its checks. */
enum verdict_state { VERDICT_OK, VERDICT_WAITING, VERDICT_FAILING };
const char *verdict_name(enum verdict_state s);

struct verdict {
    enum verdict_state state;
    bool passed;                 /* at least once */
    unsigned failures, successes; /* in a row, of those that count */
    int64_t began;               /* the start period runs from here */
};
struct verdict verdict_new(int64_t now);
/* excused: failures do not count now. True: the state changed. */
bool verdict_add(struct verdict *v, const struct spec_check *rule, enum outcome o, bool excused, int64_t now);
/* Milliseconds until the next try; roll: any random number. */
int64_t verdict_pause(const struct verdict *v, const struct spec_check *rule, int64_t now, uint32_t roll);
int64_t verdict_first_pause(uint32_t roll);
int64_t verdict_slack(int64_t pause); /* by which it may be late, so that wake-ups coincide */

#endif
