/* "proc.h": processes as /proc shows them. Private to plumb. Any thread. */
#ifndef PLUMB_PROC_H
#define PLUMB_PROC_H

#include <sys/types.h>

/* Sends sig to every process of a session, in whichever process group it is, and says how many there were. The session
 * must be pinned: its leader is ours and not reaped, so that its number can't belong to somebody else by now. */
unsigned proc_signal_session(pid_t session, int sig);

#endif
