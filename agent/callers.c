#include "agent.h"

#include <errno.h>
#include <unistd.h>
#include <vmsd/own.h>

static bool same_token(const char *given, const char *token)
{
    unsigned differ = 0;
    if (!given || strlen(given) != PROTO_TOKEN)
        return false;
    for (int i = 0; i < PROTO_TOKEN; i++)
        differ |= (unsigned)(given[i] ^ token[i]);
    return !differ;
}

bool hello_ok(const struct frame *f, const char *token)
{
    return f->nonce && pairs_ok(f->data, f->n) && (!token || same_token(pairs_get(f->data, f->n, "token"), token));
}

static void hang_up(struct caller *c)
{
    c->fd = fd_drop(c->fd);
}

/* With more of them than there are seats, each new one takes the seat of one that has said nothing useful so far. */
static void seat(struct callers *cs, int fd)
{
    struct caller *c = cs->v;
    while (c < cs->v + CALLERS && c->fd >= 0)
        c++;
    if (c == cs->v + CALLERS)
        c = &cs->v[cs->turn++ % CALLERS];
    hang_up(c);
    c->fd = fd;
    c->until = agent_now_ms() + CALLER_MS;
    c->reader = (struct frame_reader){ .buf = c->in, .hello = true };
}

/* True: its first frame is a HELLO with the right token. Anything else hangs up. */
static bool listen_to(struct caller *c, const char *token)
{
    struct frame f = { 0 };
    size_t room;
    void *p = frame_reader_room(&c->reader, &room);
    ssize_t n = read(c->fd, p, room);

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n > 0)
        frame_reader_add(&c->reader, (size_t)n);
    enum frame_got got = n > 0 ? frame_next(&c->reader, &f) : FRAME_BROKEN;
    if (got == FRAME_GOT && !c->reader.skipped && f.type == FRAME_HELLO && hello_ok(&f, token))
        return true;
    if (got != FRAME_NONE || c->reader.skipped)
        hang_up(c);
    return false;
}

void callers_open(struct callers *cs, int listener, int (*accept_host)(int listener), const char *token)
{
    cs->listener = listener;
    cs->accept_host = accept_host;
    cs->token = token;
    for (struct caller *c = cs->v; c < cs->v + CALLERS; c++)
        c->fd = -1;
}

void callers_wants(const struct callers *cs, struct pollfd pfd[1 + CALLERS], int *timeout_ms)
{
    pfd[0] = (struct pollfd){ .fd = cs->listener, .events = POLLIN };
    for (int i = 0; i < CALLERS; i++) {
        const struct caller *c = &cs->v[i];
        pfd[1 + i] = (struct pollfd){ .fd = c->fd, .events = POLLIN };
        int64_t left = c->until - agent_now_ms();
        if (c->fd >= 0 && (*timeout_ms < 0 || left < *timeout_ms))
            *timeout_ms = left > 0 ? (int)left : 0;
    }
}

struct caller *callers_step(struct callers *cs, const struct pollfd pfd[1 + CALLERS])
{
    struct caller *host = NULL;
    for (int i = 0; i < CALLERS; i++) {
        struct caller *c = &cs->v[i];
        if (c->fd >= 0 && pfd[1 + i].revents && !host && listen_to(c, cs->token))
            host = c;
        else if (c->fd >= 0 && agent_now_ms() >= c->until)
            hang_up(c);
    }
    int fd = !host && pfd[0].revents ? cs->accept_host(cs->listener) : -1;
    if (fd >= 0)
        seat(cs, fd);
    return host;
}
