#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/own.h>
#include <vmsd/text.h>
#include "client.h"

enum { LOOK_MS = 20, SAID_MAX = 16 << 20, MUTE_MS = 60000, END_MS = 5, END_TRIES = 100 };

/* What is to be gone again however vmctl ends. */
static struct remote *running;

/* ssh looks at its own flag and then waits: a signal between the two is lost on it, so it is sent until it is heeded. Only
 * what a signal's handler may call. */
static void end_ssh(pid_t ssh)
{
    for (int i = 0; i < END_TRIES; i++) {
        kill(ssh, SIGTERM);
        sleep_ms(END_MS);
        if (waitpid(ssh, NULL, WNOHANG) != 0)
            return;
    }
    kill(ssh, SIGKILL);
    waitpid(ssh, NULL, 0);
}

static void on_signal(int sig)
{
    for (struct remote *r = running; r; r = r->next)
        kill(r->ssh, SIGTERM);
    for (struct remote *r = running; r; r = r->next) {
        end_ssh(r->ssh);
        unlink(r->socket);
        rmdir(r->dir);
    }
    raise(sig); /* SA_RESETHAND: the default now */
}

static void catch_signals(void)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE};

    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct sigaction was, act = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER};

        if (sigaction(ends[i], NULL, &was) == 0 && was.sa_handler == SIG_DFL) /* nohup's, say, stay ignored */
            sigaction(ends[i], &act, NULL);
    }
}

/* Nothing that ssh could take for an option, or its configuration's shell for more than a name. */
static bool plain(const char *s)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-%:";

    return *s && *s != '-' && !s[strspn(s, allowed)];
}

/* "HOST", "HOST:PORT", "[v6]", "[v6]:PORT"; the port is cut off. -1: neither. */
static int split_port(char *host, char **port)
{
    char *end = host, *colon;
    uint64_t n;

    if (host[0] == '[' && !(end = strchr(host, ']')))
        return -1;
    colon = end + strcspn(end, ":");
    if (end != host && end[1] && end + 1 != colon)
        return -1;
    if (*colon) {
        *colon = '\0';
        *port = colon + 1;
        if (!text_to_u64(*port, &n) || n < 1 || n > 65535)
            return -1;
    }
    if (end != host) {
        *end = '\0';
        memmove(host, host + 1, strlen(host));
    }
    return 0;
}

int remote_parse(struct remote *r, const char *url, struct vm_err *e)
{
    static const char scheme[] = "ssh://";
    OWN(str) char *copy = NULL;
    char *user, *host, *port = NULL, *path;

    if (strncmp(url, scheme, sizeof scheme - 1))
        return vm_fail(e, VM_E_INVALID, "%.100s: expected ssh://[USER@]HOST[:PORT][/SOCKET]", url);
    if (!(copy = text_format("%s", url + sizeof scheme - 1)))
        return vm_no_memory(e);
    if ((path = strchr(copy, '/'))) {
        r->peer = text_format("%s", strcmp(path, "/") ? path : CLIENT_SOCKET);
        *path = '\0';
    } else {
        r->peer = text_format("%s", CLIENT_SOCKET);
    }
    host = strrchr(copy, '@');
    user = host ? copy : NULL;
    if (host)
        *host++ = '\0';
    else
        host = copy;
    if (split_port(host, &port) < 0 || !plain(host) || (user && (!plain(user) || strchr(user, ':'))) ||
        (r->peer && strpbrk(r->peer, ":\\ \"'")))
        return vm_fail(e, VM_E_INVALID, "%.100s: expected ssh://[USER@]HOST[:PORT][/SOCKET]", url);
    r->host = user ? text_format("%s@%s", user, host) : text_format("%s", host);
    r->port = port ? text_format("%s", port) : NULL;
    return r->host && r->peer && (r->port || !port) ? 0 : vm_no_memory(e);
}

static void run_ssh(const struct remote *r, const char *forward, pid_t parent)
{
    /* A connection of its own: in one that is shared the forwarding would stay when ssh has ended. What else is forwarded by the
     * user's configuration may fail: another ssh has those ports, most likely. */
    const char *argv[24] = {"ssh", "-N", "-T", "-o", "ExitOnForwardFailure=no", "-o", "ConnectTimeout=15", "-o",
                            "ServerAliveInterval=15", "-o", "ControlMaster=no", "-o", "ControlPath=none", "-L", forward};
    sigset_t none;
    size_t n = 15;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (r->mute) {
        argv[n++] = "-o";
        argv[n++] = "BatchMode=yes";
    }
    if (r->port) {
        argv[n++] = "-p";
        argv[n++] = r->port;
    }
    argv[n++] = "--";
    argv[n] = r->host;
    sigemptyset(&none);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(127);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    if (r->mute) /* a server may talk without end; SIGXFSZ */
        setrlimit(RLIMIT_FSIZE, &(struct rlimit){SAID_MAX, SAID_MAX});
    /* Else its questions and complaints go to the terminal; standard input is vmctl's. */
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0 &&
        (!r->mute || dup2(r->said, STDERR_FILENO) >= 0))
        execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "%scannot run ssh: %s\n", r->mute ? "" : "vmctl: ", strerror(errno));
    _exit(127);
}

