/* nth.h: the n-th allocation fails, for each n until an operation passes.
 *
 * What is counted is what our own code asks for, and jansson for it: the linker puts nth.c between them and libc
 * (vmsd_nth() in CMakeLists.txt), so nothing in the product knows of it. Leaks are found by the sanitizer's build. */
#ifndef VMSD_TESTS_NTH_H
#define VMSD_TESTS_NTH_H

#include <stdbool.h>
#include <stddef.h>
#include <vmsd/err.h>

/* One operation. It calls nth_over() as soon as that has returned, then frees what it got; when the operation succeeded,
 * it tells by nth_say what came of it, which must be the same whatever failed on the way. 0, or -1 and *e. */
struct nth_case {
    const char *name;
    int (*run)(struct vm_err *e);
};

void nth_arm(unsigned long n); /* the n-th from now on fails, once; 0: none, only counted */
void nth_over(void);
void nth_again(void); /* goes on after nth_over, for what has to be made ready first */
VM_PRINTF(1) void nth_say(const char *fmt, ...);

/* Walks one operation; prints what is wrong. true: all is well. */
bool nth_walk(const struct nth_case *c);
/* main of a test program: all its rows, or those that are named. */
int test_J1_each_allocation_fails(int argc, char **argv, const struct nth_case *v, size_t n);

#endif
