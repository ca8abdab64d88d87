/* What a guest is told to be, and what its kernel says that it is: /vmsd/setup from host to agent, and netlink answers. Nothing
 * of this machine is changed: the agent's calls end here. The input is u16 length and the text, then answers: u8 length / 4 and a
 * message, whose head is mended so that it belongs to the request. */
#include "fuzz.h"

#include <agent/agent.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int text_fd = -1;
static const uint8_t *input;
static size_t left;
static struct nlmsghdr asked;

/* ---- what the agent calls ---- */

int grow_disk(const char *serial, struct vm_err *e)
{
    (void)e;
    MUST(*serial && strlen(serial) < 32);
    return 0;
}

int fake_open(const char *path, int flags, ...);
int fake_open(const char *path, int flags, ...)
{
    MUST(*path == '/' && (flags & O_CLOEXEC));
    if (strcmp(path, "/setup") == 0)
        return dup(text_fd);
    errno = ENOENT;
    return -1;
}

DIR *fake_opendir(const char *path);
DIR *fake_opendir(const char *path)
{
    (void)path;
    return NULL;
}

int fake_unlink(const char *path);
int fake_unlink(const char *path)
{
    (void)path;
    return 0;
}

int fake_rename(const char *from, const char *to);
int fake_rename(const char *from, const char *to)
{
    (void)from, (void)to;
    return 0;
}

int fake_sethostname(const char *name, size_t n);
int fake_sethostname(const char *name, size_t n)
{
    MUST(n > 0 && n <= 64 && !memchr(name, '/', n));
    return 0;
}

int fake_clock_settime(clockid_t id, const struct timespec *t);
int fake_clock_settime(clockid_t id, const struct timespec *t)
{
    MUST(id == CLOCK_REALTIME && t->tv_sec >= 0 && t->tv_nsec >= 0 && t->tv_nsec < 1000000000);
    return 0;
}

int fake_socket(int domain, int type, int protocol);
int fake_socket(int domain, int type, int protocol)
{
    (void)type, (void)protocol;
    MUST(domain == AF_NETLINK);
    return dup(text_fd);
}

ssize_t fake_send(int fd, const void *p, size_t n, int flags);
ssize_t fake_send(int fd, const void *p, size_t n, int flags)
{
    (void)fd, (void)flags;
    MUST(n >= sizeof asked);
    memcpy(&asked, p, sizeof asked);
    MUST(asked.nlmsg_len == n);
    return (ssize_t)n;
}

/* The kernel's messages are whole and have their fixed part; all else may be anything. Behind the input's end it says yes. */
ssize_t fake_recv(int fd, void *p, size_t size, int flags);
ssize_t fake_recv(int fd, void *p, size_t size, int flags)
{
    struct nlmsghdr *h = p;
    size_t n = (size_t)next_byte(&input, &left) * 4;

    (void)fd, (void)flags;
    if (n > left || n < 16 || !(asked.nlmsg_flags & NLM_F_DUMP)) {
        struct nlmsgerr yes = { .error = 0 };
        *h = (struct nlmsghdr){ .nlmsg_len = NLMSG_LENGTH(sizeof yes), .nlmsg_seq = asked.nlmsg_seq,
                                .nlmsg_type = asked.nlmsg_flags & NLM_F_DUMP ? NLMSG_DONE : NLMSG_ERROR };
        memcpy(NLMSG_DATA(h), &yes, sizeof yes);
        return h->nlmsg_len;
    }
    MUST(sizeof *h + n <= size);
    *h = (struct nlmsghdr){ .nlmsg_len = (uint32_t)(sizeof *h + n), .nlmsg_seq = asked.nlmsg_seq, .nlmsg_type = 16 };
    memcpy(NLMSG_DATA(h), input, n);
    input += n;
    left -= n;
    return h->nlmsg_len;
}

/* ---- the harness ---- */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct vm_err e = { 0 };
    size_t len = next_byte(&data, &n);

    len |= (size_t)next_byte(&data, &n) << 8;
    len = len < n ? len : n;
    if (text_fd < 0)
        MUST((text_fd = memfd_create("setup", MFD_CLOEXEC)) >= 0);
    MUST(ftruncate(text_fd, 0) == 0 && pwrite(text_fd, data, len, 0) == (ssize_t)len && lseek(text_fd, 0, SEEK_SET) == 0);
    input = data + len;
    left = n - len;
    MUST(setup_from_file("/setup", &e) == 0 || e.text[0]);
    return 0;
}
