#include "http_rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/json.h>

/* Not Check's: the server and the fuzzers are outside of it. */
#define MUST(holds) ((holds) ? (void)0 : rig_fail(__LINE__, #holds))

static _Noreturn void rig_fail(int line, const char *what)
{
    fprintf(stderr, "http_rig.c:%d: not %s (%s)\n", line, what, strerror(errno));
    abort();
}

enum { STREAMS_MAX = 300, WAIT_MS = 15000 };

char rig_socket[108];

/* ---- the server ---- */

static struct loop *loop;
static struct { int64_t aborted, gone, drained, refused_takes, closed_takes, handled; } counters;

static struct subscriber {
    struct http_stream *stream;
} *subscribers[STREAMS_MAX];

static void handle_list(struct http_request *r, void *arg)
{
    (void)arg;
    counters.handled++;
    http_reply_json(r, 200, json_pack("{s:[{s:s,s:i}]}", "things", "name", "db", "health", 1));
}

static void handle_thing(struct http_request *r, void *arg)
{
    size_t n = 0;
    struct vm_err e;

    (void)arg;
    counters.handled++;
    http_body(r, &n);
    if (strcmp(http_path_arg(r, "name"), "missing") == 0) {
        vm_fail(&e, VM_E_ABSENT, "there is no thing 'missing'");
        http_reply_error(r, &e);
        return;
    }
    const char *q = http_query(r, "q"), *second = http_query_nth(r, "q", 1), *header = http_header(r, "X-Test");
    http_reply_json(r, 200, json_pack("{s:s,s:I,s:s?,s:s?,s:s?}", "name", http_path_arg(r, "name"), "body",
                                      (json_int_t)n, "q", q, "second", second, "header", header));
}

static void handle_free(struct http_request *r, void *arg)
{
    (void)arg;
    http_reply_text(r, 200, "text/plain", "free\n", 5);
}

struct later {
    struct http_request *request;
    struct loop_timer *timer;
};

static void answer_later(void *arg)
{
    struct later *l = arg;
    loop_timer_free(l->timer);
    http_reply_text(l->request, 200, "text/plain", "late\n", 5);
    free(l);
}

static void handle_later(struct http_request *r, void *arg)
{
    struct later *l = malloc(sizeof *l);
    struct vm_err e;

    (void)arg;
    l->request = r;
    MUST(loop_timer_new(loop, answer_later, l, &l->timer, &e) == 0);
    loop_timer_set(l->timer, 50, 0);
}

static void count_up(void *arg)
{
    ++*(int64_t *)arg;
}

static void handle_never(struct http_request *r, void *arg)
{
    (void)arg;
    counters.handled++;
    http_on_abort(r, count_up, &counters.aborted);
}

static void stream_gone(void *arg)
{
    struct subscriber **slot = arg;
    counters.gone++;
    free(*slot);
    *slot = NULL;
}

static void handle_stream(struct http_request *r, void *arg)
{
    struct subscriber **slot = subscribers;

    (void)arg;
    while (*slot)
        slot++;
    MUST(slot < subscribers + STREAMS_MAX);
    *slot = malloc(sizeof **slot);
    (*slot)->stream = http_reply_stream(r, 200, "application/x-ndjson", stream_gone, slot);
    http_stream_on_drain((*slot)->stream, count_up, &counters.drained);
    if (http_query(r, "first"))
        http_stream_write((*slot)->stream, "first\n", 6);
    if (http_query(r, "end"))
        http_stream_end((*slot)->stream);
}

static void handle_emit(struct http_request *r, void *arg)
{
    uint64_t n = 0, taken = 0;

    (void)arg;
    text_to_u64(http_query(r, "bytes"), &n);
    OWN(str) char *bytes = malloc(n + 1);
    memset(bytes, 'x', n);
    for (struct subscriber **slot = subscribers; slot < subscribers + STREAMS_MAX; slot++)
        if (*slot)
            taken += http_stream_write((*slot)->stream, bytes, n);
    http_reply_json(r, 200, json_pack("{s:I}", "taken", (json_int_t)taken));
}

static void handle_end(struct http_request *r, void *arg)
{
    (void)arg;
    for (struct subscriber **slot = subscribers; slot < subscribers + STREAMS_MAX; slot++)
        if (*slot)
            http_stream_end((*slot)->stream);
    http_reply_text(r, 200, "text/plain", "", 0);
}

struct echo {
    struct http_raw *raw;
    struct loop_watch *watch;
};

