#include "agent.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <vmsd/own.h>

static const char usage[] =
    "usage: vms-agent --fd N | --listen | --vsock PORT | --virtio NAME [--token FILE]\n"
    "       vms-agent --setup FILE\n"
    "Runs what vmsd asks for in this guest. One of:\n"
    "  --fd N         serve one session on an inherited, connected stream socket\n"
    "  --listen       serve the host on the virtio-serial port vmsd.agent, or else on vsock port 1024\n"
    "  --vsock PORT   serve the host on this vsock port\n"
    "  --virtio NAME  serve the host on the virtio-serial port of this name\n"
    "  --setup FILE   set names, addresses and routes as FILE says, grow file systems to their disks, and end\n"
    "and  --token FILE   answer only a host that knows the 32 hex digits in FILE\n"
    "     --version, --help\n";

struct options { long fd, vsock; bool any; const char *virtio, *setup, *token_file; };

static int to_number(const char *text, long max, long *out, struct vm_err *e)
{
    char *end;
    errno = 0;
    *out = strtol(text, &end, 10);
    if (errno || end == text || *end || *out < 0 || *out > max)
        return vm_fail(e, VM_E_INVALID, "'%s' is no number of 0..%ld", text, max);
    return 0;
}

static int take_option(const char *name, const char *value, struct options *o, struct vm_err *e)
{
    if (strcmp(name, "--fd") == 0)
        return to_number(value, 1 << 20, &o->fd, e);
    if (strcmp(name, "--vsock") == 0)
        return to_number(value, UINT32_MAX - 1, &o->vsock, e);
    if (strcmp(name, "--virtio") == 0)
        o->virtio = value;
    else if (strcmp(name, "--setup") == 0)
        o->setup = value;
    else if (strcmp(name, "--token") == 0)
        o->token_file = value;
    else
        return vm_fail(e, VM_E_INVALID, "unknown; see --help");
    return 0;
}

static int parse(char **argv, struct options *o, struct vm_err *e)
{
    for (; argv[0]; argv++) {
        if (strcmp(argv[0], "--help") == 0 || strcmp(argv[0], "--version") == 0) {
            fputs(argv[0][2] == 'h' ? usage : "vms-agent " VMSD_VERSION "\n", stdout);
            exit(0);
        }
        if (strcmp(argv[0], "--listen") == 0) {
            o->any = true;
            continue;
        }
        if (!argv[1])
            return vm_fail(e, VM_E_INVALID, "'%s' is unknown or needs a value; see --help", argv[0]);
        if (take_option(argv[0], argv[1], o, e) < 0)
            return vm_context(e, "%s", argv[0]);
        argv++;
    }
    if ((o->fd >= 0) + o->any + (o->vsock >= 0) + !!o->virtio + !!o->setup != 1)
        return vm_fail(e, VM_E_INVALID, "give one of --fd, --listen, --vsock, --virtio and --setup; see --help");
    return 0;
}

static int read_token(const char *path, char token[PROTO_TOKEN + 1], struct vm_err *e)
{
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vm_fail_sys(e, "open '%s'", path);
    size_t n = 0;
    for (ssize_t got; n < PROTO_TOKEN && (got = read(fd, token + n, PROTO_TOKEN - n)) > 0;)
        n += (size_t)got;
    for (size_t i = 0; i < n; i++)
        n = isxdigit((unsigned char)token[i]) ? n : 0;
    if (n != PROTO_TOKEN)
        return vm_fail(e, VM_E_INVALID, "'%s' does not begin with %d hex digits", path, PROTO_TOKEN);
    token[n] = '\0';
    return 0;
}

/* The line moves out of the way of what children get as 0..REPORT_FD, and nothing else that was inherited stays. */
static int tidy_fds(long *line, struct vm_err *e)
{
    if (*line >= 0) {
        int moved = fcntl((int)*line, F_DUPFD_CLOEXEC, REPORT_FD + 1);
        if (moved < 0)
            return vm_fail_sys(e, "--fd %ld", *line);
        fd_drop((int)*line);
        *line = moved;
    }
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= REPORT_FD);
    if (fd < 0)
        return vm_fail_sys(e, "open /dev/null");
    fd_drop(fd);
    unsigned keep = *line >= 0 ? (unsigned)*line : REPORT_FD; /* 5.9 and later; before, the caller has to be tidy */
    if (keep > REPORT_FD + 1)
        syscall(SYS_close_range, REPORT_FD + 1, keep - 1, 0);
    syscall(SYS_close_range, keep + 1, ~0u, 0);
    return 0;
}

static int serve(const struct options *o, const char *token, struct vm_err *e)
{
    if (o->setup)
        return setup_from_file(o->setup, e);
    if (o->any)
        return serve_any(token, e);
    if (o->virtio)
        return serve_virtio(o->virtio, token, e);
    if (o->vsock >= 0)
        return serve_vsock((unsigned)o->vsock, token, e);
    if (fcntl((int)o->fd, F_SETFL, fcntl((int)o->fd, F_GETFL) | O_NONBLOCK) < 0)
        return vm_fail_sys(e, "make the line non-blocking");
    session_serve((int)o->fd, true, token);
    return 0;
}

int main(int argc, char **argv)
{
    struct options o = { .fd = -1, .vsock = -1 };
    char token[PROTO_TOKEN + 1];
    struct vm_err e = { 0 };
    (void)argc;

    signal(SIGPIPE, SIG_IGN);
    umask(022);
    clearenv();
    setenv("PATH", ROOT_PATH, 1);
    setenv("LC_ALL", "C", 1);
    int rc = parse(argv + 1, &o, &e);
    if (rc == 0)
        rc = tidy_fds(&o.fd, &e);
    if (rc == 0 && o.token_file)
        rc = read_token(o.token_file, token, &e);
    if (rc == 0)
        rc = serve(&o, o.token_file ? token : NULL, &e);
    if (rc < 0)
        fprintf(stderr, "vms-agent: %s\n", e.text);
    return e.code == VM_E_INVALID ? 2 : rc < 0;
}
