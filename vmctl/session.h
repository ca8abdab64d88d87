/* session.h: one command in a guest, by frames over an upgraded connection. One thread. */
#ifndef VMCTL_SESSION_H
#define VMCTL_SESSION_H

#include <vmsd/proto.h>
#include "client.h"

struct session_io {
    int in;   /* forwarded until its end; -1: the command reads nothing */
    bool tty; /* the command gets a terminal of standard input's size, which is raw meanwhile */
    /* What it writes. -1 ends the session. */
    int (*out)(enum frame_channel channel, const void *p, size_t n, void *arg, struct vm_err *e);
    void *arg;
};

/* Runs argv and so on, as the API's exec takes it (without stdin and tty, which io decides). SIGINT, SIGTERM and SIGHUP,
 * unless they are ignored, go to the command, and three within a second end the session; with a terminal the first does, as
 * three times Ctrl-] do, and SIGTSTP pauses it. *status is the command's exit status as a shell sees it. -1: it could not be run, or its end was not heard of. */
int session_run(struct client *c, const char *guest, json_t *request, const struct session_io *io, int *status,
                struct vm_err *e);
/* {argv: […]} from strings up to NULL. Yours; NULL: no memory. */
json_t *session_request(const char *const *argv);
/* For io.out: standard output and error as they come. */
int session_to_stdio(enum frame_channel channel, const void *p, size_t n, void *arg, struct vm_err *e);

#endif
