/* Whatever a guest's agent says to the host: the session goes on or ends with a reason, each request ends once, and what is
 * shown of it acts on no terminal. The input's first byte says what the host does meanwhile. */
#include "frames.h"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/agent.h>
#include <vmsd/own.h>

enum { NONCE = 7, REQUESTS = 4 };
enum { CLOSES_IN_UP = 1, CLOSES_IN_DATA = 2, CLOSES_IN_END = 4, CANCELS = 8, PAUSES = 16, WRITES = 32, ASKS_AGAIN = 64 };

static struct loop *loop;
static struct agent *agent;
static struct { struct loop_watch *watch; const uint8_t *p; size_t n; } guest; /* what it will still say */
static unsigned acts, asked, ended;
static struct request { struct agent_stream *stream; } requests[REQUESTS];

ssize_t fake_getrandom(void *p, size_t n, unsigned flags);
ssize_t fake_getrandom(void *p, size_t n, unsigned flags)
{
    uint64_t nonce = NONCE;

    (void)flags;
    MUST(n == sizeof nonce);
    memcpy(p, &nonce, n);
    return (ssize_t)n;
}

static void hang_up(void)
{
    agent_close(agent);
    agent = NULL;
    loop_quit(loop);
}

static void on_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct request *r = arg;

    MUST((ch == AGENT_STDOUT || ch == AGENT_STDERR) && n > 0);
    if (acts & CANCELS)
        agent_stream_cancel(r->stream);
    if (acts & PAUSES)
        agent_stream_pause(r->stream, n & 1);
    if (acts & WRITES) {
        agent_stream_write(r->stream, p, n);
        agent_stream_resize(r->stream, 1, 1);
        agent_stream_eof(r->stream);
    }
    if (acts & CLOSES_IN_DATA)
        hang_up();
}

static void ask(struct request *r);

static void on_end(const struct agent_result *result, void *arg)
{
    struct request *r = arg;

    MUST(r->stream && result->ok == !result->error[0]);
    MUST(text_is_clean(result->error, strlen(result->error)));
    MUST(result->exit_code >= -1 && result->exit_code <= 255 && result->signal >= 0 && result->signal <= 64);
    MUST((result->file.mode & ~07777u) == 0);
    r->stream = NULL;
    ended++;
    if (agent && (acts & CLOSES_IN_END))
        hang_up();
    else if (agent && (acts & ASKS_AGAIN))
        ask(r);
}

static void ask(struct request *r)
{
    OWN(strv) struct strv q = { 0 };
    struct agent_stream_events ev = { .data = r == requests ? NULL : on_data, .end = on_end, .arg = r };

    strv_add(&q, "op=get");
    strv_add(&q, "path=/x");
    if (agent_request(agent, &q, ev, &r->stream, NULL) == 0)
        asked++;
}

static void on_up(void *arg)
{
    (void)arg;
    if (acts & CLOSES_IN_UP) {
        hang_up();
        return;
    }
    for (size_t i = 0; i < REQUESTS; i++)
        ask(&requests[i]);
}

static void on_down(void *arg, const char *why)
{
    (void)arg;
    MUST(*why && text_is_clean(why, strlen(why)) && !agent_is_up(agent));
    hang_up();
}

static void guest_turn(int fd, uint32_t revents, void *arg)
{
    char heard[65536];

    (void)revents, (void)arg;
    while (recv(fd, heard, sizeof heard, MSG_DONTWAIT) > 0)
        ;
    ssize_t said = send(fd, guest.p, guest.n, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (said > 0) {
        guest.p += said;
        guest.n -= (size_t)said;
    }
    if (guest.n == 0) {
        shutdown(fd, SHUT_WR);
        loop_watch_set(guest.watch, EPOLLIN);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *wire;
    int ends[2];

    if (!loop && loop_open(1, &loop, NULL) < 0)
        abort();
    acts = next_byte(&data, &n);
    asked = ended = 0;
    size_t len = frames_of(data, n, NONCE, &wire);
    MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    struct agent_events ev = { .up = on_up, .down = on_down };
    MUST(agent_open(loop, ends[0], ev, &agent, NULL) == 0);
    guest.p = wire;
    guest.n = len;
    MUST(loop_watch_new(loop, ends[1], EPOLLIN | EPOLLOUT, guest_turn, NULL, &guest.watch, NULL) == 0);
    MUST(loop_run(loop, NULL) == 0);
    MUST(asked == ended);
    loop_watch_free(guest.watch);
    close(ends[1]);
    return 0;
}
