#include <vmsd/clock.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>

enum { CUT_NOTICED_MS = 200 };

static int64_t read_ms(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int64_t now_ms(void)
{
    return read_ms(CLOCK_MONOTONIC);
}

int64_t wall_ms(void)
{
    return read_ms(CLOCK_REALTIME);
}

const char *wall_text(int64_t wall, char out[static CLOCK_TEXT])
{
    int64_t rest = ((wall % 1000) + 1000) % 1000;
    time_t seconds = (time_t)((wall - rest) / 1000);
    struct tm tm;
    size_t n;

    if (!gmtime_r(&seconds, &tm)) {
        out[0] = '\0';
        return out;
    }
    n = strftime(out, CLOCK_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(out + n, CLOCK_TEXT - n, ".%03dZ", (int)rest);
    return out;
}

struct deadline deadline_in(int64_t ms)
{
    return (struct deadline){.at = now_ms() + ms};
}

int64_t deadline_left(struct deadline d)
{
    int64_t left = d.cut && *d.cut ? 0 : d.at - now_ms();

    return left > 0 ? left : 0;
}

int deadline_poll_ms(struct deadline d)
{
    int64_t left = deadline_left(d), most = d.cut ? CUT_NOTICED_MS : INT_MAX;

    return (int)(left < most ? left : most);
}

void sleep_ms(int64_t ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    while (nanosleep(&t, &t) < 0 && errno == EINTR)
        ;
}
