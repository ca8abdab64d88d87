#include "client.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/path.h>
#include "answer.h"
#include "remote.h"

enum { TICK_MS = 100, BLOCK = 64 << 10 };

static void add_escaped(struct text *t, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;

        text_addf(t, isascii(c) && (isalnum(c) || strchr("-._~", c)) ? "%c" : "%%%02X", c);
    }
}

char *client_path(const char *head, const char *name, const char *tail)
{
    struct text t = {0};

    text_add(&t, head);
    add_escaped(&t, name);
    text_add(&t, tail);
    return text_take(&t);
}

void client_query(struct text *path, const char *key, const char *value)
{
    if (!value)
        return;
    text_addf(path, "%c%s=", path->s && strchr(path->s, '?') ? '&' : '?', key);
    add_escaped(path, value);
}

void client_query_list(struct text *path, const char *key, const struct strv *values)
{
    for (size_t i = 0; i < values->n; i++)
        client_query(path, key, values->v[i]);
}

int client_reach(struct client *c, struct vm_err *e)
{
    if (!c->remote)
        return 0;
    c->unreached = remote_reach(c->remote, e) < 0;
    c->socket = c->remote->socket;
    return c->unreached ? -1 : 0;
}

int client_unreached(struct client *c, int sys, struct vm_err *e)
{
    c->unreached = true;
    if (c->remote && remote_look(c->remote, e) < 0)
        return -1;
    if (c->remote)
        return vm_fail(e, VM_E_UNAVAILABLE, "%s is reached, but no vmsd that lets you in at %s there; start vmsd, or use an "
                       "account that is root or in group vmsd", c->remote->host, c->remote->peer);
    return vm_fail(e, VM_E_UNAVAILABLE, "vmsd does not answer at %s: %s; %s", c->socket, strerror(sys),
                   sys == EACCES || sys == EPERM ? "run as root or as a member of group vmsd"
                                                 : "start vmsd, or name its socket with --socket");
}

int client_error(long status, const char *body, size_t n, struct vm_err *e)
{
    OWN(json) json_t *doc = json_from_text(body ? body : "", n, NULL);
    const json_t *error = json_object_get(doc, "error");
    const char *message = json_str(error, "message", NULL), *name = json_str(error, "code", "");
    enum vm_errc code = VM_E_BACKEND;

    for (int i = VM_E_OK + 1; i < VM_E_COUNT; i++)
        if (!strcmp(vm_err_name(i), name))
            code = i;
    if (!message)
        return vm_fail(e, code, "vmsd answered with HTTP status %ld and no reason", status);
    return vm_fail(e, code, "%s", message);
}

int client_dial(struct client *c, int *out, struct vm_err *e)
{
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_sec = CLIENT_ANSWER_S}; /* for a place in the queue of a vmsd that hangs */

    if (client_reach(c, e) < 0)
        return -1;
    if (fd < 0)
        return vm_fail_sys(e, "socket");
    if (strlen(c->socket) >= sizeof at.sun_path)
        return client_unreached(c, ENAMETOOLONG, e);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", c->socket);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        return client_unreached(c, errno, e);
    *out = take_fd(&fd);
    return 0;
}

/* ---- a transfer under way ---- */

struct talk {
    struct transfer *t;
    int fd;              /* -1: not yet, or no more */
    bool begun;
    int64_t until;       /* 0: it may take as long as it likes */
    struct text out;     /* the head, or a piece of what body_fd gives */
    const char *next;    /* what is to be sent … */
    size_t left;         /* … and how much of it */
    enum { BODY_NEXT, BODY_LAST } stage;
    bool answered;       /* with a byte at least */
    struct answer answer;
};

static int on_body(const char *p, size_t n, void *arg)
{
    struct talk *k = arg;
    struct transfer *t = k->t;
    int status = k->answer.status;

    if (status >= 200 && status < 300)
        return t->sink ? t->sink(p, n, t->arg, &t->err) : 0;
    if (t->error_body.len + n <= CLIENT_ERROR_MAX) /* kept for its error */
        text_add_bytes(&t->error_body, p, n);
    return 0;
}

/* Its end, which nothing follows. */
static void talk_end(struct talk *k)
{
    k->fd = fd_drop(k->fd);
    text_done(k->out);
    k->out = (struct text){0};
    k->t->cut = false;
}

static void talk_fail(struct talk *k)
{
    k->t->failed = true;
    talk_end(k);
}

/* The peer has nothing more to say, or says what is no answer. */
static void talk_broken(struct talk *k, bool is_http)
{
    struct transfer *t = k->t;
    struct client *c = t->at;

    if (t->err.code) /* the sink's own error came first */
        ;
    else if (c->remote && !k->answered) /* ssh takes each connection first */
        client_unreached(c, ECONNREFUSED, &t->err);
    else if (is_http)
        vm_fail(&t->err, VM_E_BACKEND, "vmsd at %s broke off its answer; was it stopped or restarted?", c->socket);
    else
        vm_fail(&t->err, VM_E_BACKEND, "the answer at %s is not HTTP; is that vmsd's socket?", c->socket);
    talk_fail(k);
}

