/* <vmsd/fetch.h>: one HTTP/1.1 request without ever blocking the loop. Floor 1. Loop thread only.
 *
 * A connection of its own for each request: no redirects, no proxies, no names to resolve, no cookies, no TLS. */
#ifndef VMSD_FETCH_H
#define VMSD_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/loop.h>

enum { FETCH_HEAD_MAX = 64 << 10 }; /* bytes of an answer's header lines; more is a broken peer */

/* Borrowed for the call of fetch_start. */
struct fetch_request {
    const char *socket;            /* path of a Unix socket; or NULL: … */
    const char *address;           /* … IPv4 or IPv6, as text */
    uint16_t port;
    const char *method;            /* NULL: GET */
    const char *path;              /* "/x?y", sent as it stands */
    const char *host;              /* Host header; NULL: the address, or localhost */
    const void *body; size_t n_body; /* JSON; NULL: none */
    int64_t timeout_ms;            /* for all of it */
    size_t answer_max;             /* of the body; once it is reached the rest is not waited for */
};
struct fetch_answer {
    int status;
    const char *body; size_t n;    /* borrowed until done returns, never NULL, NUL-terminated */
    bool cut;                      /* there was more */
};
/* answer, or NULL and e: TIMEOUT, UNAVAILABLE (no connection), BACKEND (it speaks no HTTP, or broke off). */
typedef void fetch_done_fn(const struct fetch_answer *answer, const struct vm_err *e, void *arg);

struct fetch;
/* done is called once, never from within fetch_start, and *out is gone by then. */
int fetch_start(struct loop *l, const struct fetch_request *q, fetch_done_fn *done, void *arg, struct fetch **out,
                struct vm_err *e);
void fetch_cancel(struct fetch *f); /* frees it, done is not called; NULL is welcome */

#endif
