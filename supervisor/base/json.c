#include <vmsd/json.h>

#include <string.h>
#include <vmsd/text.h>

enum { JSON_DEPTH = 64 };

static _Thread_local bool lost;

static void *take(size_t n)
{
    void *p = malloc(n);

    if (!p)
        lost = true;
    return p;
}

__attribute__((constructor)) static void begin(void)
{
    json_set_alloc_funcs(take, free);
}

bool json_lost(void)
{
    bool was = lost;

    lost = false;
    return was;
}

/* jansson's own bound on nesting is 2,048; ours is counted before it sees a byte. */
static bool too_deep(const char *s, size_t n)
{
    bool in_string = false;
    unsigned depth = 0;

    for (size_t i = 0; i < n; i++) {
        if (in_string) {
            if (s[i] == '\\')
                i++;
            else if (s[i] == '"')
                in_string = false;
        } else if (s[i] == '"') {
            in_string = true;
        } else if (s[i] == '{' || s[i] == '[') {
            if (++depth > JSON_DEPTH)
                return true;
        } else if ((s[i] == '}' || s[i] == ']') && depth) {
            depth--;
        }
    }
    return false;
}

json_t *json_from_text(const char *text, size_t n, struct vm_err *e)
{
    json_error_t why;
    json_t *j;

    if (too_deep(text, n)) {
        vm_fail(e, VM_E_INVALID, "JSON is nested deeper than %d", JSON_DEPTH);
        return NULL;
    }
    j = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (json_lost()) {
        json_decref(j);
        vm_no_memory(e);
        return NULL;
    }
    if (!j) {
        OWN(text) struct text near = {0}; /* it quotes what it found */

        text_add_visible(&near, why.text, strlen(why.text), NULL);
        vm_fail(e, VM_E_INVALID, "not JSON: line %d, column %d: %.200s", why.line, why.column, near.s ? near.s : "");
    }
    return j;
}

/* 15 digits: as many as a decimal fraction keeps on its way through a double, so 0.1 comes out as it went in. */
char *json_to_text(const json_t *j)
{
    char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

    if (json_lost()) {
        free(text);
        return NULL;
    }
    return text;
}

const char *json_str(const json_t *obj, const char *key, const char *otherwise)
{
    const char *s = json_string_value(json_object_get(obj, key));

    return s ? s : otherwise;
}

int64_t json_int(const json_t *obj, const char *key, int64_t otherwise)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_integer(v) ? (int64_t)json_integer_value(v) : otherwise;
}

double json_num(const json_t *obj, const char *key, double otherwise)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_number(v) ? json_number_value(v) : otherwise;
}

bool json_flag(const json_t *obj, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

void json_put(json_t *obj, const char *key, json_t *value)
{
    json_object_set_new(obj, key, value ? value : json_null());
}

void json_put_str(json_t *obj, const char *key, const char *s)
{
    OWN(text) struct text shown = {0};
    json_t *v = s ? json_string(s) : json_null();

    if (!v && s) { /* not UTF-8 */
        text_add_visible(&shown, s, strlen(s), NULL);
        v = shown.failed ? NULL : json_string(shown.s);
        lost |= shown.failed;
    }
    json_put(obj, key, v);
}

void json_put_text(json_t *obj, const char *key, const struct text *t)
{
    lost |= t->failed;
    json_put_str(obj, key, t->failed ? NULL : t->s);
}

void json_put_int(json_t *obj, const char *key, int64_t v)
{
    json_put(obj, key, json_integer(v));
}

json_t *json_from_err(const struct vm_err *e)
{
    json_t *inner = json_object(), *outer = json_object();

    json_put_str(inner, "code", vm_err_name(e->code));
    json_put_str(inner, "message", e->text);
    json_put(outer, "error", inner);
    return outer;
}
