#include <vmsd/fetch.h>

#include <arpa/inet.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/un.h>
#include <vmsd/curl.h>
#include <vmsd/text.h>

/* A request has a multi handle of its own: nothing is shared between requests, so the end of one is the end of all that
 * belongs to it. */
struct fetch {
    struct loop *loop;
    CURLM *multi;
    CURL *easy;
    bool added;
    struct curl_slist *headers;
    struct loop_timer *timer;
    struct text body;
    size_t answer_max, head;
    bool cut;
    int64_t timeout_ms;
    fetch_done_fn *done;
    void *arg;
    char why[CURL_ERROR_SIZE];
};

void fetch_cancel(struct fetch *f)
{
    if (!f)
        return;
    if (f->added)
        libcurl.multi_remove_handle(f->multi, f->easy);
    libcurl.easy_cleanup(f->easy);
    libcurl.multi_cleanup(f->multi);
    libcurl.slist_free_all(f->headers);
    loop_timer_free(f->timer);
    text_done(f->body);
    free(f);
}

/* ---- the end ---- */

static void explain(const struct fetch *f, CURLcode rc, struct vm_err *e)
{
    long sys = 0;

    libcurl.easy_getinfo(f->easy, CURLINFO_OS_ERRNO, &sys);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        vm_fail(e, VM_E_TIMEOUT, "no answer within %.3g s", (double)f->timeout_ms / 1000);
    else if (rc == CURLE_COULDNT_CONNECT)
        vm_fail(e, VM_E_UNAVAILABLE, "cannot connect: %s", sys ? strerror((int)sys) : f->why);
    else if (f->body.failed)
        vm_no_memory(e);
    else if (f->head > FETCH_HEAD_MAX || rc == CURLE_OUT_OF_MEMORY) /* so libcurl calls one line of 100 KiB */
        vm_fail(e, VM_E_BACKEND, "the answer's header lines are longer than %d bytes", FETCH_HEAD_MAX);
    else
        vm_fail(e, VM_E_BACKEND, "%s", f->why[0] ? f->why : libcurl.easy_strerror(rc));
}

static void finish(struct fetch *f, CURLcode rc)
{
    struct fetch_answer a = {.n = f->body.len, .cut = f->cut};
    OWN(text) struct text body = f->body;
    fetch_done_fn *done = f->done;
    void *arg = f->arg;
    struct vm_err e = {0};
    bool good = rc == CURLE_OK || f->cut;
    long status = 0;

    if (good)
        libcurl.easy_getinfo(f->easy, CURLINFO_RESPONSE_CODE, &status);
    else
        explain(f, rc, &e);
    f->body = (struct text){0};
    fetch_cancel(f);
    a.status = (int)status;
    a.body = body.s ? body.s : "";
    done(good ? &a : NULL, good ? NULL : &e, arg);
}

/* ---- libcurl's side ---- */

static void drive(struct fetch *f, curl_socket_t fd, int events)
{
    int running = 0, left = 0;
    CURLMcode rc = libcurl.multi_socket_action(f->multi, fd, events, &running);
    const CURLMsg *m = libcurl.multi_info_read(f->multi, &left);

    if (m && m->msg == CURLMSG_DONE)
        finish(f, m->data.result);
    else if (rc != CURLM_OK || !running)
        finish(f, CURLE_FAILED_INIT);
}

static void on_timer(void *arg)
{
    drive(arg, CURL_SOCKET_TIMEOUT, 0);
}

static void on_fd(int fd, uint32_t revents, void *arg)
{
    int events = 0;

    if (revents & (EPOLLIN | EPOLLHUP))
        events |= CURL_CSELECT_IN;
    if (revents & EPOLLOUT)
        events |= CURL_CSELECT_OUT;
    if (revents & EPOLLERR)
        events |= CURL_CSELECT_ERR;
    drive(arg, fd, events);
}

static int want_timer(CURLM *multi, long ms, void *arg)
{
    struct fetch *f = arg;

    (void)multi;
    if (ms < 0)
        loop_timer_stop(f->timer);
    else
        loop_timer_set(f->timer, ms, ms / 16);
    return 0;
}

static int want_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *watch_arg)
{
    struct fetch *f = arg;
    struct loop_watch *w = watch_arg;
    uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);

    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        loop_watch_free(w);
        libcurl.multi_assign(f->multi, fd, NULL);
    } else if (w) {
        loop_watch_set(w, events);
    } else {
        if (loop_watch_new(f->loop, fd, events, on_fd, f, &w, NULL) < 0)
            return -1; /* ends the request */
        libcurl.multi_assign(f->multi, fd, w);
    }
    return 0;
}

static size_t take_body(char *p, size_t one, size_t n, void *arg)
{
    struct fetch *f = arg;
    size_t room = f->answer_max - f->body.len;

    (void)one;
    f->cut = n > room;
    text_add_bytes(&f->body, p, f->cut ? room : n);
    return f->cut || f->body.failed ? CURL_WRITEFUNC_ERROR : n;
}

static size_t take_head(char *p, size_t one, size_t n, void *arg)
{
    struct fetch *f = arg;

    (void)p, (void)one;
    f->head += n;
    return f->head > FETCH_HEAD_MAX ? CURL_WRITEFUNC_ERROR : n;
}

/* ---- the request ---- */

/* Nothing that could end a line, or begin another part of it. */
static bool is_word(const char *s)
{
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == 0x7f)
            return false;
    return true;
}

