#include "client.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/curl.h>
#include "remote.h"

enum { TICK_MS = 100 };

static void multi_drop(CURLM *m)
{
    if (m)
        libcurl.multi_cleanup(m);
}
OWN_DEFINE(multi, CURLM *, multi_drop)

static void headers_drop(struct curl_slist *h)
{
    if (h)
        libcurl.slist_free_all(h);
}
OWN_DEFINE(headers, struct curl_slist *, headers_drop)

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

/* A transfer and curl's side of it. */
struct hold {
    struct transfer *t;
    CURL *curl;
};

static size_t on_answer(char *p, size_t one, size_t n, void *arg)
{
    struct hold *h = arg;
    struct transfer *t = h->t;
    long status = 0;

    (void)one; /* always 1 */
    libcurl.easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &status);
    if (status < 200 || status >= 300) { /* kept for its error */
        if (t->error_body.len + n <= CLIENT_ERROR_MAX)
            text_add_bytes(&t->error_body, p, n);
        return n;
    }
    if (t->failed || (t->sink && t->sink(p, n, t->arg, &t->err) < 0)) {
        t->failed = true;
        return CURL_WRITEFUNC_ERROR;
    }
    return n;
}

static size_t on_upload(char *p, size_t one, size_t n, void *arg)
{
    struct transfer *t = arg;
    ssize_t got;

    do
        got = read(t->body_fd, p, one * n);
    while (got < 0 && errno == EINTR);
    if (got >= 0)
        return (size_t)got;
    vm_fail_sys(&t->err, "read what is to be sent");
    t->failed = true;
    return CURL_READFUNC_ABORT;
}

static CURL *easy_new(struct hold *h, struct curl_slist *headers)
{
    CURL *curl = libcurl.easy_init();
    struct transfer *t = h->t;
    OWN(str) char *url = text_format("http://vmsd%s", t->path);

    if (!curl || !url) {
        libcurl.easy_cleanup(curl);
        return NULL;
    }
    h->curl = curl;
    libcurl.easy_setopt(curl, CURLOPT_URL, url);
    libcurl.easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, t->at->socket);
    libcurl.easy_setopt(curl, CURLOPT_PROXY, ""); /* http_proxy is meant for others */
    libcurl.easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    libcurl.easy_setopt(curl, CURLOPT_TIMEOUT, t->limit_s);
    libcurl.easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    libcurl.easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_answer);
    libcurl.easy_setopt(curl, CURLOPT_WRITEDATA, h);
    libcurl.easy_setopt(curl, CURLOPT_PRIVATE, t);
    if (t->has_body_fd) {
        libcurl.easy_setopt(curl, CURLOPT_UPLOAD, 1L);
        libcurl.easy_setopt(curl, CURLOPT_READFUNCTION, on_upload);
        libcurl.easy_setopt(curl, CURLOPT_READDATA, t);
    } else if (!strcmp(t->method, "POST")) {
        libcurl.easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)t->n);
        libcurl.easy_setopt(curl, CURLOPT_POSTFIELDS, t->body ? t->body : "");
    }
    libcurl.easy_setopt(curl, CURLOPT_CUSTOMREQUEST, t->method);
    return curl;
}

/* How one transfer ended. */
static void settle(CURL *curl, CURLcode code)
{
    struct transfer *t;
    struct client *c;
    long status = 0, sys = 0;

    libcurl.easy_getinfo(curl, CURLINFO_PRIVATE, &t);
    libcurl.easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    t->cut = false;
    c = t->at;
    if (t->failed)
        return; /* the sink's own error came first */
    if (code == CURLE_OK && status >= 200 && status < 300)
        return;
    t->failed = true;
    if (code == CURLE_COULDNT_CONNECT) {
        libcurl.easy_getinfo(curl, CURLINFO_OS_ERRNO, &sys);
        client_unreached(c, sys ? (int)sys : ECONNREFUSED, &t->err);
    } else if (c->remote && status == 0 && code != CURLE_OPERATION_TIMEDOUT) { /* ssh takes each connection first */
        client_unreached(c, ECONNREFUSED, &t->err);
    } else if (code == CURLE_OPERATION_TIMEDOUT) {
        vm_fail(&t->err, VM_E_TIMEOUT, "vmsd at %s has not answered for %ld s", c->socket, t->limit_s);
    } else if (status >= 300) {
        c->refused = true;
        client_error(status, t->error_body.s, t->error_body.len, &t->err);
    } else if (code == CURLE_PARTIAL_FILE || code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR) {
        vm_fail(&t->err, VM_E_BACKEND, "vmsd at %s broke off its answer; was it stopped or restarted?", c->socket);
    } else {
        vm_fail(&t->err, VM_E_BACKEND, "vmsd at %s broke off: %s", c->socket, libcurl.easy_strerror(code));
    }
}

static void run(CURLM *m, bool (*tick)(void *arg), void *arg)
{
    int running = 1, left;
    CURLMsg *msg;

    while (running) {
        if (libcurl.multi_perform(m, &running) != CURLM_OK)
            return;
        while ((msg = libcurl.multi_info_read(m, &left)))
            if (msg->msg == CURLMSG_DONE)
                settle(msg->easy_handle, msg->data.result);
        if (tick && !tick(arg))
            return;
        if (running)
            libcurl.multi_poll(m, NULL, 0, TICK_MS, NULL);
    }
}

int client_run(struct client *c, struct transfer *t, size_t n, bool (*tick)(void *arg), void *arg, struct vm_err *e)
{
    OWN(multi) CURLM *m = NULL;
    OWN(headers) struct curl_slist *headers = NULL;
    OWN(mem) struct hold *holds = calloc(n ? n : 1, sizeof *holds);
    int rc = 0;

    if (libcurl_need(e) < 0)
        return -1;
    m = libcurl.multi_init();
    headers = libcurl.slist_append(NULL, "Expect:"); /* no round trip before a large body */
    if (!m || !headers || !holds)
        return vm_no_memory(e);
    libcurl.multi_setopt(m, CURLMOPT_MAX_TOTAL_CONNECTIONS, (long)CLIENT_STREAMS_MAX);
    for (size_t i = 0; i < n && rc == 0; i++) {
        holds[i].t = &t[i];
        if (!t[i].at)
            t[i].at = c;
        if (!t[i].at)
            continue;
        if (client_reach(t[i].at, &t[i].err) < 0) {
            t[i].failed = true;
            t[i].cut = false;
            continue;
        }
        if (!easy_new(&holds[i], headers))
            rc = vm_no_memory(e);
        else
            libcurl.multi_add_handle(m, holds[i].curl);
    }
    if (rc == 0)
        run(m, tick, arg);
    for (size_t i = 0; i < n; i++) {
        if (holds[i].curl)
            libcurl.multi_remove_handle(m, holds[i].curl);
        libcurl.easy_cleanup(holds[i].curl);
        text_done(t[i].error_body);
        t[i].error_body = (struct text){0};
    }
    return rc;
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
