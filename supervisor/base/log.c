#include <vmsd/log.h>
#include <vmsd/text.h>

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static atomic_int max_level = LOG_INFO;

void log_set_level(enum log_level max)
{
    atomic_store(&max_level, (int)max);
}

/* A journal that does not read must not hold up whoever writes; a file and a terminal take what they get. */
static bool put(const struct text *line)
{
    ssize_t n = send(STDERR_FILENO, line->s, line->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK)
        n = write(STDERR_FILENO, line->s, line->len);
    return n >= 0 || errno != EAGAIN; /* else there is nowhere to tell it */
}

void log_write(enum log_level level, const char *guest, const char *fmt, ...)
{
    static atomic_uint lost;
    OWN(text) struct text line = {0};
    unsigned before = 0;
    char what[1024];
    va_list ap;

    if ((int)level > atomic_load(&max_level))
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    /* systemd reads the priority from "<N>"; a person at a terminal does not want to see it. */
    const char *journal = getenv("JOURNAL_STREAM");
    if ((before = atomic_exchange(&lost, 0)))
        text_addf(&line, "%s%u lines are missing here: the journal did not take them\n", journal ? "<4>" : "", before);
    if (journal)
        text_addf(&line, "<%d>", (int)level);
    if (guest) {
        text_add_visible(&line, guest, strlen(guest), NULL);
        text_add(&line, ": ");
    }
    text_add_visible(&line, what, strlen(what), NULL);
    text_add(&line, "\n");
    if (line.failed || !put(&line))
        atomic_fetch_add(&lost, before + 1);
}
