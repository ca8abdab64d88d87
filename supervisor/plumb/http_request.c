#include "http_priv.h"

#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <vmsd/json.h>

static struct conn *conn_of(struct MHD_Connection *mhd)
{
    return MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

static void request_free(struct http_request *r)
{
    if (r->take)
        r->take(NULL, -1, NULL, 0, r->take_arg);
    if (r->response)
        MHD_destroy_response(r->response);
    target_done(r->target);
    text_done(r->body);
    free(r);
}

/* ---- answers ---- */

void response_add_headers(struct MHD_Response *response, const char *type)
{
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
}

/* bytes is taken. NULL: no memory. */
static struct MHD_Response *response_of_bytes(char *bytes, size_t n, const char *type)
{
    struct MHD_Response *response = bytes ? MHD_create_response_from_buffer(n, bytes, MHD_RESPMEM_MUST_FREE) : NULL;

    if (response)
        response_add_headers(response, type);
    else
        free(bytes);
    return response;
}

static int add_to_text(const char *p, size_t n, void *arg)
{
    text_add_bytes(arg, p, n);
    return 0;
}

/* body is taken, and may be NULL. NULL: no memory. */
static struct MHD_Response *response_of_json(json_t *body)
{
    struct text t = {0};

    if (!body || json_dump_callback(body, add_to_text, &t, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15)) < 0 || json_lost())
        t.failed = true;
    json_decref(body);
    text_add(&t, "\n");
    size_t n = t.len;
    return response_of_bytes(text_take(&t), n, "application/json");
}

static void settle(struct http_request *r, int status, struct MHD_Response *response)
{
    r->held = false;
    r->response = response;
    r->status = status;
    r->state = REQUEST_ANSWERED;
}

void request_answer(struct http_request *r, int status, struct MHD_Response *response)
{
    settle(r, status, response);
    if (r->conn)
        conn_resume(r->conn);
    else
        request_free(r);
}

static enum MHD_Result request_send(struct http_request *r, struct MHD_Connection *mhd)
{
    if (!r->response)
        return MHD_NO;
    if (r->conn->stream)
        conn_time_out(r->conn, false); /* its own bound is the backlog */
    enum MHD_Result rc = MHD_queue_response(mhd, (unsigned)r->status, r->response);
    MHD_destroy_response(r->response);
    r->response = NULL;
    return rc;
}

/* ---- a request comes in ---- */

void *request_first_line(void *server, const char *uri, struct MHD_Connection *mhd)
{
    struct http_server *s = server;
    struct conn *c = conn_of(mhd);
    struct http_request *r = c ? calloc(1, sizeof *r) : NULL;

    if (!r)
        return NULL;
    r->conn = c;
    r->loop = s->loop;
    r->peer = c->peer;
    if (target_parse(uri, &r->target, &r->bad) == 0)
        r->bad.code = VM_E_OK;
    c->request = r;
    return r;
}

/* What the head says about the body. libmicrohttpd looks at the first of each header only, and takes a body with an
 * encoding that it doesn't know until the connection ends: where two readers could differ, we refuse. */
struct framing {
    unsigned lengths, encodings;
    bool chunked, bad_length;
    uint64_t length;
};