static int check_request(const struct fetch_request *q, bool *v6, struct vm_err *e)
{
    struct in_addr a4;
    struct in6_addr a6;

    *v6 = !q->socket && q->address && inet_pton(AF_INET6, q->address, &a6) == 1;
    if (q->socket && strlen(q->socket) >= sizeof(((struct sockaddr_un *)NULL)->sun_path))
        return vm_fail(e, VM_E_INVALID, "%s: the path is too long for a socket", q->socket);
    if (!q->socket && !*v6 && (!q->address || inet_pton(AF_INET, q->address, &a4) != 1))
        return vm_fail(e, VM_E_INVALID, "'%s' is not an address", q->address ? q->address : "");
    if (q->path[0] != '/' || !is_word(q->path) || (q->host && !is_word(q->host)) || (q->method && !is_word(q->method)))
        return vm_fail(e, VM_E_INVALID, "'%s': method, path and host are words, and a path begins with '/'", q->path);
    if (q->timeout_ms < 1)
        return vm_fail(e, VM_E_TIMEOUT, "no time is left");
    return 0;
}

static int add_header(struct fetch *f, const char *line)
{
    struct curl_slist *longer = libcurl.slist_append(f->headers, line);

    if (!longer)
        return -1;
    f->headers = longer;
    return 0;
}

#define SET(option, value) (rc = rc ? rc : libcurl.easy_setopt(f->easy, CURLOPT_##option, value))

static int set_request(struct fetch *f, const struct fetch_request *q, bool v6, struct vm_err *e)
{
    OWN(str) char *url = q->socket ? strdup("http://localhost/")
                                   : text_format(v6 ? "http://[%s]:%u/" : "http://%s:%u/", q->address, q->port);
    OWN(str) char *host = q->host ? text_format("Host: %s", q->host) : NULL;
    CURLcode rc = url ? CURLE_OK : CURLE_OUT_OF_MEMORY;

    /* A server of ours treats "Expect: 100-continue" badly; bodies are small. */
    if ((q->host && (!host || add_header(f, host) < 0)) || add_header(f, "Expect:") < 0 ||
        (q->body && add_header(f, "Content-Type: application/json") < 0))
        return vm_no_memory(e);
    SET(URL, url);
    SET(REQUEST_TARGET, q->path);
    SET(HTTPHEADER, f->headers);
    if (q->socket)
        SET(UNIX_SOCKET_PATH, q->socket);
    if (q->body) {
        SET(POSTFIELDSIZE_LARGE, (curl_off_t)q->n_body);
        SET(COPYPOSTFIELDS, q->body);
    }
    if (q->method)
        SET(CUSTOMREQUEST, q->method);
    SET(TIMEOUT_MS, (long)q->timeout_ms);
    SET(CONNECTTIMEOUT_MS, (long)q->timeout_ms);
    return rc ? vm_fail(e, VM_E_SYSTEM, "HTTP request: %s", libcurl.easy_strerror(rc)) : 0;
}

static int set_manners(struct fetch *f, struct vm_err *e)
{
    CURLcode rc = CURLE_OK;

    SET(PROTOCOLS_STR, "http");
    SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(FOLLOWLOCATION, 0L);
    SET(PROXY, "");
    SET(NOPROXY, "*");
    SET(NOSIGNAL, 1L);
    SET(FRESH_CONNECT, 1L);
    SET(FORBID_REUSE, 1L);
    SET(ERRORBUFFER, f->why);
    SET(WRITEFUNCTION, take_body);
    SET(WRITEDATA, f);
    SET(HEADERFUNCTION, take_head);
    SET(HEADERDATA, f);
    return rc ? vm_fail(e, VM_E_SYSTEM, "HTTP request: %s", libcurl.easy_strerror(rc)) : 0;
}

static int begin(struct fetch *f, struct vm_err *e)
{
    libcurl.multi_setopt(f->multi, CURLMOPT_SOCKETFUNCTION, want_socket);
    libcurl.multi_setopt(f->multi, CURLMOPT_SOCKETDATA, f);
    libcurl.multi_setopt(f->multi, CURLMOPT_TIMERFUNCTION, want_timer);
    libcurl.multi_setopt(f->multi, CURLMOPT_TIMERDATA, f);
    CURLMcode rc = libcurl.multi_add_handle(f->multi, f->easy); /* asks for the timer, which begins the work */
    f->added = rc == CURLM_OK;
    return f->added ? 0 : vm_fail(e, VM_E_SYSTEM, "HTTP request: %s", libcurl.multi_strerror(rc));
}

int fetch_start(struct loop *l, const struct fetch_request *q, fetch_done_fn *done, void *arg, struct fetch **out,
                struct vm_err *e)
{
    struct fetch *f;
    bool v6;

    if (check_request(q, &v6, e) < 0 || libcurl_need(e) < 0)
        return -1;
    if (!(f = calloc(1, sizeof *f)))
        return vm_no_memory(e);
    *f = (struct fetch){.loop = l, .answer_max = q->answer_max, .timeout_ms = q->timeout_ms, .done = done, .arg = arg,
                        .multi = libcurl.multi_init(), .easy = libcurl.easy_init()};
    if (!f->multi || !f->easy) {
        fetch_cancel(f);
        return vm_fail(e, VM_E_SYSTEM, "HTTP request: no memory or file descriptors");
    }
    if (loop_timer_new(l, on_timer, f, &f->timer, e) < 0 || set_manners(f, e) < 0 || set_request(f, q, v6, e) < 0 ||
        begin(f, e) < 0) {
        fetch_cancel(f);
        return -1;
    }
    *out = f;
    return 0;
}
