/* acl.h: lets one user through to a file that is closed to him, by POSIX ACLs; and takes that back. Private to drivers/.
 * Any thread.
 *
 * A VMM that runs as a user of its own opens its files by name. The directories of vmsd stay closed to everybody else
 * (0700): the guest's user may pass through each of them, and no other user may. */
#ifndef VMSD_DRIVERS_ACL_H
#define VMSD_DRIVERS_ACL_H

#include <sys/types.h>
#include <vmsd/text.h>

/* Adds to *out what is closed to uid on the way to a file (absolute path, links followed), and the file itself when it
 * cannot be read by him; and what is open to him only because acl_open was called. The same place is added once. */
int acl_closed(const char *path, uid_t uid, struct strv *out, struct vm_err *e);
/* Lets uid pass through a directory, or read a file, of that list. Again is success. */
int acl_open(const char *path, uid_t uid, struct vm_err *e);
/* Takes that back. What is gone, and who is not in the list, is success. */
int acl_close(const char *path, uid_t uid, struct vm_err *e);

#endif
