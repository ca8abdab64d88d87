#include "disk_trust.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>

static int check(int fd, const char *path, struct deadline d, struct vm_err *e)
{
    enum { CLEAN = 0, MENDED = 1 };
    char open_file[32];
    char *const argv[] = {"e2fsck", "-f", "-p", open_file, NULL};
    struct child_starter by = {.verb = STARTER_CHECK, .at = fd, .in = -1};
    struct child_plan plan = {.argv = argv, .starter = &by};
    struct child_end end;
    struct vm_err why = {0};

    snprintf(open_file, sizeof open_file, "/proc/self/fd/%d", STARTER_DISK_FD);
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
    if (check(fd, path, d, e) < 0)
        return vm_context(e, "'%s', which a microVM's kernel wrote to, is checked before the host mounts it", path);
    return fchown(fd, 0, 0) < 0 ? vm_fail_sys(e, "take back '%s'", path) : 0;
}
