/* version.h: what a program says of itself. Private to drivers/. Any thread. */
#ifndef VMSD_DRIVERS_VERSION_H
#define VMSD_DRIVERS_VERSION_H

#include <pthread.h>
#include <sys/types.h>
#include <time.h>

enum { VERSION_LINE = 128 };
/* The last answer. A start asks as well, so the program is run but once, and again when another file is in its place. */
struct version { pthread_mutex_t lock; char program[256], line[VERSION_LINE]; ino_t file; struct timespec changed; };
#define VERSION_UNKNOWN {.lock = PTHREAD_MUTEX_INITIALIZER}

/* The first line of what `program --version` prints; "": it cannot be run. */
void version_ask(struct version *v, const char *program, char out[static VERSION_LINE]);

#endif
