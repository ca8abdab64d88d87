/* leave.h: the host goes down. Private to supervisor/. Loop thread. */
#ifndef LEAVE_H
#define LEAVE_H

#include <stdbool.h>

struct world;

/* Stops all guests, each before what it depends on, by its own init and in its own time; then ends the loop. Their wishes
 * stay: they come up again with the host. False: it cannot be begun. */
bool leave(struct world *w);

#endif
