#include <vmsd/post.h>

#include <string.h>
#include <vmsd/curl.h>
#include <vmsd/own.h>

enum { ANSWER_MAX = 64 << 10 };

struct post {
    CURL *easy;
    struct curl_slist *headers;
    size_t answer;
    char why[CURL_ERROR_SIZE];
};

static void post_done(struct post p)
{
    libcurl.easy_cleanup(p.easy);
    libcurl.slist_free_all(p.headers);
}
OWN_DEFINE(post, struct post, post_done)

static size_t pass_over(char *data, size_t size, size_t n, void *arg)
{
    struct post *p = arg;

    (void)data;
    p->answer += size * n;
    return p->answer <= ANSWER_MAX ? size * n : 0;
}

#define SET(option, value) (rc = rc ? rc : libcurl.easy_setopt(p->easy, CURLOPT_##option, value))

static CURLcode set(struct post *p, const char *url, const char *body, int64_t timeout_ms)
{
    CURLcode rc = CURLE_OK;

    SET(URL, url);
    SET(PROTOCOLS_STR, "http,https");
    SET(POSTFIELDS, body);
    SET(HTTPHEADER, p->headers);
    SET(USERAGENT, "vmsd");
    SET(TIMEOUT_MS, (long)timeout_ms);
    SET(FOLLOWLOCATION, 0L);
    SET(PROXY, "");
    SET(NOPROXY, "*");
    SET(NOSIGNAL, 1L);
    SET(ERRORBUFFER, p->why);
    SET(WRITEFUNCTION, pass_over);
    SET(WRITEDATA, p);
    return rc;
}

static int send_it(struct post *p, const char *url, const char *body, int64_t timeout_ms, struct vm_err *e)
{
    CURLcode rc = set(p, url, body, timeout_ms);
    long status = 0;

    if (rc)
        return vm_fail(e, VM_E_SYSTEM, "HTTP request: %s", libcurl.easy_strerror(rc));
    rc = libcurl.easy_perform(p->easy);
    libcurl.easy_getinfo(p->easy, CURLINFO_RESPONSE_CODE, &status);
    if (rc == CURLE_OPERATION_TIMEDOUT)
        return vm_fail(e, VM_E_TIMEOUT, "no answer within %.3g s", (double)timeout_ms / 1000);
    if (rc && !(rc == CURLE_WRITE_ERROR && status))
        return vm_fail(e, VM_E_UNAVAILABLE, "%s", p->why[0] ? p->why : libcurl.easy_strerror(rc));
    if (status / 100 != 2)
        return vm_fail(e, VM_E_BACKEND, "it answers with status %ld", status);
    return 0;
}

int post_json(const char *url, const char *body, int64_t timeout_ms, struct vm_err *e)
{
    struct curl_slist *longer;

    if (libcurl_need(e) < 0)
        return -1;
    OWN(post) struct post p = {.easy = libcurl.easy_init()};
    for (const char *const *h = (const char *const[]){"Content-Type: application/json", "Expect:", NULL}; *h; h++) {
        if (!(longer = libcurl.slist_append(p.headers, *h)))
            return vm_no_memory(e);
        p.headers = longer;
    }
    return p.easy ? send_it(&p, url, body, timeout_ms, e) : vm_no_memory(e);
}
