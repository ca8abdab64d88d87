/* Alerts: what people are told of without having to look. Loop thread only, but for what is said. Private to supervisor/.
 *
 * Every few seconds alert_rules.c looks at guests and host, and says how each thing is; alert.c makes of that alerts that begin
 * and end, and writes them; alert_tell.c brings what was written to people. What is told is in the store first, so that no
 * end of vmsd loses or repeats it. */
#ifndef ALERT_H
#define ALERT_H

#include "world.h"

#define ALERT_KINDS(X) \
    X(UNHEALTHY, "unhealthy") X(CRASH_LOOP, "crash-loop") X(MEMORY, "memory") X(DISK, "disk") X(GROWTH, "growth") \
    X(APPLY_AGE, "apply-age") X(FILE_SYSTEM, "file-system") X(READ_ONLY, "read-only") X(ARRAY, "array") X(DRIVE, "drive")
#define X(id, name) ALERT_##id,
enum alert_kind { ALERT_KINDS(X) ALERT_KIND_COUNT };
#undef X
const char *alert_kind_name(enum alert_kind k);

enum alert_level { ALERT_WARNING, ALERT_CRITICAL };

/* ---- alert_course.c: of one alert; pure, times monotonic ---- */

enum alert_phase { ALERT_QUIET, ALERT_WAITING /* bad, not for long enough */, ALERT_FIRING, ALERT_CALMING /* well, not for long enough */ };
struct alert_course { enum alert_phase phase; int64_t since, told; };
struct alert_times { int64_t after_ms, remind_ms, recover_ms; }; /* remind_ms 0: never */
enum alert_sign { SIGN_UNKNOWN, SIGN_FINE, SIGN_BAD };
enum alert_turn { TURN_NONE, TURN_BEGINS, TURN_REMINDS, TURN_ENDS };
enum alert_turn alert_step(struct alert_course *c, enum alert_sign sign, const struct alert_times *t, int64_t now);

/* ---- alert.c ---- */

int alerts_open(struct world *w, struct vm_err *e);  /* before the loop turns: what went on goes on */
void alerts_close(struct world *w);                  /* after it */
void alerts_changed(struct world *w);                /* the host's spec did */
size_t alerts_firing(const struct world *w, enum alert_kind k);

/* How one thing is. guest NULL: the host's. subject: which of its things, or "". */
struct alert_sight {
    enum alert_kind kind;
    enum alert_level level;
    const char *guest, *subject;
    enum alert_sign sign;
    int64_t after_ms;
};
struct alerts;
VM_PRINTF(3) void alert_see(struct alerts *a, const struct alert_sight *s, const char *fmt, ...);

/* ---- alert_rules.c ---- */

/* What was looked at lately; NULL: not known. */
struct alert_facts {
    const json_t *look, *arrays;   /* as alert_look.c gives them */
    const json_t *file_systems;    /* as the host's profile */
    json_t *writable;              /* set of file systems that could be written to */
};
void alert_rules(struct alerts *a, struct world *w, const struct alert_facts *f);

/* ---- alert_look.c: what a worker must ask ---- */

struct alert_look;
/* arrays: those, and drives, too. done: with both yours, NULL where nothing is known; not called when -1. */
int alert_look(struct world *w, bool arrays, void (*done)(json_t *look, json_t *arrays, bool cancelled, void *arg), void *arg);

/* ---- alert_tell.c: channels, one for each `notify` of the host's spec ---- */

struct tellers;
int tellers_open(struct world *w, struct tellers **out, struct vm_err *e);
void tellers_close(struct tellers *all);             /* after the loop */
int tellers_set(struct tellers *all, const struct host_spec *h, struct vm_err *e);
const struct strv *tellers_channels(const struct tellers *all);
void tellers_kick(struct tellers *all);              /* there may be something to tell */

/* alert_send.c: a worker's. What it says of a failure has no secret in it. */
int alert_send(const struct spec_notify *to, const struct store_notice *n, const struct world *w, struct vm_err *e);
/* "notify[0]: webhook https://hooks.example.org"; yours. */
char *alert_channel(size_t i, const struct spec_notify *to);

#endif
