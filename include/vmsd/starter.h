/* <vmsd/starter.h>: vms-starter, which starts what vmsd itself has no rights to start. Floor 1. Any thread.
 *
 * A process that enters a guest, makes namespaces or becomes another user needs privileges, and so does what it starts.
 * vmsd is to have none of these: each such start is a request to vms-starter, by a connection of its own. vms-starter
 * knows the few things it does, and compares what it is asked with them. The end of the connection ends what it started,
 * but a keeper, which is made to outlive everybody, and an agent, which is its guest's.
 *
 * Where systemd runs it is a service with a socket. Elsewhere vmsd has one of its own, as a child that ends with it, and
 * is started again when it is gone. */
#ifndef VMSD_STARTER_H
#define VMSD_STARTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <vmsd/clock.h>
#include <vmsd/err.h>

/* verb: what it starts; the words that come with it; the fds.
 * KEEP:   vms-keeper of a kind; no words; the read end of a pipe that tells it to go, the group that it is born in if
 *         STARTER_BORN, then its plan.
 * ENTER:  vms-agent in a container; no words; a pidfd of the guest's init, the agent's socket, the group that it is born in
 *         if STARTER_BORN, then files of groups of cgroup v1 to join.
 * BUILD, UNPACK, CHECK: mmdebstrap, vms-unpack, e2fsck; argv, an empty word, environment, none of which is empty; stdin,
 *         stdout and stderr, and what it works on: the scratch directory, the tree, or the disk, which has number
 *         STARTER_DISK_FD then.
 * COMMAND: a program that a spec names, whose author is root: a secret's or an alert's. As before, but it works on nothing. */
#define STARTER_VERBS(X) X(KEEP) X(ENTER) X(BUILD) X(UNPACK) X(CHECK) X(COMMAND)
#define X(id) STARTER_##id,
enum starter_verb { STARTER_VERBS(X) STARTER_VERB_COUNT };
#undef X

enum { STARTER_PROTOCOL = 1, STARTER_FDS_MAX = 200, STARTER_WORDS_MAX = 96 << 10, STARTER_DISK_FD = 3 };
enum { STARTER_BORN = 1u << 0, STARTER_NO_NEW_PRIVS = 1u << 1 };

/* A request; the words follow, each with its NUL. */
struct starter_ask {
    uint32_t protocol, verb, flags;
    uint32_t kind;             /* KEEP: enum keeper_kind */
    uint64_t caps;             /* ENTER: the bounding set of the guest's init */
};
/* The answer: code and text of a failure, or the pid of what runs (ENTER: 0). From BUILD on there is a second one when
 * the program has ended, with its status. It stays a zombie until the connection ends: pid and session are its. */
struct starter_told { int32_t code, sys; int32_t pid, status; char text[400]; };

/* Where it is: the socket of a service, or if NULL a program, and the arguments that our own one gets after its name. All are
 * borrowed for good; all NULL: where ours was is forgotten, and it ends. */
struct starter_place { const char *socket; char *const *argv; };
void starter_place(struct starter_place p);

/* Is there one that could be asked? */
int starter_reach(struct vm_err *e);

struct starter_request {
    struct starter_ask ask;
    const char *words; size_t n_words; /* bytes */
    const int *fds; size_t n_fds;      /* borrowed */
};
/* Asks, and waits for the first answer; *conn stays open, and is yours. */
int starter_ask(const struct starter_request *r, struct deadline d, struct starter_told *told, int *conn, struct vm_err *e);
/* The next answer. */
int starter_hear(int conn, struct deadline d, struct starter_told *told, struct vm_err *e);

#endif
