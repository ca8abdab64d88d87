/* starter.h: vms-starter's parts. Private to vms-starter, which has one thread, and a process for each request: what a request
 * has open or has taken ends with that. */
#ifndef VMSD_DRIVERS_STARTER_H
#define VMSD_DRIVERS_STARTER_H

#include <linux/filter.h>
#include <vmsd/starter.h>

/* What it starts, found when it is started itself; nothing else. */
struct starter_programs {
    const char *keeper, *unpack, *builder;
    int agent; struct sock_fprog filter; /* a sealed copy, and the system calls that it may make */
};
extern struct starter_programs starter_programs;

/* A request that came whole. Its words are NUL-terminated; its fds are not looked at yet. */
struct request {
    struct starter_ask ask;
    char *words; size_t n_words;
    int fds[STARTER_FDS_MAX]; size_t n_fds;
    int conn;
};
enum { STARTER_FD_ASIDE = 256 }; /* above all that a request has open */

/* Each does what is asked, and answers; -1: it was not started, *e says why. */
int starter_keep(const struct request *r, struct vm_err *e);
int starter_enter(const struct request *r, struct vm_err *e);
int starter_run(const struct request *r, struct vm_err *e);

/* An answer; whoever waited for it may have gone. */
void starter_tell(int conn, struct starter_told told);
/* Whoever asked is gone, or wants nothing more. */
bool starter_left(int conn);
/* Is it a directory, or a file, of a guest's control group? */
bool starter_is_group(int fd);

#endif
