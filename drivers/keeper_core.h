/* keeper_core.h: what every kind of vms-keeper is made of. Private to vms-keeper, which has one thread and ends by exit:
 * whatever fails there ends it, with a line in the state file, and all that hangs on it goes. */
#ifndef VMSD_DRIVERS_KEEPER_CORE_H
#define VMSD_DRIVERS_KEEPER_CORE_H

#include "keeper.h"
#include "keeper_log.h"

#include <signal.h>

struct plan_mount { bool disk, share, read_only, mapped; const char *target, *socket; };
struct plan_file { bool vmm, server, read_only; const char *path; };
/* Strings point into the mapped plan. */
struct plan {
    uint32_t uid_base;
    bool read_only;
    const char *into, *cgroups[KEEPER_CGROUPS_MAX]; size_t n_cgroups;
    struct plan_mount mounts[KEEPER_MOUNTS_MAX]; size_t n_mounts;
    struct plan_file files[KEEPER_FILES_MAX]; size_t n_files;
    char *args[KEEPER_ARGS_MAX + 1]; size_t n_args;
    char *server[KEEPER_ARGS_MAX + 1]; size_t n_server;
};

/* What the keeper listens to. Without `ready` it is output of the guest: it goes to the console log, as fast as that takes
 * it, and its last line is kept. */
struct source {
    int fd;                    /* -1: closed */
    void (*ready)(struct source *s);
    int64_t rest_ms;           /* not listened to before then */
    struct log_tail tail;
};
enum { KEEPER_SOURCES_MAX = KEEPER_MOUNTS_MAX + 8 };

/* One kind of keeper. */
struct keeper_ops {
    void (*begin)(const struct plan *p);     /* everything up to the first wait */
    void (*child)(pid_t pid, int status);    /* one of ours ended */
    void (*stop)(bool hard);                 /* asked to; hard: at once */
    void (*booted)(void);                    /* KEEPER_SIG_BOOTED; may be NULL */
    void (*due)(void);                       /* keeper.due_ms is there */
};

struct keeper {
    struct plan plan;
    struct state state;
    const struct keeper_ops *ops;
    int proc;                  /* the host's /proc */
    bool asked;                /* to stop */
    int64_t due_ms;            /* when ops->due is called, once; 0: never */
    struct console_log log;
    struct source sources[KEEPER_SOURCES_MAX]; size_t n_sources;
};
extern struct keeper keeper;
extern const struct keeper_ops keeper_nspawn, keeper_vmm, keeper_shares;

/* Ends the keeper with this line as the reason. */
__attribute__((format(printf, 1, 2), noreturn)) void keeper_fail(const char *fmt, ...);
/* Notes a process, which is the keeper or its child: so it is there, be it ended. */
void keeper_note(struct state_proc *p, pid_t pid);
void keeper_put(void);                                 /* the state, to its file */
__attribute__((noreturn)) void keeper_exit(void);      /* it has ended, and state.end says how */
struct source *source_add(int fd, void (*ready)(struct source *s));
void source_close(struct source *s);
/* Reads what is left of the guest's output, within bounds. */
void sources_drain(void);
/* state.text becomes the last line of an output, or if there is none that. */
void keeper_text(const struct source *output, const char *otherwise);
int64_t now_ms(void);
const char *value_of(const char *line, const char *key); /* of "key=value", or NULL */

/* fork with clone's flags, into a cgroup of v2 (or NULL): a process that moves there later has every fork on the host wait
 * for it, for 10 ms. */
pid_t fork_into(const char *cgroup, uint64_t flags);
/* In a child before it becomes something else. */
struct child_io { int go, out, err; };
void child_begin(const struct child_io *io); /* dies with the keeper; out and err are 1 and 2; joins v1's cgroups */
void child_wait(const struct child_io *io);  /* until the keeper says go; never returns if it is gone instead */
__attribute__((noreturn)) void child_exec(char *const *argv, char *const *env);
__attribute__((noreturn)) void child_fail(const char *what); /* errno tells why */
/* A child's ends of pipes, and ours: *go says go by one byte, the others are sources. */
struct child_pipes { struct child_io child; int go, out, err; };
void pipes_make(struct child_pipes *p);
void pipes_forked(struct child_pipes *p);    /* in the keeper */

#endif