static void echo_on(int fd, uint32_t revents, void *arg)
{
    struct echo *echo = arg;
    char chunk[4096];
    ssize_t n = read(fd, chunk, sizeof chunk);

    (void)revents;
    if (n > 0) {
        MUST(write(fd, chunk, (size_t)n) == n);
        return;
    }
    MUST(n == 0 || errno == EAGAIN || errno == ECONNRESET);
    if (n < 0 && errno == EAGAIN)
        return;
    counters.closed_takes++;
    loop_watch_free(echo->watch);
    http_upgraded_close(echo->raw);
    free(echo);
}

static void take_raw(struct http_raw *raw, int fd, const void *early, size_t n, void *arg)
{
    struct echo *echo;
    struct vm_err e;

    (void)arg;
    if (!raw) {
        MUST(fd == -1);
        counters.refused_takes++;
        return;
    }
    echo = malloc(sizeof *echo);
    echo->raw = raw;
    MUST(write(fd, "hello\n", 6) == 6);
    if (n)
        MUST(write(fd, early, n) == (ssize_t)n);
    MUST(loop_watch_new(loop, fd, EPOLLIN, echo_on, echo, &echo->watch, &e) == 0);
}

static void handle_upgrade(struct http_request *r, void *arg)
{
    (void)arg;
    counters.handled++;
    http_reply_upgrade(r, "vmsd-test", take_raw, NULL);
}

static int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (readdir(d))
        n++;
    closedir(d);
    return n;
}

static void handle_counters(struct http_request *r, void *arg)
{
    (void)arg;
    http_reply_json(r, 200,
                    json_pack("{s:I,s:I,s:I,s:I,s:I,s:I,s:i}", "aborted", (json_int_t)counters.aborted, "gone",
                              (json_int_t)counters.gone, "drained", (json_int_t)counters.drained, "refused_takes",
                              (json_int_t)counters.refused_takes, "closed_takes", (json_int_t)counters.closed_takes,
                              "handled", (json_int_t)counters.handled, "fds", open_fds()));
}

static const struct http_route routes[] = {
    {"GET", "/v1/things", ROLE_READ, 0, handle_list, "q* tags"},
    {"GET", "/v1/things/{name}", ROLE_READ, 0, handle_thing, NULL},
    {"PUT", "/v1/things/{name}", ROLE_WRITE, RIG_BODY_MAX, handle_thing, NULL},
    {"DELETE", "/v1/things/{name}", ROLE_WRITE, 0, handle_thing, NULL},
    {"POST", "/v1/things/{name}/big", ROLE_WRITE, 16 << 20, handle_thing, NULL},
    {"GET", "/v1/free", ROLE_NONE, 0, handle_free, NULL},
    {"GET", "/v1/later", ROLE_READ, 0, handle_later, NULL},
    {"GET", "/v1/never", ROLE_READ, 0, handle_never, NULL},
    {"GET", "/v1/stream", ROLE_READ, 0, handle_stream, NULL},
    {"POST", "/v1/emit", ROLE_WRITE, 0, handle_emit, NULL},
    {"POST", "/v1/end", ROLE_WRITE, 0, handle_end, NULL},
    {"POST", "/v1/upgrade", ROLE_WRITE, 100, handle_upgrade, NULL},
    {"GET", "/v1/counters", ROLE_NONE, 0, handle_counters, NULL},
};

static enum http_role role_of(const struct http_peer *p, const gid_t *groups, size_t n, void *arg)
{
    (void)arg;
    for (size_t i = 0; i < n; i++)
        if (groups[i] == RIG_READER)
            return ROLE_READ;
    return p->uid == RIG_WRITER ? ROLE_WRITE : p->uid == RIG_READER ? ROLE_READ : ROLE_NONE;
}

struct http_server *rig_serve(struct loop *l)
{
    struct http_options options = {.routes = routes, .n_routes = ARRAY_LEN(routes), .role_of = role_of};
    struct http_server *s = NULL;
    struct vm_err e;
    int fd = -1;

