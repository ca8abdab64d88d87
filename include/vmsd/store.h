/* <vmsd/store.h>: what vmsd must not forget (SQLite, WAL, synchronous=FULL). Floor 2.
 *
 * The store holds intent and history, never what runs: that is asked from the kernel. Workers only (a write waits for
 * the disk), and the loop before it turns. Calls are serialised inside. */
#ifndef VMSD_STORE_H
#define VMSD_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <vmsd/child.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

struct store;
/* state: absolute directory. CONFLICT: written by a newer vmsd (left untouched). BACKEND: not a sound database (left
 * untouched). */
int store_open(const char *state, struct store **out, struct vm_err *e);
void store_close(struct store *s);

/* Gives up the few MiB that are kept for a full disk (a write failed with sys ENOSPC), so that guests can still be
 * stopped and removed. They are kept again as soon as there is room. */
void store_use_reserve(struct store *s);

/* Several writes as one: all or nothing. run's -1 rolls back and is returned. */
int store_transaction(struct store *s, int (*run)(struct store *s, void *arg, struct vm_err *e), void *arg,
                      struct vm_err *e);

/* One guest as stored. Strings are borrowed during the call-back. */
struct store_guest {
    uint32_t id;              /* never used again after removal */
    uint32_t slot;            /* of its range of host ids; free again after removal */
    const char *name;
    const char *spec;         /* desired: canonical text */
    const char *bundle;       /* SHA-256 of the bundle that the desired spec came with */
    const char *applied;      /* what it was last brought to completely, or NULL */
    const char *image;        /* id of the image that its root was made on, or NULL */
    bool up;                  /* the user's wish */
    bool removing;            /* it shall go … */
    const char *purge;        /* … with these volumes, one name a line; or NULL */
    bool rebuilding;          /* its root shall be thrown away before the next start */
    unsigned scripts_done;    /* install scripts of `provisioning` that succeeded on this root */
    const char *script_digests; /* digests of those, one a line */
    unsigned generation, restarts;
    int64_t applied_at, provisioned_at; /* wall ms, 0: never */
    const char *error;        /* of the last job, or NULL */
    int64_t silent_until;     /* wall ms: nobody is told of it before; 0: it is not silenced */
};
int store_guests(struct store *s, int (*each)(const struct store_guest *g, void *arg), void *arg, struct vm_err *e);
/* Creates (id and slot are found) or changes the desired spec; a new guest is wished up. */
int store_put_spec(struct store *s, const char *name, const char *spec, const char *bundle, uint32_t *id, uint32_t *slot,
                   struct vm_err *e);
/* A guest that the store has lost, under its old id. */
int store_restore_guest(struct store *s, const struct store_guest *g, struct vm_err *e);
int store_skip_id(struct store *s, uint32_t id, struct vm_err *e); /* no new guest gets an id up to this one */
int store_put_wish(struct store *s, uint32_t id, bool up, struct vm_err *e);
int store_put_removing(struct store *s, uint32_t id, const char *purge, struct vm_err *e);
int store_put_rebuilding(struct store *s, uint32_t id, bool rebuilding, struct vm_err *e); /* forgets the scripts */
int store_put_image(struct store *s, uint32_t id, const char *image, struct vm_err *e);
int store_put_scripts(struct store *s, uint32_t id, unsigned done, const char *digests, struct vm_err *e);
int store_put_applied(struct store *s, uint32_t id, const char *spec, int64_t at, bool provisioned, struct vm_err *e);
int store_put_restarts(struct store *s, uint32_t id, unsigned restarts, struct vm_err *e);
int store_put_error(struct store *s, uint32_t id, const char *error, struct vm_err *e);
int store_put_silence(struct store *s, uint32_t id, int64_t until, struct vm_err *e);
int store_drop_guest(struct store *s, uint32_t id, struct vm_err *e);

struct store_network { const char *name, *spec; bool removing; };
int store_networks(struct store *s, int (*each)(const struct store_network *n, void *arg), void *arg, struct vm_err *e);
int store_put_network(struct store *s, const char *name, const char *spec, struct vm_err *e);
int store_restore_network(struct store *s, const char *name, const char *spec, struct vm_err *e); /* unless it is there */
int store_put_network_removing(struct store *s, const char *name, struct vm_err *e);
int store_drop_network(struct store *s, const char *name, struct vm_err *e); /* one that was put back meanwhile stays */

/* Addresses given to guests; they stay with the guest over rebuilds. */
struct store_nic { uint32_t guest; unsigned index; const char *network, *address, *address6, *mac; };
int store_nics(struct store *s, int (*each)(const struct store_nic *n, void *arg), void *arg, struct vm_err *e);
int store_put_nic(struct store *s, const struct store_nic *n, struct vm_err *e);
int store_drop_nics(struct store *s, uint32_t guest, unsigned from, struct vm_err *e); /* index >= from */

