/* sandbox.h: where vms-unpack reads foreign bytes. */
#ifndef SANDBOX_H
#define SANDBOX_H

#include <vmsd/err.h>

/* From here on the process is uid 0 of a user namespace of its own and a nobody on the host, the current directory is
 * all of the file system that it has; no network, and few system calls. What it writes as uid N is N's on disk. */
int sandbox_enter(struct vm_err *e);

#endif
