#include "tasks.h"

#include <stdlib.h>
#include <string.h>
#include "stream.h"
#include "term.h"

struct task *tasks_get(struct tasks *t, const char *guest)
{
    OWN(mem) struct task *fresh = NULL;
    struct task **grown;

    for (size_t i = 0; i < t->n; i++)
        if (!strcmp(t->v[i]->guest, guest))
            return t->v[i];
    if (!(grown = realloc(t->v, (t->n + 1) * sizeof(struct task *))))
        return NULL;
    t->v = grown;
    if (!(fresh = calloc(1, sizeof *fresh)) || !(fresh->guest = strdup(guest)))
        return NULL;
    return t->v[t->n++] = TAKE(fresh);
}

static void drop_output(struct task *t)
{
    for (size_t i = 0; i < TASK_TAIL; i++) {
        free(t->tail[i]);
        t->tail[i] = NULL;
    }
    t->n_lines = 0;
    t->partial.len = 0;
    t->returned = false;
}

void task_begin(struct task *t, const char *step, const char *text, int64_t now)
{
    drop_output(t);
    t->step.len = 0;
    term_add_visible(&t->step, step);
    if (text && *text) {
        text_add(&t->step, " ");
        term_add_visible(&t->step, text);
    }
    t->since = now;
    t->state = TASK_RUNS;
}

void task_rest(struct task *t, enum task_state state, const char *text, int64_t now)
{
    task_begin(t, text, NULL, now);
    t->state = state;
}

static void end_line(struct task *t)
{
    OWN(text) struct text shown = {0};
    char **slot = &t->tail[t->n_lines % TASK_TAIL];

    if (t->partial.len)
        stream_show(&shown, t->partial.s, t->partial.len, true);
    t->partial.len = 0;
    for (size_t i = 0; i < shown.len; i++)
        if (shown.s[i] == '\t') /* how wide that is, only the terminal knows */
            shown.s[i] = ' ';
    free(*slot);
    *slot = text_take(&shown); /* without memory a line is missing, no more */
    t->n_lines++;
}

void task_output(struct task *t, const char *text, size_t n)
{
    while (n) {
        size_t part = 0;

        while (part < n && text[part] != '\n' && text[part] != '\r')
            part++;
        if (part && t->returned)
            t->partial.len = 0;
        t->returned &= part == 0;
        if (t->partial.len < TASK_LINE_MAX)
            text_add_bytes(&t->partial, text,
                           part < TASK_LINE_MAX - t->partial.len ? part : TASK_LINE_MAX - t->partial.len);
        if (part == n)
            return;
        if (text[part] == '\n')
            end_line(t);
        t->returned = text[part] == '\r';
        text += part + 1;
        n -= part + 1;
    }
}

const char *task_line(const struct task *t, size_t back)
{
    const char *line = back < t->n_lines && back < TASK_TAIL ? t->tail[(t->n_lines - 1 - back) % TASK_TAIL] : NULL;

    return line ? line : "";
}

const char *task_last_line(const struct task *t)
{
    return task_line(t, 0);
}

void task_add_tail(const struct task *t, struct text *out)
{
    size_t first = t->n_lines > TASK_TAIL ? t->n_lines - TASK_TAIL : 0;

    for (size_t i = first; i < t->n_lines; i++)
        if (t->tail[i % TASK_TAIL])
            text_addf(out, "    | %s\n", t->tail[i % TASK_TAIL]);
    if (t->partial.len) {
        text_add(out, "    | ");
        stream_show(out, t->partial.s, t->partial.len, true);
        text_add(out, "\n");
    }
}

void tasks_done(struct tasks t)
{
    for (size_t i = 0; i < t.n; i++) {
        drop_output(t.v[i]);
        text_done(t.v[i]->partial);
        text_done(t.v[i]->step);
        free(t.v[i]->guest);
        free(t.v[i]);
    }
    free(t.v);
}
