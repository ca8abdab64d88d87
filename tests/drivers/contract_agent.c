/* One request, one session: the host's side of the agent on a loop of its own, as vmsd runs it. */
#include "contract.h"

#include <stdarg.h>
#include <string.h>

struct session {
    struct loop *loop;
    struct agent *agent;
    struct loop_timer *timer;
    struct strv request;
    struct answer *out;
    size_t n;
    bool ended;
};

static void on_data(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct session *s = arg;
    size_t room = sizeof s->out->output - 1 - s->n;

    (void)ch;
    memcpy(s->out->output + s->n, p, n < room ? n : room);
    s->n += n < room ? n : room;
    s->out->output[s->n] = '\0';
}

static void on_end(const struct agent_result *r, void *arg)
{
    struct session *s = arg;

    s->out->r = *r;
    s->ended = !r->lost;
    loop_quit(s->loop);
}

static void on_up(void *arg)
{
    struct session *s = arg;
    struct agent_stream_events ev = {.data = on_data, .end = on_end, .arg = s};
    struct agent_stream *stream;
    struct vm_err e;

    ck_assert_msg(agent_request(s->agent, &s->request, ev, &stream, &e) == 0, "%s", e.text);
}

static void on_down(void *arg, const char *why)
{
    struct session *s = arg;

    snprintf(s->out->r.error, sizeof s->out->r.error, "%s", why);
    loop_quit(s->loop);
}

static void on_late(void *arg)
{
    struct session *s = arg;

    snprintf(s->out->r.error, sizeof s->out->r.error, "no answer in time");
    loop_quit(s->loop);
}

static void run(struct session *s, int fd, const char *token, int64_t ms)
{
    struct agent_events ev = {.up = on_up, .down = on_down, .arg = s, .token = token && *token ? token : NULL};
    struct vm_err e;

    ck_assert_msg(loop_open(1, &s->loop, &e) == 0, "%s", e.text);
    ck_assert_msg(agent_open(s->loop, fd, ev, &s->agent, &e) == 0, "%s", e.text);
    ck_assert_msg(loop_timer_new(s->loop, on_late, s, &s->timer, &e) == 0, "%s", e.text);
    loop_timer_set(s->timer, ms, 0);
    ck_assert_msg(loop_run(s->loop, &e) == 0, "%s", e.text);
    bool ended = s->ended;
    agent_close(s->agent); /* what did not end does now */
    s->ended = ended;
    loop_timer_free(s->timer);
    loop_close(s->loop);
}

bool subject_ask(struct subject *subject, const char *token, int64_t ms, struct answer *out, ...)
{
    struct trial *t = &subject->t;
    struct session s = {.out = out};
    va_list ap;
    int fd;

    *out = (struct answer){0};
    va_start(ap, out);
    for (const char *word; (word = va_arg(ap, const char *));)
        strv_add(&s.request, word);
    va_end(ap);
    if (t->drv->agent(&t->g, &t->p, deadline_in(ms), &fd, &t->e) < 0)
        snprintf(out->r.error, sizeof out->r.error, "%.199s", t->e.text);
    else
        run(&s, fd, token, ms);
    strv_done(s.request);
    return s.ended;
}

bool subject_answers(struct subject *s)
{
    struct answer a;

    return subject_ask(s, s->token, 30000, &a, "op=ping", NULL) && a.r.ok;
}

int subject_sh(struct subject *s, const char *line, char *output, size_t size)
{
    char arg[2048];
    struct answer a;

    snprintf(arg, sizeof arg, "arg=%s", line);
    if (!subject_ask(s, s->token, 60000, &a, "op=exec", "arg=sh", "arg=-c", arg, "merge=1", NULL)) {
        fprintf(stderr, "%s: %s\n", line, a.r.error);
        return -1;
    }
    ck_assert_msg(a.r.ok, "%s: %s", line, a.r.error);
    if (output)
        snprintf(output, size, "%s", a.output);
    return a.r.exit_code;
}
