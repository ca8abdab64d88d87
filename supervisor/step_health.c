/* Is it well? Waited for until it is, or is not. */
#include "steps.h"

#include <string.h>
#include <vmsd/clock.h>

enum {
    LOOK_MS = 5, /* at first; then ever more seldom, down to … */
    LOOK_MAX_MS = 200,
    SLACK_MS = 10000,
    QUIET_MS = 3000, /* then it is told what is waited for */
};

struct look {
    enum health_state health;
    bool up;
    char why[200];
};

static void look_at_health(struct guest *g, void *arg)
{
    struct look *l = arg;
    OWN(json) json_t *checks = health_json(g);
    json_t *c;
    size_t i;

    l->health = health_of(g);
    l->up = guest_is_up(g);
    json_array_foreach (checks, i, c) {
        const char *state = json_str(c, "state", "");

        if (strcmp(state, "ok"))
            snprintf(l->why, sizeof l->why, "%s: %s", json_str(c, "check", ""), json_str(c, "message", state));
    }
}

static int64_t health_patience(const struct guest_spec *s)
{
    int64_t longest = 0;

    for (size_t i = 0; i < s->n_health; i++) {
        const struct spec_check *c = &s->health[i];
        int64_t ms = c->start_period_ms + (int64_t)(c->failures + c->successes) * (c->every_ms + c->timeout_ms);

        if (ms > longest)
            longest = ms;
    }
    return longest + SLACK_MS;
}

int step_health(struct job *j, struct vm_err *e)
{
    struct deadline d = deadline_in(health_patience(j->spec));
    int64_t quiet_until = now_ms() + QUIET_MS, pause = LOOK_MS;
    struct look l = {0}, told = {0};

    for (;;) {
        job_on_loop(j, look_at_health, &l);
        if (l.health == HEALTH_HEALTHY)
            return 0;
        if (now_ms() >= quiet_until && strcmp(l.why, told.why)) {
            job_output(l.why, j);
            told = l;
        }
        if (!l.up)
            return vm_fail(e, VM_E_BACKEND, "it ended before it was healthy; see vmctl logs %s", j->name);
        if (j->w->stopping || j->cut)
            return vm_fail(e, VM_E_UNAVAILABLE, "not waited for any longer");
        if (l.health == HEALTH_UNHEALTHY || deadline_left(d) == 0) {
            j->unhealthy = true;
            return vm_fail(e, VM_E_BACKEND, "unhealthy: %s", l.why[0] ? l.why : "no check has passed");
        }
        sleep_ms(pause);
        pause = pause * 2 < LOOK_MAX_MS ? pause * 2 : LOOK_MAX_MS;
    }
}
