/* keeper.h: what vmsd and vms-keeper share: the plan, the numbers of the fds, the state file. Private to drivers/.
 * libc only: it is linked into the keeper, which stays in memory once per guest.
 *
 * vms-keeper is started as `vms-keeper KIND` with a plan, a sealed memfd of NUL-terminated "key=value" strings:
 *   uid_base=N          first of the guest's 65536 host ids
 *   into=DIR            cgroup of the v2 hierarchy that the guest is born in; at most one
 *   cgroup=DIR          cgroups of v1 that it joins; as often as needed
 *   arg=WORD            the argument vector of nspawn or the VMM, in order
 *   mount=KIND,FLAGS    KIND disk, tree or share (by virtiofsd), FLAGS any of r (read-only) and m (ids mapped)
 *   target=PATH         where the mount before goes in the guest
 * of a container:
 *   read_only=1         the root is mounted read-only once everything is in place
 * of a microVM, and of shares:
 *   file=FLAGS,PATH     a file or tree at PATH in the root of the VMM (flag v) and of virtiofsd (s); r: read-only
 *   socket=NAME         where the virtiofsd of the mount before listens: in /run of the VMM's root, or in run_dir
 *   server=WORD         the argument vector of each virtiofsd, in order
 * A file= and a mount= has its fd, in the plan's order, files first. What the state file says is written by state_write
 * and read by state_parse, both below. */
#ifndef VMSD_DRIVERS_KEEPER_H
#define VMSD_DRIVERS_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum keeper_fd {
    KEEPER_FD_PLAN = 3,
    KEEPER_FD_RUN,    /* run_dir */
    KEEPER_FD_LOG,    /* log_dir */
    /* of a container: */
    KEEPER_FD_IMAGE,  /* O_PATH of the image's tree */
    KEEPER_FD_ROOT,   /* root.img, locked by flock: the lock lives as long as the loop device */
    KEEPER_FD_MOUNTS, /* one per mount */
    /* of a microVM, and of shares: */
    KEEPER_FD_API = KEEPER_FD_IMAGE,  /* listening: the VMM's API */
    KEEPER_FD_TELL = KEEPER_FD_IMAGE, /* a pipe that tells whose shares they are, by a struct state_proc */
    KEEPER_FD_FILES,  /* one per file, then one per mount; disks are locked by flock, as long as the keeper lives */
};

#define KEEPER_KINDS(X) X(NSPAWN, "nspawn", "state") X(VMM, "cloud-hypervisor", "state") X(SHARES, "shares", "shares") \
    X(CONSOLE, "console", NULL)
#define X(id, name, file) KEEPS_##id,
enum keeper_kind { KEEPER_KINDS(X) KEEPER_KIND_COUNT }; /* file: of its state, in run_dir */
#undef X
extern const char *const keeper_kinds[KEEPER_KIND_COUNT], *const keeper_files[KEEPER_KIND_COUNT];

/* In the keeper's own mount namespace only: a tmpfs that hides what nspawn would otherwise leave on the host. */
#define KEEPER_DIR "/run/systemd/nspawn"
#define KEEPER_DISK KEEPER_DIR "/disk"     /* root.img */
#define KEEPER_IMAGE KEEPER_DIR "/image"   /* the image with ids mapped */
#define KEEPER_ROOT KEEPER_DIR "/root"     /* overlay of both: nspawn's -D */
#define KEEPER_VOLUME KEEPER_DIR "/volume" /* volumeN: file system of the N-th mount, if a disk */
#define KEEPER_NOTIFY KEEPER_DIR "/notify" /* NOTIFY_SOCKET */
#define KEEPER_VMM KEEPER_DIR "/vmm"       /* root of the VMM … */
#define KEEPER_VMM_RUN KEEPER_VMM "/run"   /* … and where it makes its sockets */
#define KEEPER_SERVER KEEPER_DIR "/server" /* root of each virtiofsd */

enum { KEEPER_MOUNTS_MAX = 64, KEEPER_FILES_MAX = KEEPER_MOUNTS_MAX + 16, KEEPER_ARGS_MAX = 96, KEEPER_CGROUPS_MAX = 16,
       KEEPER_IDS = 65536, KEEPER_FDS_MAX = KEEPER_FD_MOUNTS + KEEPER_FILES_MAX + KEEPER_MOUNTS_MAX };
/* vmsd's word that a microVM's agent answers: only vmsd can tell, and the state file is the keeper's. */
#define KEEPER_SIG_BOOTED SIGUSR1
/* The host goes down, as systemd tells every process of a guest's scope. The keeper takes it for SIGTERM; all others pass over
 * it, as programs do that do not ask for it: the guest ends in the order of its own init. */
#define KEEPER_SIG_HOST_DOWN SIGURG
#define KEEPER_API "api" /* in run_dir: the socket of the VMM's API */

#define STATE_PHASES(X) X(STARTING, "starting") X(STARTED, "started") X(BOOTED, "booted") X(ENDED, "ended")
#define X(id, name) PHASE_##id,
enum state_phase { STATE_PHASES(X) PHASE_COUNT };
#undef X

#define STATE_ENDS(X) X(NONE, "none") X(POWEROFF, "poweroff") X(REBOOT, "reboot") X(CRASH, "crash") \
    X(FAILED, "failed") X(KILLED, "killed") X(PANIC, "panic")
#define X(id, name) END_##id,
enum state_end { STATE_ENDS(X) END_COUNT };
#undef X

struct state_proc { pid_t pid; uint64_t start; /* clock ticks since boot; 0: unknown */ };
struct state {
    enum keeper_kind by;
    enum state_phase phase;
    struct state_proc keeper, nspawn, leader; /* pids as the host sees them; 0: none yet. leader: init, or the VMM */
    char boot[37];                            /* boot id of the host */
    enum state_end end;
    int status;                               /* exit status of nspawn or the VMM, or the signal that ended it */
    char text[200];                           /* why, one printable line */
};

enum { STATE_BYTES_MAX = 1024 };

/* Replaces the state file in run_dir; failure is borne: nobody is there who could be told, and the guest runs on. */
void state_write(int run_dir, const struct state *s);
/* False unless text is a whole state file. */
bool state_parse(const char *text, struct state *out);
/* Copies a line into a text of the state: bytes that are not printable ASCII become '?'. */
void state_text(char *out, size_t size, const char *line, size_t n);
/* Start time of a process by its directory entry in proc (an O_PATH of a /proc); 0: gone. */
uint64_t state_start_of(int proc, pid_t pid);

#endif
