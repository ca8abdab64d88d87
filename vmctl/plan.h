/* plan.h: a plan as people read it. */
#ifndef VMCTL_PLAN_H
#define VMCTL_PLAN_H

#include <stdbool.h>
#include <vmsd/json.h>
#include <vmsd/text.h>

/* Appends one line for each change, and when `whole` its fields and scripts too; then orphans. */
void plan_show(const json_t *plan, bool whole, bool colour, struct text *out);
/* "plan: 1 create, 2 restart" or "plan: nothing to do" and a line's end. */
void plan_summary(const json_t *plan, struct text *out);
/* All of it on standard output, as -o has it; the exit status. */
struct cli;
int plan_print(struct cli *cli, const json_t *plan);
/* Does a change throw a root away or remove a guest? */
bool plan_destroys(const json_t *plan);

#endif
