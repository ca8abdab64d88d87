#include "verdict.h"

enum {
    FIRST_MS = 100,
    FIRST_SPREAD_MS = 400,
    EAGER_MS = 1000,       /* between tries while the guest is still starting */
    JITTER_PERMILLE = 100,
    SLACK_MAX_MS = 1000,
};

const char *verdict_name(enum verdict_state s)
{
    static const char *const names[] = {
        [VERDICT_OK] = "ok", [VERDICT_WAITING] = "waiting", [VERDICT_FAILING] = "failing"};

    return names[s];
}

struct verdict verdict_new(int64_t now)
{
    return (struct verdict){.state = VERDICT_WAITING, .began = now};
}

static bool starting(const struct verdict *v, const struct spec_check *rule, int64_t now)
{
    return !v->passed && now - v->began < rule->start_period_ms;
}

static bool move(struct verdict *v, enum verdict_state to)
{
    bool changed = v->state != to;

    v->state = to;
    return changed;
}

bool verdict_add(struct verdict *v, const struct spec_check *rule, enum outcome o, bool excused, int64_t now)
{
    if (o == OUTCOME_UNKNOWN)
        return false;
    if (o == OUTCOME_PASSED) {
        v->passed = true;
        v->failures = 0;
        v->successes++;
        return v->successes >= rule->successes && move(v, VERDICT_OK);
    }
    v->successes = 0;
    if (excused || starting(v, rule, now))
        return false;
    v->failures++;
    return v->failures >= rule->failures && move(v, VERDICT_FAILING);
}

int64_t verdict_pause(const struct verdict *v, const struct spec_check *rule, int64_t now, uint32_t roll)
{
    int64_t every = rule->every_ms, jitter = every * JITTER_PERMILLE / 1000;

    if (v->state == VERDICT_WAITING && now - v->began < rule->start_period_ms)
        return every < EAGER_MS ? every : EAGER_MS;
    return every - jitter + (int64_t)(roll % (uint64_t)(2 * jitter + 1));
}

int64_t verdict_first_pause(uint32_t roll)
{
    return FIRST_MS + roll % (FIRST_SPREAD_MS + 1);
}

int64_t verdict_slack(int64_t pause)
{
    if (pause <= 0)
        return 0;
    return pause / 4 < SLACK_MAX_MS ? pause / 4 : SLACK_MAX_MS;
}
