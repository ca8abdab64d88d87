/* agent.h: the parts of vms-agent and what they know of each other. Floor 3. One thread.
 *
 *   transport.c  which line leads to the host        child.c  a process for one request, and its pipes
 *   callers.c    who may open a session              exec.c   op exec, in that process
 *   session.c    frames of one session               files.c, facts.c  other ops, likewise
 *   stream.c     one request under way
 *   setup.c, setup_net.c, grow.c  the ops of guests that boot a kernel; setup.c applies a file at boot, too
 *
 * Every op runs in a child of its own, where it may block as it likes: the agent itself never does. */
#ifndef AGENT_H
#define AGENT_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/err.h>
#include <vmsd/proto.h>

#define ROOT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

enum {
    GRACE_MS = 2000,               /* between SIGTERM and SIGKILL */
    GIVE_UP_MS = 10000,            /* what survives SIGKILL that long (a dead disk, say) is left to the kernel */
    AWAY_MS = 500,                 /* before the end of a line without boundaries is believed; looked at every … */
    AWAY_POLL_MS = 20,
    CHUNK = 32 << 10,              /* of output, in one frame */
    OUT_BYTES = 256 << 10,         /* what waits for the host; output of children stops at half of it */
    OUT_CONTROL = 8 << 10,         /* room for the longest answers to one frame */
    REPORT_FD = 3,                 /* in a child: where it tells its result */
};

struct request { const char *p; size_t n; }; /* pairs */
static inline const char *request_get(const struct request *rq, const char *key)
{
    return pairs_get(rq->p, rq->n, key);
}

/* ---- ops: run in the child, fd 0, 1 and 2 are the stream's ---- */

struct op {
    const char *name;
    bool input;                    /* reads what the host sends, and waits for op_input_whole */
    int (*run)(const struct request *rq, struct vm_err *e);
};
const struct op *op_find(const char *name);
/* True when the host said that fd 0 was read to its end; false when the line just broke. */
bool op_input_whole(void);
/* A pair more for END. */
VM_PRINTF(2) void op_tell(const char *key, const char *fmt, ...);
void op_die_with_agent(void);      /* anew after a change of user, which makes the kernel forget it */

int op_exec(const struct request *rq, struct vm_err *e);
int op_put(const struct request *rq, struct vm_err *e);
int op_get(const struct request *rq, struct vm_err *e);
int op_mkdir(const struct request *rq, struct vm_err *e);
int op_remove(const struct request *rq, struct vm_err *e);
int op_usage(const struct request *rq, struct vm_err *e);
int op_units(const struct request *rq, struct vm_err *e);
int op_setup(const struct request *rq, struct vm_err *e);
int op_grow(const struct request *rq, struct vm_err *e);
int op_poweroff(const struct request *rq, struct vm_err *e);
int op_reboot(const struct request *rq, struct vm_err *e);
int op_ping(const struct request *rq, struct vm_err *e);

/* NAME[:GROUP], names or numbers, by the guest's own /etc/passwd and group. name is "" for a bare number. */
struct owner { uid_t uid; gid_t gid; char name[256], home[4096], shell[4096]; };
int owner_find(const char *text, struct owner *out, struct vm_err *e);

/* Parts of op=setup, and what is done at boot from the lines of a file: the same, and disks that grew are filled. */
int setup_net(const struct request *rq, struct vm_err *e);
int setup_from_file(const char *path, struct vm_err *e);
int grow_disk(const char *serial, struct vm_err *e);

/* ---- child.c ---- */

/* in, out, err, report are the agent's ends, non-blocking, -1 when there is none (any more). With a terminal, in and
 * out are its master. */
struct child { pid_t pid; bool pty, input; int pidfd, in, out, err, report; };
int child_start(const struct op *op, const struct request *rq, struct child *out, struct vm_err *e);
void child_end_input(struct child *c);
void child_hang_up(struct child *c); /* takes its terminal away */
void child_close(struct child *c); /* the fds */

