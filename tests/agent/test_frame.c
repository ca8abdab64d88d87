#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <vmsd/proto.h>

enum { CUTS = 10000, FLIPS = 2000, SESSION = 12, PAYLOAD = 600 };

static uint8_t buf[FRAME_BYTES_MAX], wire[4 * FRAME_BYTES_MAX], payload[FRAME_PAYLOAD_MAX + 1];

static const struct { unsigned type; uint32_t min, max; } rows[] = {
#define X(id, least, most) { FRAME_##id, least, most },
    FRAME_TYPES(X)
#undef X
};
enum { ROWS = sizeof(rows) / sizeof(rows[0]) };

static struct frame_reader reader_new(uint64_t nonce)
{
    return (struct frame_reader){ .buf = buf, .nonce = nonce };
}

static void feed(struct frame_reader *r, const void *p, size_t n)
{
    size_t room;
    void *to = frame_reader_room(r, &room);
    ck_assert_uint_le(n, room);
    memcpy(to, p, n);
    frame_reader_add(r, n);
}

/* A head that frame_encode would not make. */
static void head_of_length(uint8_t head[FRAME_HEAD], unsigned type, uint32_t n, uint64_t nonce)
{
    struct frame f = { .type = type, .stream = 1, .nonce = nonce };
    frame_head(head, &f);
    le32_put(head + 12, n);
}

START_TEST(test_round_trip)
{
    for (size_t i = 0; i < ROWS; i++) {
        for (int most = 0; most < 2; most++) {
            struct frame f = { .type = rows[i].type, .channel = CHANNEL_STDERR, .stream = 0xfffffffe, .nonce = 7,
                               .data = payload, .n = most ? rows[i].max : rows[i].min }, got = { 0 };
            struct frame_reader r = reader_new(7);
            memset(payload, (int)i + 1, sizeof(payload));
            feed(&r, wire, frame_encode(wire, &f));
            ck_assert_int_eq(frame_next(&r, &got), FRAME_GOT);
            ck_assert_uint_eq(got.type, f.type);
            ck_assert_uint_eq(got.channel, f.channel);
            ck_assert_uint_eq(got.stream, f.stream);
            ck_assert_uint_eq(got.n, f.n);
            ck_assert(f.n == 0 || memcmp(got.data, payload, f.n) == 0);
            ck_assert(frame_reader_idle(&r));
            ck_assert_uint_eq(r.skipped, 0);
        }
    }
}
END_TEST

/* Every type at its bounds and past them; a wrong length of our own session is refused before its payload comes. */
START_TEST(test_D1_frame_length)
{
    uint8_t head[FRAME_HEAD];
    for (size_t i = 0; i < ROWS; i++) {
        const uint32_t wrong[] = { rows[i].min - 1, rows[i].max + 1, FRAME_PAYLOAD_MAX + 1, 1u << 31, UINT32_MAX };
        for (size_t k = 0; k < sizeof(wrong) / sizeof(wrong[0]); k++) {
            struct frame f;
            struct frame_reader r = reader_new(7), other = reader_new(8);
            head_of_length(head, rows[i].type, wrong[k], 7);
            feed(&r, head, FRAME_HEAD);
            ck_assert_int_eq(frame_next(&r, &f), FRAME_BROKEN);
            other.hello = true;
            feed(&other, head, FRAME_HEAD);
            ck_assert_int_eq(frame_next(&other, &f), FRAME_NONE);
            ck_assert_uint_eq(other.skipped, FRAME_HEAD);
        }
    }
}
END_TEST

START_TEST(test_impossible_heads)
{
    static const struct { size_t at; uint8_t is; } wrong[] = { { 5, 0 }, { 5, FRAME_TYPE_COUNT }, { 5, 255 },
                                                               { 6, CHANNEL_COUNT }, { 7, 1 } };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        struct frame f = { .type = FRAME_PING, .nonce = 7 };
        struct frame_reader r = reader_new(7);
        frame_encode(wire, &f);
        wire[wrong[i].at] = wrong[i].is;
        feed(&r, wire, FRAME_HEAD);
        ck_assert_int_eq(frame_next(&r, &f), FRAME_BROKEN);
    }
    struct frame f = { .type = FRAME_PING, .nonce = 7 };
    struct frame_reader r = reader_new(7);
    frame_encode(wire, &f);
    wire[4] = PROTO_VERSION + 1; /* another format: nothing in it can be understood */
    feed(&r, wire, FRAME_HEAD);
    ck_assert_int_eq(frame_next(&r, &f), FRAME_NONE);
    ck_assert_uint_eq(r.skipped, FRAME_HEAD);
}
END_TEST