static void talk_whole(struct talk *k)
{
    struct transfer *t = k->t;
    int status = k->answer.status;

    if (status >= 200 && status < 300) {
        talk_end(k);
        return;
    }
    t->at->refused = true;
    client_error(status, t->error_body.s, t->error_body.len, &t->err);
    talk_fail(k);
}

static void talk_begin(struct talk *k)
{
    struct transfer *t = k->t;
    bool has_body = t->has_body_fd || !strcmp(t->method, "POST");

    k->begun = true;
    answer_begin(&k->answer, on_body, k);
    k->until = t->limit_s ? now_ms() + t->limit_s * 1000 : 0;
    if (client_dial(t->at, &k->fd, &t->err) < 0 || fcntl(k->fd, F_SETFL, O_NONBLOCK) < 0) {
        if (!t->err.code)
            vm_fail_sys(&t->err, "fcntl");
        talk_fail(k);
        return;
    }
    text_addf(&k->out, "%s %s HTTP/1.1\r\nHost: vmsd\r\nConnection: close\r\n", t->method, t->path);
    if (t->has_body_fd)
        text_add(&k->out, "Transfer-Encoding: chunked\r\n");
    else if (has_body)
        text_addf(&k->out, "Content-Length: %zu\r\n", t->n);
    text_add(&k->out, "\r\n");
    if (k->out.failed) {
        vm_no_memory(&t->err);
        talk_fail(k);
        return;
    }
    k->next = k->out.s;
    k->left = k->out.len;
    k->stage = has_body ? BODY_NEXT : BODY_LAST;
}

/* All before it went out: the body, or the next piece of it. -1 with the transfer's error. */
static int more_to_send(struct talk *k)
{
    struct transfer *t = k->t;
    char block[BLOCK];
    ssize_t n;

    if (!t->has_body_fd) {
        k->next = t->body;
        k->left = t->n;
        k->stage = BODY_LAST;
        return 0;
    }
    do
        n = read(t->body_fd, block, sizeof block);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return vm_fail_sys(&t->err, "read what is to be sent");
    k->out.len = 0;
    text_addf(&k->out, "%zx\r\n", (size_t)n);
    text_add_bytes(&k->out, block, (size_t)n);
    text_add(&k->out, "\r\n");
    if (k->out.failed)
        return vm_no_memory(&t->err);
    k->next = k->out.s;
    k->left = k->out.len;
    if (n == 0)
        k->stage = BODY_LAST;
    return 0;
}

static bool wants_to_send(const struct talk *k)
{
    return k->left || k->stage == BODY_NEXT;
}

/* What cannot be sent is no failure: the answer that says why may be there to read. */
static int talk_send(struct talk *k)
{
    ssize_t n;

    if (!k->left && more_to_send(k) < 0)
        return -1;
    n = send(k->fd, k->next, k->left, MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR && errno != EAGAIN) {
        k->left = 0;
        k->stage = BODY_LAST;
    } else if (n > 0) {
        k->next += n;
        k->left -= (size_t)n;
    }
    return 0;
}

static void talk_receive(struct talk *k)
{
    char block[BLOCK];
    ssize_t n = recv(k->fd, block, sizeof block, 0);

    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    k->answered |= n > 0;
    if (n <= 0 && !answer_is_whole(&k->answer))
        talk_broken(k, true);
    else if (n > 0 && answer_read(&k->answer, block, (size_t)n) < 0)
        talk_broken(k, false);
    else if (k->answer.ended)
        talk_whole(k);
}

static void talk_step(struct talk *k, short events)
{
    struct transfer *t = k->t;

    if ((events & POLLOUT) && talk_send(k) < 0) {
        talk_fail(k);
        return;
    }
    if (events & (POLLIN | POLLHUP | POLLERR))
        talk_receive(k);
    if (k->fd >= 0 && k->until && now_ms() >= k->until) { /* also of a peer that says a byte now and then */
        vm_fail(&t->err, VM_E_TIMEOUT, "vmsd at %s has not answered for %ld s", t->at->socket, t->limit_s);
        talk_fail(k);
    }
}

/* Those that are under way, and as many more as there may be at a time. The number of them in p and of[]. */
static size_t talks_open(struct talk *talks, size_t n, struct pollfd *p, struct talk **of)
{
    size_t open = 0;

    for (size_t i = 0; i < n && open < CLIENT_STREAMS_MAX; i++) {
        struct talk *k = &talks[i];

        if (k->t->at && !k->begun)
            talk_begin(k);
        if (k->fd < 0)
            continue;
        p[open] = (struct pollfd){.fd = k->fd, .events = (short)(POLLIN | (wants_to_send(k) ? POLLOUT : 0))};
        of[open++] = k;
    }
    return open;
}

