/* <vmsd/lazy.h>: a shared library that is loaded when it is first needed. Floor 0. Any thread.
 *
 * A library brings others along: 30 with libcurl, 13 with libarchive. Loading them takes longer than most commands do, and their
 * pages stay in a daemon that may never need them. */
#ifndef VMSD_LAZY_H
#define VMSD_LAZY_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <vmsd/err.h>

struct lazy {
    const char *so, *package;
    const char *const *names;        /* of n functions … */
    void *table;                     /* … that a struct of n pointers is filled with */
    size_t n;
    bool (*begin)(void);             /* what the library wants before its first use; false: no memory. NULL: nothing */
    pthread_mutex_t lock;
    bool loaded;
};

/* The table can be used after the first success, for good: it is never unloaded. UNAVAILABLE: it is not there, or lacks a
 * function; SYSTEM: no memory. After a failure it is tried again. */
int lazy_need(struct lazy *l, struct vm_err *e);

#endif