    loop = l;
    if (http_listen(rig_socket, 0777, (gid_t)-1, &fd, &e) < 0 ||
        fcntl(fd, F_SETFL, 0) < 0 || /* as systemd would give it */
        http_serve(l, fd, &options, &s, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(1);
    }
    return s;
}

static void quit(int sig, void *arg)
{
    (void)sig, (void)arg;
    loop_quit(loop);
}

static pid_t server_pid;
static char dir[64];

static void server_main(int ready)
{
    struct vm_err e;
    struct loop *l;

    if (loop_open(1, &l, &e) < 0 || loop_signal(l, SIGTERM, quit, NULL, &e) < 0)
        exit(1);
    struct http_server *s = rig_serve(l);
    close(ready);
    if (loop_run(l, &e) < 0)
        exit(1);
    http_server_free(s);
    loop_close(l);
    exit(0);
}

void rig_start(void)
{
    int ready[2];
    char c;

    strcpy(dir, "/tmp/http_rig.XXXXXX");
    MUST(mkdtemp(dir) != NULL);
    MUST(chmod(dir, 0755) == 0);
    snprintf(rig_socket, sizeof rig_socket, "%s/sock", dir);
    MUST(pipe(ready) == 0);
    server_pid = fork();
    if (server_pid == 0) {
        close(ready[0]);
        server_main(ready[1]);
    }
    close(ready[1]);
    MUST(read(ready[0], &c, 1) == 0); /* closed: it listens */
    close(ready[0]);
}

void rig_stop(void)
{
    int status = 0;

    kill(server_pid, SIGTERM);
    MUST(waitpid(server_pid, &status, 0) == server_pid);
    MUST(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    unlink(rig_socket);
    rmdir(dir);
}

/* ---- clients ---- */

int rig_dial(uid_t as)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, rig_socket, sizeof addr.sun_path);
    MUST(seteuid(as) == 0);
    MUST(connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0);
    MUST(seteuid(0) == 0);
    return fd;
}

void rig_send(int fd, const void *p, size_t n)
{
    for (const char *at = p; n;) {
        ssize_t put = send(fd, at, n, MSG_NOSIGNAL);
        if (put < 0)
            return; /* the server may close before it has read all: what it says counts */
        at += put;
        n -= (size_t)put;
    }
}

void rig_say(int fd, const char *s)
{
    rig_send(fd, s, strlen(s));
}

/* Appends what comes; false at the end or when nothing comes. */
static bool hear_more(int fd, struct text *t, size_t max)
{
    char chunk[4096];
    struct pollfd p = {.fd = fd, .events = POLLIN};

    if (poll(&p, 1, WAIT_MS) <= 0)
        return false;
    ssize_t n = read(fd, chunk, max < sizeof chunk ? max : sizeof chunk);
    if (n <= 0)
        return false;
    text_add_bytes(t, chunk, (size_t)n);
    return true;
}

struct rig_answer rig_hear(int fd)
{
    struct rig_answer a = {0};
    unsigned long long left = 0;

    while (!a.head.s || !strstr(a.head.s, "\r\n\r\n"))
        if (!hear_more(fd, &a.head, 1))
            break;
    if (!a.head.s)
        return a;
    sscanf(a.head.s, "HTTP/1.1 %d", &a.status);
    const char *length = strcasestr(a.head.s, "\r\nContent-Length:");
    if (length)
        sscanf(strchr(length, ':') + 1, "%llu", &left);
    while (left && hear_more(fd, &a.body, left))
        left = strtoull(strchr(length, ':') + 1, NULL, 10) - a.body.len;
    return a;
}

void rig_answer_done(struct rig_answer a)
{
    text_done(a.head);
    text_done(a.body);
}

bool rig_ended(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    int64_t end = now_ms() + WAIT_MS;

    while (now_ms() < end) {
        char chunk[4096];
        if (poll(&p, 1, (int)(end - now_ms())) <= 0)
            return false;
        if (read(fd, chunk, sizeof chunk) <= 0)
            return true;
    }
    return false;
}

struct rig_answer rig_ask(uid_t as, const char *method, const char *path, const char *body)
{
    OWN(text) struct text t = {0};
    OWN(fd) int fd = rig_dial(as);

    text_addf(&t, "%s %s HTTP/1.1\r\nHost: x\r\n", method, path);
    if (body)
        text_addf(&t, "Content-Length: %zu\r\n", strlen(body));
    text_addf(&t, "\r\n%s", body ? body : "");
    rig_send(fd, t.s, t.len);
    return rig_hear(fd);
}

int64_t rig_count(const char *name)
{
    OWN(rig_answer) struct rig_answer a = rig_ask(RIG_WRITER, "GET", "/v1/counters", NULL);
    OWN(json) json_t *j = json_from_text(a.body.s, a.body.len, NULL);

    MUST(a.status == 200);
    return json_int(j, name, -1);
}

void rig_await(const char *name, int64_t value)
{
    int64_t is = 0;

    for (int64_t end = now_ms() + WAIT_MS; now_ms() < end && (is = rig_count(name)) != value;)
        sleep_ms(10);
    if (is != value)
        fprintf(stderr, "%s is %lld, not %lld\n", name, (long long)is, (long long)value);
    MUST(is == value);
}
