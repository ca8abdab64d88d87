/* apply.h: the question before something is thrown away. One thread. */
#ifndef VMCTL_APPLY_H
#define VMCTL_APPLY_H

#include "cli.h"

/* Is there somebody to ask? Scripts have decided already. */
bool apply_asks(const struct cli *cli);
/* Shows a plan that cannot be taken back, and asks. *go: do it. */
int apply_confirm(const struct cli *cli, const json_t *plan, bool *go, struct vm_err *e);
/* "/v1/apply" or "/v1/plan" for what the command line says. */
struct source;
void apply_path(const struct cli *cli, const struct source *s, const char *head, struct text *out);

#endif
