/* What guests use, as last measured. Loop thread only. Private to supervisor/. */
#ifndef USAGE_H
#define USAGE_H

#include "world.h"

/* What the host cannot tell is NAN or UINT64_MAX. */
struct usage_sample {
    int64_t at;                  /* monotonic, 0: never measured */
    uint64_t boot;               /* start time of the keeper whose counters these are, 0: it was not up */
    double cpu_percent;          /* since the sample before */
    uint64_t disk;
    struct drv_stats stats;
    struct net_stats net;        /* of all nics */
    uint64_t inside_kills;       /* by a kernel of its own, for lack of memory */
};
extern const struct usage_sample usage_unknown;
const struct usage_sample *usage_last(const struct guest *g); /* never NULL */
void usage_soon(struct world *w); /* a guest came up: do not wait for the next round */

/* inside.c: what a guest with a kernel of its own says of its memory */
void inside_ask(struct guest *g); /* if it is one, and its agent is up */
void inside_drop(struct guest *g); /* after its session has ended */
bool inside_memory(const struct guest *g, uint64_t *used, uint64_t *total); /* false: not known, or not any more */
uint64_t inside_kills(const struct guest *g);
bool inside_number(const char *said, const char *key, uint64_t *out); /* of "key=123" lines; pure */

/* limit.c: limits that held a guest, by the names of their fields */
#define LIMITS(X) X(CPUS, "cpus") X(MEMORY, "memory") X(PIDS, "limits.pids") X(IO_READ, "limits.io.read") \
    X(IO_WRITE, "limits.io.write")
#define X(id, name) LIMIT_##id,
enum limit { LIMITS(X) LIMIT_COUNT };
#undef X
struct limits_seen {
    uint64_t boot, memory_kills, inside_kills, pids_refused; /* counters as last looked at */
    int64_t at[LIMIT_COUNT];     /* monotonic: when it was last met, 0: never */
};
/* A bit for each that is news. Pure but for what was seen. */
unsigned limits_met(struct limits_seen *seen, const struct guest_spec *s, const struct usage_sample *before,
                    const struct usage_sample *now);
void limits_look(struct guest *g, struct limits_seen *seen, const struct usage_sample *before, const struct usage_sample *now);

/* Share of one CPU between two samples of the same boot, in per cent; else NAN. */
double usage_cpu_percent(const struct usage_sample *before, const struct usage_sample *now);
/* Would anybody who looks at b see something else than at a? */
bool usage_differs(const struct usage_sample *a, const struct usage_sample *b);

#endif
