/* keeper_console.h: `vms-keeper console`, for VMMs that others start. Private to drivers/. libc only. */
#ifndef VMSD_DRIVERS_KEEPER_CONSOLE_H
#define VMSD_DRIVERS_KEEPER_CONSOLE_H

#include "keeper.h"

enum console_fd {
    CONSOLE_FD_LINE = KEEPER_FD_PLAN, /* connected to the VMM */
    CONSOLE_FD_LOG,                   /* log_dir */
    CONSOLE_FD_VMM,                   /* pidfd; it is killed … */
    CONSOLE_FD_SHARES,                /* … when this one has ended: pidfd of what keeps its shares; the VMM's if it has none */
    CONSOLE_FDS = 4                   /* all behind these it only keeps open: disks, and so their locks */
};

int console_keep(void); /* exit status */

#endif
