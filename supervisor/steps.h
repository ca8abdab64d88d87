/* The steps of a job's story. Each may be done again. Workers only. Private to supervisor/. */
#ifndef STEPS_H
#define STEPS_H

#include "boot.h"

bool job_boots(const struct job *j); /* its driver boots a kernel: the guest is told what it is, not configured */
void job_output(const char *text, void *arg); /* a line of the running step's output */

/* step_make.c: what a guest is made of */
int step_image(struct job *j, struct vm_err *e);
int step_root(struct job *j, struct vm_err *e);
int step_volumes(struct job *j, struct vm_err *e);
int step_network(struct job *j, struct vm_err *e);

/* step_run.c: it starts and ends */
/* Does it run though nobody here knew, on whatever driver? Then it is taken up (j->running); a start that was cut off is
 * ended. UNAVAILABLE: whoever knows cannot be asked. */
int job_find(struct job *j, struct vm_err *e);
int step_start(struct job *j, struct vm_err *e);
int step_boot(struct job *j, struct vm_err *e);
int step_stop(struct job *j, struct vm_err *e);
/* What it runs by, for as long as it runs: an apply that was cut off or failed may want something else by now. */
int run_note(struct job *j, struct vm_err *e);
char *run_noted(const struct job *j);     /* yours; NULL: not known */
bool runs_otherwise(const struct job *j); /* than the spec says, in what only a restart changes */
bool runs_open(const struct job *j);      /* started with open_root */

/* step_live.c: what runs is changed */
int step_live(struct job *j, struct vm_err *e);
bool changes_inside(const struct job *j); /* is there something that a guest with a kernel of its own must do as well? */
int step_inside(struct job *j, struct vm_err *e);
int attach_nics(struct job *j, struct vm_err *e); /* veths of a container that has just started */
/* Links that are gone or off their bridge are put back. *lost: one that cannot be, for what held it went with it. */
int mend_nics(struct job *j, bool *lost, struct vm_err *e);

/* step_agent.c */
int step_agent(struct job *j, struct vm_err *e);
/* One request to the agent that has no output. */
int job_ask(struct job *j, const struct strv *request, const void *input, size_t n, int64_t ms, struct vm_err *e);
int job_setup(struct job *j, struct vm_err *e); /* op=setup, to a guest that boots a kernel */

/* step_health.c */
int step_health(struct job *j, struct vm_err *e);

/* boot.c: what a guest that boots a kernel is given, each time that it starts */
int boot_kernel(struct job *j, struct deadline d, struct vm_err *e); /* the kernel that it boots; part of step image */
int boot_prepare(struct job *j, struct vm_err *e);  /* token, initramfs, command line, taps; rules stand */
void boot_done(struct job *j);                      /* closes the taps: what runs has its own */
void boot_remove_links(struct job *j);              /* a tap may outlive who held it */

#endif
