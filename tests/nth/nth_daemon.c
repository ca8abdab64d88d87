/* vmsd-nth is vmsd whose n-th allocation fails, as the file says that $NTH_FILE names; tests/fault/cases_memory.py writes it. */
#include "nth_calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static struct {
    atomic_ulong left, seen; /* left: how many until one fails; 0: none */
} *shared;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("NTH_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;

    if (fd < 0)
        return;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (shared == MAP_FAILED)
        abort();
}

bool nth_fails(void)
{
    unsigned long left;

    if (!shared)
        return false;
    atomic_fetch_add(&shared->seen, 1);
    left = atomic_load(&shared->left);
    while (left && !atomic_compare_exchange_weak(&shared->left, &left, left - 1))
        ;
    if (left != 1)
        return false;
    errno = ENOMEM;
    return true;
}
