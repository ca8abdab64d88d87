/* live.h: lines at the terminal's end that are drawn again and again, above them lines that stay. One thread. */
#ifndef VMCTL_LIVE_H
#define VMCTL_LIVE_H

#include "tasks.h"

struct live {
    struct text above;   /* finished lines, waiting to be printed above the block */
    struct strv drawn;   /* the block as it stands on the terminal */
    int64_t drawn_at;
};

/* Prints `above`, and the block anew: a line for each active task, as many as the terminal has room for. Does nothing
 * when it was called a moment ago, and nothing is finished. */
void live_draw(struct live *l, const struct tasks *tasks, int64_t now);
/* Takes the block away and prints what is left of `above`. */
void live_end(struct live *l);

/* One task on one line of at most `columns` cells. */
void live_line(const struct task *t, int64_t now, size_t columns, struct text *out);
/* How many rows lines that were drawn take on a terminal of that width, which may have changed since. */
size_t live_rows(const struct strv *drawn, size_t columns);

#endif
