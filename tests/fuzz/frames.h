/* frames.h: an input as what a peer sends. Random bytes seldom are a frame; so an input is read as a list of frames, which
 * become right ones but where it says otherwise.
 *
 *   u8 type, u8 channel, u8 stream, u16 length (little endian), payload
 *
 * of which type & RAW: the payload goes out as it is, type & WRONG: the head says what the input says, bounds or not,
 * type & STALE: of another session, type & LARGE: the payload is followed by 32 KiB of zeros, for small inputs that reach the
 * bounds of credit. */
#ifndef FRAMES_H
#define FRAMES_H

#include "fuzz.h"

#include <vmsd/proto.h>

enum { FRAMES_TYPE = 0x0f, FRAMES_LARGE = 0x10, FRAMES_STALE = 0x20, FRAMES_WRONG = 0x40, FRAMES_RAW = 0x80 };
enum { FRAMES_ZEROS = 32 << 10, FRAMES_BYTES_MAX = 4 << 20 };

/* Returns how long the bytes at *out are, which the next call replaces. */
static inline size_t frames_of(const uint8_t *data, size_t n, uint64_t nonce, const uint8_t **out)
{
    static uint8_t p[FRAMES_BYTES_MAX], large[FRAME_PAYLOAD_MAX + FRAMES_ZEROS];
    size_t len = 0;

    while (n && FRAMES_BYTES_MAX - len > FRAME_HEAD + sizeof large) {
        uint8_t type = next_byte(&data, &n), channel = next_byte(&data, &n), stream = next_byte(&data, &n);
        size_t payload = next_byte(&data, &n);

        payload |= (size_t)next_byte(&data, &n) << 8;
        if (payload > n)
            payload = n;
        struct frame f = { .type = type & FRAMES_TYPE, .channel = channel % CHANNEL_COUNT, .stream = stream,
                           .nonce = type & FRAMES_STALE ? nonce + 1 : nonce, .data = data, .n = (uint32_t)payload };

        if (type & FRAMES_LARGE) {
            memcpy(large, data, payload);
            memset(large + payload, 0, FRAMES_ZEROS);
            f.data = large;
            f.n += FRAMES_ZEROS;
        }
        if (type & FRAMES_RAW) {
            memcpy(p + len, data, payload);
            len += payload;
        } else if (type & FRAMES_WRONG) {
            f.channel = channel;
            len += frame_encode(p + len, &f);
        } else if (frame_length_ok(f.type, f.n)) {
            len += frame_encode(p + len, &f);
        } else if (frame_length_ok(f.type, 4) && payload >= 4) {
            f.n = 4;
            len += frame_encode(p + len, &f);
        } else if (frame_length_ok(f.type, 0)) {
            f.n = 0;
            len += frame_encode(p + len, &f);
        }
        data += payload;
        n -= payload;
    }
    *out = p;
    return len;
}

#endif
