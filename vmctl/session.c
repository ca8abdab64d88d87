#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/path.h>
#include "raw.h"
#include "term.h"
#include "upgrade.h"

/* OUT_KEYS: keys that may wait while the guest takes none; they are read, so that Ctrl-] is heard. */
enum { STREAM = 1, IN_BLOCK = 32 << 10, OUT_KEYS = 256 << 10, HUNG_UP = 128 + SIGHUP };

struct session {
    const char *guest;
    const struct session_io *io;
    int fd, signals, in;
    struct frame_reader reader;
    struct text out; /* frames towards vmsd … */
    size_t sent;     /* … and how much of them went */
    bool ended;
    int status;
    struct winsize size; /* as the guest knows it */
    struct raw_detach detach;
    sigset_t mask; /* as it was before */
};

static int queue(struct session *s, enum frame_type type, const void *p, size_t n, struct vm_err *e)
{
    struct frame f = {.type = type, .stream = STREAM, .n = (uint32_t)n, .data = p};
    uint8_t head[FRAME_HEAD];

    frame_head(head, &f);
    text_add_bytes(&s->out, head, sizeof head);
    text_add_bytes(&s->out, p, n);
    return s->out.failed ? vm_no_memory(e) : 0;
}

static int tell_size(struct session *s, struct vm_err *e)
{
    uint8_t payload[8];
    struct winsize w;

    if (!s->io->tty || ioctl(STDIN_FILENO, TIOCGWINSZ, &w) < 0 ||
        (w.ws_row == s->size.ws_row && w.ws_col == s->size.ws_col))
        return 0;
    s->size = w;
    le32_put(payload, w.ws_row);
    le32_put(payload + 4, w.ws_col);
    return queue(s, FRAME_RESIZE, payload, 8, e);
}

/* The connection's end tells the guest. */
static void leave(struct session *s, int status)
{
    s->status = status;
    s->ended = true;
}

/* The terminal is the shell's until SIGCONT, which then waits to be read. */
static int pause_session(struct vm_err *e)
{
    raw_leave();
    raise(SIGSTOP);
    return raw_enter(e);
}

static int on_signal(struct session *s, struct vm_err *e)
{
    struct signalfd_siginfo info;
    uint8_t payload[4];

    if (read(s->signals, &info, sizeof info) != sizeof info)
        return 0;
    if (info.ssi_signo == SIGWINCH)
        return tell_size(s, e);
    if (info.ssi_signo == SIGTSTP)
        return pause_session(e);
    if (info.ssi_signo == SIGCONT) {
        raw_again();
        return tell_size(s, e);
    }
    if (s->io->tty || raw_detaches(&s->detach, "\x1d", 1, now_ms())) { /* a guest that hangs would never heed them */
        leave(s, 128 + (int)info.ssi_signo);
        return 0;
    }
    le32_put(payload, info.ssi_signo);
    return queue(s, FRAME_SIGNAL, payload, 4, e);
}

static int on_input(struct session *s, struct vm_err *e)
{
    char block[IN_BLOCK];
    ssize_t n = read(s->in, block, sizeof block);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n > 0 && s->io->tty && raw_detaches(&s->detach, block, (size_t)n, now_ms())) {
        raw_leave();
        fputc('\n', stderr);
        term_complain("left %s; what ran in this session ends with it", s->guest);
        leave(s, HUNG_UP);
        return 0;
    }
    if (n > 0)
        return queue(s, FRAME_DATA, block, (size_t)n, e);
    s->in = -1; /* the end, or an error, which is an end as well */
    return queue(s, FRAME_EOF, NULL, 0, e);
}

static int on_end(struct session *s, const struct frame *f, struct vm_err *e)
{
    const char *value;
    uint64_t n;

    if (!pairs_ok(f->data, f->n))
        return vm_fail(e, VM_E_BACKEND, "%s: the command's end came garbled", s->guest);
    if ((value = pairs_get(f->data, f->n, "error")))
        return vm_fail(e, VM_E_BACKEND, "%s: %s", s->guest, value);
    if ((value = pairs_get(f->data, f->n, "exit")) && text_to_u64(value, &n) && n <= 255)
        s->status = (int)n;
    else if ((value = pairs_get(f->data, f->n, "signal")) && text_to_u64(value, &n) && n >= 1 && n <= 64)
        s->status = 128 + (int)n;
    else
        return vm_fail(e, VM_E_BACKEND, "%s: the command ended, but how was not told", s->guest);
    s->ended = true;
    return 0;
}

static int on_frames(struct session *s, struct vm_err *e)
{
    enum frame_got got;
    struct frame f;

    while (!s->ended && (got = frame_next(&s->reader, &f)) != FRAME_NONE) {
        if (got == FRAME_BROKEN || f.stream != STREAM || s->reader.skipped)
            break;
        if (f.type == FRAME_END) {
            if (on_end(s, &f, e) < 0)
                return -1;
        } else if (f.type == FRAME_DATA && f.channel != CHANNEL_STDIN) {
            if (s->io->out(f.channel, f.data, f.n, s->io->arg, e) < 0)
                return -1;
            raw_see(f.data, f.n);
        } else if (f.type != FRAME_EOF) {
            got = FRAME_BROKEN;
            break;
        }
    }
    /* This line has no noise on it: a byte that belongs to no frame means that the peer speaks something else. */
    if (!s->ended && (got != FRAME_NONE || s->reader.skipped))
        return vm_fail(e, VM_E_BACKEND, "%s: vmsd sent what is no frame", s->guest);
    return 0;
}

