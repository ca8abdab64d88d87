/* issues.h: complaints about specs, as the API gives them. Pure but for the printing. */
#ifndef VMCTL_ISSUES_H
#define VMCTL_ISSUES_H

#include <vmsd/json.h>

/* Prints each issue as "file:line:column: what" on standard error, sorted by place. Returns how many are errors. */
size_t issues_print(const json_t *issues);
size_t issues_errors(const json_t *issues);

#endif
