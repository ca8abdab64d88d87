#include "remote.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/own.h>
#include <vmsd/text.h>
#include "client.h"

enum { LOOK_MS = 20 };

/* What is to be gone again however vmctl ends. */
static char socket_here[sizeof((struct remote *)NULL)->socket], dir_here[sizeof((struct remote *)NULL)->dir];

static void remove_here(void)
{
    if (!*dir_here)
        return;
    unlink(socket_here);
    rmdir(dir_here);
}

static void on_signal(int sig)
{
    remove_here();
    raise(sig); /* SA_RESETHAND: the default now */
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
        return vm_fail(e, VM_E_INVALID, "-H %.100s: expected ssh://[USER@]HOST[:PORT][/SOCKET]", url);
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
        return vm_fail(e, VM_E_INVALID, "-H %.100s: expected ssh://[USER@]HOST[:PORT][/SOCKET]", url);
    r->host = user ? text_format("%s@%s", user, host) : text_format("%s", host);
    r->port = port ? text_format("%s", port) : NULL;
    return r->host && r->peer && (r->port || !port) ? 0 : vm_no_memory(e);
}

static void run_ssh(const struct remote *r, const char *forward)
{
    /* Its questions and complaints go to the terminal; standard input is vmctl's. */
    const char *argv[] = {"ssh", "-N", "-T", "-o", "ExitOnForwardFailure=yes", "-o", "ConnectTimeout=15", "-L", forward,
                          NULL, NULL, NULL, NULL, NULL};
    size_t n = 9;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (r->port) {
        argv[n++] = "-p";
        argv[n++] = r->port;
    }
    argv[n++] = "--";
    argv[n] = r->host;
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    signal(SIGPIPE, SIG_DFL);
    if (null >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(null, STDOUT_FILENO) >= 0)
        execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "vmctl: cannot run ssh: %s\n", strerror(errno));
    _exit(127);
}

static bool listens(const char *path)
{
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};

    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    return fd >= 0 && access(path, F_OK) == 0 && connect(fd, (struct sockaddr *)&at, sizeof at) == 0;
}

static int wait_ready(struct remote *r, struct vm_err *e)
{
    int status;

    while (!listens(r->socket)) {
        if (waitpid(r->ssh, &status, WNOHANG) == r->ssh) {
            r->ssh = 0;
            return vm_fail(e, VM_E_UNAVAILABLE, "%s is not reached: ssh ended with %d; try 'ssh %s true'", r->host,
                           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), r->host);
        }
        nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL);
    }
    return 0;
}

int remote_reach(struct remote *r, struct vm_err *e)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP};
    const char *tmp = getenv("XDG_RUNTIME_DIR");
    OWN(str) char *forward = NULL;

    if (r->ssh)
        return 0;
    if (!tmp || *tmp != '/' || strlen(tmp) + sizeof "/vmctl-XXXXXX" > sizeof r->dir)
        tmp = "/tmp";
    snprintf(r->dir, sizeof r->dir, "%s/vmctl-XXXXXX", tmp);
    if (!mkdtemp(r->dir)) {
        vm_fail_sys(e, "make %s", r->dir);
        r->dir[0] = '\0';
        return -1;
    }
    snprintf(r->socket, sizeof r->socket, "%s/vmsd.sock", r->dir);
    memcpy(socket_here, r->socket, sizeof socket_here);
    memcpy(dir_here, r->dir, sizeof dir_here);
    for (size_t i = 0; i < ARRAY_LEN(ends); i++)
        sigaction(ends[i], &(struct sigaction){.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND | SA_NODEFER}, NULL);
    if (!(forward = text_format("%s:%s", r->socket, r->peer)))
        return vm_no_memory(e);
    if ((r->ssh = fork()) == 0)
        run_ssh(r, forward);
    if (r->ssh < 0) {
        r->ssh = 0;
        return vm_fail_sys(e, "fork for ssh");
    }
    return wait_ready(r, e);
}

void remote_done(struct remote *r)
{
    if (r->ssh) {
        kill(r->ssh, SIGTERM);
        waitpid(r->ssh, NULL, 0);
    }
    remove_here();
    free(r->host);
    free(r->port);
    free(r->peer);
    *r = (struct remote){0};
}
