#include <vmsd/life.h>

#define GO(to, what) {true, ST_##to, ACT_##what}
static const struct life_cell cells[ST_COUNT][EV_COUNT] = {
    [ST_ABSENT] =
        {
            [EV_PREPARE] = GO(PREPARING, NONE),
            [EV_ADOPT] = GO(RUNNING, WATCH),
            [EV_LOST] = GO(UNKNOWN, NONE),
            [EV_STOP] = GO(STOPPING, NONE),
            [EV_DOWN] = GO(STOPPED, NONE),
            [EV_JOB_FAILED] = GO(FAILED, NONE),
            [EV_REMOVED] = GO(ABSENT, NONE),
        },
    [ST_PREPARING] =
        {
            [EV_SPAWN] = GO(STARTING, NONE),
            [EV_ADOPT] = GO(RUNNING, WATCH),
            [EV_STOP] = GO(STOPPING, NONE),
            [EV_JOB_FAILED] = GO(FAILED, RETRY),
        },
    [ST_STARTING] =
        {
            [EV_UP] = GO(RUNNING, WATCH),
            [EV_EXIT] = GO(STARTING, NONE), /* the job that starts it sees it too, and says why */
            [EV_STOP] = GO(STOPPING, NONE),
            [EV_JOB_FAILED] = GO(FAILED, RETRY),
        },
    [ST_RUNNING] =
        {
            [EV_STOP] = GO(STOPPING, LEAVE),
            [EV_EXIT] = GO(FAILED, RETRY),
            [EV_JOB_FAILED] = GO(RUNNING, NONE), /* a script failed, say: what runs goes on */
        },
    [ST_STOPPING] =
        {
            [EV_DOWN] = GO(STOPPED, NONE),
            [EV_EXIT] = GO(STOPPING, NONE),
            [EV_JOB_FAILED] = GO(UNKNOWN, NONE),
        },
    [ST_STOPPED] =
        {
            [EV_PREPARE] = GO(PREPARING, NONE),
            [EV_ADOPT] = GO(RUNNING, WATCH),
            [EV_LOST] = GO(UNKNOWN, NONE),
            [EV_STOP] = GO(STOPPING, NONE),
            [EV_DOWN] = GO(STOPPED, NONE),
            [EV_JOB_FAILED] = GO(FAILED, NONE),
            [EV_REMOVED] = GO(ABSENT, NONE),
        },
    [ST_FAILED] =
        {
            [EV_PREPARE] = GO(PREPARING, NONE),
            [EV_ADOPT] = GO(RUNNING, WATCH),
            [EV_STOP] = GO(STOPPING, NONE),
            [EV_DOWN] = GO(STOPPED, NONE),
            [EV_EXIT] = GO(FAILED, NONE),
            [EV_JOB_FAILED] = GO(FAILED, RETRY),
            [EV_REMOVED] = GO(ABSENT, NONE),
        },
    [ST_UNKNOWN] =
        {
            [EV_PREPARE] = GO(PREPARING, NONE),
            [EV_ADOPT] = GO(RUNNING, WATCH),
            [EV_STOP] = GO(STOPPING, NONE),
            [EV_DOWN] = GO(STOPPED, NONE),
            [EV_EXIT] = GO(FAILED, RETRY),
            [EV_JOB_FAILED] = GO(UNKNOWN, NONE),
            [EV_REMOVED] = GO(ABSENT, NONE),
        },
};

bool life_step(enum life_state at, enum life_event ev, struct life_cell *out)
{
    *out = cells[at][ev];
    return out->legal;
}

const char *life_state_name(enum life_state s)
{
#define X(id, name) [ST_##id] = name,
    static const char *const names[ST_COUNT] = {LIFE_STATES(X)};
#undef X
    return names[s];
}

const char *life_event_name(enum life_event ev)
{
#define X(id) [EV_##id] = #id,
    static const char *const names[EV_COUNT] = {LIFE_EVENTS(X)};
#undef X
    return names[ev];
}

int64_t life_backoff_next(struct life_backoff *b, const struct spec_restart *policy, int64_t now, int64_t ran_ms)
{
    int64_t wait = policy->backoff_min_ms;

    if (ran_ms >= LIFE_STABLE_MS)
        b->streak = 0;
    if (b->in_window == 0 || now - b->window_at > policy->give_up_window_ms) {
        b->window_at = now;
        b->in_window = 0;
    }
    if (policy->give_up && b->in_window >= policy->give_up)
        return -1;
    b->in_window++;
    for (unsigned i = 0; i < b->streak && wait < policy->backoff_max_ms; i++)
        wait *= 2;
    b->streak++;
    return wait < policy->backoff_max_ms ? wait : policy->backoff_max_ms;
}

bool life_restarts(const struct spec_restart *policy, bool clean)
{
    return policy->policy == RESTART_ALWAYS || (policy->policy == RESTART_ON_FAILURE && !clean);
}