static int on_socket(struct session *s, struct vm_err *e)
{
    size_t room;
    void *to = frame_reader_room(&s->reader, &room);
    ssize_t n = recv(s->fd, to, room, 0);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (n <= 0)
        return vm_fail(e, VM_E_BACKEND, "%s: vmsd closed the connection before the command's end; vmctl show %s tells how it is",
                       s->guest, s->guest);
    frame_reader_add(&s->reader, (size_t)n);
    return on_frames(s, e);
}

/* What cannot be sent is no failure: the answer that says why may be there to read. */
static void on_room(struct session *s)
{
    ssize_t n = send(s->fd, s->out.s + s->sent, s->out.len - s->sent, MSG_NOSIGNAL);

    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        s->sent = s->out.len;
        s->in = -1;
    } else if (n > 0) {
        s->sent += (size_t)n;
    }
    if (s->sent == s->out.len)
        s->sent = s->out.len = 0;
}

/* Input is read only when all before it went out: so a slow guest holds back whoever writes to us. */
static int loop(struct session *s, struct vm_err *e)
{
    while (!s->ended) {
        bool full = s->out.len > (s->io->tty ? OUT_KEYS : 0);
        struct pollfd p[] = {
            {.fd = s->fd, .events = (short)(POLLIN | (s->out.len ? POLLOUT : 0))},
            {.fd = s->signals, .events = POLLIN},
            {.fd = full ? -1 : s->in, .events = POLLIN},
        };

        if (poll(p, ARRAY_LEN(p), -1) < 0) {
            if (errno == EINTR)
                continue;
            return vm_fail_sys(e, "poll");
        }
        if (p[1].revents && on_signal(s, e) < 0)
            return -1;
        if (p[2].revents && on_input(s, e) < 0)
            return -1;
        if (s->out.len)
            on_room(s);
        if ((p[0].revents & (POLLIN | POLLHUP | POLLERR)) && !s->ended && on_socket(s, e) < 0)
            return -1;
    }
    return 0;
}

static int open_signals(struct session *s, struct vm_err *e)
{
    /* The last three only with a terminal, and sent by others: it gives the keys to the guest. */
    static const int wanted[] = {SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT};
    struct sigaction was;
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < ARRAY_LEN(wanted) - (s->io->tty ? 0 : 3); i++)
        if (sigaction(wanted[i], NULL, &was) == 0 && was.sa_handler != SIG_IGN) /* nohup's, say, stay ignored */
            sigaddset(&set, wanted[i]);
    sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signals < 0 ? vm_fail_sys(e, "signalfd") : 0;
}

static int talk(struct session *s, struct client *c, json_t *request, struct vm_err *e)
{
    OWN(str) char *path = client_path("/v1/guests/", s->guest, "/exec");
    OWN(text) struct text early = {0};
    size_t room;

    if (!path)
        return vm_no_memory(e);
    json_put(request, "stdin", json_boolean(s->io->in >= 0));
    if (s->io->tty) {
        ioctl(STDIN_FILENO, TIOCGWINSZ, &s->size);
        json_put(request, "tty", json_pack("{s:i,s:i}", "rows", s->size.ws_row, "cols", s->size.ws_col));
    }
    if (upgrade_open(c, path, "vmsd-exec", request, &s->fd, &early, e) < 0)
        return c->unreached ? -1 : vm_context(e, "%s", s->guest);
    if (fcntl(s->fd, F_SETFL, O_NONBLOCK) < 0)
        return vm_fail_sys(e, "fcntl");
    /* Until here a signal ends vmctl, and with it the connection. */
    if (open_signals(s, e) < 0 || (s->io->tty && raw_enter(e) < 0) || tell_size(s, e) < 0)
        return -1;
    /* At most a head and the block it came in: always less than the reader has room for. */
    memcpy(frame_reader_room(&s->reader, &room), early.s ? early.s : "", early.len);
    frame_reader_add(&s->reader, early.len);
    return on_frames(s, e) < 0 ? -1 : loop(s, e);
}

int session_run(struct client *c, const char *guest, json_t *request, const struct session_io *io, int *status,
                struct vm_err *e)
{
    OWN(mem) uint8_t *buffer = malloc(FRAME_BYTES_MAX);
    struct session s = {.guest = guest, .io = io, .fd = -1, .signals = -1, .in = io->in, .reader = {.buf = buffer}};
    void (*on_pipe)(int);
    int rc;

    if (!buffer || !request)
        return vm_no_memory(e);
    sigprocmask(SIG_BLOCK, NULL, &s.mask);
    on_pipe = signal(SIGPIPE, SIG_IGN);
    rc = talk(&s, c, request, e);
    raw_leave();
    fd_drop(s.fd);
    fd_drop(s.signals);
    text_done(s.out);
    signal(SIGPIPE, on_pipe);
    sigprocmask(SIG_SETMASK, &s.mask, NULL);
    if (rc == 0)
        *status = s.status;
    return rc;
}

json_t *session_request(const char *const *argv)
{
    json_t *list = json_array();

    for (; *argv; argv++)
        if (json_array_append_new(list, json_string(*argv)) < 0) {
            json_decref(list);
            return NULL;
        }
    return json_pack("{s:o}", "argv", list);
}

int session_to_stdio(enum frame_channel channel, const void *p, size_t n, void *arg, struct vm_err *e)
{
    (void)arg;
    return path_write_all(channel == CHANNEL_STDERR ? STDERR_FILENO : STDOUT_FILENO, p, n, e);
}