/* Jobs and their steps: written before the act and after it. */
int store_job_begin(struct store *s, uint32_t guest, const char *name, const char *verb, int64_t *job, struct vm_err *e);
/* error NULL: done. Jobs of that guest that were interrupted end with it. */
int store_job_end(struct store *s, int64_t job, const char *error, struct vm_err *e);
int store_step_begin(struct store *s, int64_t job, const char *step, struct vm_err *e);
int store_step_end(struct store *s, int64_t job, const char *step, const char *error, struct vm_err *e);
/* Guests with a job that did not end (cut off by a crash), and the step that it was in. It stays open, as interrupted,
 * until another one has gone on from there, so that a crash in between forgets nothing. Jobs of guests that are no more end here. */
int store_jobs_cut(struct store *s, int (*each)(uint32_t guest, const char *step, void *arg), void *arg, struct vm_err *e);
json_t *store_jobs(struct store *s, int64_t id, unsigned limit, struct vm_err *e); /* id 0: the newest; array */

/* Results of install scripts, the last run of each. */
struct store_script { unsigned index; const char *script, *state; int exit_code, signal; int64_t started_at, duration_ms; const char *error; };
int store_put_script(struct store *s, uint32_t guest, const struct store_script *r, struct vm_err *e);
json_t *store_scripts(struct store *s, uint32_t guest, struct vm_err *e); /* array as the API shows it */

int store_all_scripts(struct store *s, int (*each)(uint32_t guest, const struct store_script *r, void *arg), void *arg,
                      struct vm_err *e);

/* Events are written in batches; ids grow and are never given twice. */
struct store_event { int64_t id, at; const char *body; }; /* body: the JSON object, as text */
int store_put_events(struct store *s, const struct store_event *v, size_t n, struct vm_err *e);
int store_events(struct store *s, int64_t since, unsigned limit, int (*each)(const struct store_event *ev, void *arg),
                 void *arg, struct vm_err *e);
int store_event_last(struct store *s, int64_t *last, struct vm_err *e); /* highest id ever written, 0: none */

struct store_sample { uint32_t guest; int64_t at; double cpu_percent; int64_t memory, disk, rx, tx; }; /* NAN, -1: not known */
int store_put_samples(struct store *s, const struct store_sample *v, size_t n, struct vm_err *e); /* thins out old ones */
json_t *store_samples(struct store *s, uint32_t guest, int64_t since, struct vm_err *e);

/* Who changed what: appended, never changed; the last 100,000 are kept. */
struct store_actor { int64_t uid, login, pid; }; /* login: the uid that logged in, whoever it has become since; -1: nobody did */
extern const struct store_actor store_vmsd; /* vmsd itself, which does what others wished before: all of it is -1 */
/* detail: JSON, as text; result: an error; each may be NULL. */
struct store_deed { const char *verb, *what, *detail, *result; };
int store_audit(struct store *s, const struct store_actor *by, const struct store_deed *d, struct vm_err *e);
/* The last ones after that id, the oldest first: {id, at, uid, login, pid, verb, what, detail, result};
 * of whom is -1 null. Array. */
json_t *store_audits(struct store *s, int64_t since, unsigned limit, struct vm_err *e);

/* The host's own spec; *spec is yours, NULL when there is none. */
int store_host(struct store *s, char **spec, struct vm_err *e);
int store_put_host(struct store *s, const char *spec, struct vm_err *e); /* NULL: it goes */

/* Alerts, and who is told of them: a notice for each channel and each thing that there is to tell. Wall ms. */
struct store_alert { int64_t id; const char *kind, *level, *guest, *subject, *text; int64_t began_at, told_at, ended_at; }; /* guest: or NULL; ended_at 0: it goes on */
/* A new one if id is 0, else what became of it, with a notice of `what` for each channel, all or nothing. The id. */
int store_put_alert(struct store *s, const struct store_alert *a, const char *what, const struct strv *channels, int64_t *id,
                    struct vm_err *e);
int store_alerts_open(struct store *s, int (*each)(const struct store_alert *a, void *arg), void *arg, struct vm_err *e);
/* [{id, kind, level, guest, subject, text, began_at, ended_at, notices: [{to, what, at, tries, error, done_at}]}], the newest
 * first; all: those that ended, too. */
json_t *store_alerts(struct store *s, bool all, unsigned limit, struct vm_err *e);

/* What is to be told next by a channel; of one alert a thing after the other. Texts are yours, see store_notice_done. */
struct store_notice { int64_t id, at, next_at; unsigned tries; char *what; struct store_alert alert; };
int store_notice_next(struct store *s, const char *channel, struct store_notice *out, bool *found, struct vm_err *e);
void store_notice_done(struct store_notice n);
OWN_DEFINE(notice, struct store_notice, store_notice_done)
/* Before it is tried: when that shall be again unless it is heard of. So what cannot be written is not told again and again. */
int store_notice_try(struct store *s, int64_t id, int64_t next_at, struct vm_err *e);
/* After it. error NULL: told; over: it is not tried again. */
int store_notice_tried(struct store *s, int64_t id, const char *error, bool over, struct vm_err *e);
/* Notices for other channels than these will never be told. */
int store_notices_keep(struct store *s, const struct strv *channels, struct vm_err *e);

/* How large things were, for two days. */
int store_put_size(struct store *s, const char *subject, int64_t at, int64_t bytes, struct vm_err *e);
int store_size_since(struct store *s, const char *subject, int64_t since, int64_t *bytes, struct vm_err *e); /* the oldest since then; -1: none */

#endif
