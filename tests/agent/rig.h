/* rig.h: the real vms-agent under the real host side, over a pair of sockets. */
#ifndef RIG_H
#define RIG_H

#include <check.h>
#include <vmsd/agent.h>
#include <vmsd/proto.h>

struct rig {
    struct loop *loop;
    struct agent *agent;
    pid_t pid;                     /* of vms-agent; 0: reaped */
    bool up, late;
    char down[200];                /* why, "" while it is up */
};
extern struct rig rig;

void rig_start(void);              /* fixtures: a loop, an agent, and the session up */
/* The same in a mount namespace of its own, in which a shell ran this first. */
void rig_start_after(const char *script);
void rig_stop(void);
int rig_agent_ended(int64_t ms);   /* its wait status */
void rig_until(const bool *flag, int64_t ms); /* runs the loop; fails the test when it takes longer */
void rig_for(int64_t ms);

/* One request and all that came of it. */
struct call {
    struct agent_stream *s;        /* NULL: ended */
    bool ended;
    struct agent_result r;
    struct text out, err;          /* the first 4 MiB */
    uint64_t n_out;
    const char *input; size_t n_input, fed;
};
/* NULL-terminated strings "key=value". */
struct call *call_begin(struct call *c, const char *first, ...) __attribute__((sentinel));
void call_wait(struct call *c);    /* at most 20 s */
void call_done(struct call *c);
/* Begins, waits, and says whether the guest did it. */
#define call_run(c, ...) (call_wait(call_begin(c, __VA_ARGS__, NULL)), (c)->r.ok)

int run_suite(const char *name, void (*add)(TCase *t));

#endif
