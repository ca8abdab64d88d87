/* When an alert begins, is told again, and is over. */
#include "alert.h"

enum alert_turn alert_step(struct alert_course *c, enum alert_sign sign, const struct alert_times *t, int64_t now)
{
    if (sign == SIGN_UNKNOWN)
        return TURN_NONE;
    if (c->phase == ALERT_QUIET && sign == SIGN_BAD)
        *c = (struct alert_course){ALERT_WAITING, now, 0};
    if (c->phase == ALERT_WAITING && sign == SIGN_FINE)
        c->phase = ALERT_QUIET;
    if (c->phase == ALERT_WAITING && now - c->since >= t->after_ms) {
        *c = (struct alert_course){ALERT_FIRING, now, now};
        return TURN_BEGINS;
    }
    if (c->phase == ALERT_CALMING && sign == SIGN_BAD)
        c->phase = ALERT_FIRING;
    if (c->phase == ALERT_FIRING && sign == SIGN_FINE) {
        c->phase = ALERT_CALMING;
        c->since = now;
    }
    if (c->phase == ALERT_CALMING && now - c->since >= t->recover_ms) {
        c->phase = ALERT_QUIET;
        return TURN_ENDS;
    }
    if (c->phase == ALERT_FIRING && t->remind_ms && now - c->told >= t->remind_ms) {
        c->told = now;
        return TURN_REMINDS;
    }
    return TURN_NONE;
}
