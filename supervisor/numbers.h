/* Numbers that a service tells of itself: lines "name value", or what Prometheus reads. A guest wrote them: what is not of that
 * form, or too much, is left out, and what is kept can be printed among metrics as it stands. Pure. Private to supervisor/. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <vmsd/json.h>
#include <vmsd/spec.h>
#include <vmsd/text.h>

enum { NUMBERS_MAX = 256, NUMBER_LABELS_MAX = 16, NUMBER_SERIES_MAX = 512 };

struct number {
    double value;                /* finite */
    size_t n, n_name;            /* bytes of series, and of the name that it begins with */
    char series[];               /* queue_length{queue="mail"}: labels in order, each once, none of them guest, check or number */
};
struct numbers {
    size_t n;
    size_t surplus;              /* more than are kept */
    size_t bad, line;            /* lines that say no number; the first of them, … */
    const char *why;             /* … and what is wrong with it */
    struct number *v[NUMBERS_MAX];
};

/* Those whose names are wanted. Yours; NULL: no memory. */
struct numbers *numbers_read(const char *text, size_t n, const struct spec_list *wanted);
void numbers_free(struct numbers *x);
void numbers_say(const struct numbers *x, struct text *t); /* "3 numbers; line 4: …" */
json_t *numbers_json(const struct numbers *x);             /* [{name, labels, value}]; x may be NULL; yours */

#endif
