#include "upgrade.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/path.h>

/* The value of a header in head, which is NUL-terminated; *n is its length. NULL: not there. */
static const char *header(const char *head, const char *name, size_t *n)
{
    size_t length = strlen(name);

    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) != 0 || line[length] != ':')
            continue;
        line += length + 1;
        line += strspn(line, " \t");
        *n = strcspn(line, "\r");
        return line;
    }
    return NULL;
}

ssize_t upgrade_parse(const char *s, size_t n, const char *protocol, struct upgrade_head *out)
{
    const char *end = memmem(s, n, "\r\n\r\n", 4), *value;
    char head[UPGRADE_HEAD_MAX + 1], number[24];
    size_t length, value_n;
    uint64_t told;

    if (!end)
        return n < UPGRADE_HEAD_MAX ? 0 : -1;
    length = (size_t)(end - s) + 4;
    if (length > UPGRADE_HEAD_MAX || memchr(s, '\0', length))
        return -1;
    memcpy(head, s, length);
    head[length] = '\0';
    if (strncmp(head, "HTTP/1.1 ", 9) != 0 || strspn(head + 9, "0123456789") != 3)
        return -1;
    *out = (struct upgrade_head){.status = (int)strtol(head + 9, NULL, 10), .length = SIZE_MAX};
    if ((value = header(head, "Content-Length", &value_n)) && value_n < sizeof number) {
        memcpy(number, value, value_n);
        number[value_n] = '\0';
        if (!text_to_u64(number, &told))
            return -1;
        out->length = told;
    }
    value = header(head, "Upgrade", &value_n);
    out->upgraded =
        out->status == 101 && value && value_n == strlen(protocol) && !strncasecmp(value, protocol, value_n);
    return (ssize_t)length;
}

static int dial(struct client *c, int *out, struct vm_err *e)
{
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_sec = UPGRADE_WAIT_S};

    if (client_reach(c, e) < 0)
        return -1;
    if (fd < 0)
        return vm_fail_sys(e, "socket");
    if (strlen(c->socket) >= sizeof at.sun_path)
        return client_unreached(c, ENAMETOOLONG, e);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", c->socket);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) < 0)
        return client_unreached(c, errno, e);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    *out = take_fd(&fd);
    return 0;
}

/* Reads more; 0 at the end. */
static ssize_t more(int fd, struct text *t, struct vm_err *e)
{
    char block[4096];
    ssize_t n;

    do
        n = recv(fd, block, sizeof block, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return vm_fail(e, VM_E_TIMEOUT, "vmsd has not answered for %d s", UPGRADE_WAIT_S);
    if (n < 0)
        return vm_fail_sys(e, "read vmsd's answer");
    text_add_bytes(t, block, (size_t)n);
    return t->failed ? vm_no_memory(e) : n;
}

/* The answer is an error: reads its body and says it. */
static int refused(int fd, const struct upgrade_head *head, struct text *body, struct vm_err *e)
{
    size_t want = head->length < CLIENT_ERROR_MAX ? head->length : CLIENT_ERROR_MAX;
    ssize_t n = 1;

    while (body->len < want && n > 0)
        n = more(fd, body, e);
    if (n < 0)
        return -1;
    return client_error(head->status, body->s, body->len < want ? body->len : want, e);
}

static int answer(int fd, const char *protocol, struct text *early, struct vm_err *e)
{
    OWN(text) struct text t = {0};
    struct upgrade_head head;
    ssize_t length = 0, n;

    while (!length) {
        if ((n = more(fd, &t, e)) < 0)
            return -1;
        if (n == 0)
            return vm_fail(e, VM_E_BACKEND, "vmsd closed the connection without an answer");
        length = upgrade_parse(t.s, t.len, protocol, &head);
    }
    if (length < 0)
        return vm_fail(e, VM_E_BACKEND, "vmsd's answer is not HTTP; is that its socket?");
    text_add_bytes(early, t.s + length, t.len - (size_t)length);
    if (early->failed)
        return vm_no_memory(e);
    return head.upgraded ? 0 : refused(fd, &head, early, e);
}

int upgrade_open(struct client *c, const char *path, const char *protocol, const json_t *body, int *fd,
                 struct text *early, struct vm_err *e)
{
    OWN(fd) int s = -1;
    OWN(str) char *content = json_to_text(body);
    OWN(str) char *head = NULL;

    if (content)
        head = text_format("POST %s HTTP/1.1\r\nHost: vmsd\r\nConnection: Upgrade\r\nUpgrade: %s\r\n"
                           "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
                           path, protocol, strlen(content));
    if (!head)
        return vm_no_memory(e);
    if (dial(c, &s, e) < 0)
        return -1;
    /* When vmsd has closed already, its answer says why. */
    if (path_write_all(s, head, strlen(head), e) == 0)
        path_write_all(s, content, strlen(content), e);
    if (answer(s, protocol, early, e) < 0)
        return -1;
    *fd = take_fd(&s);
    return 0;
}
