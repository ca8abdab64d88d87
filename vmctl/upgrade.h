/* upgrade.h: a connection to vmsd that leaves HTTP behind. One thread. */
#ifndef VMCTL_UPGRADE_H
#define VMCTL_UPGRADE_H

#include "client.h"

enum { UPGRADE_WAIT_S = 60 };

/* Posts the body to the path and asks for `protocol`. On success *fd is connected (blocking) and yours, and *early are
 * the bytes that came behind the answer's head. */
int upgrade_open(struct client *c, const char *path, const char *protocol, const json_t *body, int *fd,
                 struct text *early, struct vm_err *e);

#endif
