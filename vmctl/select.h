/* select.h: which guests are meant. One thread. */
#ifndef VMCTL_SELECT_H
#define VMCTL_SELECT_H

#include <vmsd/spec.h>
#include "cli.h"

/* The guests that the daemon knows and that the command's names, globs and tags match, as the API gives them; all of them
 * when nothing selects. A pattern that matches none is an error that names the nearest. *out is a list, yours. */
int select_guests(struct cli *cli, json_t **out, struct vm_err *e);
/* The same, but naming nothing is an error unless --all was given. */
int select_named(struct cli *cli, json_t **out, struct vm_err *e);
/* Exactly one guest; *name is yours. */
int select_one(struct cli *cli, const char *pattern, char **name, struct vm_err *e);

/* The patterns of the command line, args from first on, as the API takes them: names, globs, "tag:NAME". */
int select_patterns(const struct cli *cli, size_t first, struct strv *out, struct vm_err *e);
/* Fails for the first pattern that matches none of the n guests (name and tags), with the nearest name. */
struct select_known {
    const char *name;
    struct spec_list tags;
};
int select_check(const struct strv *patterns, const struct select_known *known, size_t n, struct vm_err *e);
#endif
