/* From canonical JSON back to what one would write in a spec: 512M, 5s, [core, data], {host: 8080, guest: 80}. */
#include "fields.h"

#include <string.h>
#include <vmsd/text.h>

static void write_value(struct text *out, const struct field *f, const json_t *v, bool inside);

/* Can it stand inside brackets without quotes? */
static bool plain(const char *s)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";

    if (!*s || !(strchr(letters, *s) || strchr("/.", *s) || (*s == '-' && s[1])))
        return false;
    for (; *s; s++)
        if (!strchr(letters, *s) && !strchr("/.+-=@%", *s) && !(*s == ':' && s[1]))
            return false;
    return true;
}

static void write_duration(struct text *out, json_int_t ms)
{
    static const struct field duration = {.word = &word_duration};
    char s[WORD_BOUND];

    text_add(out, ms ? word_bound(&duration, (double)ms, s) : "0s");
}

/* The words that canonical JSON spells otherwise. */
static bool write_unit(struct text *out, const struct field *f, const json_t *v)
{
    json_int_t first = json_integer_value(json_array_get(v, 0)), second = json_integer_value(json_array_get(v, 1));
    char s[WORD_BOUND];

    if (json_is_integer(v) && f->word == &word_size) {
        text_add(out, word_bound(f, (double)json_integer_value(v), s));
    } else if (json_is_integer(v) && f->word == &word_duration) {
        write_duration(out, json_integer_value(v));
    } else if (json_is_integer(v) && f->word == &word_percent) {
        text_addf(out, "%" JSON_INTEGER_FORMAT "%%", json_integer_value(v));
    } else if (json_array_size(v) == 2 && f->word == &word_backoff) {
        write_duration(out, first);
        text_add(out, "..");
        write_duration(out, second);
    } else if (json_array_size(v) == 2 && f->word == &word_give_up) {
        if (!first) {
            text_add(out, "never");
            return true;
        }
        text_addf(out, "%" JSON_INTEGER_FORMAT "/", first);
        write_duration(out, second);
    } else {
        return false;
    }
    return true;
}

static void write_list(struct text *out, const struct field *f, const json_t *v)
{
    json_t *item;
    size_t i;

    if (json_array_size(v) == 1) { /* needs no brackets */
        write_value(out, f, json_array_get(v, 0), true);
        return;
    }
    text_add(out, "[");
    json_array_foreach(v, i, item) {
        text_add(out, i ? ", " : "");
        write_value(out, f, item, true);
    }
    text_add(out, "]");
}

static void write_pair(struct text *out, size_t *n, const char *key, const struct field *f, const json_t *v)
{
    text_addf(out, "%s%s: ", (*n)++ ? ", " : "{", key);
    write_value(out, f, v, true);
}

/* In the order of the reference, without what users do not write. */
static void write_map(struct text *out, const struct table *t, json_t *v)
{
    json_t *bare = t && t->bare ? json_object_get(v, t->bare) : NULL, *value;
    size_t start = out->len, n = 0;
    const char *key;

    for (size_t i = 0; t && i < t->n; i++)
        if ((value = json_object_get(v, t->rows[i].key)) && !(t->rows[i].flags & F_DERIVED))
            write_pair(out, &n, t->rows[i].key, &t->rows[i], value);
    if (!t)
        json_object_foreach(v, key, value)
            write_pair(out, &n, key, NULL, value);
    text_add(out, n ? "}" : "{}");
    if (bare && n == 1 && !out->failed) { /* says it alone */
        out->len = start;
        write_value(out, table_find(t, t->bare, ~0u), bare, true);
    }
}

/* f: its field or that of the list it is an item of; NULL: unknown. inside: of brackets. */
static void write_value(struct text *out, const struct field *f, const json_t *v, bool inside)
{
    const char *s = json_string_value(v);

    if (f && f->word && write_unit(out, f, v))
        return;
    if (json_is_array(v)) {
        write_list(out, f, v);
    } else if (json_is_object(v)) {
        write_map(out, f ? f->sub : NULL, (json_t *)v);
    } else if (s && (!inside || plain(s))) {
        text_add(out, s);
    } else {
        OWN(str) char *quoted = json_to_text(v);

        text_add(out, quoted ? quoted : "");
        out->failed |= !quoted;
    }
}

enum { KEY_MAX = 32 }; /* more than any field's */

/* The field that "health[0].every" leads to; an item of a list is its list's. */
static const struct field *field_of(const struct table *t, const char *path)
{
    const struct field *f = NULL;

    while (*path) {
        size_t n = strcspn(path, ".[");
        char key[KEY_MAX];
        const char *end;

        snprintf(key, sizeof key, "%.*s", (int)n, path);
        if (!t || n >= sizeof key || !(f = table_find(t, key, ~0u)))
            return NULL;
        path += n;
        if (*path == '[') { /* what names an item may have dots */
            end = strstr(path, "].");
            path = end ? end + 1 : path + strlen(path);
        }
        if (*path)
            path++;
        if (f->shape == ENV)
            return *path ? NULL : f;
        t = f->sub;
    }
    return f;
}

char *spec_value_text(const char *field, const json_t *v)
{
    const struct field *f = field_of(&guest_table, field); /* what both kinds have means the same in both */
    struct text out = {0};

    if (!f)
        f = field_of(&network_table, field);
    write_value(&out, f ? f : field_of(&host_table, field), v, false);
    return text_take(&out);
}
