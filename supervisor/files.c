/* Files in and out of a guest, and what the guest says of itself: one request of its agent each. All of it on the loop:
 * a guest that answers slowly costs a stream of its own session, and no worker. */
#include "api.h"

#include <stdlib.h>
#include <string.h>

enum {
    GUEST_FILE_MAX = 64 << 20,
    GUEST_CALL_MS = 60000,
    INSIDE_MAX = 64 << 10,
    FEED = 64 << 10,
    CALLS_PER_GUEST = 8, /* of the streams of its session: the rest is for jobs and exec */
    CALLS_MAX = 32,
};

struct call {
    struct world *w;
    uint32_t id;
    struct http_request *request; /* NULL: the client went away */
    struct strv ask;
    struct agent_stream *stream;
    struct loop_timer *timer;
    char *input;
    size_t n_input, fed;
    struct text output;
    size_t output_max;
    bool late;
    void (*reply)(struct call *c, const struct agent_result *r);
};

static void call_free(struct call *c)
{
    struct guest *g = world_guest_by_id(c->w, c->id);

    if (g)
        g->calls--;
    c->w->calls--;
    loop_timer_free(c->timer);
    strv_done(c->ask);
    text_done(c->output);
    free(c->input);
    free(c);
}

static void on_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct call *c = arg;
    size_t room = c->output_max - c->output.len;

    (void)ch;
    text_add_bytes(&c->output, p, n < room ? n : room);
}

static void feed(void *arg)
{
    struct call *c = arg;

    while (c->fed < c->n_input) {
        size_t left = c->n_input - c->fed, n = left < FEED ? left : FEED;

        if (agent_stream_write(c->stream, c->input + c->fed, n) < 0)
            return; /* and again when drained */
        c->fed += n;
    }
    agent_stream_eof(c->stream);
}

static void on_end(const struct agent_result *r, void *arg)
{
    struct call *c = arg;
    struct vm_err e = {0};

    if (c->late)
        vm_fail(&e, VM_E_TIMEOUT, "the guest took too long");
    else if (!r->ok)
        vm_fail(&e, r->lost ? VM_E_UNAVAILABLE : VM_E_BACKEND, "%s", r->error);
    else if (c->output.failed)
        vm_no_memory(&e);
    if (c->request && e.code != VM_E_OK)
        http_reply_error(c->request, &e);
    else if (c->request)
        c->reply(c, r);
    call_free(c);
}

static void too_late(void *arg)
{
    struct call *c = arg;

    c->late = true;
    agent_stream_cancel(c->stream);
}

static void call_abort(void *arg)
{
    struct call *c = arg;

    c->request = NULL;
    agent_stream_cancel(c->stream); /* its end frees c; a file that was half written stays as it was */
}

static struct call *call_new(struct http_request *r, struct guest *g, void (*reply)(struct call *c, const struct agent_result *r))
{
    struct call *c = NULL;
    struct vm_err e = {0};

    if (g->calls >= CALLS_PER_GUEST || g->w->calls >= CALLS_MAX)
        vm_fail(&e, VM_E_UNAVAILABLE, "too many requests wait for guests; try again");
    else if (!(c = calloc(1, sizeof *c)))
        vm_no_memory(&e);
    if (!c) {
        http_reply_error(r, &e);
        return NULL;
    }
    c->w = g->w;
    c->id = g->id;
    c->request = r;
    c->reply = reply;
    g->calls++;
    g->w->calls++;
    return c;
}

static void call_go(struct call *c, struct guest *g)
{
    struct agent_stream_events ev = {on_data, feed, on_end, c};
    struct vm_err e = {0};

    if (c->ask.failed)
        vm_no_memory(&e);
    if (e.code != VM_E_OK || loop_timer_new(c->w->loop, too_late, c, &c->timer, &e) < 0 ||
        agent_request(g->agent, &c->ask, ev, &c->stream, &e) < 0) {
        http_reply_error(c->request, &e);
        call_free(c);
        return;
    }
    http_on_abort(c->request, call_abort, c);
    loop_timer_set(c->timer, GUEST_CALL_MS, GUEST_CALL_MS / 10);
    feed(c);
}

