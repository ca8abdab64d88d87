#include <vmsd/hash.h>

#include <nettle/hmac.h>
#include <nettle/sha2.h>
#include <stdlib.h>
#include <string.h>

struct hash {
    struct sha256_ctx sum;
};

static void to_hex(const uint8_t *raw, char out[static HASH_HEX])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++) {
        out[2 * i] = digits[raw[i] >> 4];
        out[2 * i + 1] = digits[raw[i] & 15];
    }
    out[HASH_HEX - 1] = '\0';
}

struct hash *hash_new(void)
{
    struct hash *h = malloc(sizeof *h);

    if (h)
        sha256_init(&h->sum);
    return h;
}

void hash_add(struct hash *h, const void *p, size_t n)
{
    sha256_update(&h->sum, n, p);
}

void hash_add_str(struct hash *h, const char *s)
{
    hash_add(h, s ? s : "", (s ? strlen(s) : 0) + 1);
}

void hash_end(struct hash *h, char out[static HASH_HEX])
{
    uint8_t raw[SHA256_DIGEST_SIZE];

    sha256_digest(&h->sum, sizeof raw, raw);
    to_hex(raw, out);
    free(h);
}

void hash_bytes(const void *p, size_t n, char out[static HASH_HEX])
{
    uint8_t raw[SHA256_DIGEST_SIZE];
    struct sha256_ctx sum;

    sha256_init(&sum);
    sha256_update(&sum, n, p);
    sha256_digest(&sum, sizeof raw, raw);
    to_hex(raw, out);
}

void hash_keyed(const void *key, size_t nkey, const void *p, size_t n, char out[static HASH_HEX])
{
    uint8_t raw[SHA256_DIGEST_SIZE];
    struct hmac_sha256_ctx sum;

    hmac_sha256_set_key(&sum, nkey, key);
    hmac_sha256_update(&sum, n, p);
    hmac_sha256_digest(&sum, sizeof raw, raw);
    to_hex(raw, out);
}
