/* Whatever comes as a daemon's answer: the same body and the same end, in whatever pieces it comes. */
#include "fuzz.h"

#include <vmctl/answer.h>
#include <vmsd/text.h>

static int keep(const char *p, size_t n, void *arg)
{
    text_add_bytes(arg, p, n);
    return 0;
}

/* How much of it was read, or -1. */
static ssize_t read_in(size_t piece, const uint8_t *data, size_t size, struct answer *a, struct text *body)
{
    ssize_t taken = 0, all = 0;

    answer_begin(a, keep, body);
    for (size_t at = 0; at < size && taken >= 0; at += piece) {
        taken = answer_read(a, (const char *)data + at, size - at < piece ? size - at : piece);
        MUST(taken <= (ssize_t)piece);
        all += taken;
    }
    return taken < 0 ? -1 : all;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text whole = {0}, pieces = {0};
    struct answer a, b;
    ssize_t rc = read_in(size ? size : 1, data, size, &a, &whole);

    for (size_t piece = 1; piece < 8; piece += 3) {
        pieces.len = 0;
        MUST(read_in(piece, data, size, &b, &pieces) == rc);
        MUST(pieces.len == whole.len && (!whole.len || !memcmp(pieces.s, whole.s, whole.len)));
        MUST(a.status == b.status && a.ended == b.ended && a.upgraded == b.upgraded);
    }
    MUST(whole.len <= size);
    text_done(whole);
    text_done(pieces);
    return 0;
}
