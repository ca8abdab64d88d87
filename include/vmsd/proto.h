/* <vmsd/proto.h>: the frames between host and agent, one format for both ends. Floor 0, pure. Any thread.
 *
 * Needs nothing but string.h and stdint.h, so the same lines are compiled into vms-agent (musl), vmsd and vmctl.
 * docs/agent-protocol.md tells the same as a story.
 *
 *   offset  0  magic    ff 56 4d 53 ("\xffVMS")
 *           4  u8       version of the frame format, 1
 *           5  u8       type
 *           6  u8       channel: of DATA and EOF, else 0
 *           7  u8       0
 *           8  u32      stream: chosen by the host, counted up from 1, never used twice; 0: the session itself
 *          12  u32      length of the payload, within the bounds of the type
 *          16  u64      nonce: chosen by the host for each session; between vmctl and vmsd it is 0
 *          24  u32      check: FNV-1a of bytes 0..23 and the payload
 *          28           payload
 *
 * All numbers are little endian. The check guards no secret: on a line without connection boundaries (virtio-serial) a
 * frame that was cut off would swallow the head of the next session, and then it does not add up. */
#ifndef VMSD_PROTO_H
#define VMSD_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    PROTO_VERSION = 1,
    PROTO_TOKEN = 32,                  /* hex digits of a boot's token */
    FRAME_HEAD = 28,
    FRAME_PAYLOAD_MAX = 64 << 10,
    FRAME_BYTES_MAX = FRAME_HEAD + FRAME_PAYLOAD_MAX,
    FRAME_TEXT_MAX = 4 << 10,          /* payload of the frames that only carry a few words */
    FRAME_WINDOW = 256 << 10,          /* credit that each direction of a fresh stream begins with */
    FRAME_STREAMS_MAX = 32,            /* open at once in a session */
    FRAME_PAIRS_MAX = 1024,            /* "key=value" strings in one payload */
};

/* H: host to agent, A: agent to host, B: both.
 *
 * HELLO   H  pairs version=1 token=HEX; opens a session, and ends the one before it on the same line. An agent that
 *            was given a token answers nothing to a wrong one.
 * WELCOME A  pairs version=1 agent=TEXT. From here on the session is up. The agent only ever answers.
 * OPEN    H  pairs: a request, see below; opens the stream.
 * DATA    B  bytes on a channel; uses up credit of its direction, which stdout and stderr share.
 * EOF     H  stdin carries no more.
 * CREDIT  B  u32: so many bytes more may come my way.
 * SIGNAL  H  u32: sent to the process group.                        RESIZE  H  u32 rows, u32 columns of the terminal.
 * CANCEL  H  end what runs (SIGTERM, 2 s, SIGKILL to its process group); END follows.
 * END     A  pairs: the result, see below; the stream is gone, no frame of it follows.
 * PING    H  asks for PONG.
 * BYE     B  pairs, maybe error=TEXT: the session ends.
 *
 * Between vmctl and vmsd, after `Upgrade: vmsd-exec`, there is one stream, 1, with nonce 0: DATA, EOF, SIGNAL and
 * RESIZE go to the guest, DATA and END come back. The connection itself holds back the writer: no CREDIT. */
#define FRAME_TYPES(X) /* name, least and greatest length of the payload */ \
    X(HELLO,   1, FRAME_TEXT_MAX)    X(WELCOME, 1, FRAME_TEXT_MAX)    X(OPEN,   1, FRAME_PAYLOAD_MAX) \
    X(DATA,    1, FRAME_PAYLOAD_MAX) X(EOF,     0, 0)                 X(CREDIT, 4, 4) \
    X(SIGNAL,  4, 4)                 X(RESIZE,  8, 8)                 X(CANCEL, 0, 0) \
    X(END,     1, FRAME_TEXT_MAX)    X(PING,    0, 0)                 X(PONG,   0, 0) \
    X(BYE,     0, FRAME_TEXT_MAX)
#define X(id, min, max) FRAME_##id,
enum frame_type { FRAME_NO_TYPE, FRAME_TYPES(X) FRAME_TYPE_COUNT };
#undef X

enum frame_channel { CHANNEL_STDIN, CHANNEL_STDOUT, CHANNEL_STDERR, CHANNEL_COUNT };

