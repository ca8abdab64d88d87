/* nth_calls.h: between our code and libc's allocations. */
#ifndef VMSD_TESTS_NTH_CALLS_H
#define VMSD_TESTS_NTH_CALLS_H

#include <stdbool.h>

bool nth_fails(void); /* shall this one fail? Then errno is ENOMEM. */

#endif
