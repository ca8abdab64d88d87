#include "keeper_share.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVER_FD = 3, SERVER_FILES = 65536 };

static struct server { pid_t pid; struct source *err; const char *target; } servers[KEEPER_MOUNTS_MAX];
static size_t n_servers;

static int socket_listen(const char *dir, const char *name, uint32_t owner)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    mode_t mask = umask(0177);

    if ((size_t)snprintf(a.sun_path, sizeof a.sun_path, "%s/%s", dir, name) >= sizeof a.sun_path)
        keeper_fail("%s/%s: too long for a socket", dir, name);
    unlink(a.sun_path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || lchown(a.sun_path, owner, owner) < 0 || listen(fd, 1) < 0)
        keeper_fail("listen on %s: %s", a.sun_path, strerror(errno));
    umask(mask);
    return fd;
}

/* Root, but only of the guest's ids: the user namespace is the one that maps them, and the others are not its own. */
static void become_guest(int idmap)
{
    struct rlimit none = {0, 0}, files;

    /* More than the host allows us would take CAP_SYS_RESOURCE. */
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        files.rlim_cur = files.rlim_max = files.rlim_max < SERVER_FILES ? files.rlim_max : SERVER_FILES;
    if (setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NOFILE, &files) < 0)
        child_fail("limits of virtiofsd");
    if (setns(idmap, CLONE_NEWUSER) < 0 || setgroups(0, NULL) < 0 || setresgid(0, 0, 0) < 0 || setresuid(0, 0, 0) < 0)
        child_fail("ids of virtiofsd");
    /* Changing ids took it away. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        child_fail("prctl");
}

__attribute__((noreturn)) static void server_exec(const struct child_io *from, int share, int idmap, int listener)
{
    static char *const env[] = {NULL};
    struct child_io io = *from;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    io.out = io.err;
    child_begin(&io);
    if (mount("proc", KEEPER_SERVER "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
        child_fail("mount /proc");
    if (move_mount(share, "", AT_FDCWD, KEEPER_SERVER "/share", MOVE_MOUNT_F_EMPTY_PATH) < 0)
        child_fail("mount the share");
    root_enter(KEEPER_SERVER);
    become_guest(idmap);
    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || (io.go = fcntl(io.go, F_DUPFD_CLOEXEC, SERVER_FD + 1)) < 0 ||
        (listener = fcntl(listener, F_DUPFD_CLOEXEC, SERVER_FD + 1)) < 0 || dup2(listener, SERVER_FD) < 0)
        child_fail("fds of virtiofsd");
    child_wait(&io);
    close_range(SERVER_FD + 1, ~0U, 0);
    child_exec(keeper.plan.server, env);
}

static void server_start(const struct plan_mount *m, int share, int idmap, int listener)
{
    struct server *s = &servers[n_servers++];
    struct child_pipes pipes;

    pipes_make(&pipes);
    s->pid = fork_into(keeper.plan.into, CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS);
    if (s->pid == 0)
        server_exec(&pipes.child, share, idmap, listener);
    pipes_forked(&pipes);
    close(pipes.out);
    s->err = source_add(pipes.err, NULL);
    s->target = m->target;
    if (write(pipes.go, "", 1) != 1)
        errno = 0; /* it has failed already; its end says how */
    close(pipes.go);
}

void servers_start(const struct plan *p, struct roots *r, const char *dir)
{
    for (size_t i = 0; i < p->n_mounts; i++) {
        int listener = socket_listen(dir, p->mounts[i].socket, p->uid_base);

        server_start(&p->mounts[i], r->shares[i], r->idmap, listener);
        close(listener);
        close(r->shares[i]);
    }
    if (r->idmap >= 0)
        close(r->idmap);
}

bool server_ended(pid_t pid, int status)
{
    struct state *s = &keeper.state;
    char line[sizeof s->text];

    for (size_t i = 0; i < n_servers; i++) {
        if (servers[i].pid != pid)
            continue;
        if (*s->text)
            return true; /* the first one is the reason, others may be its consequence */
        sources_drain();
        keeper_text(servers[i].err, WIFSIGNALED(status) ? "killed" : "it said nothing");
        snprintf(line, sizeof line, "virtiofsd of %.60s ended: %.110s", servers[i].target, s->text);
        state_text(s->text, sizeof s->text, line, strlen(line));
        return true;
    }
    return false;
}