/* Requests (OPEN). Every request has op=; a key in [] may be left out, with * it may come many times.
 *
 *   op=exec   arg=* [env=KEY=VALUE*] [cwd=DIR] [user=NAME[:GROUP]] [pty=ROWSxCOLS] [stdin=1] [merge=1]
 *             Runs arg[0], looked up in PATH, in a session and process group of its own. Environment: PATH (the usual
 *             one of root), HOME, USER, LOGNAME, SHELL, TERM with a terminal; env overrides. cwd is the user's home,
 *             or /. Without stdin=1 or pty it reads /dev/null. merge=1: stderr comes on the channel of stdout.
 *             What it leaves running in the background stays, but has lost its output. END: exit= or signal=
 *   op=put    path=FILE [mode=OCTAL] [owner=NAME[:GROUP]]   the content as DATA, then EOF
 *             Writes a scratch file beside it, fsync, rename: a symbolic link there is replaced, never followed.
 *             Missing parents are made (0755). Mode 0644 and owner root unless told. Without EOF nothing changes.
 *   op=get    path=FILE            DATA on stdout; END: exit=0 size= mode= uid= gid= of a regular file
 *   op=mkdir  path=DIR [mode=OCTAL] [owner=NAME[:GROUP]]    with its parents; there already: mode and owner are set
 *   op=remove path=PATH            with all below it, links not followed, not into other file systems; absent: success
 *   op=usage                       lines on stdout: memory_total= memory_available= swap_total= swap_free= (bytes)
 *                                  oom_kills= load1= load5= load15= uptime= (seconds) kernel= processes= cpus= and for each
 *                                  file system fs=DIR TYPE TOTAL AVAILABLE INODES INODES_FREE, DIR as in /proc/mounts
 *   op=units                       lines on stdout: state=running|degraded|… and failed=UNIT for each failed unit
 *   op=setup  [hostname=NAME] [clock=SECONDS.NANOSECONDS] [nic=MAC NAME]* [address=NAME ADDRESS/LENGTH]*
 *             [route=NAME DESTINATION/LENGTH [GATEWAY]]* [neighbour=NAME ADDRESS MAC]*     for guests that boot a kernel
 *             The interface with that MAC gets the name and comes up; it has these addresses and routes and no others.
 *             Touches only what differs, so it may come as often as one likes. The clock is set when it is off by more
 *             than a second. CPUs that are there but off are switched on.
 *   op=grow   disk=SERIAL          the ext4 on that virtio disk grows to the size of the disk
 *   op=poweroff  op=reboot         asks the guest's init
 *   op=ping                        END at once
 *
 * /vmsd/setup in the initramfs of such a guest has the pairs of op=setup, one a line, and also
 *   token=HEX                      of this boot
 *   mount=TAG TARGET [ro]          vol0, …: the disk of that serial, an ext4; share0, …: the virtiofs of that tag
 *   root=ro                        the guest's root is read-only once all is in its place
 * Our initramfs mounts, and leaves the rest in /run/vmsd for the agent, which sets it up before the network is needed.
 *
 * Results (END): exit=N (0..255; 0 for everything but exec) or signal=N, or error=TEXT: it could not be done at all. */

struct frame {
    enum frame_type type;
    enum frame_channel channel;
    uint32_t stream, n;
    uint64_t nonce;
    const void *data;                  /* n bytes, borrowed */
};

static inline uint32_t le32_get(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline void le32_put(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(v >> 8 * i);
}

static inline uint64_t le64_get(const uint8_t *p)
{
    return le32_get(p) | (uint64_t)le32_get(p + 4) << 32;
}

static inline void le64_put(uint8_t *p, uint64_t v)
{
    le32_put(p, (uint32_t)v);
    le32_put(p + 4, (uint32_t)(v >> 32));
}

static inline uint32_t frame_sum(uint32_t sum, const void *data, size_t n)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < n; i++)
        sum = (sum ^ p[i]) * 16777619u;
    return sum;
}

static inline bool frame_length_ok(unsigned type, uint32_t n)
{
#define X(id, least, most) [FRAME_##id] = { least, most },
    static const struct { uint32_t min, max; } bounds[FRAME_TYPE_COUNT] = { FRAME_TYPES(X) };
#undef X
    return type > FRAME_NO_TYPE && type < FRAME_TYPE_COUNT && n >= bounds[type].min && n <= bounds[type].max;
}

/* Fills the head for f->n bytes at f->data, which follow it on the line. */
static inline void frame_head(uint8_t out[FRAME_HEAD], const struct frame *f)
{
    memcpy(out, "\xffVMS", 4);
    out[4] = PROTO_VERSION;
    out[5] = (uint8_t)f->type;
    out[6] = (uint8_t)f->channel;
    out[7] = 0;
    le32_put(out + 8, f->stream);
    le32_put(out + 12, f->n);
    le64_put(out + 16, f->nonce);
    le32_put(out + 24, frame_sum(frame_sum(2166136261u, out, 24), f->data, f->n));
}

/* Head and payload into out, which has room for FRAME_HEAD + f->n bytes; returns how many that are. */
static inline size_t frame_encode(uint8_t *out, const struct frame *f)
{
    frame_head(out, f);
    if (f->n)
        memcpy(out + FRAME_HEAD, f->data, f->n);
    return FRAME_HEAD + (size_t)f->n;
}

/* Finds the frames of one session in a stream of bytes. The buffer is the caller's and holds one frame of any size; it
 * may be exchanged while the reader holds nothing (frame_reader_idle).
 *
 *     n = read(fd, frame_reader_room(&r, &room), room);
 *     frame_reader_add(&r, n);
 *     while ((got = frame_next(&r, &f)) == FRAME_GOT) …
 */
