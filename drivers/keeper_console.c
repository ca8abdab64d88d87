/* vms-keeper as the one that keeps the console log of a VMM that others started: takes one connection on a listening
 * socket, writes what comes over it into log_dir, and ends with it. */
#include "keeper_console.h"
#include "keeper_log.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 16 << 10 };

static int64_t clock_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The VMM's connection; -1: whoever starts it has given up. */
static int console_accept(void)
{
    struct pollfd p[] = {{.fd = CONSOLE_FD_LISTEN, .events = POLLIN}, {.fd = CONSOLE_FD_TELL}};
    int fd = -1;

    while (fd < 0) {
        if (poll(p, 2, -1) < 0 && errno != EINTR)
            return -1;
        if (p[0].revents)
            fd = accept4(CONSOLE_FD_LISTEN, NULL, NULL, SOCK_CLOEXEC);
        else if (p[1].revents)
            return -1;
    }
    close(CONSOLE_FD_LISTEN);
    close(CONSOLE_FD_TELL);
    return fd;
}

int console_keep(void)
{
    static char block[CHUNK];
    struct console_log log;
    int fd;

    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* it ends with the VMM, and has its last words to write then */
    if ((fd = console_accept()) < 0)
        return 0;
    console_open(&log, CONSOLE_FD_LOG);
    for (;;) {
        int wait_ms;
        size_t room = console_room(&log, clock_ms(), &wait_ms);
        ssize_t n;

        if (!room) { /* a guest that writes faster than the log takes it waits for its console */
            poll(NULL, 0, wait_ms);
            continue;
        }
        n = read(fd, block, room < sizeof block ? room : sizeof block);
        if (n == 0 || (n < 0 && errno != EINTR))
            return 0;
        if (n > 0)
            console_put(&log, block, (size_t)n);
    }
}
