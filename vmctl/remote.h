/* remote.h: the vmsd of another host, through the system's ssh, which forwards its socket. No port is opened. One thread. */
#ifndef VMCTL_REMOTE_H
#define VMCTL_REMOTE_H

#include <limits.h>
#include <sys/types.h>
#include <vmsd/err.h>

struct remote {
    char *host; /* [USER@]HOST as ssh takes it; NULL: vmsd is here */
    char *port; /* or NULL: as ssh's configuration says */
    char *peer; /* the socket there */
    pid_t ssh;
    char dir[64], socket[80]; /* here, while ssh runs */
};

/* Takes "ssh://[USER@]HOST[:PORT][/SOCKET]" apart into *r, which starts as {0}. */
int remote_parse(struct remote *r, const char *url, struct vm_err *e);
/* Starts ssh, which may ask on the terminal for what it wants to know, and waits until r->socket leads to the host. Again
 * is success, as long as ssh runs. */
int remote_reach(struct remote *r, struct vm_err *e);
/* Ends ssh, and frees. */
void remote_done(struct remote *r);

#endif