static enum MHD_Result read_framing(void *arg, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct framing *f = arg;

    (void)kind;
    if (strcasecmp(key, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        f->lengths++;
        f->bad_length |= !value || !text_to_u64(value, &f->length);
    } else if (strcasecmp(key, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        f->encodings++;
        f->chunked = value && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

static int check_framing(const struct framing *f, struct vm_err *e)
{
    if (f->lengths > 1 || f->bad_length)
        return vm_fail(e, VM_E_INVALID, "Content-Length must be there once, as a decimal number");
    if (f->encodings > 1 || (f->encodings && (!f->chunked || f->lengths)))
        return vm_fail(e, VM_E_INVALID, "Transfer-Encoding can only be 'chunked', and not beside a Content-Length");
    return 0;
}

/* NULL when there is no such method at that path; *methods then has those that there are, if any. */
static const struct http_route *find_route(const struct http_options *o, const struct http_target *t,
                                           const char *method, struct text *methods)
{
    for (const struct http_route *row = o->routes; row < o->routes + o->n_routes; row++) {
        if (!target_matches(t, row->path))
            continue;
        if (strcmp(row->method, method) == 0)
            return row;
        text_addf(methods, "%s%s", methods->len ? ", " : "", row->method);
    }
    return NULL;
}

/* What follows key in a route's list of keys: a blank, the end, or the '*' of one that may be repeated. NULL: it is not in
 * there. */
static const char *key_in(const char *list, const char *key)
{
    size_t n = strcspn(key, " *");

    for (const char *at = list; n && !key[n] && (at = strstr(at, key)); at++)
        if ((at == list || at[-1] == ' ') && strchr(" *", at[n]))
            return at + n;
    return NULL;
}

static int check_query(const struct http_request *r, struct vm_err *e)
{
    const char *known = r->route->query;

    for (size_t i = 0; known && i < r->target.n_query; i++) {
        const char *key = r->target.query[i].key, *found = key_in(known, key);

        if (!found)
            return vm_fail(e, VM_E_INVALID, "the query has an unknown key '%.40s'; known here: %s", key, *known ? known : "none");
        if (*found != '*' && target_query(&r->target, key, 1))
            return vm_fail(e, VM_E_INVALID, "the query has '%.40s' twice", key);
    }
    return 0;
}

/* 0, or the status of the refusal in *e. The role is looked at before anything that the answer could tell: one without
 * it gets the same words whether the object is there or not. */
static int check_head(struct http_request *r, const struct framing *framing, const char *method, struct text *methods,
                      struct vm_err *e)
{
    const struct http_options *o = &r->conn->server->options;

    if (r->bad.code != VM_E_OK) {
        *e = r->bad;
        return vm_err_http(e->code);
    }
    if (check_framing(framing, e) < 0)
        return 400;
    r->route = find_route(o, &r->target, method, methods);
    if (r->peer.role < (r->route ? r->route->role : ROLE_READ)) {
        vm_fail(e, VM_E_DENIED, "this user may not do that: root and the group vmsd may, the group vmsd-read may look");
        return 403;
    }
    if (!r->route && methods->len) {
        vm_fail(e, VM_E_INVALID, "there is no such method here, only %s", methods->s);
        return 405;
    }
    if (!r->route) {
        vm_fail(e, VM_E_ABSENT, "there is nothing at this path");
        return 404;
    }
    if (check_query(r, e) < 0)
        return 400;
    if (framing->length > r->route->body_max || (framing->chunked && r->route->body_max == 0)) {
        vm_fail(e, VM_E_TOO_LARGE, "the body here is at most %zu bytes long", r->route->body_max);
        return 413;
    }
    return 0;
}

static enum MHD_Result request_begin(struct http_request *r, struct MHD_Connection *mhd, const char *method)
{
    OWN(text) struct text methods = {0};
    struct framing framing = {0};
    struct vm_err e;

    MHD_get_connection_values(mhd, MHD_HEADER_KIND, read_framing, &framing);
    int status = check_head(r, &framing, method, &methods, &e);
    r->state = REQUEST_BODY;
    loop_timer_set(r->conn->deadline, HTTP_HEAD_MS, 500);
    if (status == 0)
        return MHD_YES;
    struct MHD_Response *response = response_of_json(json_from_err(&e));
    if (response && status == 405)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, methods.s);
    if (response && status == 400) /* who spells one request wrong may have meant another end of it */
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    settle(r, status, response);
    /* After an answer before the body libmicrohttpd closes. Where there is no body the next call will do. */
    bool no_body = !framing.encodings && (!framing.lengths || (framing.lengths == 1 && framing.length == 0));
    return no_body ? MHD_YES : request_send(r, mhd);
}

/* libmicrohttpd can't answer in the middle of a body; nothing of ours is on its way by then, so this goes by hand. */
static enum MHD_Result refuse_body(struct http_request *r)
{
    static const char answer[] = "HTTP/1.1 413 Content Too Large\r\nContent-Type: application/json\r\n"
                                 "Content-Length: 65\r\nConnection: close\r\n\r\n"
                                 "{\"error\":{\"code\":\"too-large\",\"message\":\"the body is too large\"}}\n";
    (void)!send(r->conn->fd, answer, sizeof answer - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    return MHD_NO;
}

static enum MHD_Result request_body(struct http_request *r, const char *data, size_t *n)
{
    if (r->state != REQUEST_BODY)
        return MHD_NO;
    if (*n > r->route->body_max - r->body.len)
        return refuse_body(r);
    text_add_bytes(&r->body, data, *n);
    if (r->body.failed)
        return MHD_NO;
    *n = 0;
    loop_timer_set(r->conn->deadline, HTTP_HEAD_MS, 500);
    return MHD_YES;
}

/* Called for the head, for each piece of the body, at its end, and after each resume until there is an answer. */
enum MHD_Result request_step(void *server, struct MHD_Connection *mhd, const char *url, const char *method,
                             const char *version, const char *data, size_t *n, void **request)
{
    struct http_server *s = server;
    struct http_request *r = *request;

    (void)url, (void)version;
    if (!r)
        return MHD_NO;
    if (r->state == REQUEST_HEAD)
        return request_begin(r, mhd, method);
    if (*n)
        return request_body(r, data, n);
    if (r->state == REQUEST_BODY) {
        loop_timer_stop(r->conn->deadline);
        r->state = REQUEST_HANDLED;
        r->held = true;
        json_lost(); /* what another's work lost before is not this one's */
        r->route->handle(r, s->options.arg);
    }
    if (r->client_left)
        return MHD_NO;
    if (r->state == REQUEST_ANSWERED)
        return request_send(r, mhd);
    conn_suspend(r->conn);
    return MHD_YES;
}

static void request_abort(struct http_request *r)
{
    if (!r->held || !r->on_abort)
        return;
    r->held = false;
    r->on_abort(r->abort_arg);
}

void request_client_left(struct http_request *r)
{
    r->client_left = r->state == REQUEST_HANDLED;
    if (r->client_left)
        request_abort(r);
}

void request_completed(void *server, struct MHD_Connection *mhd, void **request, enum MHD_RequestTerminationCode how)
{
    struct http_request *r = *request;

    (void)server, (void)mhd, (void)how;
    if (!r)
        return;
    *request = NULL;
    r->conn->request = NULL;
    if (r->conn->stream)
        stream_client_left(r->conn->stream);
    loop_timer_set(r->conn->deadline, HTTP_HEAD_MS, 500); /* of the next one's head */
    r->conn = NULL;
    request_abort(r);
    if (!r->held)
        request_free(r);
}

/* ---- for handlers ---- */

const char *http_path_arg(const struct http_request *r, const char *name)
{
    return target_arg(&r->target, r->route->path, name);
}

const char *http_query(const struct http_request *r, const char *name)
{
    return target_query(&r->target, name, 0);
}

const char *http_query_nth(const struct http_request *r, const char *name, size_t nth)
{
    return target_query(&r->target, name, nth);
}

const char *http_header(const struct http_request *r, const char *name)
{
    return r->conn ? MHD_lookup_connection_value(r->conn->mhd, MHD_HEADER_KIND, name) : NULL;
}

const void *http_body(const struct http_request *r, size_t *n)
{
    *n = r->body.len;
    return r->body.s ? r->body.s : "";
}

const struct http_peer *http_peer(const struct http_request *r)
{
    return &r->peer;
}

void http_on_abort(struct http_request *r, void (*fn)(void *arg), void *arg)
{
    r->on_abort = fn;
    r->abort_arg = arg;
}

void http_reply_json(struct http_request *r, int status, json_t *body)
{
    request_answer(r, status, response_of_json(body));
}

void http_reply_text(struct http_request *r, int status, const char *type, const char *body, size_t n)
{
    struct text t = {0};

    text_add_bytes(&t, body, n);
    request_answer(r, status, response_of_bytes(text_take(&t), n, type));
}

void http_reply_error(struct http_request *r, const struct vm_err *e)
{
    http_reply_json(r, vm_err_http(e->code), json_from_err(e));
}
