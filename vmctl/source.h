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
/* The directories that are meant: what the command line names, else what hosts.yaml has for the i-th host, else vms.d. */
void source_dirs(const struct cli *cli, size_t i, struct strv *out);
/* All of them in one; *base, which is NULL before, gets the absolute path of the last. Warns when there is not one spec. */
int source_bundle(const struct cli *cli, const struct strv *dirs, char **base, struct bundle **out, struct vm_err *e);
/* Reads what the command's first argument names ("-": standard input; none: what hosts.yaml has for the host, or vms.d) and
 * its selection. A pattern that matches neither a guest of the directory nor one that vmsd has is an error. *out starts as
 * {0}, and is to be freed also after an error. */
int source_read(struct cli *cli, struct source *out, struct vm_err *e);
/* The same for the first n of several hosts: a pattern may match a guest of any of them. */
int source_read_each(struct cli *cli, size_t n, struct source *out, struct vm_err *e);
/* "/v1/plan" with base and selection. */
void source_path(const struct source *s, const char *head, struct text *out);
void source_done(struct source s);
OWN_DEFINE(source, struct source, source_done)

#endif
