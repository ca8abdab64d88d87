/* cpio.h: archives that the kernel unpacks before it starts init ("newc"). Floor 2. Workers only. */
#ifndef CPIO_H
#define CPIO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/err.h>

enum { CPIO_BYTES_MAX = 256 << 20 };

struct cpio {
    int to;       /* borrowed; written from its offset on, which must be one that 4 divides */
    uint64_t at;  /* bytes of this archive so far */
    unsigned ino;
};
int cpio_dir(struct cpio *c, const char *name, mode_t mode, struct vm_err *e);
int cpio_file(struct cpio *c, const char *name, mode_t mode, const void *p, size_t n, struct vm_err *e);
int cpio_end(struct cpio *c, struct vm_err *e); /* another archive may follow at once */

#endif
