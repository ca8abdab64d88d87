/* <vmsd/child.h>: programs run to their end by a worker. Floor 1. Any thread.
 *
 * argv is data: no shell ever sees it. The child has an empty environment but for `env`, no inherited fd but those
 * named, default signals, its own session, and PR_SET_PDEATHSIG; it is followed by pidfd. */
#ifndef VMSD_CHILD_H
#define VMSD_CHILD_H

#include <sys/types.h>
#include <vmsd/clock.h>
#include <vmsd/err.h>
#include <vmsd/starter.h>
#include <vmsd/text.h>

/* What vms-starter runs for us: with `at` as starter.h says, or -1, and `in` as stdin, or -1 for `input`. */
struct child_starter { enum starter_verb verb; int at, in; };

/* A program that a spec names. */
#define CHILD_COMMAND (&(const struct child_starter){.verb = STARTER_COMMAND, .at = -1, .in = -1})

struct child_plan {
    char *const *argv;             /* argv[0] is looked up in a fixed PATH when it has no '/' */
    char *const *env;              /* "KEY=value", NULL-terminated; NULL: PATH and LC_ALL=C.UTF-8 only */
    const void *input; size_t n_input; /* fed to stdin; NULL: /dev/null */
    size_t output_max;             /* of stdout and stderr together, the rest is counted and dropped; 0: 64 KiB */
    void (*on_output)(const char *p, size_t n, void *arg); /* instead of keeping it; on the calling thread; may be NULL */
    void *arg;
    /* Runs in the child before exec (async-signal-safe calls only); returns 0 or an errno. May be NULL. All fds but
     * 0, 1, 2 are close-on-exec by then: to hand one over, clear that flag or dup2 it. */
    int (*prepare)(void *arg);
    void *prepare_arg;
    const struct child_starter *starter; /* by vms-starter, which knows what to prepare; NULL: a child of ours, with our rights */
    bool survive;                  /* no PDEATHSIG */
    bool secret;                   /* what it prints: of that, nothing stays in memory but end->output */
};
struct child_end { int status; /* as waitpid gives */ char *output; size_t n, dropped; };

/* Runs until the end or the deadline (then SIGTERM, 2 s, SIGKILL to the whole session, and TIMEOUT). A child that ends
 * with another status than 0 is no failure here. end->output is yours. */
int child_run(const struct child_plan *plan, struct deadline d, struct child_end *end, struct vm_err *e);
/* The usual case: must end with 0, else BACKEND with its last line of output as text. output may be NULL. */
int child_must(char *const *argv, struct deadline d, char **output, struct vm_err *e);

/* Would it be found? */
bool child_there(const char *program);

/* Identity of a process that outlives us: pid, start time in clock ticks (/proc/PID/stat field 22), boot id. */
struct proc_id { pid_t pid; uint64_t start; char boot[37]; };
int proc_id_of(pid_t pid, struct proc_id *out, struct vm_err *e);
/* A pidfd if exactly that process still lives; -1 and ABSENT when it is gone. */
int proc_id_open(const struct proc_id *id, struct vm_err *e);

#endif
