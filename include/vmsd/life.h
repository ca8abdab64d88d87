/* <vmsd/life.h>: the life of a guest as one table, and how long to wait before it is restarted. Floor 1, pure. */
#ifndef VMSD_LIFE_H
#define VMSD_LIFE_H

#include <stdbool.h>
#include <stdint.h>
#include <vmsd/spec.h>

#define LIFE_STATES(X) \
    X(ABSENT, "absent") X(PREPARING, "preparing") X(STARTING, "starting") X(RUNNING, "running") \
    X(STOPPING, "stopping") X(STOPPED, "stopped") X(FAILED, "failed") X(UNKNOWN, "unknown")
#define X(id, name) ST_##id,
enum life_state { LIFE_STATES(X) ST_COUNT };
#undef X

/* What a job does to a guest, what a guest does by itself, and what vmsd finds when it starts. */
#define LIFE_EVENTS(X) \
    X(PREPARE)    /* a job begins to bring a stopped guest up */ \
    X(SPAWN)      /* it is about to be started */ \
    X(UP)         /* its init says ready */ \
    X(ADOPT)      /* found running after a restart of vmsd */ \
    X(LOST)       /* found neither running nor known to have ended */ \
    X(STOP)       /* a job begins to stop it */ \
    X(DOWN)       /* nothing of it is left */ \
    X(EXIT)       /* it ended without being asked */ \
    X(JOB_FAILED) /* the job that worked on it gave up */ \
    X(REMOVED)    /* its root and its row are gone */
#define X(id) EV_##id,
enum life_event { LIFE_EVENTS(X) EV_COUNT };
#undef X

/* WATCH: follow it (agent, health); LEAVE: stop following; RETRY: LEAVE, then restart by the policy. */
enum life_act { ACT_NONE, ACT_WATCH, ACT_LEAVE, ACT_RETRY };
struct life_cell { bool legal; uint8_t next, act; };
/* False: that event cannot happen in that state. */
bool life_step(enum life_state at, enum life_event ev, struct life_cell *out);
const char *life_state_name(enum life_state s);
const char *life_event_name(enum life_event ev);

/* Restarts of one guest. Times are monotonic milliseconds. */
struct life_backoff { unsigned streak, in_window; int64_t window_at; };
enum { LIFE_STABLE_MS = 600000 }; /* up that long: the next restart counts as the first */
/* Milliseconds to wait before the next start, or -1: too many in too short a time, give up. ran_ms: how long it was up. */
int64_t life_backoff_next(struct life_backoff *b, const struct spec_restart *policy, int64_t now, int64_t ran_ms);
/* Does the policy start a guest again that ended like this? clean: it was shut down from inside. */
bool life_restarts(const struct spec_restart *policy, bool clean);

#endif
