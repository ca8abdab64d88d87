#include "images.h"

#include <errno.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { COPY_BYTES = 256 << 10 };

/* [at, end), which is no hole. */
static int copy_span(int from, int to, off_t at, off_t end, char *buffer, struct deadline d)
{
    while (at < end) {
        size_t want = (size_t)(end - at < COPY_BYTES ? end - at : COPY_BYTES);
        ssize_t got = pread(from, buffer, want, at);

        if (got <= 0)
            return (int)got; /* 0: it was cut short meanwhile, what is missing stays a hole */
        if (!deadline_left(d)) {
            errno = ETIMEDOUT;
            return -1;
        }
        for (ssize_t done = 0, n; done < got; done += n)
            if ((n = pwrite(to, buffer + done, (size_t)(got - done), at + done)) < 0)
                return -1;
        at += got;
    }
    return 0;
}

int copy_file(int from, int to, const char *what, struct deadline d, struct vm_err *e)
{
    struct stat st;

    if (ioctl(to, FICLONE, from) == 0) /* few file systems can */
        return 0;
    if (fstat(from, &st) < 0 || ftruncate(to, st.st_size) < 0)
        return vm_fail_sys(e, "copy '%s'", what);
    OWN(mem) void *buffer = malloc(COPY_BYTES);
    if (!buffer)
        return vm_no_memory(e);
    for (off_t end, at = 0; at < st.st_size; at = end) {
        if ((at = lseek(from, at, SEEK_DATA)) < 0)
            return errno == ENXIO ? 0 : vm_fail_sys(e, "copy '%s'", what); /* ENXIO: a hole up to the end */
        if ((end = lseek(from, at, SEEK_HOLE)) < 0 || copy_span(from, to, at, end, buffer, d) < 0)
            return errno == ETIMEDOUT ? vm_fail(e, VM_E_TIMEOUT, "'%s' is too large to be copied in time", what)
                                      : vm_fail_sys(e, "copy '%s'", what);
    }
    return 0;
}
