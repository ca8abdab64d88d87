/* vms-keeper as the one that keeps the console log of a VMM that others started: writes what comes over its line into
 * log_dir, and ends with it. The VMM does not outlive what keeps its shares: without them it hangs whoever touches one. */
#include "keeper_console.h"
#include "keeper_core.h"

#include <errno.h>
#include <poll.h>
#include <sys/pidfd.h>
#include <unistd.h>

enum { CHUNK = 16 << 10 };

int console_keep(void)
{
    static char block[CHUNK];
    struct console_log log;
    int shares = CONSOLE_FD_SHARES;

    signal(SIGHUP, SIG_IGN);
    signal(SIGINT, SIG_IGN);
    signal(SIGTERM, SIG_IGN); /* it ends with the VMM, and has its last words to write then */
    console_open(&log, CONSOLE_FD_LOG);
    for (;;) {
        int wait_ms = -1;
        size_t room = console_room(&log, now_ms(), &wait_ms);
        /* A guest that writes faster than the log takes it waits for its console. */
        struct pollfd p[] = {{.fd = room ? CONSOLE_FD_LINE : -1, .events = POLLIN}, {.fd = shares, .events = POLLIN}};
        ssize_t n;

        poll(p, sizeof p / sizeof *p, wait_ms);
        if (p[1].revents) {
            pidfd_send_signal(CONSOLE_FD_VMM, SIGKILL, NULL, 0);
            shares = -1;
        }
        if (!p[0].revents)
            continue;
        n = read(CONSOLE_FD_LINE, block, room < sizeof block ? room : sizeof block);
        if (n == 0 || (n < 0 && errno != EINTR))
            return 0;
        if (n > 0)
            console_put(&log, block, (size_t)n);
    }
}
