/* J1, floors 0 and 1: files, children, the loop, HTTP both ways, the session with an agent. */
#include "nth.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/agent.h>
#include <vmsd/child.h>
#include <vmsd/fetch.h>
#include <vmsd/hash.h>
#include <vmsd/http.h>
#include <vmsd/json.h>
#include <vmsd/loop.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

static char dir[] = "/tmp/vmsd-nth-XXXXXX";
static int dir_fd;

/* ---- base ---- */

static int texts(struct vm_err *e)
{
    OWN(strv) struct strv v = {0};
    OWN(str) char *s = text_format("%0100d", 7);

    for (int i = 0; i < 20; i++)
        strv_addf(&v, "%d", i);
    nth_over();
    if (v.failed || !s)
        return vm_no_memory(e);
    nth_say("%s %zu %s", s, v.n, v.v[19]);
    return 0;
}

static int json(struct vm_err *e)
{
    static const char text[] = "{\"b\": [1, 2.5, null, {\"c\": \"d\"}], \"a\": \"x\"}";
    OWN(json) json_t *j = json_from_text(text, strlen(text), e);
    OWN(str) char *out = NULL;

    if (j) {
        json_put_str(j, "e", "not UTF-8: \xff");
        json_put_int(j, "f", 5);
        if (!(out = json_to_text(j)))
            vm_no_memory(e);
    }
    nth_over();
    if (!out)
        return -1;
    nth_say("%s", out);
    return 0;
}

static int error_json(struct vm_err *e)
{
    struct vm_err was = {.code = VM_E_ABSENT, .text = "no guest 'x'"};
    OWN(json) json_t *j = json_from_err(&was);
    OWN(str) char *out = json_to_text(j);

    nth_over();
    if (!out)
        return vm_no_memory(e);
    nth_say("%s", out);
    return 0;
}

static int file(struct vm_err *e)
{
    OWN(fd) int made = path_mkdirs(dir_fd, "a/b/c", 0700, e);
    OWN(str) char *s = NULL;
    size_t n = 0;
    int rc = made < 0 || path_write(made, "f", dir, sizeof dir, 0600, e) < 0 || path_read(made, "f", 100, &s, &n, e) < 0 ||
             path_remove(dir_fd, "a", e) < 0 ? -1 : 0;

    nth_over();
    if (!rc)
        nth_say("%zu %s %d", n, s, path_exists(dir_fd, "a"));
    return rc;
}

static int host_directory(struct vm_err *e)
{
    OWN(str) char *path = text_format("%s/x/y", dir);
    OWN(fd) int fd = path ? path_mkdirs_host(path, 0700, e) : vm_no_memory(e);

    nth_over();
    if (fd >= 0)
        nth_say("made");
    return fd < 0 ? -1 : 0;
}

/* ---- children ---- */

static int child(struct vm_err *e)
{
    OWN(str) char *out = NULL;
    int rc = child_must((char *const[]){"sh", "-c", "yes x | head -c 30000", NULL}, deadline_in(20000), &out, e);

    nth_over();
    if (!rc)
        nth_say("%zu", strlen(out));
    return rc;
}

static int child_with_words(struct vm_err *e)
{
    struct child_plan plan = {.argv = (char *const[]){"cat", NULL}, .env = (char *const[]){"A=b", NULL}, .input = dir,
                              .n_input = sizeof dir - 1, .secret = true};
    struct child_end end = {0};
    int rc = child_run(&plan, deadline_in(20000), &end, e);

    nth_over();
    if (!rc)
        nth_say("%d %s", end.status, end.output);
    free(end.output);
    return rc;
}

/* ---- the loop ---- */

static struct loop *loop_new(struct vm_err *e)
{
    struct loop *l = NULL;

    return loop_open(2, &l, e) < 0 ? NULL : l;
}

static void nothing(int fd, uint32_t revents, void *arg)
{
    (void)fd, (void)revents, (void)arg;
}

static void quit(void *arg)
{
    loop_quit(arg);
}

static void job_run(void *arg)
{
    (void)arg;
}

static void job_done(void *arg, bool cancelled)
{
    (void)cancelled;
    loop_quit(arg);
}

static int loop(struct vm_err *e)
{
    OWN(fd) int event = eventfd(0, EFD_CLOEXEC);
    struct loop *l = loop_new(e);
    struct loop_timer *t = NULL;
    struct loop_watch *w = NULL;
    int rc = !l || loop_timer_new(l, quit, l, &t, e) < 0 || loop_watch_new(l, event, 0, nothing, l, &w, e) < 0 ||
             loop_work(l, (struct loop_job){job_run, job_done, l}, e) < 0 || loop_run(l, e) < 0 ? -1 : 0;

    nth_over();
    loop_timer_free(t);
    loop_watch_free(w);
    if (l)
        loop_close(l);
    return rc;
}

/* ---- HTTP ---- */

/* One exchange between our server and our client, on one loop. */
struct exchange {
    struct loop *loop;
    struct http_server *server;
    struct fetch *fetch;
    struct vm_err *e;
    int rc;
};

