#include "table.h"

#include <stdarg.h>
#include <stdlib.h>
#include "term.h"

enum { GAP = 2, COLUMNS_MAX = 16 };

void table_add(struct table *t, const char *cell)
{
    OWN(text) struct text shown = {0};

    if (!cell || !*cell)
        cell = "-";
    term_add_visible(&shown, cell);
    if (shown.failed)
        t->cells.failed = true;
    else
        strv_add(&t->cells, shown.s);
}

void table_addf(struct table *t, const char *fmt, ...)
{
    OWN(str) char *s = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0) {
        s = NULL;
        t->cells.failed = true;
    }
    va_end(ap);
    if (s)
        table_add(t, s);
}

struct layout {
    size_t n; /* columns that are shown; an ellipsis stands for the rest */
    size_t widths[COLUMNS_MAX];
};

static size_t total(const size_t *widths, size_t n)
{
    size_t sum = (n - 1) * GAP;

    for (size_t c = 0; c < n; c++)
        sum += widths[c];
    return sum;
}

/* As many columns as fit when cut to their least; then the widest gives way, cell by cell. */
static struct layout fit(const struct table *t, size_t width)
{
    struct layout l = {.n = t->n_columns};
    size_t least[COLUMNS_MAX], rest = 0;

    for (size_t c = 0; c < t->n_columns; c++)
        l.widths[c] = term_width(t->columns[c].title);
    for (size_t i = 0; i < t->cells.n; i++) {
        size_t w = term_width(t->cells.v[i]), c = i % t->n_columns;

        if (w > l.widths[c])
            l.widths[c] = w;
    }
    if (!width)
        return l;
    for (size_t c = 0; c < t->n_columns; c++)
        least[c] = t->columns[c].least && t->columns[c].least < l.widths[c] ? t->columns[c].least : l.widths[c];
    while (l.n > 1 && total(least, l.n) + rest > width) {
        l.n--;
        rest = GAP + 1;
    }
    while (total(l.widths, l.n) + rest > width) {
        size_t widest = 0;

        for (size_t c = 1; c < l.n; c++)
            if (l.widths[c] > least[c] && (l.widths[widest] <= least[widest] || l.widths[c] > l.widths[widest]))
                widest = c;
        if (!l.widths[widest])
            break;
        l.widths[widest]--;
    }
    return l;
}

static void line(const struct table *t, const struct layout *l, const char *const *cells, bool title, bool colour,
                 struct text *out)
{
    size_t owed = 0; /* spaces before the next word: none trail behind the last */

    for (size_t c = 0; c < l->n; c++) {
        const struct table_column *col = &t->columns[c];
        enum term_style style = title ? STYLE_DIM : col->coloured ? term_style_of(cells[c]) : STYLE_NONE;
        OWN(text) struct text shown = {0};
        size_t used = term_add_cut(&shown, cells[c], l->widths[c]), pad = l->widths[c] - used;

        term_add_spaces(out, owed + (col->right ? pad : 0));
        if (shown.failed)
            out->failed = true;
        else if (used)
            term_add_styled(out, shown.s, style, colour);
        owed = GAP + (col->right ? 0 : pad);
    }
    if (l->n < t->n_columns) {
        term_add_spaces(out, owed);
        text_add(out, "…");
    }
    text_add(out, "\n");
}

void table_render(const struct table *t, size_t width, bool colour, struct text *out)
{
    const char *titles[COLUMNS_MAX];
    struct layout l = fit(t, width);

    if (t->cells.failed)
        out->failed = true;
    for (size_t c = 0; c < t->n_columns; c++)
        titles[c] = t->columns[c].title;
    line(t, &l, titles, true, colour, out);
    for (size_t i = 0; i + t->n_columns <= t->cells.n; i += t->n_columns)
        line(t, &l, (const char *const *)t->cells.v + i, false, colour, out);
}

int table_print(const struct table *t)
{
    OWN(text) struct text out = {0};

    table_render(t, term_is_tty() ? term_columns() : 0, term_has_colour(), &out);
    return term_write(&out);
}

void table_done(struct table t)
{
    strv_done(t.cells);
}
