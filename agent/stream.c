#include "agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    /* All that a program wrote before it ended lies in its pipes (at most the kernel's pipe-max-size) or terminal. What
     * goes on writing after it isn't waited for. */
    DRAIN_MAX = 1 << 20,
    OWED_MIN = FRAME_WINDOW / 4,   /* credit is given in lumps */
    GROUP_POLL_MS = 50,
};

static void stream_free(struct stream *st)
{
    child_close(&st->child);
    free(st->input);
    st->input = NULL;
    st->id = 0;
}

void stream_open(struct stream *st, struct line *l, uint32_t id, const struct request *rq)
{
    struct vm_err e = { 0 };
    struct child c;
    const struct op *op = NULL;
    bool ok = pairs_ok(rq->p, rq->n);
    const char *name = ok ? request_get(rq, "op") : NULL;

    if (!name)
        vm_fail(&e, VM_E_INVALID, "a request without op=");
    else if (!(op = op_find(name)))
        vm_fail(&e, VM_E_INVALID, "this vms-agent has no op '%.40s'", name);
    if (!op || child_start(op, rq, &c, &e) < 0) {
        char words[sizeof(e.text) + 16];
        size_t n = 0;
        pairs_add(words, sizeof(words), &n, "error", e.text);
        line_send(l, FRAME_END, id, words, n);
        return;
    }
    *st = (struct stream){ .id = id, .child = c, .credit = FRAME_WINDOW };
}

/* ---- what the host says ---- */

int stream_input(struct stream *st, const void *p, size_t n)
{
    if (st->in_eof || st->child.in < 0) { /* nobody reads it */
        st->owed += (uint32_t)n;
        return 0;
    }
    if (n > FRAME_WINDOW - (st->in_end - st->in_at))
        return -1;
    if (!st->input && !(st->input = malloc(FRAME_WINDOW)))
        return -1;
    memmove(st->input, st->input + st->in_at, st->in_end - st->in_at);
    st->in_end -= st->in_at;
    st->in_at = 0;
    memcpy(st->input + st->in_end, p, n);
    st->in_end += n;
    return 0;
}

void stream_input_eof(struct stream *st)
{
    st->in_eof = true;
}

/* A child that was just forked may have no group yet. */
static void signal_group(const struct stream *st, int sig)
{
    if (kill(-st->child.pid, sig) < 0 && errno == ESRCH && !st->exited)
        kill(st->child.pid, sig);
}

void stream_signal(struct stream *st, int sig)
{
    if (!st->exited && sig > 0 && sig < NSIG)
        signal_group(st, sig);
}

void stream_resize(struct stream *st, uint32_t rows, uint32_t cols)
{
    struct winsize w = { .ws_row = (unsigned short)rows, .ws_col = (unsigned short)cols };
    if (st->child.pty && st->child.out >= 0)
        ioctl(st->child.out, TIOCSWINSZ, &w);
}

/* stdin stays open: to see it end would look like the end of the input. Output is read on and thrown away, so that a
 * handler of SIGTERM can still speak; a terminal hangs up. */
void stream_cancel(struct stream *st)
{
    if (st->ending)
        return;
    st->ending = true;
    st->kill_at = agent_now_ms() + GRACE_MS;
    st->give_up_at = st->kill_at + GIVE_UP_MS;
    if (st->child.pty)
        child_hang_up(&st->child);
    st->killed = st->exited; /* what it left in the background stays, and its group's number may be another's by now */
    if (!st->exited) {
        signal_group(st, SIGTERM);
        signal_group(st, SIGCONT); /* what is stopped would not hear it */
    }
}

/* ---- what the child does ---- */

static bool group_is_gone(const struct stream *st)
{
    return kill(-st->child.pid, 0) < 0 && errno == ESRCH;
}

static void reap(struct stream *st)
{
    if (waitpid(st->child.pid, &st->status, WNOHANG) != st->child.pid)
        return;
    st->exited = true;
    st->drain = DRAIN_MAX;
}

static void feed(struct stream *st)
{
    struct child *c = &st->child;
    while (st->in_at < st->in_end && c->in >= 0) {
        ssize_t n = write(c->in, st->input + st->in_at, st->in_end - st->in_at);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        size_t gone = n < 0 ? st->in_end - st->in_at : (size_t)n; /* EPIPE: nobody reads the rest */
        st->in_at += gone;
        st->owed += (uint32_t)gone;
    }
    if (st->in_eof && c->in >= 0)
        child_end_input(c);
}

/* One piece of output, straight into the line's buffer behind the room for its head. */
static void pump(struct stream *st, struct line *l, int *fd, enum frame_channel ch)
{
    size_t max = st->ending || st->credit > CHUNK ? CHUNK : st->credit;
    if (*fd < 0 || max == 0 || line_room(l) < OUT_BYTES / 2)
        return;
    uint8_t *p = line_tail(l);
    ssize_t n = read(*fd, p + FRAME_HEAD, max);
    if (n < 0 && (errno == EINTR || (errno == EAGAIN && !st->exited)))
        return;
    if (n <= 0 || (st->exited && st->drain < (size_t)n)) { /* its end; or what comes is no more the program's own */
        close(*fd);
        *fd = -1;
        return;
    }
    if (st->exited)
        st->drain -= (size_t)n;
    if (st->ending || l->over)
        return;
    struct frame f = { .type = FRAME_DATA, .channel = ch, .stream = st->id, .nonce = l->nonce, .data = p + FRAME_HEAD,
                       .n = (uint32_t)n };
    frame_head(p, &f);
    l->end += FRAME_HEAD + (size_t)n;
    st->credit -= (uint32_t)n;
}

