/* source.h: the specs that apply and plan send: a directory, or a tar on standard input. One thread. */
#ifndef VMCTL_SOURCE_H
#define VMCTL_SOURCE_H

#include <vmsd/bundle.h>
#include "cli.h"

#define SOURCE_DIR "vms.d"

struct source {
    char *tar;
    size_t n;
    char *base;            /* absolute; NULL: from standard input */
    struct strv selected;  /* patterns as the API takes them */
};
/* The absolute path of a directory of specs, yours. */
int source_directory(const struct cli *cli, const char *where, char **out, struct vm_err *e);
/* Says so when there is not one spec in it: most likely it is another directory that was meant. */
void source_warn(const struct bundle *b, const char *where);
/* Reads what the command's first argument names ("-": standard input; none: what hosts.yaml has for the host, or vms.d) and
 * its selection. A pattern that matches neither a guest of the directory nor one that vmsd has is an error. *out starts as
 * {0}, and is to be freed also after an error. */
int source_read(struct cli *cli, struct source *out, struct vm_err *e);
/* The same for several hosts: a pattern may match a guest of any of the n directories. */
int source_read_each(struct cli *cli, const char *const *where, size_t n, struct source *out, struct vm_err *e);
/* "/v1/plan" with base and selection. */
void source_path(const struct source *s, const char *head, struct text *out);
void source_done(struct source s);
OWN_DEFINE(source, struct source, source_done)

#endif
