/* A vms-keeper of shares alone: virtiofsd's for a VMM that others started. They and that VMM end together. */
#include "keeper_share.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ORPHAN_MS = 1000 };

static int vmm = -1; /* pidfd */

__attribute__((noreturn)) static void ended(enum state_end end)
{
    keeper.state.end = end;
    keeper_exit();
}

static void vmm_gone(struct source *s)
{
    (void)s;
    ended(END_POWEROFF);
}

/* Whose they are; or the end of whoever was going to tell. */
static void told(struct source *s)
{
    struct state_proc p;

    if (read(s->fd, &p, sizeof p) != sizeof p)
        ended(END_KILLED);
    source_close(s);
    if ((vmm = pidfd_open(p.pid, 0)) < 0 || state_start_of(keeper.proc, p.pid) != p.start)
        ended(END_POWEROFF); /* gone already */
    source_add(vmm, vmm_gone);
}

static void child(pid_t pid, int status)
{
    if (!server_ended(pid, status) || keeper.due_ms)
        return;
    if (vmm < 0) /* status 0: its client has come and gone, and knows why */
        ended(status == 0 ? END_POWEROFF : END_FAILED);
    /* It ends with its client: perhaps the VMM is just ending. */
    keeper.due_ms = now_ms() + ORPHAN_MS;
}

static void due(void)
{
    pidfd_send_signal(vmm, SIGKILL, NULL, 0);
    ended(END_CRASH);
}

/* When the host goes down, all are asked to stop at once; but the guest needs its shares to stop in order. */
static void stop(bool hard)
{
    if (hard || vmm < 0)
        ended(END_KILLED);
}

static void begin(const struct plan *p)
{
    static struct roots roots;
    char dir[32];

    keeper.log = (struct console_log){.dir = -1, .fd = -1}; /* the console is the VMM's business */
    roots_make(p, &roots);
    snprintf(dir, sizeof dir, "/proc/self/fd/%d", KEEPER_FD_RUN);
    /* The way to the sockets, for the VMM's group alone. */
    if (fchown(KEEPER_FD_RUN, 0, p->uid_base) < 0 || fchmod(KEEPER_FD_RUN, 0710) < 0)
        keeper_fail("open the way to the shares: %s", strerror(errno));
    servers_start(p, &roots, dir);
    source_add(KEEPER_FD_TELL, told);
    keeper.state.phase = PHASE_STARTED;
    keeper_put();
}

const struct keeper_ops keeper_shares = {.begin = begin, .child = child, .stop = stop, .due = due};
