/* Files in and out of a guest, and what the guest says of itself: one request of its agent each. */
#include "api.h"

#include <stdlib.h>
#include <string.h>

enum { GUEST_FILE_MAX = 64 << 20, GUEST_CALL_MS = 60000, INSIDE_MAX = 64 << 10 };

struct call {
    struct world *w;
    uint32_t id;
    struct http_request *request;
    struct agent_exec exec;
    struct agent_result result;
    char *input;
    void (*reply)(struct call *c);
    int rc;
    struct vm_err err;
};

static struct agent *agent_of(void *arg)
{
    const struct call *c = arg;
    struct guest *g = world_guest_by_id(c->w, c->id);

    return g ? g->agent : NULL;
}

static void call_run(void *arg)
{
    struct call *c = arg;
    struct agent_wait w = {.loop = c->w->loop, .get = agent_of, .arg = c};

    c->rc = agent_exec_wait(&w, &c->exec, deadline_in(GUEST_CALL_MS), &c->result, &c->err);
    if (c->rc == 0 && !c->result.ok)
        c->rc = vm_fail(&c->err, VM_E_BACKEND, "%s", c->result.error);
}

static void call_free(struct call *c)
{
    strv_done(c->exec.request);
    free(c->exec.output);
    free(c->input);
    free(c);
}

static void call_done(void *arg, bool cancelled)
{
    struct call *c = arg;

    if (cancelled)
        c->rc = vm_fail(&c->err, VM_E_UNAVAILABLE, "vmsd is ending");
    if (c->request && c->rc < 0)
        http_reply_error(c->request, &c->err);
    else if (c->request)
        c->reply(c);
    call_free(c);
}

static void call_abort(void *arg)
{
    ((struct call *)arg)->request = NULL;
}

static struct call *call_new(struct http_request *r, struct guest *g, void (*reply)(struct call *c))
{
    struct call *c = calloc(1, sizeof *c);
    struct vm_err e = {0};

    if (!c) {
        vm_no_memory(&e);
        http_reply_error(r, &e);
        return NULL;
    }
    c->w = g->w;
    c->id = g->id;
    c->request = r;
    c->reply = reply;
    return c;
}

static void call_go(struct call *c)
{
    if (c->exec.request.failed) {
        vm_no_memory(&c->err);
        http_reply_error(c->request, &c->err);
        call_free(c);
        return;
    }
    http_on_abort(c->request, call_abort, c);
    if (loop_work(c->w->loop, (struct loop_job){call_run, call_done, c}, &c->err) < 0)
        call_done(c, true);
}

/* The guest's path of the query, or NULL: answered with 400. */
static const char *path_of(struct http_request *r)
{
    const char *path = http_query(r, "path");
    struct vm_err e = {0};

    if (path && path[0] == '/')
        return path;
    vm_fail(&e, VM_E_INVALID, "path: expected an absolute path in the guest");
    http_reply_error(r, &e);
    return NULL;
}

static void reply_file(struct call *c)
{
    struct vm_err e = {0};

    if (c->result.file.size > c->exec.n_output) {
        vm_fail(&e, VM_E_TOO_LARGE, "the file has more than %d bytes; use exec with cat", GUEST_FILE_MAX);
        http_reply_error(c->request, &e);
        return;
    }
    http_reply_text(c->request, 200, "application/octet-stream", c->exec.output ? c->exec.output : "", c->exec.n_output);
}

void files_get(struct http_request *r, void *arg)
{
    struct guest *g = api_guest_with_agent(r, arg);
    const char *path = g ? path_of(r) : NULL;
    struct call *c = path ? call_new(r, g, reply_file) : NULL;

    if (!c)
        return;
    strv_add(&c->exec.request, "op=get");
    strv_addf(&c->exec.request, "path=%s", path);
    c->exec.output_max = GUEST_FILE_MAX;
    call_go(c);
}

static void reply_written(struct call *c)
{
    http_reply_json(c->request, 200, json_pack("{sb}", "written", 1));
}

void files_put(struct http_request *r, void *arg)
{
    struct guest *g = api_guest_with_agent(r, arg);
    const char *path = g ? path_of(r) : NULL, *mode = http_query(r, "mode"), *owner = http_query(r, "owner");
    struct call *c = path ? call_new(r, g, reply_written) : NULL;
    size_t n;
    const void *body = http_body(r, &n);

    if (!c)
        return;
    strv_add(&c->exec.request, "op=put");
    strv_addf(&c->exec.request, "path=%s", path);
    if (mode)
        strv_addf(&c->exec.request, "mode=%s", mode);
    if (owner)
        strv_addf(&c->exec.request, "owner=%s", owner);
    c->input = malloc(n + 1);
    if (c->input && n)
        memcpy(c->input, body, n);
    c->exec.request.failed |= !c->input;
    c->exec.input = c->input;
    c->exec.n_input = n;
    call_go(c);
}

/* Lines key=value, as the agent gives them; keys that come more than once become lists. */
static void reply_inside(struct call *c)
{
    json_t *o = json_object();
    char *rest = c->exec.output, *line;

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
    strv_add(&c->exec.request, "op=usage");
    c->exec.output_max = INSIDE_MAX;
    call_go(c);
}
