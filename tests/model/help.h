/* help.h: bundles made by hand, for the tests of specs and plans. */
#ifndef VMSD_TESTS_MODEL_HELP_H
#define VMSD_TESTS_MODEL_HELP_H

#include <vmsd/plan.h>

/* An empty bundle of that base (or NULL); add files in any order, then seal it. Stops the program without memory. */
struct bundle *help_bundle(const char *base);
void help_file(struct bundle *b, const char *path, mode_t mode, const char *data, size_t n);
void help_text(struct bundle *b, const char *path, const char *text); /* 0644 */
void help_seal(struct bundle *b);
void help_bundle_free(struct bundle *b);
OWN_DEFINE(help_bundle, struct bundle *, help_bundle_free)

/* The scripts and files that the golden specs name. */
void help_usual_files(struct bundle *b);
/* All files below dir, as bundle_from_dir would give them. */
void help_tree(struct bundle *b, const char *dir);
/* A whole file; yours, and NULL if there is none. */
char *help_read(const char *path, size_t *n);

/* One spec file "a.yaml" with that text, read with the usual files; every issue as a line, or "". Both are yours. */
struct spec_set *help_set(const char *text);
char *help_issues(const struct spec_set *s);
/* The only guest of such a text, which must be without fault; yours. */
struct guest_spec *help_guest(const char *text);

#endif
