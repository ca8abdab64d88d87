/* shares.h: directories of the host in a microVM, by virtiofsd. Private to drivers/. Any thread.
 *
 * Every mount that is no disk has a virtiofsd of its own, confined: its root is a tree that holds the mount and nothing
 * else of the host, and it is root only of the guest's 65536 ids. On-disk id n is n in the guest where ids are mapped, and
 * nobody's elsewhere; a read-only mount is read-only for virtiofsd itself.
 *
 * cloud-hypervisor's keeper keeps its guest's virtiofsd's itself. For a VMM that others start (QEMU), shares_start starts
 * a vms-keeper that keeps nothing else:
 *
 *     struct shares s = SHARES_NONE;
 *     shares_start(g, d, &s, e);                    they listen on shares_socket(run_dir, i, …)
 *     … the VMM starts, and connects …
 *     shares_give(&s, &vmm, e);                     from now on they and the VMM end together
 *     …
 *     shares_reap(id, run_dir, why, sizeof why, e); when the VMM is gone, or the start failed
 *
 * Each virtiofsd takes one client, and ends when that goes: nobody may connect to try. */
#ifndef VMSD_DRIVERS_SHARES_H
#define VMSD_DRIVERS_SHARES_H

#include <vmsd/driver.h>
#include <vmsd/own.h>

struct shares {
    struct proc_id keeper;
    int tell; /* while it is open, and nobody was told of, they wait; its end ends them */
};
#define SHARES_NONE ((struct shares){.tell = -1})
static inline void shares_close(struct shares s)
{
    fd_drop(s.tell);
}
OWN_DEFINE(shares, struct shares, shares_close)

/* Has the guest a mount that is no disk? If not, there is nothing to start, give or reap. */
bool shares_wanted(const struct drv_guest *g);
/* Which virtiofsd there is: $VMS_VIRTIOFSD, /usr/libexec/virtiofsd, /usr/local/bin/virtiofsd, /usr/lib/qemu/virtiofsd, …
 * NULL: none, and *e (UNAVAILABLE) says how to get one. */
const char *shares_program(struct vm_err *e);
/* Starts them and returns when each of them listens; a failed start leaves nothing. run_dir becomes the group g->uid_base's
 * and may be passed through by it (0710), so that a VMM of that user reaches the sockets. */
int shares_start(const struct drv_guest *g, struct deadline d, struct shares *out, struct vm_err *e);
/* Where the virtiofsd of mount i listens: a socket of uid and gid g->uid_base, mode 0600. */
enum { SHARES_SOCKET = 108 };
void shares_socket(const char *run_dir, size_t mount, char out[static SHARES_SOCKET]);
/* Tells whose shares they are. When that process ends they end; when one of them ends it is killed. s->tell is closed.
 * When their keeper is killed, it is for whoever started the VMM to end that (keeper_console.h does). */
int shares_give(struct shares *s, const struct proc_id *vmm, struct vm_err *e);
/* Ends what is left of them, and removes sockets, state file and cgroup. why: "" or the line that tells how one of them
 * ended, and so the VMM was killed. None there is success. */
int shares_reap(uint32_t id, const char *run_dir, char *why, size_t size, struct vm_err *e);

#endif
