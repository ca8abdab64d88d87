#include "report.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

static void report_free(struct report *x)
{
    strv_done(x->errors);
    strv_done(x->guests);
    free(x);
}

static void gone(void *arg)
{
    struct report *x = arg;

    x->stream = NULL;
    if (x->finished)
        report_free(x);
}

void report_line(struct report *x, json_t *line)
{
    static const char lost[] = "{\"text\":\"no memory for a line of this stream\",\"type\":\"lost\"}";
    OWN(str) char *text = x->stream && json_str(line, "type", NULL) ? json_to_text(line) : NULL;
    const char *said = text ? text : lost;

    if (x->stream && http_stream_write(x->stream, said, strlen(said)) && x->stream)
        http_stream_write(x->stream, "\n", 1);
}

enum { LAG = 256 << 10 };

static bool lags(const struct watcher *watcher)
{
    const struct report *x = (const struct report *)watcher;

    return !x->stream || http_stream_backlog(x->stream) > LAG;
}

static void on_line(struct watcher *watcher, json_t *line)
{
    report_line((struct report *)watcher, line);
}

static void finish(struct report *x)
{
    OWN(json) json_t *line = json_object();
    json_t *errors = json_array();
    bool ok;

    for (size_t i = 0; i < x->guests.n; i++) {
        struct guest *g = world_guest(x->w, x->guests.v[i]);

        if (g && g->up && !g->error && guest_is_up(g) && health_of(g) == HEALTH_UNHEALTHY)
            x->unhealthy++;
    }
    for (size_t i = 0; i < x->errors.n; i++)
        json_array_append_new(errors, json_string(x->errors.v[i]));
    json_put_str(line, "type", "result");
    ok = !x->failed && !x->blocked && !x->unhealthy;
    if (x->apply) {
        x->w->apply.at = wall_ms();
        x->w->apply.ok = ok;
    }
    json_put(line, "ok", json_boolean(ok));
    json_put_int(line, "changed", x->changed);
    json_put_int(line, "failed", x->failed);
    json_put_int(line, "blocked", x->blocked);
    json_put_int(line, "unhealthy", x->unhealthy);
    json_put(line, "duration", json_real((double)(now_ms() - x->began) / 1000));
    json_put(line, "errors", errors);
    report_line(x, line);
    x->finished = true;
    if (x->stream)
        http_stream_end(x->stream); /* gone frees x */
    else
        report_free(x);
}

static void in_force(const struct vm_err *e, void *arg)
{
    if (e)
        report_error(arg, NULL, e->text);
    finish(arg);
}

/* After the stack of the call that ended the last job has gone: the stream's end may call back. What was changed is
 * done when the firewall says so too, and when bridges that nobody needs are gone. */
static void finish_later(void *arg)
{
    struct report *x = arg;

    if (x->changed && !x->w->stopping)
        netsync_ask(x->w, in_force, x);
    else
        finish(x);
}

static void on_ended(struct watcher *watcher, struct job *j)
{
    struct report *x = (struct report *)watcher;

    x->open--;
    if (j->state == JOB_BLOCKED)
        x->blocked++;
    else if (j->unhealthy)
        x->unhealthy++;
    else if (j->state == JOB_FAILED)
        x->failed++;
    if (j->state != JOB_DONE)
        strv_addf(&x->errors, "%s: %s", j->name, j->err.text);
    if (x->sealed && x->open == 0)
        loop_post(x->w->loop, finish_later, x);
}

struct report *report_new(struct world *w)
{
    struct report *x = calloc(1, sizeof *x);

    if (!x)
        abort(); /* what was asked for is written by now: the next start does it */
    x->watcher = (struct watcher){on_line, on_ended, lags};
    x->w = w;
    x->began = now_ms();
    return x;
}

void report_listen(struct report *x, struct http_request *r)
{
    x->stream = http_reply_stream(r, 200, "application/x-ndjson", gone, x);
}

void report_error(struct report *x, const char *guest, const char *text)
{
    OWN(json) json_t *line = json_object();

    x->failed++;
    strv_addf(&x->errors, "%s%s%s", guest ? guest : "", guest ? ": " : "", text);
    if (!guest)
        return;
    json_put_str(line, "type", "guest");
    json_put_str(line, "guest", guest);
    json_put_str(line, "state", "failed");
    json_put_str(line, "error", text);
    report_line(x, line);
}

void report_submit(struct report *x, struct job *j)
{
    j->watcher = &x->watcher;
    x->open++;
    job_submit(j);
}

void report_seal(struct report *x)
{
    x->sealed = true;
    if (x->open == 0)
        loop_post(x->w->loop, finish_later, x);
}
