/* Words with a meaning: sizes, durations, names; and text made safe to show. */
#include <vmsd/text.h>

#include "utf8.h"

#include <string.h>

bool text_to_u64(const char *s, uint64_t *out)
{
    uint64_t v = 0;

    if (!*s)
        return false;
    for (; *s; s++) {
        if (*s < '0' || *s > '9' || __builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
            return false;
    }
    *out = v;
    return true;
}

struct unit {
    const char *name;
    uint64_t factor;
};

static bool number_with_unit(const char *s, const struct unit *units, size_t n, uint64_t *out)
{
    size_t digits = strspn(s, "0123456789");
    char number[24];
    uint64_t v;

    if (!digits || digits >= sizeof number)
        return false;
    memcpy(number, s, digits);
    number[digits] = '\0';
    if (!text_to_u64(number, &v))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(s + digits, units[i].name)) {
            if (__builtin_mul_overflow(v, units[i].factor, &v) || v > INT64_MAX)
                return false;
            *out = v;
            return true;
        }
    }
    return false;
}

bool text_to_size(const char *s, uint64_t *bytes)
{
    static const struct unit units[] = {
        {"", 1}, {"K", 1ull << 10}, {"M", 1ull << 20}, {"G", 1ull << 30}, {"T", 1ull << 40},
    };

    return number_with_unit(s, units, ARRAY_LEN(units), bytes);
}

bool text_to_duration(const char *s, int64_t *ms)
{
    static const struct unit units[] = {
        {"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000},
    };
    uint64_t v;

    if (!number_with_unit(s, units, ARRAY_LEN(units), &v))
        return false;
    *ms = (int64_t)v;
    return true;
}

static bool label(const char *s, size_t n, size_t max)
{
    if (!n || n > max || s[0] == '-' || s[n - 1] == '-')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!(s[i] >= 'a' && s[i] <= 'z') && !(s[i] >= '0' && s[i] <= '9') && s[i] != '-')
            return false;
    return true;
}

bool text_is_label(const char *s, size_t max)
{
    return label(s, strlen(s), max);
}

bool text_is_domain(const char *s)
{
    if (!*s || strlen(s) > 253)
        return false;
    for (;;) {
        size_t n = strcspn(s, ".");

        if (!label(s, n, 63))
            return false;
        if (!s[n])
            return true;
        s += n + 1;
    }
}

/* Would a terminal or a log reader act upon it, rather than show it? */
static bool acts(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0x061c || c == 0xfeff;
}

size_t text_clean_part(const char *s, size_t n)
{
    uint32_t c;

    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_at((const unsigned char *)s + i, n - i, &c);
        if (!len || acts(c))
            return i;
    }
    return n;
}

bool text_is_clean(const char *s, size_t n)
{
    return text_clean_part(s, n) == n;
}

void text_add_visible(struct text *t, const char *s, size_t n, const char *keep)
{
    uint32_t c;

    for (size_t i = 0, len; i < n; i += len) {
        len = utf8_at((const unsigned char *)s + i, n - i, &c);
        if (len && (!acts(c) || (keep && c && c < 0x80 && strchr(keep, (int)c)))) {
            text_add_bytes(t, s + i, len);
            continue;
        }
        if (!len)
            len = 1;
        for (size_t k = 0; k < len; k++)
            text_addf(t, "\\x%02X", (unsigned)(unsigned char)s[i + k]);
    }
}

enum { WORD_MAX = 64 };

/* Optimal string alignment: insert, delete, replace, swap of neighbours. */
static size_t edits(const char *a, size_t na, const char *b, size_t nb)
{
    size_t row[3][WORD_MAX + 1];

    for (size_t j = 0; j <= nb; j++)
        row[0][j] = j;
    for (size_t i = 1; i <= na; i++) {
        size_t *now = row[i % 3], *before = row[(i + 2) % 3], *two = row[(i + 1) % 3];

        now[0] = i;
        for (size_t j = 1; j <= nb; j++) {
            size_t best = before[j - 1] + (a[i - 1] != b[j - 1]);

            if (before[j] + 1 < best)
                best = before[j] + 1;
            if (now[j - 1] + 1 < best)
                best = now[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && two[j - 2] + 1 < best)
                best = two[j - 2] + 1;
            now[j] = best;
        }
    }
    return row[na % 3][nb];
}

const char *text_nearest(const char *word, const char *const *candidates, size_t n)
{
    size_t length = strlen(word), best = length / 3 + 1;
    const char *found = NULL;

    if (length > WORD_MAX)
        return NULL;
    for (size_t i = 0; i < n; i++) {
        size_t k = strlen(candidates[i]), d;

        if (k > WORD_MAX)
            continue;
        d = edits(word, length, candidates[i], k);
        if (d < best || (d == best && !found)) {
            best = d;
            found = candidates[i];
        }
    }
    return found;
}

const char *text_human_size(uint64_t bytes, char out[static TEXT_HUMAN])
{
    static const char units[] = "BKMGTPE";
    double v = (double)bytes;
    size_t u = 0;

    while (v >= 1024 && units[u + 1]) {
        v /= 1024;
        u++;
    }
    if (u == 0)
        snprintf(out, TEXT_HUMAN, "%uB", (unsigned)bytes);
    else
        snprintf(out, TEXT_HUMAN, v < 10 ? "%.1f%c" : "%.0f%c", v, units[u]);
    return out;
}

const char *text_human_duration(int64_t ms, char out[static TEXT_HUMAN])
{
    int64_t s = ms / 1000;

    if (ms < 1000)
        snprintf(out, TEXT_HUMAN, "%dms", (int)ms);
    else if (ms < 10000)
        snprintf(out, TEXT_HUMAN, "%.1fs", (double)ms / 1000);
    else if (s < 60)
        snprintf(out, TEXT_HUMAN, "%ds", (int)s);
    else if (s < 3600)
        snprintf(out, TEXT_HUMAN, "%dm%ds", (int)(s / 60), (int)(s % 60));
    else if (s < 86400)
        snprintf(out, TEXT_HUMAN, "%dh%dm", (int)(s / 3600), (int)(s % 3600 / 60));
    else
        snprintf(out, TEXT_HUMAN, "%dd%dh", (int)(s / 86400), (int)(s % 86400 / 3600));
    return out;
}
