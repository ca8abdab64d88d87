/* answer.h: the answer to a request, HTTP/1.1, as it comes in pieces. Pure. */
#ifndef VMCTL_ANSWER_H
#define VMCTL_ANSWER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/text.h>

enum { ANSWER_HEAD_MAX = 8 << 10, ANSWER_LINE_MAX = 256 };

/* The head of an answer, which ends behind its empty line. */
struct answer_head {
    int status;
    bool upgraded; /* 101, and to the protocol that was asked for */
    bool chunked;
    size_t length; /* of the body; SIZE_MAX: not told */
};
/* Length of the head at s, 0: it is not complete yet, -1: it is no head. */
ssize_t answer_head(const char *s, size_t n, const char *protocol, struct answer_head *out);

enum answer_part {
    ANSWER_HEAD,    /* its lines */
    ANSWER_COUNTED, /* a body, or a piece of one, of which `left` bytes are to come */
    ANSWER_ENDLESS, /* a body that ends with the connection */
    ANSWER_SIZE,    /* the line before a piece */
    ANSWER_BEHIND,  /* the empty line behind a piece */
    ANSWER_TRAILER, /* lines behind the last piece */
    ANSWER_ENDED,
};
struct answer {
    enum answer_part at;
    struct answer_head head; /* once `at` is past it */
    size_t left;
    struct text line;        /* what came of a head or of a line; free with text_done */
    int (*body)(const char *p, size_t n, void *arg); /* a piece of it; -1: no more of that */
    void *arg;
};
/* Reads on. 0; or -1: that is no answer, there is no memory, or body said so. What follows an answer's end is passed over. */
int answer_read(struct answer *a, const char *p, size_t n);
/* The connection has ended: is the answer complete? */
bool answer_is_whole(const struct answer *a);

#endif
