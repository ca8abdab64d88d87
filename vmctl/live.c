#include "live.h"

#include <stdio.h>
#include <string.h>

enum { SPIN_MS = 100, COLUMNS_DEFAULT = 80, ROWS_DEFAULT = 24, GUEST_MAX = 24, ELAPSED = 6 };

struct view {
    const struct tasks *tasks;
    int64_t began, now;
    size_t columns, rows, name; /* name: cells for the names of guests */
    size_t count[TASK_STATES];
    struct live_block *out;
};

static void add_line(struct view *v, struct text *line, enum term_style style)
{
    OWN(text) struct text cut = {0};
    struct strv *lines = &v->out->lines;

    if (lines->n >= v->rows)
        return;
    term_add_cut(&cut, line->s ? line->s : "", v->columns);
    if (line->failed || cut.failed)
        return; /* without memory a line is missing, no more */
    v->out->style[lines->n] = style;
    strv_add(lines, cut.s ? cut.s : "");
}

/* Its cells. */
static size_t add_name(const struct task *t, struct text *out)
{
    OWN(text) struct text shown = {0};

    term_add_visible(&shown, t->guest);
    return term_add_cut(out, shown.s ? shown.s : "", GUEST_MAX);
}

/* Whole seconds: tenths would flicker. */
static const char *elapsed(int64_t ms, char out[static TEXT_HUMAN])
{
    if (ms >= 60000)
        return text_human_duration(ms / 1000 * 1000, out);
    snprintf(out, TEXT_HUMAN, "%ds", ms > 0 ? (int)(ms / 1000) : 0);
    return out;
}

/* "| db     1m5s  install:01 scripts/postgres.sh  what it printed last" */
static void add_task(struct view *v, const struct task *t, bool with_output)
{
    static const char spinner[] = "|/-\\";
    OWN(text) struct text line = {0};
    bool runs = t->state == TASK_RUNS, failed = t->state == TASK_FAILED;
    const char *last = with_output ? task_last_line(t) : "";
    char lasted[TEXT_HUMAN];

    text_addf(&line, "%c ", failed ? '!' : runs ? spinner[v->now / SPIN_MS % 4] : ' ');
    term_add_spaces(&line, v->name - add_name(t, &line));
    text_addf(&line, "%*s  %s", ELAPSED, runs ? elapsed(v->now - t->since, lasted) : "", t->step.len ? t->step.s : "");
    if (*last)
        text_addf(&line, "  %s%s", !strcmp(t->step.s, "health") ? "waits for " : "", last);
    add_line(v, &line, failed ? STYLE_RED : runs ? STYLE_NONE : STYLE_DIM);
}

static bool prints(const struct task *t)
{
    return t->state == TASK_RUNS && t->n_lines > 1 && strcmp(t->step.s ? t->step.s : "", "health") != 0;
}

static void add_running(struct view *v, const struct task *t, size_t lines)
{
    bool below = lines > 1 && prints(t);

    add_task(v, t, !below);
    for (size_t back = lines < t->n_lines ? lines : t->n_lines; below && back--;) {
        OWN(text) struct text line = {0};

        text_addf(&line, "    | %s", task_line(t, back));
        add_line(v, &line, STYLE_DIM);
    }
}

static void add_sum(struct view *v)
{
    static const struct {
        enum task_state state;
        const char *word;
    } parts[] = {{TASK_FAILED, "failed"}, {TASK_BLOCKED, "blocked"}, {TASK_RUNS, "running"}, {TASK_WAITS, "waiting"}};
    OWN(text) struct text line = {0};
    char lasted[TEXT_HUMAN];

    text_addf(&line, "%zu of %zu done", v->count[TASK_DONE], v->tasks->n);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t n = v->count[parts[i].state] + (parts[i].state == TASK_WAITS ? v->count[TASK_PENDING] : 0);

        if (n)
            text_addf(&line, ", %zu %s", n, parts[i].word);
    }
    text_addf(&line, "  %s", elapsed(v->now - v->began, lasted));
    v->rows++; /* the one that was kept for it */
    add_line(v, &line, STYLE_BOLD);
}

