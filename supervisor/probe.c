#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/fetch.h>

enum {
    BODY_MAX = 256 << 10,   /* of a page, where the wanted text and numbers must be */
    OUTPUT_MAX = 256 << 10, /* of a command: a check that says more than that is broken */
    TAIL = 512,             /* of its output, where the last line is looked for */
};

struct probe {
    enum spec_check_kind kind;
    int status;             /* of http: wanted */
    int sys;                /* of tcp: why connect failed at once */
    char *body;             /* of http: wanted in it, or NULL */
    int64_t timeout_ms;
    probe_done_fn *done;    /* NULL: cancelled, lives on until the guest has ended it */
    void *arg;

    int fd;
    struct loop_watch *watch;
    struct loop_timer *timer;
    struct fetch *fetch;
    struct agent_stream *stream;
    const char *why;        /* it was cut off: too slow, too loud */
    bool numbers;           /* what it says is wanted, … */
    struct text said;       /* … all of the output of exec, or … */
    struct probe_said heard; /* … this, when it has ended */
    size_t n_output, n_tail;
    char tail[TAIL];
};

static void probe_free(struct probe *p)
{
    loop_watch_free(p->watch);
    loop_timer_free(p->timer);
    fetch_cancel(p->fetch);
    fd_drop(p->fd);
    free(p->body);
    text_done(p->said);
    free(p);
}

void probe_cancel(struct probe *p)
{
    if (!p)
        return;
    p->done = NULL;
    loop_timer_free(p->timer);
    p->timer = NULL;
    if (p->stream)
        agent_stream_cancel(p->stream); /* frees p when it has ended */
    else
        probe_free(p);
}

/* At most PROBE_MESSAGE_MAX bytes of s, no character cut in two. */
static void copy_message(char out[static PROBE_MESSAGE_MAX + 1], const struct text *s)
{
    size_t n = s->len < PROBE_MESSAGE_MAX ? s->len : PROBE_MESSAGE_MAX;

    while (n && n < s->len && (s->s[n] & 0xc0) == 0x80)
        n--;
    snprintf(out, PROBE_MESSAGE_MAX + 1, "%.*s", (int)n, s->s ? s->s : "");
}

VM_PRINTF(3) static void finish(struct probe *p, enum outcome o, const char *fmt, ...)
{
    OWN(text) struct text safe = {0}, said = p->said;
    struct probe_said heard = p->heard;
    char raw[TAIL + 64], shown[PROBE_MESSAGE_MAX + 1];
    probe_done_fn *done = p->done;
    void *arg = p->arg;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(raw, sizeof raw, fmt, ap);
    va_end(ap);
    text_add_visible(&safe, raw, strlen(raw), NULL);
    copy_message(shown, &safe);
    p->said = (struct text){0};
    probe_free(p);
    if (done)
        done(o, shown, heard.s ? &heard : NULL, arg);
}

static int arm(struct probe *p, struct loop *l, void (*late)(void *arg), struct vm_err *e)
{
    if (loop_timer_new(l, late, p, &p->timer, e) < 0)
        return -1;
    loop_timer_set(p->timer, p->timeout_ms, p->timeout_ms / 16);
    return 0;
}

/* ---- tcp ---- */

static void tcp_late(void *arg)
{
    struct probe *p = arg;

    finish(p, OUTCOME_FAILED, "no answer within %.3g s", (double)p->timeout_ms / 1000);
}

static void tcp_ready(int fd, uint32_t revents, void *arg)
{
    int why = 0;
    socklen_t n = sizeof why;
    struct probe *p = arg;

    (void)revents;
    if (p->sys)
        why = p->sys;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &n) < 0)
        why = errno;
    if (why)
        finish(p, OUTCOME_FAILED, "%s", strerror(why));
    else
        finish(p, OUTCOME_PASSED, "%s", "");
}

