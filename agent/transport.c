#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/own.h>

/* From <linux/vm_sockets.h>, which musl does not bring. */
struct sockaddr_vm {
    sa_family_t family;
    uint16_t reserved;
    uint32_t port, cid;
    uint8_t flags, zero[3];
};
enum { CID_HOST = 2, BACKLOG = 16 };
#define CID_ANY UINT32_MAX

/* Where vmsd's drivers look for an agent: <vmsd/driver.h>. */
enum { VMSD_PORT = 1024 };
#define VMSD_CHANNEL "vmsd.agent"

/* Others in the guest can reach the port, too (D18). Without fds or memory one waits a little, not to ask in circles. */
static int accept_vsock(int listener)
{
    struct sockaddr_vm peer = { 0 };
    socklen_t n = sizeof(peer);
    OWN(fd) int fd = accept4(listener, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
        nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
    return fd >= 0 && peer.cid == CID_HOST ? take_fd(&fd) : -1;
}

int serve_vsock(unsigned port, const char *token, struct vm_err *e)
{
    struct sockaddr_vm at = { .family = AF_VSOCK, .port = port, .cid = CID_ANY };
    OWN(fd) int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, BACKLOG) < 0)
        return vm_fail_sys(e, "listen on vsock port %u", port);
    session_listen(listener, accept_vsock, token);
}

/* udev's links in /dev/virtio-ports are absent in small guests: the kernel's own list is not. */
static int find_port(const char *name, char *path, size_t max, struct vm_err *e)
{
    static const char dir[] = "/sys/class/virtio-ports";
    OWN(dir) DIR *d = opendir(dir);
    size_t n = strlen(name);
    bool found = false;
    for (const struct dirent *de; d && !found && (de = readdir(d));) {
        char file[512], is[128] = "";
        snprintf(file, sizeof(file), "%s/%s/name", dir, de->d_name);
        OWN(file) FILE *f = fopen(file, "re");
        found = f && fgets(is, sizeof(is), f) && strcspn(is, "\n") == n && strncmp(is, name, n) == 0;
        if (found)
            snprintf(path, max, "/dev/%s", de->d_name);
    }
    return found ? 0 : vm_fail(e, VM_E_ABSENT, "no virtio-serial port '%s' in this guest", name);
}

/* While no host is connected the port reads as at its end, and poll returns at once to say just that: only the edge of a
 * change can be waited for. */
static int wait_for_host(int epoll, int fd, struct vm_err *e)
{
    for (;;) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        struct epoll_event ev;
        if (poll(&p, 1, 0) == 0 || (p.revents & (POLLHUP | POLLIN)) != POLLHUP)
            return 0;
        if (epoll_wait(epoll, &ev, 1, -1) < 0 && errno != EINTR)
            return vm_fail_sys(e, "wait for the host");
    }
}

/* An agent that ended leaves no trace on a port, and its host would wait for answers. A frame of no session tells it that
 * the line begins anew; without a host, or with a new one, nobody minds. */
static void tell_new_line(int fd)
{
    uint8_t bye[FRAME_HEAD];
    frame_head(bye, &(struct frame){ .type = FRAME_BYE });
    (void)!write(fd, bye, sizeof(bye));
}

static int serve_port(const char *path, const char *token, struct vm_err *e)
{
    struct epoll_event edge = { .events = EPOLLIN | EPOLLHUP | EPOLLET };
    OWN(fd) int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    OWN(fd) int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0 || epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &edge) < 0)
        return vm_fail_sys(e, "open '%s'", path);
    tell_new_line(fd);
    while (wait_for_host(epoll, fd, e) == 0)
        session_serve(fd, false, token);
    return -1;
}

int serve_virtio(const char *name, const char *token, struct vm_err *e)
{
    char path[300];
    return find_port(name, path, sizeof(path), e) < 0 ? -1 : serve_port(path, token, e);
}

int serve_any(const char *token, struct vm_err *e)
{
    char path[300];
    if (find_port(VMSD_CHANNEL, path, sizeof(path), e) == 0)
        return serve_port(path, token, e);
    return serve_vsock(VMSD_PORT, token, e);
}
