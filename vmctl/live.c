#include "live.h"

#include <string.h>
#include "term.h"

enum { SPIN_MS = 100, COLUMNS_DEFAULT = 80, ROWS_DEFAULT = 24 };

void live_line(const struct task *t, int64_t now, size_t columns, struct text *out)
{
    static const char spinner[] = "|/-\\";
    OWN(text) struct text line = {0};
    char elapsed[TEXT_HUMAN];
    int64_t ms = now - t->since;

    text_addf(&line, "%c ", spinner[now / SPIN_MS % 4]);
    text_add_visible(&line, t->guest, strlen(t->guest), NULL);
    if (t->step.len) {
        text_human_duration(ms < 1000 ? 0 : ms / 1000 * 1000, elapsed);
        text_addf(&line, "  %s  %s  %s", t->step.s, ms < 1000 ? "0s" : elapsed, task_last_line(t));
    }
    if (line.failed)
        out->failed = true;
    else
        term_add_cut(out, line.s, columns);
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

static void erase(struct live *l, size_t columns, struct text *out)
{
    size_t rows = live_rows(&l->drawn, columns);

    if (rows)
        text_addf(out, "\033[%zuA\r\033[J", rows);
    strv_done(l->drawn);
    l->drawn = (struct strv){0};
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
    size_t room = rows > 3 ? rows - 2 : 1, hidden = 0;

    if (!l->above.len && now - l->drawn_at < SPIN_MS / 2)
        return;
    l->drawn_at = now;
    erase(l, columns, &out);
    flush_above(l, &out);
    for (size_t i = 0; i < tasks->n; i++) {
        OWN(text) struct text line = {0};

        if (tasks->v[i]->ended)
            continue;
        if (l->drawn.n >= room) {
            hidden++;
            continue;
        }
        /* The last cell stays free: some terminals begin a new row when it is filled. */
        live_line(tasks->v[i], now, columns - 1, &line);
        if (!line.failed && line.s)
            strv_add(&l->drawn, line.s);
    }
    if (hidden)
        strv_addf(&l->drawn, "… and %zu more", hidden);
    for (size_t i = 0; i < l->drawn.n; i++)
        text_addf(&out, "%s\n", l->drawn.v[i]);
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
