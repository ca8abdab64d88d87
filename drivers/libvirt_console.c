/* The serial line of a domain. A process of ours is connected to it and writes the log as for all other guests: bounded,
 * under the same names, and going on when vmsd or libvirtd die. */
#include "keeper_console.h"
#include "keeper_log.h"
#include "kept.h"
#include "libvirt.h"
#include "shares.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/path.h>

/* Between the end of a VMM and the last byte in the log, which may wait for its rate; and what is read of its end. */
enum { DRAIN_MS = 2000, TAIL_BYTES = 8 << 10 };

static int connect_to(const char *run_dir, struct vm_err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if ((size_t)snprintf(a.sun_path, sizeof a.sun_path, "%s/" VIRT_CONSOLE_SOCKET, run_dir) >= sizeof a.sun_path)
        return vm_fail(e, VM_E_INVALID, "%s is too long for a socket in it", run_dir);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0)
        return vm_fail_sys(e, "connect to %s", a.sun_path);
    return take_fd(&fd);
}

/* Where this boot will begin in the log. */
static void mark_begin(int log_dir, struct virt_note *n)
{
    struct stat st;

    if (fstatat(log_dir, "console.log", &st, AT_SYMLINK_NOFOLLOW) == 0) {
        n->console_from = st.st_size;
        n->console_inode = st.st_ino;
    }
}

/* In the guest's group, which is there already when it has shares: out of vmsd's own, with which it would be ended. */
static int console_spawn(const struct drv_guest *g, const struct kept_plan *plan, struct deadline d, pid_t *pid, int *go,
                         struct vm_err *e)
{
    OWN(fd) int group = -1;
    struct cgroup c;

    cgroup_of(g->id, &c);
    if (c.v2 && scope_wanted() && !shares_wanted(g))
        return keeper_spawn(plan, KEEPS_CONSOLE, -1, pid, go, e) < 0 || scope_start(g->id, *pid, g->spec->stop_timeout_ms, d, e) < 0 ||
                       cgroup_make(&c, *pid, e) < 0
                   ? -1
                   : 0;
    if (cgroup_make(&c, 0, e) < 0 || cgroup_keeper_open(&c, &group, e) < 0)
        return -1;
    return keeper_spawn(plan, KEEPS_CONSOLE, group, pid, go, e);
}

/* What it watches: QEMU, and what keeps the shares of that. */
static int watched_open(const struct virt_note *n, const struct shares *s, struct kept_plan *plan, struct vm_err *e)
{
    const struct proc_id *const watched[] = {&n->qemu, s->keeper.pid ? &s->keeper : &n->qemu};

    for (size_t i = 0; i < ARRAY_LEN(watched); i++)
        if ((plan->fds[plan->n] = proc_id_open(watched[i], e)) < 0)
            return vm_context(e, i ? "what keeps its shares" : "QEMU");
        else
            plan->n++;
    return 0;
}

int virt_console_start(const struct drv_guest *g, struct virt_note *n, const struct shares *s, struct kept_plan *disks,
                       struct deadline d, struct vm_err *e)
{
    OWN(kept_plan) struct kept_plan plan = {.fds = calloc(CONSOLE_FDS + disks->n, sizeof *plan.fds)};
    OWN(fd) int go = -1;
    pid_t pid;
    int fd;

    if (!plan.fds)
        return vm_no_memory(e);
    if ((fd = connect_to(g->run_dir, e)) < 0)
        return -1;
    plan.fds[plan.n++] = fd;
    if ((fd = path_open_host(g->log_dir, O_RDONLY | O_DIRECTORY, e)) < 0)
        return -1;
    plan.fds[plan.n++] = fd;
    mark_begin(fd, n);
    if (watched_open(n, s, &plan, e) < 0)
        return -1;
    for (size_t i = 0; i < disks->n; i++)
        plan.fds[plan.n++] = take_fd(&disks->fds[i]);
    /* It waits for our byte, so its pid cannot have become another's. */
    if (console_spawn(g, &plan, d, &pid, &go, e) < 0 || proc_id_of(pid, &n->console, e) < 0)
        return -1;
    return write(go, "", 1) == 1 ? 0 : vm_fail_sys(e, "start vms-keeper");
}

void virt_console_end(const struct virt_note *n)
{
    OWN(fd) int keeper = n->console.pid ? proc_id_open(&n->console, NULL) : -1;

    if (keeper >= 0 && !pidfd_wait(keeper, deadline_in(DRAIN_MS)))
        pidfd_send_signal(keeper, SIGKILL, NULL, 0);
}

/* What this boot wrote at last; yours, or NULL. */
static char *tail_read(const char *log_dir, const struct virt_note *n)
{
    OWN(fd) int dir = path_open_host(log_dir, O_RDONLY | O_DIRECTORY, NULL);
    OWN(fd) int fd = dir < 0 ? -1 : path_open(dir, "console.log", PATH_BENEATH, O_RDONLY | O_NOFOLLOW, 0, NULL);
    OWN(str) char *s = malloc(TAIL_BYTES + 1);
    struct stat st;
    off_t from;
    ssize_t got;

    if (fd < 0 || !s || fstat(fd, &st) < 0)
        return NULL;
    from = st.st_size > TAIL_BYTES ? st.st_size - TAIL_BYTES : 0;
    if (st.st_ino == n->console_inode && from < n->console_from)
        from = n->console_from;
    if ((got = pread(fd, s, TAIL_BYTES, from)) < 0)
        return NULL;
    for (ssize_t i = 0; i < got; i++)
        if (!s[i])
            s[i] = '?';
    s[got] = '\0';
    return TAKE(s);
}

void virt_console_tell(const struct virt_note *n, struct drv_exit *out)
{
    static const struct { const char *says; enum drv_exit_kind kind; } words[] = {
        {"reboot: Restarting system", EXIT_REBOOT},
        {"reboot: Power down", EXIT_POWEROFF},
        {"reboot: System halted", EXIT_POWEROFF},
    };
    OWN(str) char *tail = n->log_dir ? tail_read(n->log_dir, n) : NULL;
    OWN(text) struct text clean = {0};
    struct log_tail lines = {0};
    struct log_line line;

    *out = (struct drv_exit){.kind = EXIT_UNKNOWN};
    if (!tail)
        return;
    tail_put(&lines, tail, strlen(tail));
    tail_put(&lines, "\n", 1);
    line = tail_panic(&lines);
    if (line.n)
        out->kind = EXIT_PANIC; /* one that reboots says so too, after it */
    else
        line = *tail_last(&lines);
    text_add_visible(&clean, line.s, line.n, NULL);
    snprintf(out->text, sizeof out->text, "%.*s", (int)sizeof out->text - 1, clean.s ? clean.s : "");
    for (size_t i = 0; i < ARRAY_LEN(words) && out->kind == EXIT_UNKNOWN; i++)
        if (strstr(tail, words[i].says)) {
            out->kind = words[i].kind;
            snprintf(out->text, sizeof out->text, "%s", words[i].says);
        }
}
