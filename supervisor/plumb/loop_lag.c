#include "loop_lag.h"

#include <sys/resource.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum { LAG_MS = 500, LAG_CPU_MS = 250 };

static struct loop_lag look(void)
{
    struct rusage u;

    if (getrusage(RUSAGE_THREAD, &u) < 0)
        return (struct loop_lag){ .wall_ms = now_ms() };
    return (struct loop_lag){
        .wall_ms = now_ms(),
        .cpu_ms = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000 + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1000,
        .waits = u.ru_nvcsw,
    };
}

void loop_lag_begin(struct loop_lag *l)
{
    *l = look();
}

void loop_lag_end(struct loop_lag *l)
{
    struct loop_lag now = look();
    int64_t wall = now.wall_ms - l->wall_ms, cpu = now.cpu_ms - l->cpu_ms;

    if (wall >= LAG_MS && (cpu >= LAG_CPU_MS || now.waits > l->waits))
        log_warn(NULL, "the loop was blocked for %lld ms (%lld ms of CPU, %ld waits): nothing was answered meanwhile",
                 (long long)wall, (long long)cpu, now.waits - l->waits);
}
