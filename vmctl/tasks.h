/* tasks.h: what is known of each guest while a stream runs. Pure: time comes in. */
#ifndef VMCTL_TASKS_H
#define VMCTL_TASKS_H

#include <stdint.h>
#include <vmsd/json.h>
#include <vmsd/text.h>

enum { TASK_TAIL = 20, TASK_LINE_MAX = 1024 };

/* The last lines of what a step printed, visible. */
struct task {
    char *guest;
    struct text step;          /* "install:01 scripts/postgres.sh", visible; empty: not begun */
    int64_t since;             /* of the step */
    bool ended;
    char *tail[TASK_TAIL];     /* a ring: the oldest is at n_lines % TASK_TAIL once it is full */
    size_t n_lines;
    struct text partial;       /* of the line that is not complete yet */
};
struct tasks {
    struct task **v;
    size_t n;
};

/* The guest's task, made when it is new; NULL: no memory. */
struct task *tasks_get(struct tasks *t, const char *guest);
void task_begin(struct task *t, const char *step, const char *text, int64_t now);
void task_output(struct task *t, const char *text, size_t n);
const char *task_last_line(const struct task *t); /* "" when there is none */
/* Appends the tail, each line with an indent. */
void task_add_tail(const struct task *t, struct text *out);
void tasks_done(struct tasks t);

#endif
