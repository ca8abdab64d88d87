/* raw.h: the user's terminal in the hands of a program in a guest, and how it comes back. There is one; one thread. */
#ifndef VMCTL_RAW_H
#define VMCTL_RAW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmsd/err.h>

/* Keys go to the guest, each as it is. -1: standard input is no terminal. */
int raw_enter(struct vm_err *e);
/* After the shell had the terminal. */
void raw_again(void);
/* Bytes that were written to the terminal. */
void raw_see(const char *p, size_t n);
/* As it was before raw_enter: keys, and what the program switched on. Also done at exit; more than once does no harm. */
void raw_leave(void);

/* Three times Ctrl-] within a second leave a session, as with machinectl: an editor has a use for one. */
struct raw_detach {
    int count;
    int64_t first; /* when the first of them came */
};
/* Are these keys, which were read at `now`, the end of it? */
bool raw_detaches(struct raw_detach *d, const char *keys, size_t n, int64_t now);

#endif