static void look(struct view *v)
{
    for (size_t i = 0; i < v->tasks->n; i++) {
        OWN(text) struct text name = {0};
        size_t width = add_name(v->tasks->v[i], &name);

        v->name = width > v->name ? width : v->name;
        v->count[v->tasks->v[i]->state]++;
    }
}

/* At most n tasks that are in that state. */
static void add_tasks(struct view *v, enum task_state state, size_t n, size_t lines)
{
    for (size_t i = 0; i < v->tasks->n && n; i++) {
        if (v->tasks->v[i]->state != state)
            continue;
        if (state == TASK_RUNS)
            add_running(v, v->tasks->v[i], lines);
        else
            add_task(v, v->tasks->v[i], false);
        n--;
    }
}

void live_compose(const struct tasks *tasks, int64_t began, int64_t now, size_t columns, size_t rows,
                  struct live_block *out)
{
    struct view v = {.tasks = tasks, .began = began, .now = now, .columns = columns, .rows = rows, .out = out};
    size_t failed, running, printing = 0, lines;

    v.rows = rows < LIVE_LINES_MAX ? rows : LIVE_LINES_MAX;
    look(&v);
    if (tasks->n > 1 && v.rows)
        v.rows--; /* for the sum */
    failed = v.count[TASK_FAILED] <= v.rows / 3 ? v.count[TASK_FAILED] : v.rows / 3;
    running = v.count[TASK_RUNS] < v.rows - failed ? v.count[TASK_RUNS] : v.rows - failed;
    for (size_t i = 0; i < tasks->n; i++)
        printing += prints(tasks->v[i]);
    lines = printing ? (v.rows - failed - running) / printing : 0;
    add_tasks(&v, TASK_FAILED, failed, 0);
    add_tasks(&v, TASK_RUNS, running, lines < LIVE_OUTPUT_MAX ? lines : LIVE_OUTPUT_MAX);
    add_tasks(&v, TASK_WAITS, SIZE_MAX, 0);
    if (tasks->n > 1 && rows)
        add_sum(&v);
}

size_t live_rows(const struct strv *drawn, size_t columns)
{
    size_t rows = 0;

    for (size_t i = 0; i < drawn->n; i++) {
        size_t w = term_width(drawn->v[i]);

        rows += w && columns ? (w + columns - 1) / columns : 1;
    }
    return rows;
}

void live_forget(struct live *l)
{
    strv_done(l->drawn.lines);
    l->drawn.lines = (struct strv){0};
}

static void erase(struct live *l, size_t columns, struct text *out)
{
    size_t rows = live_rows(&l->drawn.lines, columns);

    if (rows)
        text_addf(out, "\033[%zuA\r\033[J", rows);
    live_forget(l);
}

static void flush_above(struct live *l, struct text *out)
{
    if (l->above.len)
        text_add(out, l->above.s);
    text_done(l->above);
    l->above = (struct text){0};
}

void live_draw(struct live *l, const struct tasks *tasks, int64_t now)
{
    OWN(text) struct text out = {0};
    size_t columns = term_columns() ? term_columns() : COLUMNS_DEFAULT, rows = term_rows() ? term_rows() : ROWS_DEFAULT;

    if (!l->above.len && now - l->drawn_at < SPIN_MS / 2)
        return;
    l->drawn_at = now;
    l->began = l->began ? l->began : now;
    erase(l, columns, &out);
    flush_above(l, &out);
    /* The last cell stays free: some terminals begin a new row when it is filled. So does the last row, for the cursor. */
    live_compose(tasks, l->began, now, columns - 1, rows > 1 ? rows - 1 : 1, &l->drawn);
    for (size_t i = 0; i < l->drawn.lines.n; i++) {
        term_add_styled(&out, l->drawn.lines.v[i], l->drawn.style[i], term_has_colour());
        text_add(&out, "\n");
    }
    if (out.len)
        term_write(&out);
}

void live_end(struct live *l)
{
    OWN(text) struct text out = {0};

    erase(l, term_columns() ? term_columns() : COLUMNS_DEFAULT, &out);
    flush_above(l, &out);
    if (out.len)
        term_write(&out);
}
