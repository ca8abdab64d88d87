/* The output of one install script: told as it comes, kept in a file of bounded size. Private to supervisor/. */
#ifndef SCRIPT_LOG_H
#define SCRIPT_LOG_H

#include "job.h"

struct script_log;
/* Begins log_dir/install-NN.log anew. Worker. */
int script_log_new(struct job *j, unsigned index, struct script_log **out, struct vm_err *e);
/* Loop thread; arg is the script_log. */
void script_log_add(enum agent_channel ch, const void *p, size_t n, void *arg);
/* Writes what is left and frees it. The last lines of what was printed, as they can be shown, are yours: empty when there are
 * none, or no memory. Worker, after the script's end. */
struct text script_log_end(struct script_log *l);

#endif
