/* Jobs: what changes one guest, told from top to bottom on a worker. Private to supervisor/. */
#ifndef JOB_H
#define JOB_H

#include "world.h"

enum job_verb { JOB_CONVERGE, JOB_STOP, JOB_REMOVE };
const char *job_verb_name(enum job_verb v);

/* What a job still waits for, and how it ended. */
enum job_state { JOB_QUEUED, JOB_WAITING, JOB_RUNNING, JOB_DONE, JOB_FAILED, JOB_BLOCKED };

/* Told of everything that its jobs do; belongs to an apply or to a request with wait=1. Loop thread. */
struct watcher {
    void (*line)(struct watcher *x, json_t *line); /* borrowed */
    void (*ended)(struct watcher *x, struct job *j);
    bool (*lags)(const struct watcher *x); /* nobody reads, or not fast enough: output may be left out */
};

struct job {
    struct world *w;
    uint32_t guest_id;
    char *name;                    /* of the guest */
    enum job_verb verb;
    enum job_state state;
    bool restart;                  /* stop it first */
    bool patient;                  /* waits for dependencies without end (vmsd's own start), else a failed one blocks it */
    bool quiet;                    /* reattach only: nothing of the guest is changed unless it is not running */
    bool stopped;                  /* the loop heard that it has taken its guest down */
    bool halting, halted;          /* this time it only stops; it has, and waits until the guest may start again */
    bool wait_health, unhealthy;   /* unhealthy: all was done, but it did not become healthy */
    enum plan_class class;         /* for show */
    struct watcher *watcher;       /* or NULL */
    bool ran;                      /* or at least began to */
    atomic_bool cut;               /* a later wish overtakes it: it ends as soon as it can. Set by the loop, read by all */
    int64_t id;                    /* of the row in the store, 0 before it runs */
    int64_t began, asked_at, created_at; /* monotonic, and so is this: when it was submitted; that one wall */
    const char *step;              /* that runs, in step_text: set on the loop, which shows it; or NULL */
    char step_text[24];
    const char *step_about;        /* more about it, the path of a script; or NULL */
    unsigned script_index;         /* of the install script that runs */
    struct vm_err err;

    /* Copies for the worker, made when it starts to run. */
    struct guest_spec *spec;
    char *text, *bundle, *applied, *digests, *run_dir, *log_dir, *purge, *image;
    uint32_t slot;
    unsigned scripts_done, restarts;
    int64_t provisioned_at, applied_at;
    struct net_nic *nics; size_t n_nics;
    struct network_spec **networks; /* one for each nic, own copies */
    bool up, running, rebuilding;  /* up: it is wished to be */
    bool open_root;                /* it is to be read-only, and is not yet: see steps.c. The spec says so meanwhile */
    struct drv_proc proc;
    const struct vm_driver *driver;

    /* Found while it runs. */
    struct image_ref image_ref;
    char root[IMAGE_PATH];
    struct guest_spec *was;        /* what the running guest was given, if that is known and matters; or NULL */
    char disk[IMAGE_PATH];         /* the image as a disk, … */
    struct image_kernel kernel;    /* … ours, unless the spec names one, … */
    char *initramfs, *cmdline;     /* … and what belongs to this boot of it: see boot.c */
    struct drv_tap *taps; size_t n_taps;
    struct drv_mount *mounts; size_t n_mounts;
    char (*mount_paths)[IMAGE_PATH];
};

/* jobs.c: loop thread */
const char *job_state_name(enum job_state s);
struct job *job_new(struct guest *g, enum job_verb verb);
void job_free(struct job *j);
int job_copy(struct job *j, struct guest *g, struct vm_err *e); /* fills what the worker will see */
void job_uncopy(struct job *j);
json_t *job_json(const struct job *j);

/* queue.c: which job runs when, loop thread */
void job_submit(struct job *j);    /* taken; merges with one that already waits */
void jobs_poke(struct world *w);   /* something changed that a waiting job may wait for */
void jobs_cut(struct guest *g);    /* a wish overtakes what brings the guest up: that ends where it is, as a failure */

/* steps.c and install.c: the story, on a worker; steps.h has its parts */
int job_story(struct job *j, struct vm_err *e);
int job_files(struct job *j, struct vm_err *e);
int job_install(struct job *j, struct vm_err *e);
bool job_installs(const struct job *j); /* is there a script that must run? */

/* For the story: begun in the store unless a wish has done so; then step by step, recorded and told. */
int job_begin(struct job *j, struct vm_err *e);
int job_step(struct job *j, const char *name, int (*act)(struct job *j, struct vm_err *e), struct vm_err *e);
void job_tell(struct job *j, json_t *line);       /* taken; to the watcher, from any thread */
void job_feed(struct job *j, enum life_event ev); /* to the guest's life, and waits until it was done */
void job_borrow(const struct job *j, struct drv_guest *out); /* view for drivers */
struct agent_wait job_agent(struct job *j);
/* Runs fn(guest, arg) on the loop and waits; the guest cannot go away while its job runs. */
void job_on_loop(struct job *j, void (*fn)(struct guest *g, void *arg), void *arg);

/* secrets.c: never on the loop, never kept */
struct secret { char *data; size_t n; };
int secret_read(const struct spec_secret *s, struct secret *out, struct vm_err *e);
void secret_wipe(struct secret *s);
/* May this line, on its way into an error that many see, hold one of them? Of those that a command gives nobody knows
 * without running it again: yes. */
bool secrets_may_be_in(const struct guest_spec *g, const char *line);
/* Adds a keyed digest to every secret of file or env in the canonical JSON, so that a changed secret is a change. */
int secrets_digest(struct guest_spec *g, const char *state_dir, size_t *bad, struct vm_err *e); /* *bad: which one failed */

#endif
