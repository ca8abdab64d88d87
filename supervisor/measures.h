/* How busy and how full the host is, looked at by a worker every few seconds. Loop thread only. Private to supervisor/. */
#ifndef MEASURES_H
#define MEASURES_H

#include "world.h"

int measures_open(struct world *w, struct vm_err *e);
void measures_close(struct world *w); /* after the loop: a look may be under way until then */
const json_t *measures_last(const struct world *w); /* as profile_measures; borrowed until the loop turns; NULL: not known, or not any more */

#endif
