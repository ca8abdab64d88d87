/* agent_programs.h: what enters a container. Private to vms-starter. */
#ifndef VMSD_DRIVERS_AGENT_PROGRAMS_H
#define VMSD_DRIVERS_AGENT_PROGRAMS_H

#include <linux/filter.h>
#include <vmsd/err.h>

/* agent_copy.c: a sealed memfd of the program. */
int agent_copy(const char *program, struct vm_err *e);
/* agent_filter.c: the system calls that the agent and what it runs may not make. out->filter is yours. */
int agent_filter_make(struct sock_fprog *out, struct vm_err *e);

#endif
