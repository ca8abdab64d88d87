/* <vmsd/post.h>: a document posted to a web server somewhere, to its end. Floor 1. Workers: it waits. */
#ifndef VMSD_POST_H
#define VMSD_POST_H

#include <stdint.h>
#include <vmsd/err.h>

/* POSTs JSON to an http or https URL, whose server proves who it is by the host's certificates; no redirects, no proxies. What
 * it answers is not kept. Any status but 2xx is BACKEND. An error never has more of the URL in it than its host. */
int post_json(const char *url, const char *body, int64_t timeout_ms, struct vm_err *e);

#endif