static void answered(const struct fetch_answer *a, const struct vm_err *why, void *arg)
{
    struct exchange *x = arg;

    nth_over();
    x->fetch = NULL;
    x->rc = a && a->status == 200 ? 0 : -1;
    if (a && x->rc) /* the server says it */
        vm_fail(x->e, VM_E_SYSTEM, "%d %s", a->status, a->body);
    else if (a)
        nth_say("%s", a->body);
    else if (x->e->code == VM_E_OK) /* where the server has no memory even to say so, it hangs up */
        vm_fail(x->e, VM_E_SYSTEM, why->code == VM_E_BACKEND ? "no memory for an answer" : "%s", why->text);
    loop_quit(x->loop);
}

static void hello(struct http_request *r, void *arg)
{
    size_t n;
    const char *name = http_path_arg(r, "name"), *body = http_body(r, &n);
    json_t *j = json_object();

    (void)arg;
    json_put_str(j, "hello", name);
    json_put_str(j, "q", http_query(r, "q"));
    json_put(j, "body", json_stringn(body, n));
    http_reply_json(r, 200, j);
}

static void gone(void *arg)
{
    (void)arg;
}

static void streamed(struct http_request *r, void *arg)
{
    struct http_stream *s = http_reply_stream(r, 200, "text/plain", gone, arg);

    if (!s)
        return;
    for (int i = 0; i < 100; i++)
        http_stream_write(s, "a line of some length that is repeated\n", 39);
    http_stream_end(s);
}

static enum http_role role(const struct http_peer *p, const gid_t *groups, size_t n_groups, void *arg)
{
    (void)p, (void)groups, (void)n_groups, (void)arg;
    return ROLE_WRITE;
}

static const struct http_route routes[] = {
    {"PUT", "/v1/hello/{name}", ROLE_WRITE, 1000, hello, "q"},
    {"GET", "/v1/stream", ROLE_READ, 0, streamed, ""},
};

static int serve(struct exchange *x, const char *socket_path)
{
    struct http_options o = {.routes = routes, .n_routes = ARRAY_LEN(routes), .role_of = role};
    int fd = -1;

    if (!(x->loop = loop_new(x->e)) || http_listen(socket_path, 0600, (gid_t)-1, &fd, x->e) < 0)
        return -1;
    return http_serve(x->loop, fd, &o, &x->server, x->e); /* fd is taken */
}

static int exchange(const struct fetch_request *q, struct vm_err *e)
{
    struct exchange x = {.e = e, .rc = -1};
    int rc = serve(&x, q->socket);

    if (!rc && !(rc = fetch_start(x.loop, q, answered, &x, &x.fetch, e)))
        rc = loop_run(x.loop, e);
    nth_over();
    fetch_cancel(x.fetch);
    http_server_free(x.server);
    if (x.loop)
        loop_close(x.loop);
    unlink(q->socket);
    return rc ? rc : x.rc;
}

static struct fetch_request request(const char *method, const char *path)
{
    static char where[64];

    snprintf(where, sizeof where, "%s/sock", dir);
    return (struct fetch_request){.socket = where, .method = method, .path = path, .timeout_ms = 5000, .answer_max = 1 << 20};
}

static int http(struct vm_err *e)
{
    struct fetch_request q = request("PUT", "/v1/hello/world?q=%20");

    q.body = "\"said\"";
    q.n_body = 6;
    return exchange(&q, e);
}

static int http_streamed(struct vm_err *e)
{
    struct fetch_request q = request("GET", "/v1/stream");

    return exchange(&q, e);
}

/* ---- an agent ---- */

static void up(void *arg)
{
    (void)arg;
}

static void down(void *arg, const char *why)
{
    (void)arg, (void)why;
}

static void ended(const struct agent_result *r, void *arg)
{
    (void)r, (void)arg;
}

static int agent(struct vm_err *e)
{
    struct agent_events ev = {up, down, NULL, "0123456789abcdef0123456789abcdef"};
    int sv[2];
    struct agent *a = NULL;
    struct agent_stream *s = NULL;
    OWN(strv) struct strv words = {0};
    struct loop *l;
    int rc = -1;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) < 0)
        return vm_fail_sys(e, "socketpair");
    strv_add(&words, "op=exec");
    if (words.failed)
        vm_no_memory(e);
    else if ((l = loop_new(e))) {
        rc = agent_open(l, take_fd(&sv[0]), ev, &a, e);
        /* Not up yet: a request has to be refused, and not to be lost. */
        if (!rc && agent_request(a, &words, (struct agent_stream_events){.end = ended}, &s, NULL) == 0)
            rc = vm_fail(e, VM_E_SYSTEM, "a request before the session is up");
        nth_over();
        agent_close(a);
        loop_close(l);
    }
    nth_over();
    fd_drop(sv[0]);
    fd_drop(sv[1]);
    return rc;
}

static const struct nth_case cases[] = {
    {"texts", texts},
    {"JSON", json},
    {"error as JSON", error_json},
    {"file", file},
    {"directory of the host", host_directory},
    {"child", child},
    {"child with input", child_with_words},
    {"loop", loop},
    {"HTTP", http},
    {"HTTP, streamed", http_streamed},
    {"agent", agent},
};

int main(int argc, char **argv)
{
    int rc;

    if (!mkdtemp(dir) || (dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    rc = test_J1_each_allocation_fails(argc, argv, cases, ARRAY_LEN(cases));
    path_remove(dir_fd, "x", NULL);
    close(dir_fd);
    rmdir(dir);
    return rc;
}
