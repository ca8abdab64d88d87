#include "proc.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <vmsd/child.h>
#include <vmsd/path.h>

enum { STAT_MAX = 4096 };

struct proc_stat {
    char state;
    pid_t session;
    uint64_t start;
};

/* ABSENT when there is no such process, or only a zombie of it. */
static int proc_stat_read(pid_t pid, struct proc_stat *out, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    OWN(str) char *line = NULL;
    char path[32];
    struct proc_stat st;
    struct vm_err why;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if ((fd = path_open_host(path, O_RDONLY, &why)) < 0 || path_read_fd(fd, path, STAT_MAX, &line, NULL, &why) < 0) {
        if (why.sys == ENOENT || why.sys == ESRCH)
            return vm_fail(e, VM_E_ABSENT, "process %d is gone", (int)pid);
        if (e)
            *e = why;
        return -1;
    }
    /* The name in parentheses may hold anything, ")" and blanks too: the last ")" ends it. */
    const char *rest = strrchr(line, ')');
    if (!rest || sscanf(rest, ") %c %*d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
                        &st.state, &st.session, &st.start) != 3)
        return vm_fail(e, VM_E_SYSTEM, "%s: not as expected", path);
    if (st.state == 'Z' || st.state == 'X')
        return vm_fail(e, VM_E_ABSENT, "process %d has ended", (int)pid);
    *out = st;
    return 0;
}

static int boot_id_read(char out[static 37], struct vm_err *e)
{
    static const char path[] = "/proc/sys/kernel/random/boot_id";
    OWN(str) char *text = NULL;
    size_t n = 0;
    OWN(fd) int fd = path_open_host(path, O_RDONLY, e);

    if (fd < 0 || path_read_fd(fd, path, 64, &text, &n, e) < 0)
        return -1;
    if (n < 36)
        return vm_fail(e, VM_E_SYSTEM, "%s: not as expected", path);
    memcpy(out, text, 36);
    out[36] = '\0';
    return 0;
}

int proc_id_of(pid_t pid, struct proc_id *out, struct vm_err *e)
{
    struct proc_id id = {.pid = pid};
    struct proc_stat st;

    if (proc_stat_read(pid, &st, e) < 0 || boot_id_read(id.boot, e) < 0)
        return -1;
    id.start = st.start;
    *out = id;
    return 0;
}

int proc_id_open(const struct proc_id *id, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    struct proc_id now;

    if (id->pid <= 0)
        return vm_fail(e, VM_E_ABSENT, "%d is no process", (int)id->pid);
    if ((fd = pidfd_open(id->pid, 0)) < 0)
        return errno == ESRCH || errno == EINVAL ? vm_fail(e, VM_E_ABSENT, "process %d is gone", (int)id->pid)
                                                 : vm_fail_sys(e, "open process %d", (int)id->pid);
    /* Asked after the pidfd is open: if this is the one we look for now, then the pidfd is its. */
    if (proc_id_of(id->pid, &now, e) < 0)
        return -1;
    if (now.start != id->start || strcmp(now.boot, id->boot) != 0)
        return vm_fail(e, VM_E_ABSENT, "process %d is another one by now", (int)id->pid);
    return take_fd(&fd);
}

static bool signal_member(pid_t pid, pid_t session, int sig)
{
    OWN(fd) int fd = pidfd_open(pid, 0);
    struct proc_stat st;

    return fd >= 0 && proc_stat_read(pid, &st, NULL) == 0 && st.session == session &&
           pidfd_send_signal(fd, sig, NULL, 0) == 0;
}

unsigned proc_signal_session(pid_t session, int sig)
{
    unsigned n = 0;
    OWN(dir) DIR *proc = opendir("/proc");

    for (struct dirent *d; proc && (d = readdir(proc));)
        if (isdigit((unsigned char)d->d_name[0]))
            n += signal_member((pid_t)strtol(d->d_name, NULL, 10), session, sig);
    return n;
}
