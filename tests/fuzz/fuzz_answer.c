/* Whatever comes as a daemon's answer: the same body and the same end, in whatever pieces it comes. */
#include "fuzz.h"

#include <vmctl/answer.h>

static int keep(const char *p, size_t n, void *arg)
{
    text_add_bytes(arg, p, n);
    return 0;
}

static int read_in(size_t piece, const uint8_t *data, size_t size, struct answer *a, struct text *body)
{
    int rc = 0;

    *a = (struct answer){.body = keep, .arg = body};
    for (size_t at = 0; at < size && rc == 0; at += piece)
        rc = answer_read(a, (const char *)data + at, size - at < piece ? size - at : piece);
    text_done(a->line);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text whole = {0}, pieces = {0};
    struct answer a, b;
    int rc = read_in(size ? size : 1, data, size, &a, &whole);

    for (size_t piece = 1; piece < 8; piece += 3) {
        pieces.len = 0;
        MUST(read_in(piece, data, size, &b, &pieces) == rc);
        MUST(pieces.len == whole.len && (!whole.len || !memcmp(pieces.s, whole.s, whole.len)));
        MUST(rc < 0 || (a.at == b.at && a.left == b.left && answer_is_whole(&a) == answer_is_whole(&b)));
    }
    MUST(whole.len <= size);
    text_done(whole);
    text_done(pieces);
    return 0;
}