/* The guest's path of the query, or NULL: answered with 400, also where there is a mode that is none. */
static const char *path_of(struct http_request *r)
{
    const char *path = http_query(r, "path"), *mode = http_query(r, "mode");
    struct vm_err e = {0};

    if (!path || path[0] != '/')
        vm_fail(&e, VM_E_INVALID, "path: expected an absolute path in the guest");
    else if (mode && (!*mode || strlen(mode) > 4 || mode[strspn(mode, "01234567")]))
        vm_fail(&e, VM_E_INVALID, "mode: expected octal digits up to 7777, not '%.20s'", mode);
    else
        return path;
    http_reply_error(r, &e);
    return NULL;
}

static void reply_file(struct call *c, const struct agent_result *r)
{
    struct vm_err e = {0};

    if (r->file.size > c->output.len) {
        vm_fail(&e, VM_E_TOO_LARGE, "the file has more than %d bytes; use exec with cat", GUEST_FILE_MAX);
        http_reply_error(c->request, &e);
        return;
    }
    http_reply_text(c->request, 200, "application/octet-stream", c->output.s ? c->output.s : "", c->output.len);
}

void files_get(struct http_request *r, void *arg)
{
    struct guest *g = api_guest_with_agent(r, arg);
    const char *path = g ? path_of(r) : NULL;
    struct call *c = path ? call_new(r, g, reply_file) : NULL;

    if (!c)
        return;
    strv_add(&c->ask, "op=get");
    strv_addf(&c->ask, "path=%s", path);
    c->output_max = GUEST_FILE_MAX;
    call_go(c, g);
}

static void reply_written(struct call *c, const struct agent_result *r)
{
    (void)r;
    http_reply_json(c->request, 200, json_pack("{sb}", "written", 1));
}

void files_put(struct http_request *r, void *arg)
{
    struct guest *g = api_guest_with_agent(r, arg);
    const char *path = g ? path_of(r) : NULL, *mode = http_query(r, "mode"), *owner = http_query(r, "owner");
    struct call *c = path ? call_new(r, g, reply_written) : NULL;
    OWN(str) char *what = c ? text_format("%s:%s", g->name, path) : NULL;
    size_t n;
    const void *body = http_body(r, &n);

    if (!c)
        return;
    strv_add(&c->ask, "op=put");
    strv_addf(&c->ask, "path=%s", path);
    if (mode)
        strv_addf(&c->ask, "mode=%s", mode);
    if (owner)
        strv_addf(&c->ask, "owner=%s", owner);
    c->input = malloc(n + 1);
    if (c->input && n)
        memcpy(c->input, body, n);
    c->ask.failed |= !c->input || !what;
    c->n_input = n;
    if (!c->ask.failed)
        access_record(c->w, r, "write-file", what);
    call_go(c, g);
}

/* Lines key=value, as the agent gives them; keys that come more than once become lists. */
static void reply_inside(struct call *c, const struct agent_result *r)
{
    json_t *o = json_object();
    char *rest = c->output.s, *line;

    (void)r;
    while (rest && (line = strsep(&rest, "\n"))) {
        char *value = strchr(line, '=');

        if (!value)
            continue;
        *value++ = '\0';
        if (strcmp(line, "fs") && strcmp(line, "failed")) {
            json_put_str(o, line, value);
            continue;
        }
        if (!json_object_get(o, line))
            json_put(o, line, json_array());
        json_array_append_new(json_object_get(o, line), json_string(value));
    }
    http_reply_json(c->request, 200, o);
}

void inside_get(struct http_request *r, void *arg)
{
    struct guest *g = api_guest_with_agent(r, arg);
    struct call *c = g ? call_new(r, g, reply_inside) : NULL;

    if (!c)
        return;
    strv_add(&c->ask, "op=usage");
    c->output_max = INSIDE_MAX;
    call_go(c, g);
}
