/* One look at a guest from outside or through its agent, which never blocks. Loop thread only. Private to supervisor/. */
#ifndef PROBE_H
#define PROBE_H

#include "verdict.h"

#include <vmsd/agent.h>
#include <vmsd/loop.h>

enum { PROBE_MESSAGE_MAX = 200 };

struct probe_said { const char *s; size_t n; };
/* Borrowed for the call of probe_start. */
struct probe_target {
    struct loop *loop;
    const char *address;         /* for tcp and http */
    struct agent *agent;         /* for exec and units; its session is up */
    const struct strv *env;      /* words env=NAME=VALUE for exec; NULL: none */
};
/* message: one line, safe to show, at most PROBE_MESSAGE_MAX bytes; may be empty. said: what check->numbers may stand in, as
 * the guest wrote it; borrowed; NULL: nothing, or nobody asked. */
typedef void probe_done_fn(enum outcome o, const char *message, const struct probe_said *said, void *arg);

struct probe;
/* done is called once, at the latest when check->timeout_ms is over and what ran in the guest has ended; never from
 * within probe_start, and *out is gone by then. -1: the host could not even begin. */
int probe_start(const struct probe_target *at, const struct spec_check *check, probe_done_fn *done, void *arg,
                struct probe **out, struct vm_err *e);
void probe_cancel(struct probe *p); /* done is not called; NULL is welcome */

#endif
