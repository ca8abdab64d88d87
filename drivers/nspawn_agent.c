#include "nspawn.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>

static int bounding_read(pid_t pid, uint64_t *caps, struct vm_err *e)
{
    char *at;
    OWN(str) char *text = NULL;

    if (proc_file_read(pid, "status", &text, NULL, e) < 0)
        return -1;
    if (!(at = strstr(text, "\nCapBnd:")) || sscanf(at, "\nCapBnd: %" SCNx64, caps) != 1)
        return vm_fail(e, VM_E_SYSTEM, "/proc/%d/status shows no bounding set", (int)pid);
    return 0;
}

/* The fds of a request: the guest's init, the agent's socket, and the groups that it is in. */
struct entry { int fds[3 + V1_COUNT]; size_t n; unsigned flags; };

static int entry_take(struct entry *x, int fd)
{
    if (fd < 0)
        return -1;
    x->fds[x->n++] = fd;
    return 0;
}

static int groups_open(uint32_t id, struct entry *x, struct vm_err *e)
{
    OWN(strv) struct strv join = {0};
    struct cgroup c;
    int born;

    cgroup_of(id, &c);
    if (cgroup_agent(&c, &born, &join, e) < 0)
        return -1;
    if (entry_take(x, born) == 0)
        x->flags |= STARTER_BORN;
    for (size_t i = 0; i < join.n; i++)
        if (entry_take(x, path_open_host(join.v[i], O_WRONLY, e)) < 0)
            return -1;
    return 0;
}

static int entry_run(const struct starter_request *r, struct deadline d, struct vm_err *e)
{
    OWN(fd) int conn = -1;
    struct starter_told told;
    struct vm_err why = {0};

    if (starter_ask(r, d, &told, &conn, &why) == 0)
        return 0;
    if (why.code == VM_E_TIMEOUT)
        return vm_fail(e, VM_E_TIMEOUT, "the guest did not let vms-agent in before time was up");
    if (e)
        *e = why;
    return -1;
}

int nspawn_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e)
{
    struct entry x = {.flags = g->spec->security.no_new_privileges ? STARTER_NO_NEW_PRIVS : 0};
    OWN(fd) int mine = -1;
    uint64_t caps;
    int pair[2], rc = -1;

    if (entry_take(&x, nspawn_leader_open(p, e)) < 0 || bounding_read(p->leader, &caps, e) < 0)
        goto out;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        vm_fail_sys(e, "socketpair");
        goto out;
    }
    mine = pair[0];
    entry_take(&x, pair[1]);
    if (groups_open(g->id, &x, e) < 0)
        goto out;
    struct starter_request r = {.ask = {.verb = STARTER_ENTER, .flags = x.flags, .caps = caps}, .fds = x.fds, .n_fds = x.n};
    if ((rc = entry_run(&r, d, e)) == 0)
        *fd = take_fd(&mine);
out:
    for (size_t i = 0; i < x.n; i++)
        fd_drop(x.fds[i]);
    return rc < 0 ? vm_context(e, "agent of '%s'", g->spec->name) : 0;
}
