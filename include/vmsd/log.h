/* <vmsd/log.h>: one line per event on standard error, with journal priorities where systemd reads it. Floor 0.
 * Control characters, escapes and bidi marks from outside come out as \xNN. A reader that does not read costs lines, which
 * are counted, and no time. Any thread. */
#ifndef VMSD_LOG_H
#define VMSD_LOG_H

#include <vmsd/err.h>

enum log_level { LOG_ERROR = 3, LOG_WARN = 4, LOG_INFO = 6, LOG_DEBUG = 7 };

void log_set_level(enum log_level max);
/* guest may be NULL. */
VM_PRINTF(3) void log_write(enum log_level level, const char *guest, const char *fmt, ...);
#define log_error(guest, ...) log_write(LOG_ERROR, guest, __VA_ARGS__)
#define log_warn(guest, ...) log_write(LOG_WARN, guest, __VA_ARGS__)
#define log_info(guest, ...) log_write(LOG_INFO, guest, __VA_ARGS__)
#define log_debug(guest, ...) log_write(LOG_DEBUG, guest, __VA_ARGS__)

#endif