START_TEST(test_byte_by_byte)
{
    struct frame f = { .type = FRAME_DATA, .stream = 3, .nonce = 7, .data = "hello", .n = 5 }, got = { 0 };
    struct frame_reader r = reader_new(7);
    size_t n = frame_encode(wire, &f);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_eq(frame_next(&r, &got), FRAME_NONE);
        feed(&r, wire + i, 1);
    }
    ck_assert_int_eq(frame_next(&r, &got), FRAME_GOT);
    ck_assert_int_eq(memcmp(got.data, "hello", 5), 0);
}
END_TEST

START_TEST(test_other_nonce_is_skipped)
{
    struct frame f = { .type = FRAME_DATA, .stream = 3, .nonce = 8, .data = "stale", .n = 5 }, got = { 0 };
    struct frame_reader r = reader_new(7);
    size_t n = frame_encode(wire, &f);
    f.nonce = 7;
    f.data = "fresh";
    feed(&r, wire, n);
    feed(&r, wire, frame_encode(wire, &f));
    ck_assert_int_eq(frame_next(&r, &got), FRAME_GOT);
    ck_assert_int_eq(memcmp(got.data, "fresh", 5), 0);
    ck_assert_uint_eq(r.skipped, n);
    ck_assert_int_eq(frame_next(&r, &got), FRAME_NONE);
}
END_TEST

/* ---- resync ---- */

/* One session's frames: a HELLO, then anything. Payloads hold heads of their own session and of an older one. */
static size_t make_session(uint8_t *out, size_t ends[SESSION], uint64_t nonce, uint64_t older)
{
    size_t n = 0;
    for (unsigned i = 0; i < SESSION; i++) {
        struct frame f = { .type = i ? FRAME_DATA : FRAME_HELLO, .stream = i, .nonce = nonce, .data = payload,
                           .n = 1 + (uint32_t)rand() % PAYLOAD };
        for (uint32_t k = 0; k < f.n; k++)
            payload[k] = (uint8_t)rand();
        if (f.n > 2 * FRAME_HEAD) {
            head_of_length(payload, FRAME_DATA, (uint32_t)rand() % PAYLOAD, rand() % 2 ? nonce : older);
            memcpy(payload + f.n - 5, "\xffVMS\1", 5);
        }
        n += frame_encode(out + n, &f);
        ends[i] = n;
    }
    return n;
}

/* Reads everything in pieces of random size; a line that is silent in the middle of a frame is given up, as the agent
 * does. Writes down which frames came, and checks that each is one that was sent, whole. */
static size_t read_all(struct frame_reader *r, const uint8_t *p, size_t n, struct frame *seen, uint8_t *copies)
{
    size_t count = 0, at = 0;
    while (at < n || !frame_reader_idle(r)) {
        size_t piece = 1 + (size_t)rand() % 900;
        piece = piece > n - at ? n - at : piece;
        if (piece == 0)
            frame_reader_skip(r);
        feed(r, p + at, piece);
        at += piece;
        struct frame f;
        enum frame_got got;
        while ((got = frame_next(r, &f)) != FRAME_NONE) {
            if (got == FRAME_BROKEN) { /* a head within a payload that was cut: the agent gives up its session */
                ck_assert(r->hello);
                r->nonce = 0;
                frame_reader_skip(r);
                continue;
            }
            if (f.type == FRAME_HELLO)
                r->nonce = f.nonce;
            memcpy(copies, f.data, f.n);
            f.data = copies;
            copies += f.n;
            seen[count++] = f;
        }
    }
    return count;
}

static void check_frame(const struct frame *f, const uint8_t *sent, const size_t ends[SESSION])
{
    size_t at = f->stream ? ends[f->stream - 1] : 0;
    ck_assert_uint_eq(at + FRAME_HEAD + f->n, ends[f->stream]);
    ck_assert_int_eq(memcmp(sent + at + FRAME_HEAD, f->data, f->n), 0);
}

/* Do the bytes that the cut took from its frame equal those that follow? Then the frame is whole again, the HELLO isn't,
 * and its host has to come again. */
static bool lost_equals(const uint8_t *old, const size_t ends[SESSION], size_t cut, const uint8_t *fresh)
{
    size_t i = 0;
    while (ends[i] < cut)
        i++;
    return ends[i] > cut && memcmp(old + cut, fresh, ends[i] - cut) == 0;
}

/* A session that was cut off at any byte, at both ends, then a fresh one. The host's reader knows the fresh nonce from
 * the start; the agent's is still in the old session, or in none. */
