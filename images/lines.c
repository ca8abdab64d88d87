#include "images.h"

#include <stdarg.h>
#include <string.h>

static void copy_text(char out[static 512], const char *s)
{
    snprintf(out, 512, "%s", s);
}

void lines_end(struct lines *l)
{
    OWN(text) struct text clean = {0};

    text_add_visible(&clean, l->line, l->n, "\t");
    l->n = 0;
    if (!clean.len || clean.failed)
        return;
    if (strstr(clean.s, "No space left on device"))
        l->full = true;
    if (!l->first_error[0]) {
        bool error = !strncmp(clean.s, "E: ", 3);
        copy_text(error ? l->first_error : l->last, error ? clean.s + 3 : clean.s);
    }
    if (l->progress.line)
        l->progress.line(clean.s, l->progress.arg);
}

void lines_take(const char *p, size_t n, void *lines)
{
    struct lines *l = lines;

    for (; n; p++, n--) {
        if (*p == '\n' || *p == '\r')
            lines_end(l);
        else if (l->n < sizeof l->line) /* the rest of a longer line is not worth showing */
            l->line[l->n++] = *p;
    }
}

void progress_tell(struct image_progress p, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (p.line)
        p.line(line, p.arg);
}
