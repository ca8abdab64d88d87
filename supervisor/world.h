/* The daemon's state, all of it, and who may touch it: the loop thread alone. A worker sees a struct job (job.h), which
 * holds copies. Private to supervisor/. */
#ifndef WORLD_H
#define WORLD_H

#include <stdatomic.h>
#include <vmsd/agent.h>
#include <vmsd/driver.h>
#include <vmsd/http.h>
#include <vmsd/image.h>
#include <vmsd/json.h>
#include <vmsd/life.h>
#include <vmsd/loop.h>
#include <vmsd/net.h>
#include <vmsd/plan.h>
#include <vmsd/spec.h>
#include <vmsd/store.h>

/* A file in the run directory of a guest that rests: a restart of vmsd is no reason to start it, that of the host is. */
#define GUEST_RESTS "rests"
#define CREDENTIALS_DIR "/run/vmsd/credentials" /* in a guest: its secrets, in memory */

struct options {
    const char *socket, *state_dir, *run_dir, *agent, *keeper, *unpacker, *init, *starter;
    struct strv recipes;         /* directories of image recipes */
    unsigned jobs;               /* that run side by side */
};

struct health;
struct usage;
struct inside;
struct job;
struct access_groups;
struct events;
struct netsync;

struct guest;
struct agent_waiter { void (*fn)(struct guest *g, bool up, const char *why, void *arg); void *arg; };

struct guest {
    struct world *w;
    uint32_t id, slot;
    char *name;
    struct guest_spec *spec;     /* desired */
    char *text;                  /* its canonical text */
    char *applied;               /* text of what it was last brought to, or NULL */
    char *bundle, *image, *script_digests, *purge, *error; /* as stored; may be NULL */
    unsigned scripts_done, generation, restarts;
    int64_t applied_at, provisioned_at;
    int64_t silent_until;        /* wall: alerts of it neither begin nor end before; 0: it is not silenced */
    bool up, removing, rebuilding; /* the user's wishes, as stored */
    bool cut, cut_stopping;      /* vmsd ended while a job worked on it; while it was being stopped */
    bool resting;                /* ended, and its policy says: not again by itself */
    bool ending;                 /* it ended, and a worker finds out how: no job begins before that is known */

    enum life_state state;
    const struct vm_driver *driver; /* of what runs, or ran last; may be NULL */
    struct drv_proc proc;        /* while it runs */
    char boot_id[40];            /* of this boot: the leader's identity, so that a restart shows */
    int64_t up_since;            /* monotonic, 0: not up */
    int64_t started_at;          /* wall, 0: not up */
    int keeper_fd;               /* pidfd, or -1 */
    struct loop_watch *keeper_watch;
    struct loop_timer *retry;    /* restart after back-off, or a new try to reach the agent */
    struct loop_timer *cure;     /* restart of one that is unhealthy, after back-off */
    struct life_backoff backoff;
    struct net_nic *nics; size_t n_nics;
    size_t n_linked;             /* of them, at its last start: an apply that gives it more may not have come to its end */

    struct agent *agent;         /* session, or NULL */
    bool agent_ready;            /* by it the guest has been told what it is */
    struct agent_waiter agent_waiter; /* a job that waits for the session */
    char hosts_sum[65], resolv_sum[65]; /* of the /etc/hosts and /etc/resolv.conf that it was last given */
    struct health *health;
    struct usage *usage;
    struct inside *inside;       /* what it says of its memory, see inside.c; or NULL */
    struct job *job;             /* that works on it now */
    struct job *next;            /* that comes after it; at most one, since jobs converge */
    const struct guest *held;    /* goes down first, as it depends on this one; see queue.c, and good within it alone … */
    unsigned looked; bool on_way; /* … as are these: the last search that looked at it; that looks at what it waits for */
    unsigned calls;              /* requests of the API that its agent works on, see files.c */
    struct script_result *scripts; size_t n_scripts; /* by their place in the spec, see scripts.h */
    char *shown;                 /* JSON text for lists, or NULL when it must be made anew */
};

