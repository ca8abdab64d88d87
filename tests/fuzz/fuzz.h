/* fuzz.h: what every harness begins with. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What must hold whatever comes: an assertion that no build leaves out. */
#define MUST(holds) ((holds) ? (void)0 : must_fail(__FILE__, __LINE__, #holds))
static inline _Noreturn void must_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: not %s\n", file, line, what);
    abort();
}

/* The next byte of the input; 0 behind its end. */
static inline uint8_t next_byte(const uint8_t **data, size_t *n)
{
    if (*n == 0)
        return 0;
    --*n;
    return *(*data)++;
}

#endif
