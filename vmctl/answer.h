/* answer.h: the answer to a request, HTTP/1.1, as it comes in pieces. Pure. */
#ifndef VMCTL_ANSWER_H
#define VMCTL_ANSWER_H

#include <http_parser.h>
#include <stdbool.h>
#include <sys/types.h>

struct answer {
    struct http_parser parser;
    int (*body)(const char *p, size_t n, void *arg); /* a piece of it; -1: no more of that */
    void *arg;
    int status;    /* once its head is read; 0 before */
    bool upgraded; /* the connection speaks another protocol behind its head */
    bool ended;    /* with all of its body, or because it is upgraded */
};
/* Nothing in it has to be freed. */
void answer_begin(struct answer *a, int (*body)(const char *p, size_t n, void *arg), void *arg);
/* Reads on; how many bytes belong to it: what follows its end does not. -1: that is no answer, or body said so. */
ssize_t answer_read(struct answer *a, const char *p, size_t n);
/* The connection has ended: was that its end, too? */
bool answer_is_whole(struct answer *a);

#endif
