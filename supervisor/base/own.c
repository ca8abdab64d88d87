#include <vmsd/own.h>

#include <errno.h>
#include <unistd.h>

int fd_drop(int fd)
{
    int saved = errno;

    if (fd >= 0)
        close(fd); /* never retried: on Linux the number is free even after EINTR */
    errno = saved;
    return -1;
}
