#include "agent_programs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <vmsd/own.h>
#include <vmsd/path.h>

enum { FILTER_BYTES_MAX = 64 << 10 };

/* nspawn's own filter does not reach a process that enters by setns, and the guest's root may trace the agent, so what
 * no guest needs and a capability alone does not forbid, or forbids badly, is refused here again. */
static const char *const refused[] = {
    "acct", "add_key", "bpf", "clock_adjtime", "clock_settime", "create_module", "delete_module", "finit_module",
    "get_kernel_syms", "init_module", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
    "lookup_dcookie", "modify_ldt", "move_pages", "nfsservctl", "open_by_handle_at", "pciconfig_iobase",
    "pciconfig_read", "pciconfig_write", "perf_event_open", "query_module", "quotactl", "quotactl_fd", "request_key",
    "settimeofday", "stime", "swapoff", "swapon", "_sysctl", "sysfs", "syslog", "uselib", "userfaultfd", "ustat",
    "vm86", "vm86old",
};

OWN_DEFINE(filter, scmp_filter_ctx, seccomp_release)

int agent_filter_make(struct sock_fprog *out, struct vm_err *e)
{
    OWN(filter) scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
    OWN(fd) int fd = memfd_create("agent-filter", MFD_CLOEXEC);
    OWN(str) char *bytes = NULL;
    size_t n;
    int r;

    if (!f)
        return vm_no_memory(e);
    if (fd < 0)
        return vm_fail_sys(e, "memfd");
    /* The other ways into this kernel: 32-bit calls meet the same list, calls of a third kind none at all. */
    if (seccomp_arch_native() == SCMP_ARCH_X86_64 && (r = seccomp_arch_add(f, SCMP_ARCH_X86)) < 0)
        return vm_fail(e, VM_E_SYSTEM, "seccomp filter: %s", strerror(-r));
    seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        int call = seccomp_syscall_resolve_name(refused[i]);

        if (call != __NR_SCMP_ERROR && (r = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), call, 0)) < 0)
            return vm_fail(e, VM_E_SYSTEM, "seccomp filter, %s: %s", refused[i], strerror(-r));
    }
    if ((r = seccomp_export_bpf(f, fd)) < 0)
        return vm_fail(e, VM_E_SYSTEM, "seccomp filter: %s", strerror(-r));
    if (lseek(fd, 0, SEEK_SET) < 0 || path_read_fd(fd, "seccomp filter", FILTER_BYTES_MAX, &bytes, &n, e) < 0)
        return vm_context(e, "seccomp filter");
    out->len = (unsigned short)(n / sizeof(struct sock_filter));
    out->filter = (struct sock_filter *)(void *)TAKE(bytes);
    return 0;
}
