/* keeper_console.h: `vms-keeper console`, for VMMs that others start. Private to drivers/. libc only. */
#ifndef VMSD_DRIVERS_KEEPER_CONSOLE_H
#define VMSD_DRIVERS_KEEPER_CONSOLE_H

#include "keeper.h"

enum console_fd {
    CONSOLE_FD_LISTEN = KEEPER_FD_PLAN, /* where the VMM connects, once */
    CONSOLE_FD_TELL,                    /* end of a pipe: the other one closed before that means that none will come */
    CONSOLE_FD_LOG,                     /* log_dir */
    CONSOLE_FDS = 3
};

int console_keep(void); /* exit status */

#endif
