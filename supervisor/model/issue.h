/* issue.h: complaints about specs, collected and never printed. Private to supervisor/model. */
#ifndef VMSD_MODEL_ISSUE_H
#define VMSD_MODEL_ISSUE_H

#include <stdbool.h>
#include <vmsd/spec.h>

/* Past this many the rest is counted, not kept: nobody reads on, and a hostile bundle gets no more memory. */
enum { ISSUES_MAX = 500 };

struct issues {
    struct spec_issue *v;
    size_t n, cap, errors, left_out;
    bool failed; /* no memory */
};

/* Adds "WHAT" at file:line:column; all text is made visible. */
VM_PRINTF(6) void issue_add(struct issues *is, const char *file, unsigned line, unsigned column, bool warning,
                            const char *fmt, ...);
/* One more would only be counted: no hint for it is worth the search. */
bool issues_full(const struct issues *is);
/* Sorts by file, line, column; the same twice becomes one; says at the end how many were left out. */
void issues_end(struct issues *is);
void issues_done(struct issues is);

#endif
