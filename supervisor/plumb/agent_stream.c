#include "agent_mux.h"

#include <stdlib.h>
#include <string.h>

enum { CHUNK = 32 << 10 };

struct agent_stream *stream_of(struct agent *a, uint32_t id)
{
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        if (a->streams[i] && a->streams[i]->id == id)
            return a->streams[i];
    }
    return NULL;
}

/* ---- requests ---- */

static int encode_request(const struct strv *request, char **out, size_t *n, struct vm_err *e)
{
    OWN(str) char *p = malloc(FRAME_PAYLOAD_MAX);
    size_t len = 0;

    if (!p || request->failed)
        return vm_no_memory(e);
    for (size_t i = 0; i < request->n; i++) {
        size_t add = strlen(request->v[i]) + 1;
        if (add > FRAME_PAYLOAD_MAX - len)
            return vm_fail(e, VM_E_TOO_LARGE, "the request to the agent is longer than %d bytes; arguments and "
                           "environment must be shorter", FRAME_PAYLOAD_MAX);
        memcpy(p + len, request->v[i], add);
        len += add;
    }
    if (len == 0 || !pairs_ok(p, len))
        return vm_fail(e, request->n > FRAME_PAIRS_MAX ? VM_E_TOO_LARGE : VM_E_INVALID,
                       "a request to the agent has 1..%d strings \"key=value\"", FRAME_PAIRS_MAX);
    *out = TAKE(p);
    *n = len;
    return 0;
}

static struct agent_stream **free_slot(struct agent *a)
{
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        if (!a->streams[i])
            return &a->streams[i];
    }
    return NULL;
}

int agent_request(struct agent *a, const struct strv *request, struct agent_stream_events ev, struct agent_stream **out,
                  struct vm_err *e)
{
    OWN(str) char *words = NULL;
    size_t n;
    struct agent_stream **slot = a ? free_slot(a) : NULL;

    if (!agent_is_up(a))
        return vm_fail(e, VM_E_UNAVAILABLE, "the guest's agent is not there; try again when the guest has booted");
    if (!slot || a->last_id == UINT32_MAX)
        return vm_fail(e, VM_E_UNAVAILABLE, "the guest's agent is busy with %d requests; wait until one has ended",
                       FRAME_STREAMS_MAX);
    if (encode_request(request, &words, &n, e) < 0)
        return -1;
    struct agent_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return vm_no_memory(e);
    *s = (struct agent_stream){ .agent = a, .id = a->last_id + 1, .ev = ev, .out_credit = FRAME_WINDOW,
                                .in_credit = FRAME_WINDOW };
    if (agent_send(a, FRAME_OPEN, s->id, words, n) < 0) {
        free(s);
        return vm_fail(e, VM_E_UNAVAILABLE, "the guest's agent does not read what it is sent");
    }
    a->last_id = s->id;
    *out = *slot = s;
    return 0;
}

/* ---- the end ---- */

static void stream_end(struct agent_stream *s, const struct agent_result *r)
{
    for (size_t i = 0; i < FRAME_STREAMS_MAX; i++) {
        if (s->agent->streams[i] == s)
            s->agent->streams[i] = NULL;
    }
    s->ev.end(r, s->ev.arg);
    queue_done(&s->out);
    free(s);
}

void stream_lose(struct agent_stream *s, const char *why)
{
    struct agent_result r = { .exit_code = -1, .lost = true };
    snprintf(r.error, sizeof(r.error), "%s", why);
    stream_end(s, &r);
}

static bool number(const struct frame *f, const char *key, uint64_t max, uint64_t *out)
{
    const char *v = pairs_get(f->data, f->n, key);
    return v && text_to_u64(v, out) && *out <= max;
}

static void read_result(const struct frame *f, struct agent_result *r)
{
    uint64_t v;
    const char *error, *mode;

    *r = (struct agent_result){ .exit_code = -1 };
    if (!pairs_ok(f->data, f->n)) {
        snprintf(r->error, sizeof(r->error), "the agent's result makes no sense");
        return;
    }
    if ((error = pairs_get(f->data, f->n, "error"))) {
        agent_safe_text(r->error, sizeof(r->error), error);
        return;
    }
    if (number(f, "exit", 255, &v))
        r->exit_code = (int)v;
    else if (number(f, "signal", 64, &v) && v > 0)
        r->signal = (int)v;
    r->ok = r->exit_code >= 0 || r->signal;
    if (!r->ok)
        snprintf(r->error, sizeof(r->error), "the agent gave no result");
    number(f, "size", UINT64_MAX, &r->file.size);
    if (number(f, "uid", UINT32_MAX, &v))
        r->file.uid = (uid_t)v;
    if (number(f, "gid", UINT32_MAX, &v))
        r->file.gid = (gid_t)v;
    if ((mode = pairs_get(f->data, f->n, "mode")))
        r->file.mode = (mode_t)strtoul(mode, NULL, 8) & 07777;
}