struct world {
    const struct options *options;
    struct loop *loop;
    struct store *store;
    struct image_store *images;
    struct http_server *http;
    struct net_relay *relay;
    struct events *events;
    struct netsync *netsync;
    struct sampler *sampler;     /* of usage */
    struct alerts *alerts;       /* see alert.h; or NULL */
    struct guest **guests; size_t n_guests;           /* by name */
    struct network_spec **networks; size_t n_networks; /* by name */
    struct host_spec *host_spec; char *host_text; /* never NULL: its defaults; its canonical text, or NULL: none was applied */
    struct measures *measures;   /* of the host, see measures.h */
    struct { int64_t at; bool ok; } apply; /* the last one since vmsd started; at is wall, 0: none */
    unsigned running_jobs, search; /* search: its number, see queue.c */
    bool poked;                  /* the queue will be looked at */
    struct loop_timer *leaving;  /* the host goes down, and no guest is to come up again; or NULL */
    int64_t started_at;          /* wall */
    struct loop_timer *watchdog; int64_t watchdog_ms; /* systemd's, or NULL */
    atomic_bool stopping;        /* jobs on workers look at it too */
    uint64_t host_memory;        /* bytes */
    struct applying *lane;       /* applies that plan and commit, one after the other */
    json_t *drivers;             /* what probe said last, see survey.c … */
    struct drv_host host;        /* … and what the host itself offers */
    struct access_groups *access; /* see access.c */
    unsigned calls, dials;       /* of all guests together; sessions that are being made, see session.c */
    char *upstream;              /* the host's resolvers, for guests that ask outside, see names_upstream; or NULL */
};

/* world.c */
int world_open(const struct options *o, struct loop *l, struct world **out, struct vm_err *e);
void world_close(struct world *w);
struct guest *world_guest(struct world *w, const char *name); /* or NULL */
struct guest *world_guest_by_id(struct world *w, uint32_t id);
const struct network_spec *world_network(struct world *w, const char *name);
/* Finds or makes the guest; text is the canonical text of its desired spec. */
int world_put_guest(struct world *w, uint32_t id, uint32_t slot, const char *text, const char *bundle, struct guest **out,
                    struct vm_err *e);
int world_put_network(struct world *w, const char *text, struct vm_err *e);
void world_drop_network(struct world *w, const char *name);
int world_put_host(struct world *w, const char *text, struct vm_err *e); /* text NULL: all defaults */
void world_drop_guest(struct guest *g);
enum { SLOTS_MAX = 16384 }; /* guests on one host */
uint32_t slot_uid_base(uint32_t slot); /* first of the 65536 host ids of a slot */
bool guest_changed(const struct guest *g); /* applied is not what is desired */
void guest_dirty(struct guest *g);         /* shown is out of date */
void guest_set_text(char **slot, const char *text); /* frees the old one; text may be NULL; loop aborts without memory */
char *guest_run_dir(const struct guest *g); /* yours */
char *guest_log_dir(const struct guest *g); /* yours */

/* guest.c: what happens to a guest */
bool guest_feed(struct guest *g, enum life_event ev, const char *why); /* why may be NULL; false: refused, logged */
void guest_watch_keeper(struct guest *g);  /* proc is set: follow its end */
void guest_unwatch_keeper(struct guest *g);
bool guest_is_up(const struct guest *g);
/* Restarts a guest whose health failed, by its policy and back-off. */
void guest_restart_unhealthy(struct guest *g, const char *why);

/* session.c: the agent of a guest */
void guest_take_agent(struct guest *g, int fd, const char *token); /* fd of a fresh session, taken; token may be "" */
void guest_drop_agent(struct guest *g, const char *why); /* ends the session and all that is under way in it */
void guest_redial(struct guest *g); /* no job works on it any more: if it runs without a session, one is made */
/* Called once when the session is up and the guest knows what it is, or when that came to nothing; for jobs that wait. */
void guest_on_agent(struct guest *g, void (*fn)(struct guest *g, bool up, const char *why, void *arg), void *arg);

