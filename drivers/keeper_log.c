#include "keeper_log.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void file_open(struct console_log *l)
{
    struct stat st;

    l->fd = openat(l->dir, "console.log", O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0640);
    l->size = l->fd >= 0 && fstat(l->fd, &st) == 0 ? st.st_size : 0;
}

void console_open(struct console_log *l, int dir)
{
    *l = (struct console_log){.dir = dir, .fd = -1, .tokens = LOG_BURST};
    file_open(l);
}

size_t console_room(struct console_log *l, int64_t now_ms, int *wait_ms)
{
    if (l->filled_ms)
        l->tokens += (now_ms - l->filled_ms) * LOG_RATE / 1000;
    l->filled_ms = now_ms;
    if (l->tokens > LOG_BURST)
        l->tokens = LOG_BURST;
    if (l->tokens > 0)
        return (size_t)l->tokens;
    *wait_ms = 250;
    return 0;
}

void console_put(struct console_log *l, const char *p, size_t n)
{
    l->tokens -= (int64_t)n;
    if (l->size + (off_t)n > LOG_FILE_MAX) {
        if (l->fd >= 0)
            close(l->fd);
        renameat(l->dir, "console.log", l->dir, "console.log.1");
        file_open(l);
    }
    /* A full disk loses lines of the console; the guest does not wait for room. */
    ssize_t done = l->fd >= 0 ? write(l->fd, p, n) : 0;
    if (done > 0)
        l->size += done;
}

/* What systemd says last when it gives up as init; why, it said before. */
static bool tells_nothing(const struct log_line *l)
{
    static const char last[] = "Exiting PID 1";

    return l->n >= sizeof last - 1 && !memcmp(l->s, last, sizeof last - 1);
}

static const char *panic_in(const struct log_line *l)
{
    static const char word[] = "Kernel panic - not syncing";

    return memmem(l->s, l->n, word, sizeof word - 1);
}

static void line_end(struct log_tail *t)
{
    if (t->now.n && !tells_nothing(&t->now))
        t->last = t->now;
    if (!t->panic.n && panic_in(&t->now))
        t->panic = t->now;
    else if (!t->panic.n && t->now.n && t->now.s[0] != '[') /* the kernel's own lines begin with the time */
        t->said = t->now;
    t->now.n = 0;
}

void tail_put(struct log_tail *t, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n' || p[i] == '\r') {
            line_end(t);
        } else if (t->now.n < LOG_LINE_MAX)
            t->now.s[t->now.n++] = p[i];
    }
}

const struct log_line *tail_last(const struct log_tail *t)
{
    return t->now.n ? &t->now : &t->last;
}

static void line_add(struct log_line *l, const char *p, size_t n, size_t max)
{
    if (n > max - l->n)
        n = max - l->n;
    memcpy(l->s + l->n, p, n);
    l->n += n;
}

struct log_line tail_panic(const struct log_tail *t)
{
    static const char init[] = "Attempted to kill init";
    struct log_line l = {.n = 0};
    const char *at = panic_in(&t->panic);
    size_t n = at ? t->panic.n - (size_t)(at - t->panic.s) : 0;

    /* A kernel that loses its init knows no more than that it did. */
    if (n && t->said.n && memmem(at, n, init, sizeof init - 1)) {
        line_add(&l, t->said.s, t->said.n, LOG_LINE_MAX * 2 / 3);
        line_add(&l, "; ", 2, LOG_LINE_MAX);
    }
    if (n)
        line_add(&l, at, n, LOG_LINE_MAX);
    return l;
}