START_TEST(test_D5_resync)
{
    static uint8_t old[SESSION * (FRAME_HEAD + PAYLOAD)], fresh[sizeof(old)], copies[4 * sizeof(old)];
    static struct frame seen[4 * SESSION];
    unsigned seed = getenv("SEED") ? (unsigned)atoi(getenv("SEED")) : (unsigned)time(NULL);
    size_t old_ends[SESSION], fresh_ends[SESSION];

    fprintf(stderr, "test_D5_resync: SEED=%u\n", seed);
    srand(seed);
    for (int cut = 0; cut < CUTS; cut++) {
        make_session(old, old_ends, 111, 100);
        size_t n_fresh = make_session(fresh, fresh_ends, 222, 111);
        int role = cut % 3; /* the host; an agent without a session; an agent within the old one */
        size_t from = role == 2 ? old_ends[0] : (size_t)rand() % old_ends[SESSION - 1];
        size_t to = from + (size_t)rand() % (old_ends[SESSION - 1] - from);
        if (lost_equals(old, old_ends, to, fresh))
            continue;
        memcpy(wire, old + from, to - from);
        memcpy(wire + to - from, fresh, n_fresh);

        struct frame_reader r = reader_new(role == 0 ? 222 : role == 1 ? 0 : 111);
        r.hello = role > 0;
        size_t count = read_all(&r, wire, to - from + n_fresh, seen, copies), stale = count - SESSION;
        ck_assert_msg(count >= SESSION, "cut %d, role %d, from %zu to %zu: only %zu frames", cut, role, from, to, count);
        ck_assert(role > 0 || stale == 0);
        for (size_t i = 0; i < count; i++) {
            if (i < stale) {
                ck_assert_uint_eq(seen[i].nonce, 111);
                ck_assert_uint_lt(seen[i].stream, SESSION);
                check_frame(&seen[i], old, old_ends);
            } else {
                ck_assert_uint_eq(seen[i].nonce, 222);
                ck_assert_uint_eq(seen[i].stream, i - stale);
                check_frame(&seen[i], fresh, fresh_ends);
            }
        }
    }
}
END_TEST

/* A changed byte never gives a changed frame. */
START_TEST(test_D5_flipped_byte)
{
    struct frame f = { .type = FRAME_DATA, .channel = 1, .stream = 3, .nonce = 7, .data = "0123456789", .n = 10 }, got;
    size_t n = frame_encode(wire, &f);
    for (int i = 0; i < FLIPS; i++) {
        struct frame_reader r = reader_new(7);
        feed(&r, wire, n);
        buf[(size_t)i % n] ^= (uint8_t)(1 + i / (int)n % 255);
        ck_assert_int_ne(frame_next(&r, &got), FRAME_GOT);
    }
}
END_TEST

/* ---- pairs ---- */

START_TEST(test_pairs)
{
    static const char p[] = "op=exec\0arg=a\0args=x\0arg=b=c\0arg=";
    size_t n = sizeof(p), at = 0;
    ck_assert(pairs_ok(p, n));
    ck_assert_str_eq(pairs_get(p, n, "op"), "exec");
    ck_assert_ptr_null(pairs_get(p, n, "o"));
    ck_assert_ptr_null(pairs_get(p, n, "none"));
    ck_assert_str_eq(pairs_next(p, n, "arg", &at), "a");
    ck_assert_str_eq(pairs_next(p, n, "arg", &at), "b=c");
    ck_assert_str_eq(pairs_next(p, n, "arg", &at), "");
    ck_assert_ptr_null(pairs_next(p, n, "arg", &at));
    ck_assert(pairs_ok("", 0));
    ck_assert(!pairs_ok("a=b", 3));        /* no NUL at its end */
    ck_assert(!pairs_ok("a=b\0c", 6));     /* no '=' */
    ck_assert(!pairs_ok("=b", 3));         /* no key */
    ck_assert(!pairs_ok("\0", 1));
}
END_TEST

START_TEST(test_pairs_bound)
{
    static char p[4 * (FRAME_PAIRS_MAX + 1)];
    size_t n = 0;
    for (int i = 0; i < FRAME_PAIRS_MAX; i++)
        ck_assert(pairs_add(p, sizeof(p), &n, "k", "v"));
    ck_assert(pairs_ok(p, n));
    ck_assert(pairs_add(p, sizeof(p), &n, "k", "v"));
    ck_assert(!pairs_ok(p, n));
    ck_assert(!pairs_add(p, sizeof(p), &n, "k", "v")); /* full */
    ck_assert_uint_eq(n, sizeof(p));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("frame");
    TCase *t = tcase_create("frame");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_round_trip);
    tcase_add_test(t, test_D1_frame_length);
    tcase_add_test(t, test_impossible_heads);
    tcase_add_test(t, test_byte_by_byte);
    tcase_add_test(t, test_other_nonce_is_skipped);
    tcase_add_test(t, test_D5_resync);
    tcase_add_test(t, test_D5_flipped_byte);
    tcase_add_test(t, test_pairs);
    tcase_add_test(t, test_pairs_bound);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed > 0;
}