/* ---- the line to the host ---- */

struct line {
    int fd;                        /* borrowed, non-blocking */
    bool over;                     /* it broke, or came to its end */
    uint64_t nonce;
    size_t at, end;
    uint8_t out[OUT_BYTES];
};
size_t line_room(const struct line *l);
uint8_t *line_tail(struct line *l); /* where line_room bytes fit */
/* There must be room. */
void line_send(struct line *l, enum frame_type type, uint32_t stream, const void *data, size_t n);
void line_flush(struct line *l);

/* ---- stream.c ---- */

enum { SLOT_PID, SLOT_IN, SLOT_OUT, SLOT_ERR, SLOT_REPORT, SLOTS };

struct stream {
    uint32_t id;                   /* 0: this slot is free */
    struct child child;
    uint8_t *input;                /* FRAME_WINDOW bytes, once there was any */
    size_t in_at, in_end;
    bool in_eof;
    uint32_t owed;                 /* input consumed, for which no credit was given yet */
    uint32_t credit;               /* output that may still be sent */
    size_t n_report;
    char report[FRAME_TEXT_MAX - 64];
    bool exited;
    int status;
    size_t drain;                  /* output taken after the exit, see DRAIN_MAX */
    bool ending, killed;           /* SIGTERM was sent, SIGKILL was sent */
    int64_t kill_at, give_up_at;
};

void stream_open(struct stream *st, struct line *l, uint32_t id, const struct request *rq); /* may end at once */
int stream_input(struct stream *st, const void *p, size_t n); /* -1: more than the credit */
void stream_input_eof(struct stream *st);
void stream_signal(struct stream *st, int sig);
void stream_resize(struct stream *st, uint32_t rows, uint32_t cols);
void stream_cancel(struct stream *st);
void stream_wants(const struct stream *st, const struct line *l, struct pollfd pfd[SLOTS], int *timeout_ms);
void stream_step(struct stream *st, struct line *l, const struct pollfd pfd[SLOTS]);

/* ---- callers.c: connections that have not said yet who they are ---- */

enum { CALLERS = 4, CALLER_MS = 5000 };
struct caller {
    int fd;                        /* -1: this seat is free */
    int64_t until;
    struct frame_reader reader;
    uint8_t in[FRAME_BYTES_MAX];   /* all that it said, from the first byte on */
};
struct callers {
    int listener;
    int (*accept_host)(int listener);
    const char *token;
    unsigned turn;                 /* whose seat is taken next */
    struct caller v[CALLERS];
};

bool hello_ok(const struct frame *f, const char *token); /* token may be NULL: anybody's is right */
/* listener: non-blocking, borrowed. accept_host: a new non-blocking connection of the host, or -1. */
void callers_open(struct callers *cs, int listener, int (*accept_host)(int listener), const char *token);
void callers_wants(const struct callers *cs, struct pollfd pfd[1 + CALLERS], int *timeout_ms);
/* The one that said the right HELLO, or NULL; whoever takes it takes its fd. */
struct caller *callers_step(struct callers *cs, const struct pollfd pfd[1 + CALLERS]);

/* ---- session.c, transport.c ---- */

int64_t agent_now_ms(void);
/* Serves what comes over fd until it ends; nothing that a session started runs on when it returns. boundaries: the end
 * of a session is the end of fd (a connection); otherwise one session may follow another on it. token may be NULL. */
void session_serve(int fd, bool boundaries, const char *token);
/* Serves whoever connects, for ever: the last one that knows the token. A session ends when its connection does, or when
 * another host takes over, so that one whose end nobody heard of keeps nobody out. */
_Noreturn void session_listen(int listener, int (*accept_host)(int listener), const char *token);

/* These only return on failure. */
int serve_vsock(unsigned port, const char *token, struct vm_err *e);
int serve_virtio(const char *name, const char *token, struct vm_err *e);
int serve_any(const char *token, struct vm_err *e); /* vmsd's port, by virtio-serial if there is one */

#endif
