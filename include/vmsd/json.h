/* <vmsd/json.h>: jansson with ownership and bounds. Floor 0. Any thread. */
#ifndef VMSD_JSON_H
#define VMSD_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/own.h>

OWN_DEFINE(json, json_t *, json_decref)

/* Parses one JSON text strictly: no double keys, depth at most 64. NULL and *e set on failure; otherwise yours. */
json_t *json_from_text(const char *text, size_t n, struct vm_err *e);
/* Compact, keys sorted: equal values give equal texts. Yours; NULL: no memory. */
char *json_to_text(const json_t *j);
/* Where jansson has no memory for a member it leaves it out. Has that happened to this thread since it asked last? To be
 * asked before a value that was built is handed on; json_to_text does. */
bool json_lost(void);

/* Member of an object, or the default where it is missing or of another type. Strings are borrowed. */
const char *json_str(const json_t *obj, const char *key, const char *otherwise);
int64_t json_int(const json_t *obj, const char *key, int64_t otherwise);
double json_num(const json_t *obj, const char *key, double otherwise);
bool json_flag(const json_t *obj, const char *key, bool otherwise);

/* Setters that take ownership of value, and store null for NULL. */
void json_put(json_t *obj, const char *key, json_t *value);
void json_put_str(json_t *obj, const char *key, const char *s); /* NULL or bad UTF-8 becomes null or escaped */
struct text;
void json_put_text(json_t *obj, const char *key, const struct text *t); /* one that failed is lost, as above */
void json_put_int(json_t *obj, const char *key, int64_t v);

/* {"error": {"code", "message"}} as the API gives it. Yours. */
json_t *json_from_err(const struct vm_err *e);

#endif
