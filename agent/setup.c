#include "agent.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/own.h>

#define HOSTNAME "/etc/hostname"
#define CLOCK_MAX 253402300799 /* the end of the year 9999 */

/* ---- names ---- */

static bool file_is(const char *path, const char *text)
{
    char now[128];
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n = fd < 0 ? -1 : read(fd, now, sizeof(now));
    return n == (ssize_t)strlen(text) && memcmp(now, text, (size_t)n) == 0;
}

/* A root that is read-only keeps what it has; the kernel knows the name. */
static int write_hostname(const char *name, struct vm_err *e)
{
    char line[72];
    snprintf(line, sizeof(line), "%s\n", name);
    if (file_is(HOSTNAME, line))
        return 0;
    unlink(HOSTNAME ".vmsd");
    OWN(fd) int fd = open(HOSTNAME ".vmsd", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0 && errno == EROFS)
        return 0;
    if (fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line) || rename(HOSTNAME ".vmsd", HOSTNAME) < 0)
        return vm_fail_sys(e, "write " HOSTNAME);
    return 0;
}

static int setup_hostname(const struct request *rq, struct vm_err *e)
{
    const char *name = request_get(rq, "hostname");
    char now[65] = "";
    if (!name)
        return 0;
    if (!*name || strlen(name) > 64 || strpbrk(name, "/ \n"))
        return vm_fail(e, VM_E_INVALID, "hostname=%.100s is no host name", name);
    gethostname(now, sizeof(now) - 1);
    if (strcmp(now, name) != 0 && sethostname(name, strlen(name)) < 0)
        return vm_fail_sys(e, "set the host name");
    return write_hostname(name, e);
}

/* ---- clock, processors ---- */

static int setup_clock(const struct request *rq, struct vm_err *e)
{
    const char *text = request_get(rq, "clock");
    struct timespec now;
    long long s, ns;
    int end = 0;

    if (!text)
        return 0;
    if (sscanf(text, "%lld.%9lld%n", &s, &ns, &end) != 2 || text[end] || s < 0 || s > CLOCK_MAX || ns < 0)
        return vm_fail(e, VM_E_INVALID, "clock=%.100s is not SECONDS.NANOSECONDS", text);
    clock_gettime(CLOCK_REALTIME, &now);
    long long off_ms = (s - now.tv_sec) * 1000 + (ns - now.tv_nsec) / 1000000;
    if (off_ms >= -1000 && off_ms <= 1000)
        return 0;
    struct timespec to = { .tv_sec = (time_t)s, .tv_nsec = (long)ns };
    return clock_settime(CLOCK_REALTIME, &to) < 0 ? vm_fail_sys(e, "set the clock") : 0;
}

/* Processors that came with a change of `cpus` wait to be switched on. The first one often can't be switched at all. */
static int setup_cpus(const struct request *rq, struct vm_err *e)
{
    OWN(dir) DIR *d = opendir("/sys/devices/system/cpu");
    int rc = 0;
    (void)rq;
    for (const struct dirent *de; d && rc == 0 && (de = readdir(d));) {
        char path[320], is = 0;
        if (strncmp(de->d_name, "cpu", 3) != 0 || de->d_name[3] < '0' || de->d_name[3] > '9')
            continue;
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/%s/online", de->d_name);
        OWN(fd) int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && pread(fd, &is, 1, 0) == 1 && is == '0' && pwrite(fd, "1", 1, 0) < 0)
            rc = vm_fail_sys(e, "switch on %s", de->d_name);
    }
    return rc;
}

/* ---- all of it ---- */

/* One part that fails keeps none of the others away; the first failure is told. */
int op_setup(const struct request *rq, struct vm_err *e)
{
    static int (*const parts[])(const struct request *, struct vm_err *) = { setup_hostname, setup_clock, setup_cpus,
                                                                             setup_net };
    struct vm_err later;
    int rc = 0;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        if (parts[i](rq, rc == 0 ? e : &later) < 0)
            rc = -1;
    }
    return rc;
}

/* ---- at boot: the same from a file, and disks that grew while the guest was off ---- */

static int grow_disks(const struct request *rq, struct vm_err *e)
{
    size_t at = 0;
    int rc = grow_disk("root", e);
    for (const char *v; (v = pairs_next(rq->p, rq->n, "mount", &at));) {
        char tag[32];
        size_t n = strcspn(v, " "), all = strlen(v);
        bool read_only = all > 3 && strcmp(v + all - 3, " ro") == 0;
        if (strncmp(v, "vol", 3) != 0 || n >= sizeof(tag) || read_only)
            continue;
        memcpy(tag, v, n);
        tag[n] = '\0';
        if (grow_disk(tag, rc == 0 ? e : NULL) < 0)
            rc = -1;
    }
    return rc;
}

/* Lines become pairs, in place. */
static size_t lines_to_pairs(char *text, size_t n)
{
    size_t to = 0;
    for (size_t i = 0; i < n; i++) {
        char c = (char)(text[i] == '\n' ? '\0' : text[i]);
        if (c || (to && text[to - 1])) /* no empty ones */
            text[to++] = c;
    }
    if (to && text[to - 1])
        text[to++] = '\0';
    return to;
}

int setup_from_file(const char *path, struct vm_err *e)
{
    static char text[FRAME_PAYLOAD_MAX + 1];
    struct vm_err later;
    size_t n = 0;

    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vm_fail_sys(e, "open '%s'", path);
    for (ssize_t got; n < sizeof(text) && (got = read(fd, text + n, sizeof(text) - n)) > 0;)
        n += (size_t)got;
    if (n == sizeof(text) || memchr(text, '\0', n))
        return vm_fail(e, VM_E_INVALID, "'%s' is no text of at most %d KiB", path, FRAME_PAYLOAD_MAX >> 10);
    struct request rq = { text, lines_to_pairs(text, n) };
    if (!pairs_ok(rq.p, rq.n))
        return vm_fail(e, VM_E_INVALID, "'%s' does not hold lines of KEY=VALUE, at most %d", path, FRAME_PAIRS_MAX);
    int rc = op_setup(&rq, e);
    return grow_disks(&rq, rc == 0 ? e : &later) < 0 ? -1 : rc;
}
