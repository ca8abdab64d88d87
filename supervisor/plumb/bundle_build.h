/* "bundle_build.h": a bundle while it is being filled from a directory or a tar. Private to plumb. Any thread. */
#ifndef PLUMB_BUNDLE_BUILD_H
#define PLUMB_BUNDLE_BUILD_H

#include <vmsd/bundle.h>

struct build {
    struct bundle *bundle;
    size_t cap;
    size_t entries; /* files and directories seen */
    size_t bytes;
};

int build_open(struct build *b, const char *base, struct vm_err *e);
/* Checks one more entry's name against all that a path of a bundle must be. */
int build_check(struct build *b, const char *path, struct vm_err *e);
/* Room for size more bytes of content? */
int build_check_size(const struct build *b, const char *path, size_t size, struct vm_err *e);
/* data is taken, also on failure. */
int build_take_file(struct build *b, const char *path, bool exec, char *data, size_t len, struct vm_err *e);
/* Sorts, refuses what is there twice, sums; then *out is yours. */
int build_end(struct build *b, struct bundle **out, struct vm_err *e);
void build_done(struct build b);
OWN_DEFINE(build, struct build, build_done)

/* Dot files and editors' leftovers, at any level. */
bool build_passes_over(const char *path);
/* "'path': what" with the path made fit to be seen. */
VM_PRINTF(4) int build_fail(struct vm_err *e, enum vm_errc code, const char *path, const char *fmt, ...);

#endif
