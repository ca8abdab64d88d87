/* How a guest that boots a kernel is told what it is. Any thread. Private to supervisor/. */
#ifndef BOOT_H
#define BOOT_H

#include "job.h"

#include <vmsd/proto.h>

enum { BOOT_TOKEN = PROTO_TOKEN + 1 };
/* The token of the boot that runs, or "" when it has none (a container). Worker. */
int boot_token_read(const char *run_dir, char out[static BOOT_TOKEN], struct vm_err *e);
/* op=setup, as <vmsd/proto.h> has it, with the time of now; networks: one for each nic. Pure but for the clock. */
int boot_request(const char *name, const struct net_nic *nics, const struct network_spec *const *networks, size_t n,
                 struct strv *out, struct vm_err *e);
/* The text of /vmsd/setup in its initramfs. Yours; NULL: failed. Pure. */
char *boot_setup(const struct job *j, const char *token, struct vm_err *e);
/* May that be given to a hypervisor? A regular file of the right sort that root alone can change. Worker. */
enum boot_file { BOOT_KERNEL, BOOT_INITRAMFS };
int boot_file_check(enum boot_file what, const char *path, struct vm_err *e);

#endif
