/* <vmsd/hosts.h>: hosts.yaml, the hosts that one vmctl looks after. Floor 1, pure. Any thread.
 *
 *     left: root@left.example        # as ssh takes it, with a port if it has one of its own
 *     right:
 *       ssh: root@right.example:2222 # if not given: the name
 *       specs: [common, right.d]     # what apply and plan send there: directories, relative to this file, as if they were one
 *       tags: [edge]
 *     here: {socket: /run/vmsd/vmsd.sock}
 */
#ifndef VMSD_HOSTS_H
#define VMSD_HOSTS_H

#include <vmsd/spec.h>

enum { HOSTS_MAX = 256 };

struct hosts_entry {
    const char *name;       /* a domain name, never "all" */
    const char *ssh;        /* NULL: it has a socket … */
    const char *socket;     /* … an absolute path here */
    struct spec_list specs, tags;
    unsigned line, column;  /* of what it is reached by */
};
struct hosts_file {
    struct hosts_entry *v;     size_t n;        /* in the order of the file */
    struct spec_issue *issues; size_t n_issues; /* errors, by line */
};

/* What is wrong with the text is told by (*out)->issues, at FILE:LINE:COLUMN. -1: no memory. */
int hosts_file_read(const char *file, const char *data, size_t n, struct hosts_file **out, struct vm_err *e);
void hosts_file_free(struct hosts_file *f);
OWN_DEFINE(hosts_file, struct hosts_file *, hosts_file_free)

#endif