static bool listens(const char *path)
{
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    return fd >= 0 && access(path, F_OK) == 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
}

/* ssh has ended: what was here for it goes. */
static void forget(struct remote *r)
{
    struct remote **at = &running;

    while (*at && *at != r)
        at = &(*at)->next;
    if (*at)
        *at = r->next;
    r->ssh = 0;
    r->ready = false;
    if (r->mute)
        r->said = fd_drop(r->said);
    unlink(r->socket);
    rmdir(r->dir);
}

/* The last line that a mute ssh said, which is why it ended; or that it ended. */
static void reason(const struct remote *r, int status, char *out, size_t size)
{
    char said[4096];
    off_t end = r->mute ? lseek(r->said, 0, SEEK_END) : 0, from = end > (off_t)sizeof said - 1 ? end - (off_t)sizeof said + 1 : 0;
    ssize_t n = end > 0 ? pread(r->said, said, sizeof said - 1, from) : 0;
    char *line;

    while (n > 0 && strchr("\r\n", said[n - 1]))
        n--;
    said[n > 0 ? n : 0] = '\0';
    line = strrchr(said, '\n') ? strrchr(said, '\n') + 1 : said;
    if (*line)
        snprintf(out, size, "%.100s", line);
    else
        snprintf(out, size, "ssh ended with %d", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

int remote_begin(struct remote *r, struct vm_err *e)
{
    const char *tmp = getenv("XDG_RUNTIME_DIR");
    OWN(str) char *forward = NULL;
    pid_t parent = getpid();

    if (r->ssh)
        return 0;
    if (!tmp || *tmp != '/' || strlen(tmp) + sizeof "/vmctl-XXXXXX" > sizeof r->dir)
        tmp = "/tmp";
    snprintf(r->dir, sizeof r->dir, "%s/vmctl-XXXXXX", tmp);
    if (!mkdtemp(r->dir))
        return vm_fail_sys(e, "make %s", r->dir);
    snprintf(r->socket, sizeof r->socket, "%s/vmsd.sock", r->dir);
    catch_signals();
    r->began = now_ms();
    if (r->mute && (r->said = memfd_create("ssh", MFD_CLOEXEC)) < 0)
        vm_fail_sys(e, "memory for what ssh says");
    else if (!(forward = text_format("%s:%s", r->socket, r->peer)))
        vm_no_memory(e);
    else if ((r->ssh = fork()) < 0)
        vm_fail_sys(e, "fork for ssh");
    else if (r->ssh == 0)
        run_ssh(r, forward, parent);
    if (r->ssh <= 0) {
        forget(r);
        return -1;
    }
    r->next = running;
    running = r;
    return 0;
}

int remote_look(struct remote *r, struct vm_err *e)
{
    char why[120];
    int status;

    if (!r->ssh)
        return vm_fail(e, VM_E_UNAVAILABLE, "%s is lost", r->host);
    if (waitpid(r->ssh, &status, WNOHANG) == r->ssh) {
        bool was = r->ready;

        reason(r, status, why, sizeof why);
        forget(r);
        return vm_fail(e, VM_E_UNAVAILABLE, "%s is %s: %s; try 'ssh %s%s%s%s true'", r->host, was ? "lost" : "not reached", why,
                       r->port ? "-p " : "", r->port ? r->port : "", r->port ? " " : "", r->host);
    }
    if (r->ready || (r->ready = listens(r->socket)))
        return 1;
    if (!r->mute || now_ms() - r->began < MUTE_MS)
        return 0;
    end_ssh(r->ssh);
    forget(r);
    return vm_fail(e, VM_E_UNAVAILABLE, "%s is not reached: ssh has not got in for %d s; try 'ssh %s true'", r->host,
                   MUTE_MS / 1000, r->host);
}

int remote_reach(struct remote *r, struct vm_err *e)
{
    int rc = remote_begin(r, e);

    while (rc == 0 && (rc = remote_look(r, e)) == 0)
        sleep_ms(LOOK_MS);
    return rc < 0 ? -1 : 0;
}

void remote_done(struct remote *r)
{
    if (r->ssh) {
        end_ssh(r->ssh);
        forget(r);
    }
    free(r->host);
    free(r->port);
    free(r->peer);
    *r = (struct remote){0};
}
