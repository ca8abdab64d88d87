/* tar.h: heads of tar files for the fuzzers that read them. */
#ifndef TAR_H
#define TAR_H

#include "fuzz.h"

/* Random bytes never have the right sum: each head gets it, so that the fuzzer comes behind it. */
static inline void tar_mend(uint8_t *p, size_t n)
{
    enum { BLOCK = 512, SUM = 148, SUM_DIGITS = 8, MAGIC = 257 };

    for (uint8_t *head = p; n >= BLOCK; head += BLOCK, n -= BLOCK) {
        unsigned sum = 0;

        if (memcmp(head + MAGIC, "ustar", 5) != 0)
            continue;
        memset(head + SUM, ' ', SUM_DIGITS);
        for (size_t i = 0; i < BLOCK; i++)
            sum += head[i];
        snprintf((char *)head + SUM, SUM_DIGITS, "%06o", sum);
    }
}

#endif
