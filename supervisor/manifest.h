/* guests/ID/manifest.json in the state directory: what the store knows of a guest, beside its root disk. Read only when
 * the store has lost the guest. Private to supervisor/. */
#ifndef MANIFEST_H
#define MANIFEST_H

#include "job.h"

/* Worker. settled: the guest is all that its spec says; of one that has not been asked anything new, it is if it was. */
int manifest_write(const struct job *j, bool settled, struct vm_err *e);
bool manifest_settled(const struct job *j);
/* Before the world is loaded: guests that have a root disk, and no row in the store, get it back. What cannot be read is
 * left alone, and its id is never given to another guest. */
void manifests_restore(struct world *w);

#endif
