/* progress.h: what the records of apply and its kin tell, as lines, as a live view, or as they came. One thread. */
#ifndef VMCTL_PROGRESS_H
#define VMCTL_PROGRESS_H

#include "cli.h"

struct progress;

/* On a terminal a live view, else a line for each step that ended; with -o json every record unchanged. */
int progress_open(const struct cli *cli, struct progress **out, struct vm_err *e);
/* Ends the live view; NULL is welcome. */
void progress_close(struct progress *p);
OWN_DEFINE(progress, struct progress *, progress_close)

/* Guests that will be told of: as the API gives them, in a list. A plan tells by itself. */
void progress_expect(struct progress *p, const json_t *guests);

/* One record of a stream: for struct stream_records. */
int progress_record(const json_t *record, void *progress, struct vm_err *e);
/* Posts a body and follows the records of the answer to their end, or to Ctrl-C. */
int progress_post(struct cli *cli, const char *path, const void *body, size_t n, struct progress *p, struct vm_err *e);
/* Draws; for client_run. False once the user pressed Ctrl-C. */
bool progress_tick(void *progress);
bool progress_interrupted(void);

/* After the last stream: the summary, what is not well and where to look, and the exit status. streams: how many
 * results must have come. */
int progress_finish(struct progress *p, size_t streams);

#endif
