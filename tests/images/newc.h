/* newc.h: reads an initramfs as the kernel does, see Documentation/driver-api/early-userspace/buffer-format.rst: archives
 * one after the other, each at a place that 4 divides, zeros between them, a later file in the place of an earlier one. */
#ifndef NEWC_H
#define NEWC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum { NEWC_FILES_MAX = 200 };

struct newc_file {
    char name[128];
    mode_t mode;
    unsigned uid, gid, nlink, mtime;
    size_t at, n;           /* content: in newc.bytes */
};
struct newc {
    unsigned char *bytes;
    size_t n;
    unsigned n_archives, n_files;
    struct newc_file files[NEWC_FILES_MAX];
};

struct newc *newc_read(const char *path);   /* fails the test when the kernel would not take it */
const struct newc_file *newc_find(const struct newc *c, const char *name); /* or NULL */
bool newc_holds(const struct newc *c, const char *name, const char *text);
void newc_free(struct newc *c);

#endif
