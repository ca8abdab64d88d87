#include <vmsd/log.h>
#include <vmsd/text.h>

#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static atomic_int max_level = LOG_INFO;

void log_set_level(enum log_level max)
{
    atomic_store(&max_level, (int)max);
}

void log_write(enum log_level level, const char *guest, const char *fmt, ...)
{
    OWN(text) struct text line = {0};
    char what[1024];
    va_list ap;

    if ((int)level > atomic_load(&max_level))
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    /* systemd reads the priority from "<N>"; a person at a terminal does not want to see it. */
    if (getenv("JOURNAL_STREAM"))
        text_addf(&line, "<%d>", (int)level);
    if (guest) {
        text_add_visible(&line, guest, strlen(guest), NULL);
        text_add(&line, ": ");
    }
    text_add_visible(&line, what, strlen(what), NULL);
    text_add(&line, "\n");
    if (!line.failed && write(STDERR_FILENO, line.s, line.len) < 0)
        return; /* nowhere left to tell it */
}
