/* Which of its limits held a guest, found in two samples of its use and told as an event. */
#include "usage.h"

#include <math.h>

enum {
    SPAN_MIN_MS = 5000,   /* a rate is none over less */
    QUIET_MS = 60000,     /* what goes on is told once; after so long without, it is news */
    HELD_PERCENT = 50,    /* of the time */
    FULL_PERCENT = 90,    /* of a rate */
};

#define X(id, name) [LIMIT_##id] = name,
static const char *const limit_names[LIMIT_COUNT] = {LIMITS(X)};
#undef X

/* Has a counter moved since it was last looked at? One that cannot be read now may be the next time. */
static bool moved(uint64_t *seen, uint64_t now)
{
    bool more = now != UINT64_MAX && *seen != UINT64_MAX && now > *seen;

    if (now != UINT64_MAX)
        *seen = now;
    return more;
}

static bool full(uint64_t limit, uint64_t before, uint64_t now, int64_t ms)
{
    return limit && ms >= SPAN_MIN_MS && before != UINT64_MAX && now != UINT64_MAX && now > before &&
           (double)(now - before) * 1000 / (double)ms * 100 >= (double)limit * FULL_PERCENT;
}

unsigned limits_met(struct limits_seen *seen, const struct guest_spec *s, const struct usage_sample *before,
                    const struct usage_sample *now)
{
    int64_t ms = before->at && before->boot == now->boot ? now->at - before->at : 0;
    double held_ms = (now->stats.cpu_held_seconds - before->stats.cpu_held_seconds) * 1000;
    bool met[LIMIT_COUNT] = {
        [LIMIT_CPUS] = ms >= SPAN_MIN_MS && held_ms * 100 >= (double)ms * HELD_PERCENT,
        [LIMIT_IO_READ] = full(s->limits.io_read, before->stats.io_read, now->stats.io_read, ms),
        [LIMIT_IO_WRITE] = full(s->limits.io_write, before->stats.io_write, now->stats.io_write, ms),
    };
    unsigned news = 0;

    met[LIMIT_MEMORY] = moved(&seen->memory_kills, now->stats.memory_kills);
    met[LIMIT_MEMORY] |= moved(&seen->inside_kills, now->inside_kills);
    met[LIMIT_PIDS] = moved(&seen->pids_refused, now->stats.pids_refused);
    met[LIMIT_PIDS] |= s->limits.pids && now->stats.pids != UINT64_MAX && now->stats.pids >= s->limits.pids;
    for (unsigned i = 0; i < LIMIT_COUNT; i++) {
        if (!met[i])
            continue;
        if (!seen->at[i] || now->at - seen->at[i] >= QUIET_MS)
            news |= 1u << i;
        seen->at[i] = now->at;
    }
    return news;
}

static void tell(struct guest *g, enum limit l)
{
    const struct guest_spec *s = g->spec;
    json_t *body = json_pack("{ss}", "limit", limit_names[l]);
    char size[TEXT_HUMAN];

    if (l == LIMIT_CPUS)
        events_add(g->w, g->name, "limit", body, "cpus: held to %g", s->cpus);
    else if (l == LIMIT_MEMORY)
        events_add(g->w, g->name, "limit", body, "memory: more than %s was wanted, so the kernel killed a process",
                   text_human_size(s->memory, size));
    else if (l == LIMIT_PIDS)
        events_add(g->w, g->name, "limit", body, "limits.pids: it has %llu processes and threads, and may start no more",
                   (unsigned long long)s->limits.pids);
    else
        events_add(g->w, g->name, "limit", body, "%s: held to %s a second", limit_names[l],
                   text_human_size(l == LIMIT_IO_READ ? s->limits.io_read : s->limits.io_write, size));
}

/* All counters are 0 at a guest's start. What those of a guest counted that vmsd found running is no news. */
static void begin(struct limits_seen *seen, const struct guest *g, uint64_t boot)
{
    uint64_t from = g->started_at >= g->w->started_at ? 0 : UINT64_MAX;

    *seen = (struct limits_seen){.boot = boot, .memory_kills = from, .inside_kills = from, .pids_refused = from};
}

void limits_look(struct guest *g, struct limits_seen *seen, const struct usage_sample *before, const struct usage_sample *now)
{
    unsigned news;

    if (!now->boot)
        return;
    if (seen->boot != now->boot)
        begin(seen, g, now->boot);
    news = limits_met(seen, g->spec, before, now);
    for (unsigned i = 0; i < LIMIT_COUNT; i++)
        if (news & 1u << i)
            tell(g, (enum limit)i);
}
