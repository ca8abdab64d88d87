#include "disk_trust.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>

#define MEMORY_MAX ((rlim_t)4 << 30)

struct checker { int fd; uid_t uid; };

/* It reads an enemy's bytes: with no more rights than the VMM had that wrote them, and less. */
static int become_checker(void *arg)
{
    const struct checker *c = arg;
    struct rlimit none = {0, 0}, memory = {MEMORY_MAX, MEMORY_MAX};

    if (unshare(CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWIPC) < 0 || setrlimit(RLIMIT_CORE, &none) < 0 ||
        setrlimit(RLIMIT_AS, &memory) < 0)
        return errno;
    if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, c->uid, c->uid, c->uid) < 0 ||
        syscall(SYS_setresuid, c->uid, c->uid, c->uid) < 0)
        return errno;
    /* Changing ids took the first away. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || fcntl(c->fd, F_SETFD, 0) < 0)
        return errno;
    return 0;
}

static int check(const struct checker *c, const char *path, struct deadline d, struct vm_err *e)
{
    enum { CLEAN = 0, MENDED = 1 };
    char open_file[32];
    char *const argv[] = {"e2fsck", "-f", "-p", open_file, NULL};
    struct child_plan plan = {.argv = argv, .prepare = become_checker, .prepare_arg = (void *)c};
    struct child_end end;
    struct vm_err why = {0};

    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", c->fd);
    if (child_run(&plan, d, &end, &why) < 0) {
        if (why.code == VM_E_TIMEOUT)
            return vm_fail(e, VM_E_TIMEOUT, "it takes longer than a start may; run 'e2fsck -fp %s', and then chown it to root",
                           path);
        return vm_fail(e, why.code, "%s", why.text);
    }
    free(end.output); /* it quotes names that the guest gave */
    if (!WIFEXITED(end.status) || (WEXITSTATUS(end.status) != CLEAN && WEXITSTATUS(end.status) != MENDED))
        return vm_fail(e, VM_E_CONFLICT, "e2fsck finds damage that it does not mend by itself; run 'e2fsck -f %s'", path);
    return 0;
}

int disk_trust(int fd, const char *path, struct deadline d, struct vm_err *e)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", path);
    if (st.st_uid == 0)
        return 0;
    if (check(&(struct checker){fd, st.st_uid}, path, d, e) < 0)
        return vm_context(e, "'%s', which a microVM's kernel wrote to, is checked before the host mounts it", path);
    return fchown(fd, 0, 0) < 0 ? vm_fail_sys(e, "take back '%s'", path) : 0;
}
