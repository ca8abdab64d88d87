/* bundles/SHA256.tar in the state directory: what was applied, for as long as a guest or a job needs files of it.
 * Private to supervisor/. */
#ifndef BUNDLES_H
#define BUNDLES_H

#include <vmsd/bundle.h>

#include "world.h"

int bundle_keep(const char *state_dir, const struct bundle *b, struct vm_err *e); /* worker */
void bundles_in_use(struct world *w, struct strv *out); /* loop: hashes that jobs work with, or may begin with */
/* Worker: removes what neither a row of the store nor `spared` names, and what a crash left half written. Not beside a
 * bundle_keep. */
int bundles_sweep(struct world *w, struct strv *spared, struct vm_err *e);

#endif
