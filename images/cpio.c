#include "cpio.h"

#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { CPIO_HEAD = 110, CPIO_ALIGN = 4, CPIO_NAME_MAX = 200 };

static int pad(struct cpio *c, struct vm_err *e)
{
    static const char zeros[CPIO_ALIGN];
    size_t n = (CPIO_ALIGN - c->at % CPIO_ALIGN) % CPIO_ALIGN;

    c->at += n;
    return path_write_all(c->to, zeros, n, e);
}

/* Owned by root, of 1970, and none a second name of another: the same content gives the same bytes. */
static int entry(struct cpio *c, const char *name, mode_t mode, const void *p, size_t n, struct vm_err *e)
{
    char head[CPIO_HEAD + CPIO_NAME_MAX + 1];
    size_t len = strlen(name) + 1;

    if (len > CPIO_NAME_MAX || c->at + n > CPIO_BYTES_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "initramfs: '%.60s' makes it too large", name);
    snprintf(head, sizeof head, "070701%08X%08X%08X%08X%08X%08X%08zX%08X%08X%08X%08X%08zX%08X%s", ++c->ino, mode, 0, 0, 1,
             0, n, 0, 0, 0, 0, len, 0, name);
    c->at += CPIO_HEAD + len;
    if (path_write_all(c->to, head, CPIO_HEAD + len, e) < 0 || pad(c, e) < 0)
        return -1;
    c->at += n;
    return path_write_all(c->to, p, n, e) < 0 || pad(c, e) < 0 ? -1 : 0;
}

int cpio_dir(struct cpio *c, const char *name, mode_t mode, struct vm_err *e)
{
    return entry(c, name, S_IFDIR | mode, "", 0, e);
}

int cpio_file(struct cpio *c, const char *name, mode_t mode, const void *p, size_t n, struct vm_err *e)
{
    return entry(c, name, S_IFREG | mode, p, n, e);
}

int cpio_end(struct cpio *c, struct vm_err *e)
{
    return entry(c, "TRAILER!!!", 0, "", 0, e);
}
