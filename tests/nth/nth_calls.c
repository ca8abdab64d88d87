/* The linker gives our objects __wrap_X for X, and here __real_X is libc's (or the sanitizer's). */
#include "nth_calls.h"

#include <dirent.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Calls that give NULL when there is no memory: type, name, (parameters), (arguments). CMakeLists.txt has the names. */
#define CALLS(X) \
    X(void *, malloc, (size_t n), (n)) \
    X(void *, calloc, (size_t n, size_t each), (n, each)) \
    X(void *, realloc, (void *p, size_t n), (p, n)) \
    X(void *, reallocarray, (void *p, size_t n, size_t each), (p, n, each)) \
    X(char *, strdup, (const char *s), (s)) \
    X(char *, strndup, (const char *s, size_t n), (s, n)) \
    X(void *, tsearch, (const void *key, void **root, int (*order)(const void *, const void *)), (key, root, order)) \
    X(FILE *, fopen, (const char *path, const char *how), (path, how)) \
    X(DIR *, opendir, (const char *path), (path)) \
    X(DIR *, fdopendir, (int fd), (fd))

#define X(type, name, parameters, arguments) \
    type __real_##name parameters; \
    type __wrap_##name parameters; \
    type __wrap_##name parameters \
    { \
        return nth_fails() ? NULL : __real_##name arguments; \
    }
CALLS(X)
#undef X

int __real_vasprintf(char **out, const char *fmt, va_list ap);
int __wrap_vasprintf(char **out, const char *fmt, va_list ap);
int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list ap);

__attribute__((format(printf, 2, 0))) int __wrap_vasprintf(char **out, const char *fmt, va_list ap)
{
    return nth_fails() ? -1 : __real_vasprintf(out, fmt, ap);
}

__attribute__((format(printf, 3, 0))) int __wrap___vasprintf_chk(char **out, int flag, const char *fmt, va_list ap)
{
    (void)flag;
    return __wrap_vasprintf(out, fmt, ap);
}