struct frame_reader {
    uint8_t *buf;                      /* FRAME_BYTES_MAX bytes */
    size_t at, end;
    uint64_t nonce;                    /* frames of other sessions are passed over … */
    bool hello;                        /* … but for HELLO, when this is set: the agent's side */
    uint64_t skipped;                  /* bytes that belonged to no frame of ours; above 0 after the first frame, the
                                          peer is broken, or the line began anew */
};

/* BROKEN: a head of our own session with a type or length that the peer must not send. Nothing can follow it. */
enum frame_got { FRAME_BROKEN = -1, FRAME_NONE, FRAME_GOT };

static inline bool frame_reader_idle(const struct frame_reader *r)
{
    return r->at == r->end;
}

/* Where to read to, and how much fits; *n is never 0 after frame_next gave FRAME_NONE. Frames given out before are
 * gone. */
static inline void *frame_reader_room(struct frame_reader *r, size_t *n)
{
    if (r->at) {
        memmove(r->buf, r->buf + r->at, r->end - r->at);
        r->end -= r->at;
        r->at = 0;
    }
    *n = FRAME_BYTES_MAX - r->end;
    return r->buf + r->end;
}

static inline void frame_reader_add(struct frame_reader *r, size_t n)
{
    r->end += n;
}

/* Gives up the frame that was begun: what is there is searched for another one. For a line that has gone silent in the
 * middle of a frame. */
static inline void frame_reader_skip(struct frame_reader *r)
{
    if (r->at < r->end) {
        r->at++;
        r->skipped++;
    }
}

/* Passes over what cannot be the beginning of a magic; true: a whole head is there. */
static inline bool frame_reader_seek(struct frame_reader *r)
{
    while (r->at < r->end) {
        const uint8_t *p = r->buf + r->at;
        size_t n = r->end - r->at;
        if (memcmp(p, "\xffVMS", n < 4 ? n : 4) == 0)
            return n >= FRAME_HEAD;
        const uint8_t *next = memchr(p + 1, 0xff, n - 1);
        size_t pass = next ? (size_t)(next - p) : n;
        r->at += pass;
        r->skipped += pass;
    }
    return false;
}

/* The next frame; f->data points into the buffer until the reader is used again. */
static inline enum frame_got frame_next(struct frame_reader *r, struct frame *f)
{
    for (; frame_reader_seek(r); frame_reader_skip(r)) {
        const uint8_t *p = r->buf + r->at;
        uint32_t n = le32_get(p + 12);
        bool ours = le64_get(p + 16) == r->nonce;
        if (p[4] != PROTO_VERSION || (!ours && !(r->hello && p[5] == FRAME_HELLO)))
            continue;
        if (!frame_length_ok(p[5], n) || p[6] >= CHANNEL_COUNT || p[7]) {
            if (ours)
                return FRAME_BROKEN;
            continue;
        }
        if (r->end - r->at < FRAME_HEAD + (size_t)n)
            return FRAME_NONE;
        if (le32_get(p + 24) != frame_sum(frame_sum(2166136261u, p, 24), p + FRAME_HEAD, n))
            continue;
        *f = (struct frame){ .type = p[5], .channel = p[6], .stream = le32_get(p + 8), .n = n,
                             .nonce = le64_get(p + 16), .data = p + FRAME_HEAD };
        r->at += FRAME_HEAD + (size_t)n;
        return FRAME_GOT;
    }
    return FRAME_NONE;
}

/* Pairs: "key=value" strings, each with its NUL. A key is not empty; a value may hold '=' and anything but NUL. */
static inline bool pairs_ok(const void *p, size_t n)
{
    const char *s = p;
    if (n && s[n - 1] != '\0')
        return false;
    for (size_t at = 0, count = 0; at < n; at += strlen(s + at) + 1) {
        const char *eq = strchr(s + at, '=');
        if (!eq || eq == s + at || ++count > FRAME_PAIRS_MAX)
            return false;
    }
    return true;
}

/* The values of key, one after the other: start with *at = 0; NULL: no more. Only after pairs_ok. */
static inline const char *pairs_next(const void *p, size_t n, const char *key, size_t *at)
{
    size_t len = strlen(key);
    while (*at < n) {
        const char *s = (const char *)p + *at;
        *at += strlen(s) + 1;
        if (strncmp(s, key, len) == 0 && s[len] == '=')
            return s + len + 1;
    }
    return NULL;
}

/* The first value of key, or NULL. */
static inline const char *pairs_get(const void *p, size_t n, const char *key)
{
    size_t at = 0;
    return pairs_next(p, n, key, &at);
}

/* Adds one pair behind the *n bytes at p, which has room for max; false and untouched: it does not fit. */
static inline bool pairs_add(char *p, size_t max, size_t *n, const char *key, const char *value)
{
    size_t k = strlen(key), v = strlen(value);
    if (k >= max || v >= max || *n + k + v + 2 > max)
        return false;
    memcpy(p + *n, key, k);
    p[*n + k] = '=';
    memcpy(p + *n + k + 1, value, v + 1);
    *n += k + v + 2;
    return true;
}

#endif
