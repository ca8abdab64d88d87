#include "sysctl.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/own.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

static int sysctl_open(const char *name, int flags, struct vm_err *e)
{
    OWN(str) char *path = text_format("/proc/sys/net/%s", name);
    if (!path)
        return vm_no_memory(e);
    int fd = path_open_host(path, flags | O_CLOEXEC, e);
    if (fd < 0 && e && e->sys == ENOENT)
        e->code = VM_E_ABSENT;
    return fd;
}

int sysctl_write(const char *name, const char *value, struct vm_err *e)
{
    OWN(fd) int fd = sysctl_open(name, O_WRONLY, e);
    return fd < 0 ? -1 : path_write_all(fd, value, strlen(value), e);
}

int sysctl_read(const char *name, int *out, struct vm_err *e)
{
    char text[16] = "";
    OWN(fd) int fd = sysctl_open(name, O_RDONLY, e);
    if (fd < 0)
        return -1;
    if (read(fd, text, sizeof text - 1) < 0)
        return vm_fail_sys(e, "read /proc/sys/net/%s", name);
    *out = (int)strtol(text, NULL, 10);
    return 0;
}

int sysctl_interface(const char *family, const char *ifname, const struct sysctl_row *rows, size_t n, struct vm_err *e)
{
    for (size_t i = 0; i < n; i++) {
        struct vm_err why = { 0 };
        OWN(str) char *name = text_format("%s/conf/%s/%s", family, ifname, rows[i].name);
        if (!name)
            return vm_no_memory(e);
        if (sysctl_write(name, rows[i].value, &why) < 0 && why.code != VM_E_ABSENT)
            return vm_fail(e, why.code, "%s", why.text);
    }
    return 0;
}

int sysctl_forward4(struct vm_err *e)
{
    int on = 0;
    if (sysctl_read("ipv4/ip_forward", &on, e) < 0)
        return -1;
    return on ? 0 : sysctl_write("ipv4/ip_forward", "1", e);
}

/* A forwarding host takes router advertisements only where accept_ra is 2: raise it where it is 1 now, or the host
 * would lose its own default route. */
static int keep_accepting_ra(struct vm_err *e)
{
    int fd = sysctl_open("ipv6/conf", O_RDONLY | O_DIRECTORY, e);
    if (fd < 0)
        return -1;
    OWN(dir) DIR *d = dir_take(fd);
    if (!d)
        return vm_no_memory(e);
    for (const struct dirent *it; (it = readdir(d));) {
        int mode = 0;
        OWN(str) char *name = text_format("ipv6/conf/%s/accept_ra", it->d_name);
        if (!name)
            return vm_no_memory(e);
        if (it->d_name[0] == '.' || strcmp(it->d_name, "all") == 0 || sysctl_read(name, &mode, NULL) < 0 || mode != 1)
            continue;
        struct vm_err why = { 0 };
        if (sysctl_write(name, "2", &why) < 0 && why.code != VM_E_ABSENT) /* interfaces may go while we look */
            return vm_fail(e, why.code, "%s", why.text);
    }
    return 0;
}

int sysctl_forward6(struct vm_err *e)
{
    int on = 0;
    if (sysctl_read("ipv6/conf/all/forwarding", &on, e) < 0)
        return -1;
    if (on)
        return 0;
    return keep_accepting_ra(e) < 0 ? -1 : sysctl_write("ipv6/conf/all/forwarding", "1", e);
}
