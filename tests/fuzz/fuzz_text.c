/* Whatever a guest, a file or a peer says: made visible, nothing of it acts on a terminal, and what was harmless is as it was. */
#include "fuzz.h"

#include <vmsd/text.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const char *s = (const char *)data;
    OWN(text) struct text t = { 0 };
    OWN(text) struct text lines = { 0 };
    uint64_t number;
    int64_t ms;

    text_add_visible(&t, s, n, NULL);
    MUST(!t.failed && text_is_clean(t.s ? t.s : "", t.len));
    MUST(!text_is_clean(s, n) || (t.len == n && memcmp(t.s ? t.s : "", s, n) == 0));
    text_add_visible(&lines, s, n, "\n\t");
    for (size_t i = 0; i < lines.len; i++)
        MUST(lines.s[i] == '\n' || lines.s[i] == '\t' || (unsigned char)lines.s[i] >= ' ');

    OWN(str) char *word = strndup(s, n);
    MUST(!text_to_u64(word, &number) || strlen(word) == strspn(word, "0123456789"));
    text_to_size(word, &number);
    MUST(!text_to_duration(word, &ms) || ms >= 0);
    MUST(!text_is_domain(word) || text_is_clean(word, strlen(word)));
    return 0;
}