static int tcp_start(struct probe *p, const struct probe_target *at, uint16_t port, struct vm_err *e)
{
    struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    bool is4 = inet_pton(AF_INET, at->address, &v4.sin_addr) == 1;
    const struct sockaddr *to = is4 ? (const struct sockaddr *)&v4 : (const struct sockaddr *)&v6;

    if (!is4 && inet_pton(AF_INET6, at->address, &v6.sin6_addr) != 1)
        return vm_fail(e, VM_E_INVALID, "'%s' is not an address", at->address);
    p->fd = socket(to->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0)
        return vm_fail_sys(e, "socket");
    /* A failure at once is told like a later one: a socket without a connection is ready. */
    if (connect(p->fd, to, is4 ? sizeof v4 : sizeof v6) < 0 && errno != EINPROGRESS)
        p->sys = errno;
    return loop_watch_new(at->loop, p->fd, EPOLLOUT, tcp_ready, p, &p->watch, e) < 0 ? -1 : arm(p, at->loop, tcp_late, e);
}

/* ---- http ---- */

static bool status_fits(int status, int wanted)
{
    return wanted ? status == wanted : status >= 200 && status <= 399;
}

/* Of a page that was cut, in the middle of a number maybe. */
static size_t whole_lines(const char *s, size_t n)
{
    const char *last = memrchr(s, '\n', n);

    return last ? (size_t)(last - s) : 0;
}

static void http_done(const struct fetch_answer *a, const struct vm_err *e, void *arg)
{
    struct probe *p = arg;

    p->fetch = NULL;
    if (!a) {
        finish(p, OUTCOME_FAILED, "%s", e->text);
    } else if (!status_fits(a->status, p->status)) {
        finish(p, OUTCOME_FAILED, "status %d", a->status);
    } else if (p->body && !memmem(a->body, a->n, p->body, strlen(p->body))) {
        finish(p, OUTCOME_FAILED, "status %d, but the page does not have '%s'%s", a->status, p->body,
               a->cut ? " in its first 256 KiB" : "");
    } else {
        if (p->numbers)
            p->heard = (struct probe_said){a->body, a->cut ? whole_lines(a->body, a->n) : a->n};
        finish(p, OUTCOME_PASSED, "status %d", a->status);
    }
}

static int http_start(struct probe *p, const struct probe_target *at, const struct spec_check *c, struct vm_err *e)
{
    struct fetch_request q = {.address = at->address, .port = c->port, .path = c->path, .host = c->host,
                              .timeout_ms = c->timeout_ms, .answer_max = c->body || p->numbers ? BODY_MAX : 0};

    p->status = c->status;
    if (c->body && !(p->body = strdup(c->body)))
        return vm_no_memory(e);
    return fetch_start(at->loop, &q, http_done, p, &p->fetch, e);
}

/* ---- exec and units ---- */

/* The end of the output is kept; what makes room is lost. */
static void keep_tail(struct probe *p, const char *s, size_t n)
{
    if (n >= TAIL) {
        s += n - TAIL;
        n = TAIL;
    }
    if (p->n_tail + n > TAIL) {
        size_t drop = p->n_tail + n - TAIL;

        memmove(p->tail, p->tail + drop, p->n_tail - drop);
        p->n_tail -= drop;
    }
    memcpy(p->tail + p->n_tail, s, n);
    p->n_tail += n;
}

static void cut_off(struct probe *p, const char *why)
{
    p->why = why;
    agent_stream_cancel(p->stream); /* its end follows */
}

static void agent_late(void *arg)
{
    cut_off(arg, "it took longer than its timeout");
}

static void agent_data(enum agent_channel ch, const void *data, size_t n, void *arg)
{
    struct probe *p = arg;

    if (p->kind == CHECK_UNITS && p->n_tail + n > TAIL)
        n = TAIL - p->n_tail; /* the first failed units are as good as the last */
    if (p->numbers && ch == AGENT_STDOUT)
        text_add_bytes(&p->said, data, n);
    else
        keep_tail(p, data, n);
    p->n_output += n;
    if (p->n_output > OUTPUT_MAX)
        cut_off(p, "it writes more than 256 KiB of output");
}

