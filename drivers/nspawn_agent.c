#include "nspawn.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/capability.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { ENTER_NS = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP,
       GROUPS_MAX_JOIN = 16 };

/* All that the child needs, gathered before the fork: after it only calls that are safe there. */
struct entry {
    int leader;      /* pidfd */
    int sock;        /* the agent's end */
    int groups[GROUPS_MAX_JOIN]; size_t n_groups; /* to write "0" to */
    uint64_t caps;   /* bounding set of the guest's init */
    bool no_new_privs;
    int report;      /* "step\0" and errno on failure; nothing, closed by exec, on success */
};

__attribute__((noreturn)) static void enter_fail(const struct entry *x, const char *step)
{
    struct { int cause; char step[40]; } r = {.cause = errno};

    strncpy(r.step, step, sizeof r.step - 1);
    _exit(write(x->report, &r, sizeof r) != sizeof r);
}

/* The kernel gives all of them on entry to a user namespace; the guest's init has fewer. */
static int caps_drop(uint64_t bounding)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}};

    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
        if (!(bounding >> cap & 1) && prctl(PR_CAPBSET_DROP, cap) < 0)
            return -1;
    for (int i = 0; i < 2; i++)
        data[i].effective = data[i].permitted = (uint32_t)(bounding >> (32 * i));
    return (int)syscall(SYS_capset, &head, data);
}

