#include "ch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/path.h>

/* "OK 1073741824\n" */
enum { ANSWER_MAX = 32 };

/* The VMM's socket, an O_PATH. It is in the keeper's mount namespace, in a directory where the VMM may make whatever it
 * likes: so nothing is followed there, and what is no socket is refused. */
static int vsock_open(pid_t keeper, struct vm_err *e)
{
    char path[32];
    OWN(fd) int root = -1;
    OWN(fd) int fd = -1;
    struct stat st;

    snprintf(path, sizeof path, "/proc/%d/root", (int)keeper);
    if ((root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) /* a magic link by nature: path_open refuses those */
        return vm_fail(e, VM_E_ABSENT, "%s: %s", path, strerror(errno));
    fd = path_open(root, &(KEEPER_VMM_RUN "/" CH_VSOCK)[1], PATH_BENEATH, O_PATH | O_NOFOLLOW, 0, NULL);
    if (fd < 0 || fstat(fd, &st) < 0)
        return vm_fail(e, VM_E_ABSENT, "the guest has no vsock yet");
    if (!S_ISSOCK(st.st_mode))
        return vm_fail(e, VM_E_BACKEND, "the VMM's vsock is no socket");
    return take_fd(&fd);
}

/* Waits for the socket; the end of the keeper comes first. */
static int await(int fd, short events, int keeper, struct deadline d, struct vm_err *e)
{
    struct pollfd p[] = {{.fd = fd, .events = events}, {.fd = keeper, .events = POLLIN}};
    int n;

    do
        n = poll(p, 2, deadline_poll_ms(d));
    while ((n < 0 && errno == EINTR) || (n == 0 && deadline_left(d)));
    if (p[1].revents)
        return vm_fail(e, VM_E_BACKEND, "the guest has ended");
    return n > 0 ? 0 : vm_fail(e, VM_E_ABSENT, "nobody answers on the guest's vsock");
}

/* Byte by byte: what follows the line is the agent's. */
static int answer_read(int fd, int keeper, struct deadline d, struct vm_err *e)
{
    char line[ANSWER_MAX];
    size_t n = 0;

    for (;;) {
        ssize_t got = read(fd, line + n, 1);

        if (got < 0 && errno == EAGAIN) {
            if (await(fd, POLLIN, keeper, d, e) < 0)
                return -1;
            continue;
        }
        if (got <= 0)
            return vm_fail(e, VM_E_ABSENT, "nobody listens on port %d in the guest", DRV_AGENT_PORT);
        if (line[n] == '\n')
            return n > 3 && !memcmp(line, "OK ", 3) ? 0 : vm_fail(e, VM_E_BACKEND, "the VMM's vsock answers nonsense");
        if (++n == sizeof line)
            return vm_fail(e, VM_E_BACKEND, "the VMM's vsock answers nonsense");
    }
}

int ch_agent_connect(const struct drv_proc *p, struct deadline d, int *out, struct vm_err *e)
{
    OWN(fd) int keeper = proc_id_open(&p->keeper, NULL);
    OWN(fd) int place = keeper < 0 ? -1 : vsock_open(p->keeper.pid, e);
    OWN(fd) int fd = -1;
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    char hello[24];
    int n = snprintf(hello, sizeof hello, "CONNECT %d\n", DRV_AGENT_PORT);

    if (keeper < 0 || pidfd_wait(keeper, (struct deadline){0})) /* also: the pid was the keeper's all the while */
        return vm_fail(e, VM_E_BACKEND, "the guest has ended");
    if (place < 0)
        return -1;
    snprintf(a.sun_path, sizeof a.sun_path, "/proc/self/fd/%d", place);
    if ((fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0)
        return vm_fail_sys(e, "socket");
    if (connect(fd, (struct sockaddr *)&a, sizeof a) < 0 || send(fd, hello, (size_t)n, MSG_NOSIGNAL) != n)
        return vm_fail(e, VM_E_ABSENT, "the guest's vsock: %s", strerror(errno));
    if (answer_read(fd, keeper, d, e) < 0)
        return -1;
    fcntl(fd, F_SETFL, 0);
    *out = take_fd(&fd);
    return 0;
}
