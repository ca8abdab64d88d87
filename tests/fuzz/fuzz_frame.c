/* Feeds a reader whatever comes, as host and as agent, in pieces of every size. */
#include "fuzz.h"

#include <vmsd/proto.h>

static void check_pairs(const struct frame *f)
{
    if (!pairs_ok(f->data, f->n))
        return;
    size_t at = 0, count = 0;
    while (pairs_next(f->data, f->n, "arg", &at))
        count++;
    if (at > f->n || count > FRAME_PAIRS_MAX)
        abort();
    pairs_get(f->data, f->n, "error");
}

static void read_as(bool agent, const uint8_t *p, size_t n, size_t piece)
{
    uint8_t *buf = malloc(FRAME_BYTES_MAX);
    struct frame_reader r = { .buf = buf, .hello = agent, .nonce = agent ? 0 : 7 };
    for (size_t at = 0; at < n;) {
        size_t room;
        uint8_t *to = frame_reader_room(&r, &room);
        size_t take = n - at < piece ? n - at : piece;
        if (room == 0)
            abort();
        take = take < room ? take : room;
        memcpy(to, p + at, take);
        frame_reader_add(&r, take);
        at += take;

        struct frame f;
        enum frame_got got;
        while ((got = frame_next(&r, &f)) != FRAME_NONE) {
            if (got == FRAME_BROKEN) {
                frame_reader_skip(&r);
                continue;
            }
            if (!frame_length_ok(f.type, f.n) || f.channel >= CHANNEL_COUNT)
                abort();
            if (f.type == FRAME_HELLO)
                r.nonce = f.nonce;
            check_pairs(&f);
        }
        if (r.at > r.end || r.end > FRAME_BYTES_MAX)
            abort();
    }
    free(buf);
}

/* Random bytes never have the right check: each head in the input gets it, so that the fuzzer comes behind it. */
static void mend(uint8_t *p, size_t n)
{
    for (size_t at = 0; at + FRAME_HEAD <= n; at++) {
        uint32_t len = le32_get(p + at + 12);
        if (memcmp(p + at, "\xffVMS", 4) == 0 && len <= n - at - FRAME_HEAD)
            le32_put(p + at + 24, frame_sum(frame_sum(2166136261u, p + at, 24), p + at + FRAME_HEAD, len));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    uint8_t *copy = malloc(n);
    memcpy(copy, p, n);
    if (p[0] & 1)
        mend(copy + 2, n - 2);
    read_as(p[0] & 2, copy + 2, n - 2, 1 + (size_t)p[1] * p[1]);
    free(copy);
    return 0;
}