/* In the guest, as its root. The report's number is above 3; it and the program close on exec. */
__attribute__((noreturn)) static void agent_exec(const struct entry *x)
{
    static char *const argv[] = {"vms-agent", "--fd", "3", NULL};
    static char *const env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
                                "LANG=C.UTF-8", NULL};
    struct sigaction dfl = {.sa_handler = SIG_DFL};
    sigset_t none;

    setsid();
    /* Not by libc, which would ask all threads to do the same, and wait for them: it does not know that none is left. */
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0)
        enter_fail(x, "become the guest's root");
    if (chdir("/") < 0)
        enter_fail(x, "enter the guest's /");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &nspawn_programs.filter) < 0)
        enter_fail(x, "filter system calls");
    if (caps_drop(x->caps) < 0)
        enter_fail(x, "drop capabilities");
    if (x->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        enter_fail(x, "no_new_privs");
    if (dup2(x->sock, 3) < 0)
        enter_fail(x, "dup");
    umask(022);
    for (int sig = 1; sig < NSIG; sig++)
        sigaction(sig, &dfl, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    fexecve(nspawn_programs.agent, argv, env);
    enter_fail(x, "start vms-agent");
}

/* In the child. Two forks: the first enters the pid namespace, the second makes the agent a child of the guest's init,
 * which reaps it; were it a child of ours, its zombie would hold up the guest's end. */
__attribute__((noreturn)) static void enter(struct entry *x)
{
    pid_t pid;

    /* vmsd is kept from the OOM killer; what runs in a guest is not. Refused only where it is 0 already. */
    int score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (score < 0 || write(score, "0", 1) != 1)
        enter_fail(x, "reset the OOM score");
    /* The guest's root sees us once we are in its pid namespace: it must not trace us before the exec. */
    if (prctl(PR_SET_DUMPABLE, 0) < 0)
        enter_fail(x, "hide from the guest");
    /* The host's, before entering: to open one in there would be to trust its /dev. */
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        if (null < 0 || dup2(null, i) < 0)
            enter_fail(x, "open /dev/null");
    for (size_t i = 0; i < x->n_groups; i++)
        if (write(x->groups[i], "0", 1) != 1)
            enter_fail(x, "join the guest's cgroup");
    /* D14: nothing of vmsd goes along but these three. */
    int keep[] = {nspawn_programs.agent, x->sock, x->report, x->leader};
    for (int i = 0, lo = 3; i <= (int)ARRAY_LEN(keep); i++) {
        int next = -1;

        for (size_t k = 0; k < ARRAY_LEN(keep); k++)
            if (keep[k] >= lo && (next < 0 || keep[k] < next))
                next = keep[k];
        if (next < 0) {
            close_range((unsigned)lo, ~0U, 0);
            break;
        }
        if (next > lo)
            close_range((unsigned)lo, (unsigned)next - 1, 0);
        lo = next + 1;
    }
    if (setns(x->leader, ENTER_NS) < 0)
        enter_fail(x, "enter the guest's namespaces");
    close(x->leader);
    if ((pid = _Fork()) < 0)
        enter_fail(x, "fork");
    if (pid == 0) {
        if ((pid = _Fork()) < 0)
            enter_fail(x, "fork");
        if (pid == 0)
            agent_exec(x);
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    _exit(0);
}

static int bounding_read(pid_t pid, uint64_t *caps, struct vm_err *e)
{
    char path[40], *at;
    OWN(str) char *text = NULL;
    OWN(fd) int fd = -1;

    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    if ((fd = path_open_host(path, O_RDONLY, e)) < 0 || path_read_fd(fd, path, 16 << 10, &text, NULL, e) < 0)
        return -1;
    if (!(at = strstr(text, "\nCapBnd:")) || sscanf(at, "\nCapBnd: %" SCNx64, caps) != 1)
        return vm_fail(e, VM_E_SYSTEM, "%s shows no bounding set", path);
    return 0;
}

static int groups_open(uint32_t id, struct entry *x, int *born, struct vm_err *e)
{
    OWN(strv) struct strv join = {0};
    struct cgroup c;

    cgroup_of(id, &c);
    if (cgroup_agent(&c, born, &join, e) < 0)
        return -1;
    for (size_t i = 0; i < join.n && i < GROUPS_MAX_JOIN; i++) {
        if ((x->groups[x->n_groups] = path_open_host(join.v[i], O_WRONLY, e)) < 0)
            return -1;
        x->n_groups++;
    }
    return 0;
}

/* Until the report closes (the agent was exec'd) or tells a failure. */
static int report_read(int report, struct deadline d, struct vm_err *e)
{
    struct { int cause; char step[40]; } r = {0};
    struct pollfd p = {.fd = report, .events = POLLIN};
    int n;

    do
        n = poll(&p, 1, (int)deadline_left(d));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return vm_fail(e, VM_E_TIMEOUT, "the guest did not let vms-agent in before time was up");
    ssize_t got = read(report, &r, sizeof r);
    if (got == 0)
        return 0;
    r.step[sizeof r.step - 1] = '\0';
    errno = r.cause;
    return vm_fail_sys(e, "%s", r.step);
}

static int entry_run(struct entry *x, int born, int report, struct deadline d, struct vm_err *e)
{
    pid_t child = cgroup_fork(born);
    int rc;

    if (child < 0)
        return vm_fail_sys(e, "fork");
    if (child == 0) {
        close(report);
        enter(x);
    }
    x->report = fd_drop(x->report);
    if ((rc = report_read(report, d, e)) < 0)
        kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc;
}

int nspawn_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *fd, struct vm_err *e)
{
    struct entry x = {.leader = -1, .sock = -1, .report = -1, .no_new_privs = g->spec->security.no_new_privileges};
    OWN(fd) int mine = -1;
    OWN(fd) int report = -1;
    OWN(fd) int born = -1;
    int pair[2], rc = -1;

    if ((x.leader = nspawn_leader_open(p, e)) < 0 || bounding_read(p->leader, &x.caps, e) < 0 ||
        groups_open(g->id, &x, &born, e) < 0)
        goto out;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        vm_fail_sys(e, "socketpair");
        goto out;
    }
    mine = pair[0], x.sock = pair[1];
    if (pipe2(pair, O_CLOEXEC) < 0) {
        vm_fail_sys(e, "pipe");
        goto out;
    }
    report = pair[0], x.report = pair[1];
    if ((rc = entry_run(&x, born, report, d, e)) == 0)
        *fd = take_fd(&mine);
out:
    fd_drop(x.leader);
    fd_drop(x.sock);
    fd_drop(x.report);
    for (size_t i = 0; i < x.n_groups; i++)
        fd_drop(x.groups[i]);
    return rc < 0 ? vm_context(e, "agent of '%s'", g->spec->name) : 0;
}
