/* A guest's console: of what it says, the last words are kept within their bounds, in whatever pieces it comes, and as text of
 * the state they act on nothing. */
#include "fuzz.h"

#include <drivers/keeper.h>
#include <drivers/keeper_log.h>

static void check_line(const struct log_line *l)
{
    char text[200];

    MUST(l->n <= LOG_LINE_MAX && !memchr(l->s, '\n', l->n) && !memchr(l->s, '\r', l->n));
    state_text(text, sizeof text, l->s, l->n);
    MUST(strlen(text) == l->n);
    for (const char *at = text; *at; at++)
        MUST(*at >= ' ' && *at <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *p = (const char *)data;
    struct log_tail whole = { 0 }, pieces = { 0 };

    tail_put(&whole, p, n);
    for (size_t at = 0; at < n; at++)
        tail_put(&pieces, p + at, 1);
    struct log_line last = *tail_last(&whole), same = *tail_last(&pieces), panic = tail_panic(&whole);
    check_line(&last);
    check_line(&panic);
    MUST(last.n == same.n && memcmp(last.s, same.s, last.n) == 0);
    return 0;
}
