/* <vmsd/hash.h>: SHA-256 and HMAC-SHA-256 as lower-case hex. Floor 0. Any thread. */
#ifndef VMSD_HASH_H
#define VMSD_HASH_H

#include <stddef.h>

enum { HASH_HEX = 65 }; /* with the NUL */

struct hash; /* a running sum */
struct hash *hash_new(void); /* NULL: no memory */
void hash_add(struct hash *h, const void *p, size_t n);
void hash_add_str(struct hash *h, const char *s); /* with its NUL, so that fields cannot run together; NULL as "" */
void hash_end(struct hash *h, char out[static HASH_HEX]); /* frees h */

void hash_bytes(const void *p, size_t n, char out[static HASH_HEX]);
void hash_keyed(const void *key, size_t nkey, const void *p, size_t n, char out[static HASH_HEX]);

#endif
