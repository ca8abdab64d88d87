/* <vmsd/own.h>: what you open, the scope closes. Floor 0. Any thread. */
#ifndef VMSD_OWN_H
#define VMSD_OWN_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

/* "unused": clang does not count it as a use that something is held until the scope ends. */
#define OWN(kind) __attribute__((cleanup(own_##kind), unused))
#define OWN_DEFINE(kind, type, drop) \
    static inline void own_##kind(type *p) \
    { \
        drop(*p); \
    }

/* Hands an owned pointer over: the scope no longer frees it. */
#define TAKE(p) \
    __extension__({ \
        __typeof__(p) *from_ = &(p), was_ = *from_; \
        *from_ = NULL; \
        was_; \
    })

/* Hands an owned file descriptor over. */
static inline int take_fd(int *fd)
{
    int was = *fd;
    *fd = -1;
    return was;
}

/* Closes fd if it is one, keeps errno, returns -1: m->fd = fd_drop(m->fd). */
int fd_drop(int fd);

/* The directory that fd, which is taken, refers to; NULL: no memory, or fd is none. */
DIR *dir_take(int fd);

static inline void dir_drop(DIR *d)
{
    if (d)
        closedir(d);
}
static inline void file_drop(FILE *f)
{
    if (f)
        fclose(f);
}

static inline void own_fd(int *fd)
{
    *fd = fd_drop(*fd);
}
static inline void own_mem(void *p)
{
    free(*(void **)p);
}
OWN_DEFINE(str, char *, free)
OWN_DEFINE(dir, DIR *, dir_drop)
OWN_DEFINE(file, FILE *, file_drop)

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
