/* <vmsd/path.h>: the one place that opens files. Floor 0. Any thread.
 *
 * Every file is reached relative to a directory's fd by openat2, then acted upon by fd. "Beneath" never leaves the
 * directory (no "..", absolute or magic link out of it); "in root" reads absolute links as if dir were /, for trees
 * that a guest controls. All fds are O_CLOEXEC. */
#ifndef VMSD_PATH_H
#define VMSD_PATH_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <vmsd/err.h>

enum path_how { PATH_BENEATH, PATH_IN_ROOT };

/* flags as for open(2); a new fd, or -1. */
int path_open(int dir, const char *rel, enum path_how how, int flags, mode_t mode, struct vm_err *e);
/* An absolute path that the host's administrator named (a spec's bind, a configured directory). Links are followed,
 * magic links (/proc/PID/fd/N) are not. */
int path_open_host(const char *abs, int flags, struct vm_err *e);
/* Makes rel and its parents under dir, what is new with that mode; returns an fd of the last one, O_DIRECTORY. */
int path_mkdirs(int dir, const char *rel, mode_t mode, struct vm_err *e);
/* The same for an absolute path of the host. */
int path_mkdirs_host(const char *abs, mode_t mode, struct vm_err *e);

/* Reads a whole regular file of at most max bytes; *out is yours and NUL-terminated. */
int path_read(int dir, const char *rel, size_t max, char **out, size_t *n, struct vm_err *e);
int path_read_fd(int fd, const char *what, size_t max, char **out, size_t *n, struct vm_err *e);
/* Writes by a scratch name, fsync, rename and fsync of the directory. */
int path_write(int dir, const char *rel, const void *p, size_t n, mode_t mode, struct vm_err *e);
/* Removes rel and all below it, never crossing a mount point and never following a link. Absent is success. */
int path_remove(int dir, const char *rel, struct vm_err *e);
bool path_exists(int dir, const char *rel);
/* Is it on a file system that the kernel makes up (/proc, /sys, cgroups, …): a door into it, not data? Unknown is true. */
bool path_is_kernels(int fd);
/* Writes all of it to fd, over short writes and EINTR. */
int path_write_all(int fd, const void *p, size_t n, struct vm_err *e);

#endif
