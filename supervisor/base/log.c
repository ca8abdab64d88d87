#include <vmsd/log.h>
#include <vmsd/text.h>

#include <errno.h>
#include <poll.h>
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

/* A line of so many bytes, each shown as four, fits into PIPE_BUF with all that stands before it. */
enum { WHAT_MAX = 960 };

/* Who does not read must not hold up who writes: neither a journal, nor what a pipe leads to, nor a terminal that was stopped. */
static bool put(const struct text *line)
{
    ssize_t n = send(STDERR_FILENO, line->s, line->len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno == ENOTSOCK) {
        if (poll(&(struct pollfd){.fd = STDERR_FILENO, .events = POLLOUT}, 1, 0) == 0)
            return false;
        n = write(STDERR_FILENO, line->s, line->len);
    }
    return n >= 0 || errno != EAGAIN; /* else there is nowhere to tell it */
}

void log_write(enum log_level level, const char *guest, const char *fmt, ...)
{
    static atomic_uint lost;
    OWN(text) struct text line = {0};
    unsigned before = 0;
    char what[WHAT_MAX];
    va_list ap;

    if ((int)level > atomic_load(&max_level))
        return;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    /* systemd reads the priority from "<N>"; a person at a terminal does not want to see it. */
    const char *journal = getenv("JOURNAL_STREAM");
    if ((before = atomic_exchange(&lost, 0)))
        text_addf(&line, "%s%u lines are missing here: nobody took them\n", journal ? "<4>" : "", before);
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
