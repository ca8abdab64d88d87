/* fleet.h: one command over several hosts. One thread. */
#ifndef VMCTL_FLEET_H
#define VMCTL_FLEET_H

#include "cli.h"

/* The command on all of cli->hosts; the exit status. */
int fleet_run(struct cli *cli);
int fleet_plan(struct cli *cli);
int fleet_apply(struct cli *cli);

#endif
