/* Whoever connects to a vms-agent that listens, in any order and number: nobody becomes its host but who says HELLO first, with
 * the token of this boot; and nobody keeps a seat for longer than its time. The input is a list of
 *
 *   u8 what: CONNECT, SAY (u8 who, u8 length, frames), LEAVE (u8 who), or WAIT (of all its bits but the lowest, 100 ms each)
 *
 * The clock stands still between. */
#include "frames.h"

#include <agent/agent.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/own.h>

enum { NONCE = 7, GUESTS = 16 };
enum { CONNECT, SAY, LEAVE, WAIT, WHATS };
static const char token[] = "0123456789abcdef0123456789ABCDEF";

static int64_t clock_ms;
static int ends[GUESTS], n_ends, at_door; /* the callers' ends; the agent's end of who is not accepted yet */
static struct callers callers;

int64_t agent_now_ms(void)
{
    return clock_ms;
}

static int accept_host(int listener)
{
    int fd = at_door;

    (void)listener;
    at_door = -1;
    return fd;
}

static void check_host(struct caller *c)
{
    static uint8_t said[FRAME_BYTES_MAX];
    struct frame_reader r = { .buf = said, .end = c->reader.end, .hello = true };
    struct frame f = { 0 };

    memcpy(said, c->in, c->reader.end);
    MUST(frame_next(&r, &f) == FRAME_GOT && r.skipped == 0 && f.type == FRAME_HELLO && hello_ok(&f, token));
    const char *given = pairs_get(f.data, f.n, "token");
    MUST(f.nonce && given && strcmp(given, token) == 0);
    c->fd = fd_drop(c->fd); /* whoever takes it takes its fd */
}

static void step(void)
{
    struct pollfd pfd[1 + CALLERS];
    int timeout = -1;

    callers_wants(&callers, pfd, &timeout);
    MUST(timeout <= CALLER_MS);
    poll(pfd + 1, CALLERS, 0);
    pfd[0].revents = at_door >= 0 ? POLLIN : 0;
    struct caller *host = callers_step(&callers, pfd);
    if (host)
        check_host(host);
    for (int i = 0; i < CALLERS; i++)
        MUST(callers.v[i].fd < 0 || callers.v[i].until > clock_ms);
}

static void connect_one(void)
{
    int pair[2];

    if (n_ends == GUESTS)
        return;
    MUST(at_door < 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) == 0);
    ends[n_ends++] = pair[0];
    at_door = pair[1];
    for (int i = 0; i <= CALLERS && at_door >= 0; i++) /* a host comes before who is at the door */
        step();
    MUST(at_door < 0);
}

static void say(int fd, const uint8_t **data, size_t *n)
{
    const uint8_t *wire;
    size_t len = next_byte(data, n);

    len = len < *n ? len : *n;
    size_t n_wire = frames_of(*data, len, NONCE, &wire);
    (void)!send(fd, wire, n_wire, MSG_NOSIGNAL);
    *data += len;
    *n -= len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    n_ends = 0;
    at_door = -1;
    clock_ms = 1;
    callers_open(&callers, -1, accept_host, token);
    while (n) {
        uint8_t what = next_byte(&data, &n);

        if (what % WHATS == WAIT)
            clock_ms += (what / WHATS) * 100;
        else if (what % WHATS == CONNECT)
            connect_one();
        else if (n_ends == 0)
            continue;
        else if (what % WHATS == SAY) {
            int fd = ends[next_byte(&data, &n) % n_ends];
            say(fd, &data, &n);
        } else
            shutdown(ends[next_byte(&data, &n) % n_ends], SHUT_RDWR);
        step();
    }
    clock_ms += CALLER_MS;
    step();
    for (int i = 0; i < CALLERS; i++)
        MUST(callers.v[i].fd < 0);
    while (n_ends)
        close(ends[--n_ends]);
    return 0;
}
