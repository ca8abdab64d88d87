/* upgrade.h: a connection to vmsd that leaves HTTP behind. One thread. */
#ifndef VMCTL_UPGRADE_H
#define VMCTL_UPGRADE_H

#include "client.h"

enum { UPGRADE_HEAD_MAX = 8 << 10, UPGRADE_WAIT_S = 60 };

/* Posts the body to the path and asks for `protocol`. On success *fd is connected (blocking) and yours, and *early are
 * the bytes that came behind the answer's head. */
int upgrade_open(struct client *c, const char *path, const char *protocol, const json_t *body, int *fd,
                 struct text *early, struct vm_err *e);

/* The head of an answer, which ends behind its empty line. */
struct upgrade_head {
    int status;
    bool upgraded;          /* 101, and to the protocol that was asked for */
    size_t length;          /* of the body; SIZE_MAX: not told */
};
/* Length of the head at s, 0: it is not complete yet, -1: it is no head. */
ssize_t upgrade_parse(const char *s, size_t n, const char *protocol, struct upgrade_head *out);

#endif
