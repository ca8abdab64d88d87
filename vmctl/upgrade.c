#include "upgrade.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <vmsd/path.h>
#include "answer.h"

static ssize_t receive(int fd, char *p, size_t n, struct vm_err *e)
{
    ssize_t got;

    do
        got = recv(fd, p, n, 0);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return vm_fail(e, VM_E_TIMEOUT, "vmsd has not answered for %d s", UPGRADE_WAIT_S);
    return got < 0 ? vm_fail_sys(e, "read vmsd's answer") : got;
}

/* Only an error has a body. */
static int keep(const char *p, size_t n, void *arg)
{
    struct text *body = arg;

    if (body->len + n <= CLIENT_ERROR_MAX)
        text_add_bytes(body, p, n);
    return 0;
}

static int answer(int fd, struct text *early, struct vm_err *e)
{
    OWN(text) struct text body = {0};
    struct answer a;
    char block[4096];
    ssize_t n, taken;

    answer_begin(&a, keep, &body);
    while (!a.ended) {
        if ((n = receive(fd, block, sizeof block, e)) < 0)
            return -1;
        if (n == 0 && !answer_is_whole(&a))
            return vm_fail(e, VM_E_BACKEND, "vmsd closed the connection without an answer");
        if ((taken = answer_read(&a, block, (size_t)n)) < 0)
            return vm_fail(e, VM_E_BACKEND, "vmsd's answer is not HTTP; is that its socket?");
        if (a.upgraded)
            text_add_bytes(early, block + taken, (size_t)(n - taken));
    }
    if (early->failed)
        return vm_no_memory(e);
    return a.upgraded ? 0 : client_error(a.status, body.s, body.len, e);
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
    if (client_dial(c, &s, e) < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = UPGRADE_WAIT_S}, sizeof(struct timeval));
    /* When vmsd has closed already, its answer says why. */
    if (path_write_all(s, head, strlen(head), e) == 0)
        path_write_all(s, content, strlen(content), e);
    if (answer(s, early, e) < 0)
        return -1;
    *fd = take_fd(&s);
    return 0;
}
