/* A server on the loopback that says exactly what a test wants, from a thread of its own. */
#ifndef DOUBLE_H
#define DOUBLE_H

#include <stddef.h>
#include <stdint.h>

struct double_plan {
    const char *say;      /* after the first request; NULL: nothing */
    uint64_t flood;       /* then so many bytes more, or until the client is gone */
    int hold;             /* then it keeps the connection open */
    int mute;             /* takes no connection at all, though its port is open */
    const char *socket;   /* path of a Unix socket instead of a port */
};
struct double_server;
struct double_server *double_open(const struct double_plan *plan, uint16_t *port);
const char *double_heard(struct double_server *d); /* the first request; after it was answered */
uint64_t double_sent(struct double_server *d);     /* waits for its end */
void double_close(struct double_server *d);

#endif
