/* keeper_log.h: the guest's console, kept in log_dir/console.log and, before that, console.log.1: never more than
 * 4 MiB, never faster than LOG_RATE. And what its last lines tell. Private to drivers/. */
#ifndef VMSD_DRIVERS_KEEPER_LOG_H
#define VMSD_DRIVERS_KEEPER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { LOG_FILE_MAX = 2 << 20, LOG_RATE = 256 << 10, LOG_BURST = 1 << 20, LOG_LINE_MAX = 160 };

struct log_line { char s[LOG_LINE_MAX]; size_t n; };
/* The last line that is not empty, out of a stream of bytes; the first with which a kernel gave up, and the last that was
 * not the kernel's before that. */
struct log_tail { struct log_line now, last, panic, said; };
struct console_log {
    int dir, fd;
    off_t size;
    int64_t tokens, filled_ms; /* bytes that may come now; when they were last counted */
};

void console_open(struct console_log *l, int dir);
/* Bytes that may be read now; 0: *wait_ms says when to ask again. */
size_t console_room(struct console_log *l, int64_t now_ms, int *wait_ms);
void console_put(struct console_log *l, const char *p, size_t n);
void tail_put(struct log_tail *t, const char *p, size_t n);
const struct log_line *tail_last(const struct log_tail *t);
/* "Kernel panic - not syncing: …", without the time before it; after what init said, if it went with that. n 0: none. */
struct log_line tail_panic(const struct log_tail *t);

#endif
