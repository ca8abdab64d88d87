/* utf8.h: one character of UTF-8. Private to base/. Any thread. */
#ifndef VMSD_BASE_UTF8_H
#define VMSD_BASE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the valid UTF-8 sequence at s, 0 if there is none; *code is its character. n is not 0. */
static inline size_t utf8_at(const unsigned char *s, size_t n, uint32_t *code)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    uint32_t c = s[0];

    if (len == 1) {
        *code = c;
        return 1;
    }
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > n)
        return 0;
    c &= 0xffu >> (len + 1);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (s[i] & 0x3f);
    }
    if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
        return 0;
    *code = c;
    return len;
}

#endif
