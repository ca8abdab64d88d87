#include "issue.h"

#include <stdarg.h>
#include <string.h>

static void issue_drop(struct spec_issue *i)
{
    free(i->file);
    free(i->what);
}

static bool issues_room(struct issues *is)
{
    size_t cap = is->cap ? is->cap * 2 : 16;
    struct spec_issue *v;

    if (is->n < is->cap)
        return true;
    if (!(v = realloc(is->v, cap * sizeof *v)))
        return false;
    is->v = v;
    is->cap = cap;
    return true;
}

bool issues_full(const struct issues *is)
{
    return is->n >= ISSUES_MAX;
}

void issue_add(struct issues *is, const char *file, unsigned line, unsigned column, bool warning, const char *fmt,
               ...)
{
    OWN(text) struct text what = {0};
    struct spec_issue issue = {.line = line, .column = column, .warning = warning};
    char *raw = NULL;
    va_list ap;
    int n;

    is->errors += !warning;
    if (issues_full(is)) {
        is->left_out++;
        return;
    }
    va_start(ap, fmt);
    n = vasprintf(&raw, fmt, ap);
    va_end(ap);
    if (n >= 0) {
        text_add_visible(&what, raw, (size_t)n, NULL);
        free(raw);
        issue.what = text_take(&what);
        issue.file = strdup(file);
    }
    if (!issue.what || !issue.file || !issues_room(is)) {
        issue_drop(&issue);
        is->failed = true;
        return;
    }
    is->v[is->n++] = issue;
}

static int issue_order(const void *a, const void *b)
{
    const struct spec_issue *x = a, *y = b;
    int c = strcmp(x->file, y->file);

    if (c)
        return c;
    if (x->line != y->line)
        return x->line < y->line ? -1 : 1;
    if (x->column != y->column)
        return x->column < y->column ? -1 : 1;
    return strcmp(x->what, y->what);
}

void issues_end(struct issues *is)
{
    size_t kept = 0;

    if (is->n)
        qsort(is->v, is->n, sizeof *is->v, issue_order);
    for (size_t i = 0; i < is->n; i++) {
        if (kept && !issue_order(&is->v[kept - 1], &is->v[i])) {
            is->errors -= !is->v[i].warning;
            issue_drop(&is->v[i]);
        } else {
            is->v[kept++] = is->v[i];
        }
    }
    is->n = kept;
    if (is->left_out) {
        char *last = strdup("(all)");
        char *what = text_format("%zu more complaints are left out; mend these first", is->left_out);

        if (last && what && issues_room(is)) {
            is->v[is->n++] = (struct spec_issue){.file = last, .warning = true, .what = what};
        } else {
            free(last);
            free(what);
            is->failed = true;
        }
    }
}

void issues_done(struct issues is)
{
    for (size_t i = 0; i < is.n; i++)
        issue_drop(&is.v[i]);
    free(is.v);
}

char *spec_issue_text(const struct spec_issue *i)
{
    const char *warning = i->warning ? "warning: " : "";

    if (!i->line)
        return text_format("%s: %s%s", i->file, warning, i->what);
    return text_format("%s:%u:%u: %s%s", i->file, i->line, i->column, warning, i->what);
}
