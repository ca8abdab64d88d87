/* older.h: a vmsd that is older than this vmctl, told from a user's mistake. */
#ifndef VMCTL_OLDER_H
#define VMCTL_OLDER_H

#include "cli.h"

/* After vmsd refused the command: true, and *e says so, when it is too old to know what the command is about. */
bool older_vmsd(const struct cli *cli, struct vm_err *e);

#endif
