#include "page.h"

#include <stdarg.h>
#include "term.h"

enum { LABEL = 11 };

static void add_label(struct text *line, const char *label)
{
    text_add(line, "  ");
    term_add_visible(line, label);
    term_add_spaces(line, line->len < LABEL + 2 ? LABEL + 3 - line->len : 1);
}

void page_row(struct page *p, const char *label, const char *value)
{
    OWN(text) struct text line = {0};

    if (!value || !*value)
        return;
    add_label(&line, label);
    term_add_visible(&line, value);
    if (line.failed)
        p->out.failed = true;
    else
        term_add_cut(&p->out, line.s, p->width ? p->width : SIZE_MAX);
    text_add(&p->out, "\n");
}

void page_rowf(struct page *p, const char *label, const char *fmt, ...)
{
    OWN(str) char *s = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0) {
        s = NULL;
        p->out.failed = true;
    }
    va_end(ap);
    page_row(p, label, s);
}

void page_wrapf(struct page *p, const char *label, const char *fmt, ...)
{
    OWN(text) struct text lead = {0}, shown = {0};
    OWN(str) char *s = NULL;
    va_list ap;

    va_start(ap, fmt);
    if (vasprintf(&s, fmt, ap) < 0)
        s = NULL;
    va_end(ap);
    add_label(&lead, label);
    if (s)
        term_add_visible(&shown, s);
    p->out.failed |= !s || lead.failed || shown.failed;
    text_add(&p->out, lead.s ? lead.s : "");
    term_add_wrapped(&p->out, shown.s ? shown.s : "", LABEL + 3, p->width);
}

void page_heading(struct page *p, const char *title)
{
    text_add(&p->out, "\n");
    term_add_styled(&p->out, title, STYLE_BOLD, term_has_colour());
    text_add(&p->out, "\n");
}
