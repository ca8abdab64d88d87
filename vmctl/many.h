/* many.h: what one guest has to say, of several guests at once. One thread. */
#ifndef VMCTL_MANY_H
#define VMCTL_MANY_H

#include "cli.h"

/* Runs one(cli, name) for each guest of the list (the API's), each in a process of its own, since each may wait for its guest
 * for ever. Their lines come out as they are written, behind the guest's name. Returns the largest exit status. */
int many_run(struct cli *cli, const json_t *guests, int (*one)(struct cli *cli, const char *guest), struct vm_err *e);

#endif
