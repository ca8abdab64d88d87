#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
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
enum { CID_HOST = 2 };
#define CID_ANY UINT32_MAX

int serve_vsock(unsigned port, const char *token, struct vm_err *e)
{
    struct sockaddr_vm at = { .family = AF_VSOCK, .port = port, .cid = CID_ANY };
    OWN(fd) int listener = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&at, sizeof(at)) < 0 || listen(listener, 4) < 0)
        return vm_fail_sys(e, "listen on vsock port %u", port);
    for (;;) {
        struct sockaddr_vm peer = { 0 };
        socklen_t n = sizeof(peer);
        OWN(fd) int fd = accept4(listener, (struct sockaddr *)&peer, &n, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && errno != EINTR && errno != ECONNABORTED && errno != EMFILE && errno != ENOMEM)
            return vm_fail_sys(e, "accept on vsock port %u", port);
        if (fd >= 0 && peer.cid == CID_HOST) /* others in the guest can reach this port too */
            session_serve(fd, true, token);
    }
}

/* udev's links in /dev/virtio-ports are absent in small guests: the kernel's own list is not. */
static int find_port(const char *name, char *path, size_t max, struct vm_err *e)
{
    static const char dir[] = "/sys/class/virtio-ports";
    DIR *d = opendir(dir);
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
    if (d)
        closedir(d);
    return found ? 0 : vm_fail(e, VM_E_ABSENT, "no virtio-serial port '%s' in this guest", name);
}

/* While no host is connected the port reads as at its end, and poll tells nothing else. */
static void wait_for_host(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };
    while (poll(&p, 1, -1) < 0 || (p.revents & (POLLHUP | POLLIN)) == POLLHUP)
        nanosleep(&(struct timespec){ .tv_nsec = 250000000 }, NULL);
}

int serve_virtio(const char *name, const char *token, struct vm_err *e)
{
    char path[300];
    if (find_port(name, path, sizeof(path), e) < 0)
        return -1;
    OWN(fd) int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return vm_fail_sys(e, "open '%s'", path);
    for (;;) {
        wait_for_host(fd);
        session_serve(fd, false, token);
    }
}
