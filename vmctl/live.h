/* live.h: lines at the terminal's end that are drawn again and again, above them lines that stay. One thread. */
#ifndef VMCTL_LIVE_H
#define VMCTL_LIVE_H

#include "tasks.h"
#include "term.h"

enum { LIVE_LINES_MAX = 64, LIVE_OUTPUT_MAX = 5 };

struct live_block {
    struct strv lines;
    enum term_style style[LIVE_LINES_MAX]; /* of each line as a whole */
};
struct live {
    struct text above;       /* finished lines, waiting to be printed above the block */
    struct live_block drawn; /* the block as it stands on the terminal */
    int64_t drawn_at, began;
};

/* Prints `above`, and the block anew. Does nothing when it was called a moment ago, and nothing is finished. */
void live_draw(struct live *l, const struct tasks *tasks, int64_t now);
/* What stands on the terminal is not ours any more: it was the shell's meanwhile. */
void live_forget(struct live *l);
/* Takes the block away and prints what is left of `above`. */
void live_end(struct live *l);

/* At most `rows` lines of at most `columns` cells: what failed, what runs with the last lines that it printed, what waits, as
 * far as there is room; of several guests one line more sums them all up. */
void live_compose(const struct tasks *tasks, int64_t began, int64_t now, size_t columns, size_t rows,
                  struct live_block *out);
/* How many rows lines that were drawn take on a terminal of that width, which may have changed since. */
size_t live_rows(const struct strv *drawn, size_t columns);

#endif
