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

DIR *dir_take(int fd)
{
    DIR *d = fdopendir(fd);

    if (!d)
        fd_drop(fd);
    return d;
}