/* ---- in ---- */

static void give_credit(struct agent_stream *s, uint32_t least)
{
    uint8_t credit[4];
    bool listened_to = s->ev.data && !s->paused;
    if (s->owed < least || !(listened_to || s->cancelled))
        return;
    le32_put(credit, s->owed);
    s->in_credit += s->owed;
    s->owed = 0;
    agent_send(s->agent, FRAME_CREDIT, s->id, credit, sizeof(credit));
}

static const char *on_data(struct agent_stream *s, const struct frame *f)
{
    const struct agent *a = s->agent;
    if (f->n > s->in_credit)
        return "the agent sent more than it had credit for";
    if (f->channel == CHANNEL_STDIN)
        return "the agent sent data on the channel of stdin";
    s->in_credit -= f->n;
    if (!s->cancelled && s->ev.data)
        s->ev.data((enum agent_channel)f->channel, f->data, f->n, s->ev.arg);
    if (a->state != AGENT_UP) /* the call-back closed the session, s is gone */
        return NULL;
    s->owed += f->n;
    give_credit(s, CREDIT_LUMP);
    return NULL;
}

const char *stream_frame(struct agent_stream *s, const struct frame *f)
{
    struct agent_result r;
    switch (f->type) {
    case FRAME_DATA:
        return on_data(s, f);
    case FRAME_CREDIT:
        if (le32_get(f->data) > FRAME_WINDOW - s->out_credit)
            return "the agent gave more credit than it had taken";
        s->out_credit += le32_get(f->data);
        agent_kick(s->agent);
        return NULL;
    case FRAME_END:
        read_result(f, &r);
        stream_end(s, &r);
        return NULL;
    default:
        return "the agent sent a frame that only the host may send";
    }
}

/* ---- out ---- */

bool stream_can_write(const struct agent_stream *s)
{
    return (queue_len(&s->out) && s->out_credit) || s->undrained || (s->eof && !s->eof_sent && !queue_len(&s->out));
}

void stream_pump(struct agent_stream *s)
{
    struct agent *a = s->agent;
    while (queue_len(&s->out) && s->out_credit && queue_len(&a->out) < OUT_DATA) {
        size_t n = queue_len(&s->out);
        n = n > CHUNK ? CHUNK : n;
        n = n > s->out_credit ? s->out_credit : n;
        if (agent_send(a, FRAME_DATA, s->id, s->out.p + s->out.at, n) < 0)
            return;
        s->out_credit -= (uint32_t)n;
        queue_drop(&s->out, n);
    }
    if (queue_len(&s->out))
        return;
    if (s->eof && !s->eof_sent) {
        s->eof_sent = true;
        agent_send(a, FRAME_EOF, s->id, NULL, 0);
    }
    if (s->undrained) {
        s->undrained = false;
        if (s->ev.drained)
            s->ev.drained(s->ev.arg); /* s may be gone */
    }
}

int agent_stream_write(struct agent_stream *s, const void *p, size_t n)
{
    if (s->cancelled || s->eof || n == 0)
        return 0;
    if (n > AGENT_BUFFER - queue_len(&s->out))
        return -1;
    uint8_t *to = queue_room(&s->out, n);
    if (!to)
        return -1;
    memcpy(to, p, n);
    s->out.end += n;
    s->undrained = true;
    agent_kick(s->agent);
    return 0;
}

void agent_stream_eof(struct agent_stream *s)
{
    s->eof = true;
    agent_kick(s->agent);
}

void agent_stream_signal(struct agent_stream *s, int sig)
{
    uint8_t number[4];
    le32_put(number, (uint32_t)sig);
    agent_send(s->agent, FRAME_SIGNAL, s->id, number, sizeof(number));
}

void agent_stream_resize(struct agent_stream *s, unsigned rows, unsigned cols)
{
    uint8_t size[8];
    le32_put(size, rows);
    le32_put(size + 4, cols);
    agent_send(s->agent, FRAME_RESIZE, s->id, size, sizeof(size));
}

void agent_stream_cancel(struct agent_stream *s)
{
    if (s->cancelled)
        return;
    s->cancelled = true;
    s->cancel_by = now_ms() + CANCEL_MS;
    queue_done(&s->out);
    s->undrained = false;
    s->eof = s->eof_sent = true;
    agent_send(s->agent, FRAME_CANCEL, s->id, NULL, 0);
    give_credit(s, 1);
    agent_arm(s->agent);
}

void agent_stream_pause(struct agent_stream *s, bool paused)
{
    s->paused = paused;
    give_credit(s, 1);
}