static void read_report(struct stream *st)
{
    int *fd = &st->child.report;
    ssize_t n = read(*fd, st->report + st->n_report, sizeof(st->report) - st->n_report);
    if (n > 0)
        st->n_report += (size_t)n;
    else if (n == 0 || (errno != EINTR && (errno != EAGAIN || st->exited))) {
        close(*fd);
        *fd = -1;
    }
}

/* After SIGTERM: true when all of the group is gone, or can't be helped. */
static bool press_on(struct stream *st)
{
    int64_t now = agent_now_ms();
    if (st->exited && (st->killed || group_is_gone(st)))
        return true;
    if (now >= st->kill_at && !st->killed) {
        signal_group(st, SIGKILL);
        st->killed = true;
    }
    return now >= st->give_up_at || (st->killed && st->exited);
}

static void send_end(struct stream *st, struct line *l)
{
    char words[FRAME_TEXT_MAX], number[16];
    size_t n = 0;
    bool told = st->n_report && pairs_ok(st->report, st->n_report);

    if (!st->exited) {
        pairs_add(words, sizeof(words), &n, "error", "it was killed and does not die; it waits for a device");
    } else if (!told || !pairs_get(st->report, st->n_report, "error")) {
        bool by_signal = WIFSIGNALED(st->status);
        snprintf(number, sizeof(number), "%d", by_signal ? WTERMSIG(st->status) : WEXITSTATUS(st->status));
        pairs_add(words, sizeof(words), &n, by_signal ? "signal" : "exit", number);
    }
    if (told) {
        memcpy(words + n, st->report, st->n_report);
        n += st->n_report;
    }
    line_send(l, FRAME_END, st->id, words, n);
}

/* ---- the poll loop's side ---- */

static bool wants_output(const struct stream *st, const struct line *l)
{
    return (st->credit || st->ending) && line_room(l) >= OUT_BYTES / 2;
}

void stream_wants(const struct stream *st, const struct line *l, struct pollfd pfd[SLOTS], int *timeout_ms)
{
    for (int i = 0; i < SLOTS; i++)
        pfd[i] = (struct pollfd){ .fd = -1 };
    if (!st->id)
        return;
    const struct child *c = &st->child;
    if (!st->exited)
        pfd[SLOT_PID] = (struct pollfd){ .fd = c->pidfd, .events = POLLIN };
    if (st->in_at < st->in_end || st->in_eof)
        pfd[SLOT_IN] = (struct pollfd){ .fd = c->in, .events = POLLOUT };
    if (wants_output(st, l)) {
        if (st->exited && !st->ending)
            *timeout_ms = 0; /* whether anything is left, only reading tells: others may hold the pipe open */
        pfd[SLOT_OUT] = (struct pollfd){ .fd = c->out, .events = POLLIN };
        pfd[SLOT_ERR] = (struct pollfd){ .fd = c->err, .events = POLLIN };
    }
    if (st->n_report < sizeof(st->report))
        pfd[SLOT_REPORT] = (struct pollfd){ .fd = c->report, .events = POLLIN };
    if (st->ending) {
        int64_t left = (st->killed ? st->give_up_at : st->kill_at) - agent_now_ms();
        int ms = st->exited && left > GROUP_POLL_MS ? GROUP_POLL_MS : left < 0 ? 0 : (int)left;
        if (*timeout_ms < 0 || ms < *timeout_ms)
            *timeout_ms = ms;
    }
}

void stream_step(struct stream *st, struct line *l, const struct pollfd pfd[SLOTS])
{
    struct child *c = &st->child;

    if (!st->exited && pfd[SLOT_PID].revents)
        reap(st);
    if (pfd[SLOT_IN].revents)
        feed(st);
    if (pfd[SLOT_OUT].revents || st->exited)
        pump(st, l, &c->out, CHANNEL_STDOUT);
    if (pfd[SLOT_ERR].revents || st->exited)
        pump(st, l, &c->err, CHANNEL_STDERR);
    if (c->report >= 0 && (pfd[SLOT_REPORT].revents || st->exited))
        read_report(st);

    bool done = st->ending ? press_on(st) : st->exited && c->out < 0 && c->err < 0 && c->report < 0;
    if (line_room(l) < OUT_CONTROL)
        return;
    if (done) {
        send_end(st, l);
        stream_free(st);
    } else if (st->owed >= OWED_MIN) {
        uint8_t credit[4];
        le32_put(credit, st->owed);
        line_send(l, FRAME_CREDIT, st->id, credit, sizeof(credit));
        st->owed = 0;
    }
}
