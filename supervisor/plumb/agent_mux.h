/* agent_mux.h: what the three files of the agent's host side share. Floor 1. Loop thread only. */
#ifndef AGENT_MUX_H
#define AGENT_MUX_H

#include <vmsd/agent.h>
#include <vmsd/proto.h>

#ifndef AGENT_SECOND
#define AGENT_SECOND 1000      /* a test of deadlines takes shorter ones */
#endif

enum {
    HELLO_MS = 10 * AGENT_SECOND,  /* until WELCOME */
    FRAME_MS = 30 * AGENT_SECOND,  /* from the first byte of a frame to its last */
    PING_MS = 30 * AGENT_SECOND,   /* between pings, and until each is answered */
    PING_SLACK_MS = 10 * AGENT_SECOND,
    CANCEL_MS = 15 * AGENT_SECOND, /* until a cancelled request must have ended */
    SKIP_MAX = 1 << 20,        /* stale bytes before WELCOME */
    STRAYS_MAX = 1000,         /* frames that no honest agent sends */
    OUT_DATA = 128 << 10,      /* the buffer to the agent takes data up to here … */
    OUT_MAX = 1 << 20,         /* … and control frames up to there */
    CREDIT_LUMP = FRAME_WINDOW / 4,
};

/* Bytes that wait; memory only while there are any. */
struct queue { uint8_t *p; size_t at, end, cap; };
static inline size_t queue_len(const struct queue *q)
{
    return q->end - q->at;
}
uint8_t *queue_room(struct queue *q, size_t n); /* NULL: no memory; then move end on */
void queue_drop(struct queue *q, size_t n);     /* from the front */
void queue_done(struct queue *q);

struct agent_stream {
    struct agent *agent;
    uint32_t id;
    struct agent_stream_events ev;
    struct queue out;
    bool eof, eof_sent, undrained, paused, cancelled;
    uint32_t out_credit;       /* may still be sent */
    uint32_t in_credit;        /* may still come */
    uint32_t owed;             /* came, and no credit was given for it yet */
    int64_t cancel_by;
};

struct agent {
    struct loop *loop;
    int fd;
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct agent_events ev;
    enum { AGENT_GREETING, AGENT_UP, AGENT_DOWN } state;
    unsigned holds;            /* call-backs that are under way */
    bool closed;               /* free it when the last one returns */
    bool choked;               /* OUT_MAX was reached */
    bool writing;              /* the watch asks for EPOLLOUT */
    uint64_t nonce, skipped;
    struct frame_reader reader;
    struct queue out;
    int64_t hello_by, frame_by /* 0: none is under way */, ping_at;
    bool pinged;
    unsigned strays;
    uint32_t last_id;
    struct agent_stream *streams[FRAME_STREAMS_MAX];
};

void agent_hold(struct agent *a);
void agent_release(struct agent *a);
void agent_kick(struct agent *a); /* there is something to write */
void agent_arm(struct agent *a);  /* sets the timer anew */
int agent_send(struct agent *a, enum frame_type type, uint32_t stream, const void *data, size_t n);
void agent_down(struct agent *a, const char *why);
void agent_safe_text(char *out, size_t size, const char *from_guest);

struct agent_stream *stream_of(struct agent *a, uint32_t id);
bool stream_can_write(const struct agent_stream *s);
void stream_pump(struct agent_stream *s); /* moves what credit and room allow to the agent's queue; may call drained */
/* Returns why the session must end, or NULL. The stream may be gone afterwards. */
const char *stream_frame(struct agent_stream *s, const struct frame *f);
void stream_lose(struct agent_stream *s, const char *why);

#endif
