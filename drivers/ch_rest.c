#include "ch.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <vmsd/curl.h>
#include <vmsd/path.h>

enum { ANSWER_MAX = 1 << 20, HEAD_MAX = 64 << 10 };

/* One call under way. */
struct talk {
    const struct ch_call *call;
    struct deadline d;
    int dir, socket;         /* run_dir; what curl talks on */
    struct text body;
    size_t head;
    bool endless;            /* the answer has no end */
};

OWN_DEFINE(curl, CURL *, libcurl.easy_cleanup)
OWN_DEFINE(headers, struct curl_slist *, libcurl.slist_free_all)

/* The first byte of the request carries the fd; curl then sends a method that lacks it. */
static bool fd_send(int to, const struct ch_call *c)
{
    char first = c->method[0];
    union { struct cmsghdr head; char room[CMSG_SPACE(sizeof(int))]; } control = {0};
    struct iovec iov = {&first, 1};
    struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);

    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(h), &c->fd, sizeof(int));
    return sendmsg(to, &m, MSG_NOSIGNAL) == 1;
}

static curl_socket_t make_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct talk *t = arg;

    (void)purpose;
    return t->socket = socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static int before_request(void *arg, char *remote, char *local, int remote_port, int local_port)
{
    const struct talk *t = arg;

    (void)remote, (void)local, (void)remote_port, (void)local_port;
    return t->call->fd < 0 || fd_send(t->socket, t->call) ? CURL_PREREQFUNC_OK : CURL_PREREQFUNC_ABORT;
}

static size_t take_body(char *p, size_t size, size_t n, void *arg)
{
    struct talk *t = arg;

    if ((t->endless = t->body.len + size * n > ANSWER_MAX))
        return 0;
    text_add_bytes(&t->body, p, size * n);
    return size * n;
}

static size_t take_head(char *p, size_t size, size_t n, void *arg)
{
    struct talk *t = arg;

    (void)p;
    t->head += size * n;
    return (t->endless = t->head > HEAD_MAX) ? 0 : size * n;
}

static int out_of_time(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    struct talk *t = arg;

    (void)a, (void)b, (void)c, (void)d;
    return deadline_left(t->d) == 0;
}

/* ["Error from API", "The VM could not boot", …] in one line. */
static int refused(struct talk *t, long status, struct vm_err *e)
{
    OWN(json) json_t *why = t->body.len ? json_loadb(t->body.s, t->body.len, 0, NULL) : NULL;
    OWN(text) struct text line = {0};
    size_t i;
    json_t *part;

    if (json_is_array(why))
        json_array_foreach(why, i, part) {
            if (!json_is_string(part))
                continue;
            text_add(&line, line.len ? ": " : "");
            text_add_visible(&line, json_string_value(part), json_string_length(part), NULL);
        }
    else if (t->body.len)
        text_add_visible(&line, t->body.s, t->body.len, NULL);
    return vm_fail(e, status == 429 ? VM_E_CONFLICT : VM_E_BACKEND, "%s: cloud-hypervisor says %ld%s%s", t->call->what,
                   status, line.len ? ": " : "", line.len ? line.s : "");
}

static int broken(struct talk *t, CURLcode rc, struct vm_err *e)
{
    if (t->endless)
        return vm_fail(e, VM_E_BACKEND, "%s: cloud-hypervisor's answer has no end", t->call->what);
    if (rc == CURLE_COULDNT_CONNECT)
        return vm_fail(e, VM_E_UNAVAILABLE, "%s: cloud-hypervisor is not there", t->call->what);
    if (rc == CURLE_OPERATION_TIMEDOUT || rc == CURLE_ABORTED_BY_CALLBACK)
        return vm_fail(e, VM_E_TIMEOUT, "%s: cloud-hypervisor did not answer in time", t->call->what);
    return vm_fail(e, VM_E_BACKEND, "%s: cloud-hypervisor broke off: %s", t->call->what, libcurl.easy_strerror(rc));
}

static CURLcode talk_set(struct talk *t, CURL *c, const char *body, const struct curl_slist *headers)
{
    CURLcode rc = CURLE_OK;
    int64_t left = deadline_left(t->d);
    char url[96], path[48];

    snprintf(url, sizeof url, "http://localhost/api/v1/%s", t->call->what);
    snprintf(path, sizeof path, "/proc/self/fd/%d/" KEEPER_API, t->dir); /* whatever run_dir's length */
#define SET(option, value) (rc = rc ? rc : libcurl.easy_setopt(c, CURLOPT_##option, value))
    SET(URL, url);
    SET(NOPROXY, "*");
    SET(NOSIGNAL, 1L);
    SET(TIMEOUT_MS, (long)(left ? left : 1));
    SET(UNIX_SOCKET_PATH, path);
    SET(OPENSOCKETFUNCTION, make_socket);
    SET(OPENSOCKETDATA, t);
    SET(PREREQFUNCTION, before_request);
    SET(PREREQDATA, t);
    SET(WRITEFUNCTION, take_body);
    SET(WRITEDATA, t);
    SET(HEADERFUNCTION, take_head);
    SET(HEADERDATA, t);
    SET(NOPROGRESS, 0L);
    SET(XFERINFOFUNCTION, out_of_time);
    SET(XFERINFODATA, t);
    SET(HTTPHEADER, headers);
    SET(CUSTOMREQUEST, t->call->method + (t->call->fd >= 0));
    if (strcmp(t->call->method, "GET"))
        SET(POSTFIELDS, body ? body : "");
#undef SET
    return rc;
}

static int talk_run(struct talk *t, const char *body, long *status, struct vm_err *e)
{
    if (libcurl_need(e) < 0)
        return -1;

    OWN(curl) CURL *c = NULL;
    OWN(headers) struct curl_slist *headers = NULL;
    CURLcode rc;

    /* "Expect:" alone: curl is not to ask first whether a large body is welcome. */
    if (!(c = libcurl.easy_init()) || !(headers = libcurl.slist_append(NULL, "Expect:")) ||
        !libcurl.slist_append(headers, "Content-Type: application/json"))
        return vm_no_memory(e);
    if ((rc = talk_set(t, c, body, headers)) != CURLE_OK || (rc = libcurl.easy_perform(c)) != CURLE_OK)
        return broken(t, rc, e);
    libcurl.easy_getinfo(c, CURLINFO_RESPONSE_CODE, status);
    return 0;
}

/* Counters of 2^64 - 1 are no integers for jansson. */
static int answer_parse(const struct talk *t, json_t **answer, struct vm_err *e)
{
    json_t *j = NULL;

    if (t->body.len &&
        !(j = json_loadb(t->body.s, t->body.len, JSON_DECODE_INT_AS_REAL | JSON_REJECT_DUPLICATES, NULL)))
        return vm_fail(e, VM_E_BACKEND, "%s: cloud-hypervisor's answer is no JSON", t->call->what);
    *answer = j;
    return 0;
}

int ch_call(const struct ch_call *c, struct deadline d, json_t **answer, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(c->run_dir, O_PATH | O_DIRECTORY, e);
    OWN(str) char *body = NULL;
    struct talk t = {.call = c, .d = d, .dir = dir, .socket = -1};
    long status = 0;
    int rc;

    if (dir < 0)
        return vm_context(e, "%s", c->what);
    if (c->body && !(body = json_to_text(c->body)))
        return vm_no_memory(e);
    if ((rc = talk_run(&t, body, &status, e)) == 0)
        rc = status < 200 || status > 299 ? refused(&t, status, e) : answer ? answer_parse(&t, answer, e) : 0;
    text_done(t.body);
    return rc;
}
