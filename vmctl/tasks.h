/* tasks.h: what is known of each guest while a stream runs. Pure: time comes in. */
#ifndef VMCTL_TASKS_H
#define VMCTL_TASKS_H

#include <stdint.h>
#include <vmsd/json.h>
#include <vmsd/text.h>

enum { TASK_TAIL = 20, TASK_LINE_MAX = 1024 };

/* PENDING: nothing was heard of it yet. */
enum task_state { TASK_PENDING, TASK_WAITS, TASK_RUNS, TASK_DONE, TASK_FAILED, TASK_BLOCKED, TASK_STATES };

/* The last lines of what a step printed, visible. */
struct task {
    char *guest;
    enum task_state state;
    struct text step;          /* "install:01 scripts/postgres.sh", why it waits or failed; visible; empty: not begun */
    int64_t since;             /* of the step */
    char *tail[TASK_TAIL];     /* a ring: the oldest is at n_lines % TASK_TAIL once it is full */
    size_t n_lines;
    struct text partial;       /* of the line that is not complete yet … */
    bool returned;             /* … and that the next byte begins anew, as a progress bar does */
};
struct tasks {
    struct task **v;
    size_t n;
};

/* The guest's task, made when it is new; NULL: no memory. */
struct task *tasks_get(struct tasks *t, const char *guest);
void task_begin(struct task *t, const char *step, const char *text, int64_t now);
void task_output(struct task *t, const char *text, size_t n);
/* It waits, or ended, with what is to be said about that. */
void task_rest(struct task *t, enum task_state state, const char *text, int64_t now);
const char *task_last_line(const struct task *t); /* "" when there is none */
const char *task_line(const struct task *t, size_t back); /* the one that many lines before it */
/* Appends the tail, each line with an indent. */
void task_add_tail(const struct task *t, struct text *out);
void tasks_done(struct tasks t);

#endif
