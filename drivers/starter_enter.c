/* vms-agent in a container: into the namespaces and groups of the guest's init, and never back. */
#include "starter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

enum { ENTER_NS = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP };

/* All that the child needs. */
struct entry {
    int leader;      /* pidfd */
    int sock;        /* the agent's end */
    const int *groups; size_t n_groups; /* to write "0" to */
    uint64_t caps;   /* bounding set of the guest's init */
    bool no_new_privs;
    int report;      /* a struct report on failure; nothing, closed by exec, on success */
};

struct report { int cause; char step[40]; };

__attribute__((noreturn)) static void enter_fail(const struct entry *x, const char *step)
{
    struct report r = {.cause = errno};

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

    setsid();
    /* Not by libc, which would ask all threads to do the same, and wait for them: it does not know that none is left. */
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, 0, 0, 0) < 0 || syscall(SYS_setresuid, 0, 0, 0) < 0)
        enter_fail(x, "become the guest's root");
    if (chdir("/") < 0)
        enter_fail(x, "enter the guest's /");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &starter_programs.filter) < 0)
        enter_fail(x, "filter system calls");
    if (caps_drop(x->caps) < 0)
        enter_fail(x, "drop capabilities");
    if (x->no_new_privs && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        enter_fail(x, "no_new_privs");
    if (dup2(x->sock, 3) < 0)
        enter_fail(x, "dup");
    umask(022);
    fexecve(starter_programs.agent, argv, env);
    enter_fail(x, "start vms-agent");
}

/* In the child. Two forks: the first enters the pid namespace, the second makes the agent a child of the guest's init,
 * which reaps it; were it a child of ours, its zombie would hold up the guest's end. */
__attribute__((noreturn)) static void enter(struct entry *x)
{
    pid_t pid;

    /* vms-starter is kept from the OOM killer; what runs in a guest is not. Refused only where it is 0 already. */
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
    /* D14: nothing of vmsd or of us goes along but these. */
    int *const keep[] = {&starter_programs.agent, &x->sock, &x->report, &x->leader};
    for (size_t i = 0; i < ARRAY_LEN(keep); i++) {
        int aside = fcntl(*keep[i], F_DUPFD_CLOEXEC, STARTER_FD_ASIDE);

        if (aside < 0)
            enter_fail(x, "keep a descriptor");
        *keep[i] = aside;
    }
    close_range(3, STARTER_FD_ASIDE - 1, 0);
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

/* Until the report closes (the agent was exec'd), tells a failure, or nobody waits for it any more. */
static int report_read(const struct request *q, int report, struct vm_err *e)
{
    struct pollfd p[] = {{.fd = report, .events = POLLIN}, {.fd = q->conn, .events = POLLIN}};
    struct report r = {0};

    while (poll(p, 2, -1) < 0)
        ;
    if (!p[0].revents)
        return vm_fail(e, VM_E_TIMEOUT, "nobody waited for it");
    if (read(report, &r, sizeof r) == 0)
        return 0;
    r.step[sizeof r.step - 1] = '\0';
    errno = r.cause;
    return vm_fail_sys(e, "%s", r.step);
}

/* That it is a guest's init is for the kernel to say: nobody enters a user namespace that he is in already. */
int starter_enter(const struct request *r, struct vm_err *e)
{
    bool born = r->ask.flags & STARTER_BORN;
    size_t groups = born ? 3 : 2;
    struct clone_args args = {.exit_signal = SIGCHLD};
    int pair[2], rc;
    pid_t child;

    if (r->n_words || r->n_fds < groups)
        return vm_fail(e, VM_E_DENIED, "vms-agent needs a guest's init and a socket");
    for (size_t i = 2; i < r->n_fds; i++)
        if (!starter_is_group(r->fds[i]))
            return vm_fail(e, VM_E_DENIED, "vms-agent joins the control groups of its guest");
    if (pipe2(pair, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "make a pipe");
    if (born) {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = (uint64_t)r->fds[2];
    }
    struct entry x = {.leader = r->fds[0], .sock = r->fds[1], .groups = r->fds + groups, .n_groups = r->n_fds - groups,
                      .caps = r->ask.caps, .no_new_privs = r->ask.flags & STARTER_NO_NEW_PRIVS, .report = pair[1]};
    if ((child = (pid_t)syscall(SYS_clone3, &args, sizeof args)) < 0)
        return vm_fail_sys(e, "fork");
    if (child == 0) {
        close(pair[0]);
        enter(&x);
    }
    close(pair[1]);
    if ((rc = report_read(r, pair[0], e)) < 0)
        kill(child, SIGKILL);
    else
        starter_tell(r->conn, (struct starter_told){0});
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        ;
    return rc;
}
