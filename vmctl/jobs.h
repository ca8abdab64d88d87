/* jobs.h: jobs that were begun without waiting, and their end. One thread. */
#ifndef VMCTL_JOBS_H
#define VMCTL_JOBS_H

#include "cli.h"
#include "progress.h"

/* Asks for each guest's job to begin ("POST", "/start"), then follows all of them until they have ended; p hears of it
 * in the records that a stream would bring. */
int jobs_run(struct cli *cli, const char *method, const char *tail, const json_t *guests, struct progress *p,
             struct vm_err *e);

#endif
