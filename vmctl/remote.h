/* remote.h: the vmsd of another host, through the system's ssh, which forwards its socket. No port is opened. One thread. */
#ifndef VMCTL_REMOTE_H
#define VMCTL_REMOTE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/err.h>

struct remote {
    char *host; /* [USER@]HOST as ssh takes it; NULL: vmsd is here */
    char *port; /* or NULL: as ssh's configuration says */
    char *peer; /* the socket there */
    bool mute;  /* ssh asks nothing, as it is one of several, and what it says is told with the error */
    pid_t ssh;  /* 0: does not run */
    bool ready; /* it leads to the host */
    int said;   /* of one that is mute: a memory file */
    int64_t began;
    char dir[64], socket[80]; /* here, while ssh runs */
    struct remote *next;      /* of those whose ssh runs */
};

/* Takes "ssh://[USER@]HOST[:PORT][/SOCKET]" apart into *r, which starts as {0}. */
int remote_parse(struct remote *r, const char *url, struct vm_err *e);
/* Starts ssh, unless it runs. */
int remote_begin(struct remote *r, struct vm_err *e);
/* 1: r->socket leads to the host; 0: not yet; -1: it never will, or no longer does, and ssh has ended. */
int remote_look(struct remote *r, struct vm_err *e);
/* Both, until it leads there; ssh may ask on the terminal for what it wants to know. Again is success, as long as ssh runs. */
int remote_reach(struct remote *r, struct vm_err *e);
/* Ends ssh, and frees. */
void remote_done(struct remote *r);

#endif