/* search.c: who runs a guest, when nobody here remembers */
/* Worker, or before the loop turns. ABSENT: nobody; UNAVAILABLE: one that may cannot be asked. */
int driver_find(uint32_t id, const char *run_dir, const struct vm_driver **out, struct drv_proc *proc, struct vm_err *e);
void guest_adopt(struct guest *g, const struct vm_driver *d, const struct drv_proc *proc);
void guest_seek(struct guest *g); /* if it is unknown and no job works on it: asks again, soon */

/* survey.c: what drivers say of themselves */
void survey_open(struct world *w);
void survey_put(struct world *w, const struct vm_driver *d, const struct drv_report *r);
const char *survey_warning(const struct world *w, const struct vm_driver *d); /* borrowed; NULL: none */

/* events.c: what is told, kept and streamed */
/* Takes body (an object; id, at, guest, type, text are added). guest may be NULL. */
void events_add(struct world *w, const char *guest, const char *type, json_t *body, const char *fmt, ...)
    __attribute__((format(printf, 5, 6)));
int events_open(struct world *w, struct vm_err *e);
void events_close(struct world *w);  /* writes what is left */
json_t *events_recent(struct world *w, const char *guest, size_t max); /* array, newest last */

/* netsync.c: the firewall and the relays follow the world */
int netsync_open(struct world *w, struct vm_err *e);
void netsync_close(struct world *w);
void netsync_ask(struct world *w, void (*done)(const struct vm_err *e, void *arg), void *arg); /* e NULL: in force */
/* The network leaves: its bridge is removed once no guest is on it. */
void netsync_forget(struct world *w, const struct network_spec *n);
/* For workers: asks and waits. */
int netsync_wait(struct world *w, struct vm_err *e);
/* names.c */
#define NAMES_DIR "/run/vms" /* in a guest whose root is read-only: its hosts and resolv.conf, to which links lead */
/* /etc/hosts of a guest: itself, its neighbours, their domains. Yours. */
char *names_hosts(struct world *w, const struct guest *g);
json_t *names_json(struct world *w);
void names_push(struct world *w);     /* to every guest whose list changed */
void names_push_to(struct guest *g);  /* to one, if it changed */
char *names_resolv(struct world *w, const struct guest *g); /* /etc/resolv.conf; yours */
char *names_upstream(void); /* the host's resolvers, as far as guests can reach them; yours. Not on the loop once it turns */
void names_take_upstream(struct world *w, char *take_text); /* NULL: not known; if it is news, guests hear of it */

/* show.c */
const char *guest_show(struct guest *g);   /* JSON text, borrowed until the next change */
json_t *guest_json(struct guest *g);       /* the same as a value; yours */

/* health.c */
enum health_state { HEALTH_NONE, HEALTH_STARTING, HEALTH_HEALTHY, HEALTH_UNHEALTHY };
const char *health_name(enum health_state s);
void health_start(struct guest *g);        /* guest is up: checks run from now on; restarts them after a spec change */
void health_stop(struct guest *g);
enum health_state health_of(const struct guest *g);
json_t *health_json(const struct guest *g); /* array of checks; yours */
/* Called by health.c whenever the state of a guest changes; in guest.c. */
void guest_health_changed(struct guest *g, enum health_state now, const char *why);

/* usage.c */
int usage_open(struct world *w, struct vm_err *e);
void usage_close(struct world *w);         /* after the loop: a round may be under way until then */
void usage_drop(struct guest *g);          /* the guest goes */
json_t *usage_json(const struct guest *g); /* the usage object; yours */

/* metrics.c */
char *metrics_text(struct world *w, bool openmetrics); /* else as Prometheus had it before; yours */

/* recover.c */
int recover(struct world *w, struct vm_err *e); /* once, before the loop turns */
void guest_resume(struct guest *g);             /* a job goes on where the one before the restart of vmsd ended */

/* api.c */
int api_open(struct world *w, int listen_fd, struct vm_err *e); /* listen_fd is taken */
json_t *doctor_findings(struct world *w);  /* on a worker: probes only; yours */

#endif
