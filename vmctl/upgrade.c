#include "upgrade.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>
#include <vmsd/path.h>

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
static int refused(int fd, const struct answer_head *head, struct text *body, struct vm_err *e)
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
    struct answer_head head;
    ssize_t length = 0, n;

    while (!length) {
        if ((n = more(fd, &t, e)) < 0)
            return -1;
        if (n == 0)
            return vm_fail(e, VM_E_BACKEND, "vmsd closed the connection without an answer");
        length = answer_head(t.s, t.len, protocol, &head);
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
    if (client_dial(c, &s, e) < 0)
        return -1;
    setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = UPGRADE_WAIT_S}, sizeof(struct timeval));
    /* When vmsd has closed already, its answer says why. */
    if (path_write_all(s, head, strlen(head), e) == 0)
        path_write_all(s, content, strlen(content), e);
    if (answer(s, protocol, early, e) < 0)
        return -1;
    *fd = take_fd(&s);
    return 0;
}
