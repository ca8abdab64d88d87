/* <vmsd/agent.h>: one session with a guest's agent, host side. Floor 1. Loop thread only, but for agent_*_wait.
 *
 * The session multiplexes streams over one connected stream socket. What comes from the guest is text from an enemy:
 * frames are bounded, streams have credit, nothing that the agent says changes anything but its own streams. */
#ifndef VMSD_AGENT_H
#define VMSD_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/clock.h>
#include <vmsd/err.h>
#include <vmsd/loop.h>
#include <vmsd/text.h>

struct agent;
struct agent_stream;

enum { AGENT_BUFFER = 256 << 10 };  /* what agent_stream_write holds for a slow guest */

/* fd is taken. up(arg) when the agent answered the hello; down(arg, why) once, at the end of the session (also when it
 * never came up, but not by agent_close); the session stays valid until agent_close, which any call-back may call.
 * token: of the guest's boot, 32 hex digits, for agents that ask for one (vsock, virtio-serial); NULL: the connection
 * itself is proof enough. */
struct agent_events {
    void (*up)(void *arg);
    void (*down)(void *arg, const char *why);
    void *arg;
    const char *token;
};
int agent_open(struct loop *l, int fd, struct agent_events ev, struct agent **out, struct vm_err *e);
void agent_close(struct agent *a); /* every stream ends first (its end is called); NULL is welcome */
bool agent_is_up(const struct agent *a); /* NULL: no */

enum agent_channel { AGENT_STDOUT = 1, AGENT_STDERR = 2 };
struct agent_result {
    bool ok;                       /* false: error says why the request could not be done at all */
    int exit_code;                 /* 0..255, or -1 */
    int signal;                    /* that ended it, or 0 */
    bool lost;                     /* not ok because the session ended first; nobody knows how far it came */
    char error[200];               /* safe to show */
    struct { uint64_t size; mode_t mode; uid_t uid; gid_t gid; } file; /* op=get */
};
struct agent_stream_events {
    /* Consumed when it returns, see below. NULL: no output is wanted, and none beyond FRAME_WINDOW bytes may come. */
    void (*data)(enum agent_channel ch, const void *p, size_t n, void *arg);
    void (*drained)(void *arg);    /* all that was written went out; may be NULL */
    void (*end)(const struct agent_result *r, void *arg); /* once; the stream is gone when it returns */
    void *arg;
};
/* A request is a list of "key=value" strings; <vmsd/proto.h> lists operations and keys. a NULL: UNAVAILABLE. */
int agent_request(struct agent *a, const struct strv *request, struct agent_stream_events ev, struct agent_stream **out,
                  struct vm_err *e);
/* Buffered; -1 and nothing taken: over AGENT_BUFFER, wait for drained. */
int agent_stream_write(struct agent_stream *s, const void *p, size_t n);
void agent_stream_eof(struct agent_stream *s);
void agent_stream_signal(struct agent_stream *s, int sig);
void agent_stream_resize(struct agent_stream *s, unsigned rows, unsigned cols);
void agent_stream_cancel(struct agent_stream *s); /* the guest kills what runs; end is called then, no data before */
/* While paused no credit is given, so the guest's writer stops: back-pressure for a slow reader, who must still take
 * what is under way (at most FRAME_WINDOW bytes). */
void agent_stream_pause(struct agent_stream *s, bool paused);

/* For jobs on a worker: runs one request to its end, and returns 0 with *r, which may say that the guest could not do
 * it. -1: no result: TIMEOUT (it was cancelled, and has ended in the guest), or UNAVAILABLE (no agent, or it went away).
 * Input is followed by EOF; an exec that shall see it needs stdin=1 in its request. `get` names the session on the loop
 * thread (NULL: no agent). */
struct agent_wait {
    struct loop *loop;
    struct agent *(*get)(void *arg);
    void *arg;
};
struct agent_exec {
    struct strv request;           /* borrowed */
    const void *input; size_t n_input;
    void (*on_output)(enum agent_channel ch, const void *p, size_t n, void *arg); /* on the loop thread; may be NULL */
    void *arg;
    size_t output_max;             /* kept in output, the rest is dropped; 0: none kept */
    char *output; size_t n_output; /* yours, NUL-terminated; NULL: nothing was kept */
};
int agent_exec_wait(const struct agent_wait *w, struct agent_exec *x, struct deadline d, struct agent_result *r,
                    struct vm_err *e);

#endif
