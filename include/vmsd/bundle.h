/* <vmsd/bundle.h>: a vms.d/ directory as one value: its files in lexical order. Floor 1. Any thread.
 *
 * A bundle travels as a tar (ours, or what git archive makes) and is known by the SHA-256 of its content. */
#ifndef VMSD_BUNDLE_H
#define VMSD_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

enum {
    BUNDLE_FILES_MAX = 20000,
    BUNDLE_PATH_MAX = 512,
    BUNDLE_DEPTH_MAX = 16,
};
#define BUNDLE_BYTES_MAX (256ul << 20)

struct bundle_file {
    char *path;   /* relative, no ".", "..", "//"; '/' between parts */
    mode_t mode;  /* 0644 or 0755 */
    char *data;   /* NUL-terminated behind len */
    size_t len;
};
struct bundle {
    struct bundle_file *files; /* sorted by path, no path twice */
    size_t n;
    char *base;   /* absolute directory that relative binds and secrets refer to, or NULL (came from a pipe) */
    char sha256[65];
};

/* Reads a directory (no dot files, no "*~", "#*#", "*.swp"; symbolic links inside it are read through, links out of it
 * are errors). */
int bundle_from_dir(const char *dir, struct bundle **out, struct vm_err *e);
/* The same of n directories, at least one, as if they were one: no path may be in two of them. The base is the last. */
int bundle_from_dirs(char *const *dirs, size_t n, struct bundle **out, struct vm_err *e);
/* Unpacks a tar in memory, every bound above checked before memory is taken; only regular files and directories
 * count, anything else is an error that names it. A single top directory that holds everything ("vms.d/") is dropped,
 * as are "./" and pax global headers. */
int bundle_from_tar(const void *tar, size_t n, const char *base, struct bundle **out, struct vm_err *e);
/* The same files as a tar, byte for byte the same for the same bundle. *out is yours. */
int bundle_to_tar(const struct bundle *b, char **out, size_t *n, struct vm_err *e);
const struct bundle_file *bundle_find(const struct bundle *b, const char *path); /* borrowed or NULL */
void bundle_free(struct bundle *b);
OWN_DEFINE(bundle, struct bundle *, bundle_free)

#endif
