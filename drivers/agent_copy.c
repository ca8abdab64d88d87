#include "agent_programs.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/own.h>
#include <vmsd/path.h>

enum { AGENT_BYTES_MAX = 32 << 20 };

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U
#endif

/* D13: what runs in a guest is this copy. Nobody, root included, can write to it. */
int agent_copy(const char *program, struct vm_err *e)
{
    OWN(fd) int from = path_open_host(program, O_RDONLY, e);
    OWN(fd) int to = -1;
    OWN(str) char *bytes = NULL;
    size_t n;

    if (from < 0 || path_read_fd(from, program, AGENT_BYTES_MAX, &bytes, &n, e) < 0)
        return -1;
    to = memfd_create("vms-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
    if (to < 0 && errno == EINVAL) /* before Linux 6.3 every memfd may be executed */
        to = memfd_create("vms-agent", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (to < 0)
        return vm_fail_sys(e, "memfd for %s", program);
    if (path_write_all(to, bytes, n, e) < 0)
        return -1;
    if (fchmod(to, 0555) < 0 ||
        fcntl(to, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) < 0)
        return vm_fail_sys(e, "seal the copy of %s", program);
    return take_fd(&to);
}