static void run(struct talk *talks, size_t n, bool (*tick)(void *arg), void *arg)
{
    struct pollfd p[CLIENT_STREAMS_MAX];
    struct talk *of[CLIENT_STREAMS_MAX];
    size_t open;

    while ((open = talks_open(talks, n, p, of)) > 0) {
        if (tick && !tick(arg))
            return;
        if (poll(p, open, tick ? TICK_MS : 10 * TICK_MS) < 0)
            continue; /* EINTR */
        for (size_t i = 0; i < open; i++)
            talk_step(of[i], p[i].revents);
    }
    if (tick)
        tick(arg);
}

int client_run(struct client *c, struct transfer *t, size_t n, bool (*tick)(void *arg), void *arg, struct vm_err *e)
{
    OWN(mem) struct talk *talks = calloc(n ? n : 1, sizeof *talks);

    if (!talks)
        return vm_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        if (!t[i].at)
            t[i].at = c;
        talks[i] = (struct talk){.t = &t[i], .fd = -1};
    }
    run(talks, n, tick, arg);
    for (size_t i = 0; i < n; i++) {
        bool cut = t[i].cut;

        talk_end(&talks[i]);
        t[i].cut = cut;
        text_done(t[i].error_body);
        t[i].error_body = (struct text){0};
    }
    return 0;
}

static int one(struct client *c, struct transfer *t, bool (*tick)(void *arg), void *arg, struct vm_err *e)
{
    if (client_run(c, t, 1, tick, arg, e) < 0)
        return -1;
    if (!t->failed)
        return 0;
    if (e)
        *e = t->err;
    return -1;
}

int client_stream(struct client *c, struct transfer *t, struct vm_err *e)
{
    return one(c, t, NULL, NULL, e);
}

static int keep(const char *p, size_t n, void *arg, struct vm_err *e)
{
    struct text *answer = arg;

    if (answer->len + n > CLIENT_ANSWER_MAX)
        return vm_fail(e, VM_E_BACKEND, "vmsd's answer is longer than %lu MiB", CLIENT_ANSWER_MAX >> 20);
    text_add_bytes(answer, p, n);
    return answer->failed ? vm_no_memory(e) : 0;
}

int client_gather(struct client *c, struct transfer *t, size_t n, bool (*tick)(void *arg), void *arg, json_t **docs,
                  struct vm_err *e)
{
    OWN(mem) struct text *answers = calloc(n + 1, sizeof *answers);
    struct vm_err why;
    int rc;

    if (!answers)
        return vm_no_memory(e);
    for (size_t i = 0; i < n; i++) {
        t[i].sink = keep;
        t[i].arg = &answers[i];
        if (!t[i].limit_s)
            t[i].limit_s = CLIENT_ANSWER_S;
    }
    rc = client_run(c, t, n, tick, arg, e);
    for (size_t i = 0; i < n; i++) {
        docs[i] = NULL;
        if (rc == 0 && t[i].at && !t[i].failed && !t[i].cut &&
            !(docs[i] = json_from_text(answers[i].s ? answers[i].s : "", answers[i].len, &why))) {
            t[i].failed = true;
            vm_fail(&t[i].err, VM_E_BACKEND, "vmsd's answer to %s: %s", t[i].path, why.text);
        }
        text_done(answers[i]);
    }
    return rc;
}

static int document(struct client *c, struct transfer *t, bool (*tick)(void *arg), void *arg, json_t **out, struct vm_err *e)
{
    json_t *doc;

    if (client_gather(c, t, 1, tick, arg, &doc, e) < 0)
        return -1;
    if (t->failed && e)
        *e = t->err;
    if (t->failed)
        return -1;
    if (out && !t->cut)
        *out = doc;
    else
        json_decref(doc);
    return 0;
}

int client_watch(struct client *c, const char *path, bool (*tick)(void *arg), void *arg, json_t **out, struct vm_err *e)
{
    struct transfer t = {.method = "GET", .path = path, .cut = true};

    return document(c, &t, tick, arg, out, e);
}

int client_json(struct client *c, const char *method, const char *path, json_t **out, struct vm_err *e)
{
    struct transfer t = {.method = method, .path = path};

    return document(c, &t, NULL, NULL, out, e);
}

int client_post(struct client *c, const char *path, const void *body, size_t n, json_t **out, struct vm_err *e)
{
    struct transfer t = {.method = "POST", .path = path, .body = body, .n = n};

    return document(c, &t, NULL, NULL, out, e);
}