static void exec_ended(struct probe *p, const struct agent_result *r)
{
    const char *from = p->tail, *to = p->tail + p->n_tail, *line;
    int n;

    while (to > from && strchr(" \t\r\n", to[-1]))
        to--;
    line = memrchr(from, '\n', (size_t)(to - from));
    from = line ? line + 1 : from;
    n = (int)(to - from);
    if (p->numbers && !p->said.failed)
        p->heard = (struct probe_said){p->said.s ? p->said.s : "", p->said.len};
    if (r->signal)
        finish(p, OUTCOME_FAILED, "ended by signal %d%s%.*s", r->signal, n ? ": " : "", n, from);
    else if (r->exit_code)
        finish(p, OUTCOME_FAILED, "exit %d%s%.*s", r->exit_code, n ? ": " : "", n, from);
    else
        finish(p, OUTCOME_PASSED, "%.*s", n, from);
}

/* Lines state=WORD and failed=UNIT. */
static void units_ended(struct probe *p)
{
    OWN(text) struct text failed = {0};
    const char *at = p->tail, *end = p->tail + p->n_tail;
    bool told = false;

    while (at < end) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);

        told |= n > 6 && !memcmp(at, "state=", 6);
        if (n > 7 && !memcmp(at, "failed=", 7))
            text_addf(&failed, "%s%.*s", failed.len ? ", " : "", (int)n - 7, at + 7);
        at += n + 1;
    }
    if (failed.len)
        finish(p, OUTCOME_FAILED, "failed: %s", failed.s);
    else if (!told)
        finish(p, OUTCOME_FAILED, "the guest's systemd does not tell the state of its units");
    else
        finish(p, OUTCOME_PASSED, "%s", "");
}

static void agent_ended(const struct agent_result *r, void *arg)
{
    struct probe *p = arg;

    p->stream = NULL;
    if (p->why)
        finish(p, OUTCOME_FAILED, "%s", p->why);
    else if (r->lost) /* the check of the agent itself counts that */
        finish(p, OUTCOME_UNKNOWN, "%s", r->error);
    else if (!r->ok)
        finish(p, OUTCOME_FAILED, "%s", r->error);
    else if (p->kind == CHECK_EXEC)
        exec_ended(p, r);
    else
        units_ended(p);
}

static int agent_start(struct probe *p, const struct probe_target *at, const struct spec_check *c, struct vm_err *e)
{
    struct agent_stream_events ev = {.data = agent_data, .end = agent_ended, .arg = p};
    OWN(strv) struct strv q = {0};

    strv_add(&q, c->kind == CHECK_EXEC ? "op=exec" : "op=units");
    for (size_t i = 0; c->kind == CHECK_EXEC && i < c->exec.n; i++)
        strv_addf(&q, "arg=%s", c->exec.v[i]);
    for (size_t i = 0; c->kind == CHECK_EXEC && at->env && i < at->env->n; i++)
        strv_add(&q, at->env->v[i]);
    if (c->kind == CHECK_EXEC && !p->numbers)
        strv_add(&q, "merge=1");
    if (q.failed || (at->env && at->env->failed))
        return vm_no_memory(e);
    return arm(p, at->loop, agent_late, e) < 0 ? -1 : agent_request(at->agent, &q, ev, &p->stream, e);
}

int probe_start(const struct probe_target *at, const struct spec_check *c, probe_done_fn *done, void *arg,
                struct probe **out, struct vm_err *e)
{
    struct probe *p = calloc(1, sizeof *p);
    int rc;

    if (!p)
        return vm_no_memory(e);
    p->kind = c->kind;
    p->numbers = c->numbers.n;
    p->timeout_ms = c->timeout_ms;
    p->done = done;
    p->arg = arg;
    p->fd = -1;
    if (c->kind == CHECK_TCP)
        rc = tcp_start(p, at, c->port, e);
    else if (c->kind == CHECK_HTTP)
        rc = http_start(p, at, c, e);
    else
        rc = agent_start(p, at, c, e);
    if (rc < 0)
        probe_free(p);
    else
        *out = p;
    return rc;
}
