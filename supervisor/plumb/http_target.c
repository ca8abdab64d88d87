#include "http_target.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/text.h>

static bool is_unreserved(unsigned char c)
{
    return (c < 0x80 && isalnum(c)) || (c && strchr("-._~", c));
}

static int hex_value(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *at = c ? strchr(digits, c >= 'A' && c <= 'F' ? c | 0x20 : c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* The byte that %XX stands for, or -1. */
static int percent_value(const char *s)
{
    int high = hex_value(s[1]);
    int low = high < 0 ? -1 : hex_value(s[2]);
    return low < 0 ? -1 : high << 4 | low;
}

static bool decode_segment(char *s)
{
    char *to = s;

    for (const char *from = s; *from; from++) {
        int c = (unsigned char)*from;
        if (c == '%') {
            c = percent_value(from);
            if (c <= 0 || is_unreserved((unsigned char)c)) /* a second spelling of the same path */
                return false;
            from += 2;
        }
        if (!is_unreserved((unsigned char)c) && !strchr(":@+,=", c))
            return false;
        *to++ = (char)c;
    }
    *to = '\0';
    return *s && strcmp(s, ".") != 0 && strcmp(s, "..") != 0;
}

static bool decode_query(char *s)
{
    char *to = s;

    for (const char *from = s; *from; from++) {
        int c = (unsigned char)*from;
        if (c <= ' ' || c >= 0x7f)
            return false;
        if (c == '+') {
            c = ' ';
        } else if (c == '%') {
            c = percent_value(from);
            if (c <= 0)
                return false;
            from += 2;
        }
        *to++ = (char)c;
    }
    *to = '\0';
    return text_is_clean(s, (size_t)(to - s));
}

static int parse_path(struct http_target *t, char *path, struct vm_err *e)
{
    char *rest = path + 1, *segment;

    if (path[0] != '/')
        return vm_fail(e, VM_E_INVALID, "the request's target is not a path");
    if (!*rest)
        return 0;
    while ((segment = strsep(&rest, "/"))) {
        if (t->n_segments == HTTP_SEGMENTS_MAX)
            return vm_fail(e, VM_E_INVALID, "the path has more than %d parts", HTTP_SEGMENTS_MAX);
        if (!decode_segment(segment))
            return vm_fail(e, VM_E_INVALID, "part %zu of the path is empty or has characters that no name here has",
                           t->n_segments + 1);
        t->segment[t->n_segments++] = segment;
    }
    return 0;
}

static int parse_query(struct http_target *t, char *query, struct vm_err *e)
{
    char *pair;

    while ((pair = strsep(&query, "&"))) {
        if (!*pair)
            continue;
        if (t->n_query == HTTP_QUERY_MAX)
            return vm_fail(e, VM_E_INVALID, "the query has more than %d parts", HTTP_QUERY_MAX);
        char *value = strchr(pair, '=');
        if (value)
            *value++ = '\0';
        if (!decode_query(pair) || (value && !decode_query(value)))
            return vm_fail(e, VM_E_INVALID, "part %zu of the query is not encoded as it should be, or not clean UTF-8",
                           t->n_query + 1);
        t->query[t->n_query].key = pair;
        t->query[t->n_query++].value = value ? value : "";
    }
    return 0;
}

int target_parse(const char *raw, struct http_target *out, struct vm_err *e)
{
    OWN(str) char *text = NULL;
    struct http_target t = {0};

    if (strlen(raw) > HTTP_TARGET_MAX)
        return vm_fail(e, VM_E_INVALID, "the request's target is longer than %d bytes", HTTP_TARGET_MAX);
    if (!(text = strdup(raw)))
        return vm_no_memory(e);
    char *query = text, *path = strsep(&query, "?");
    if (parse_path(&t, path, e) < 0 || parse_query(&t, query, e) < 0)
        return -1;
    t.text = TAKE(text);
    *out = t;
    return 0;
}

void target_done(struct http_target t)
{
    free(t.text);
}

/* The next segment of a pattern, without its "/"; NULL after the last. */
static const char *pattern_next(const char **pattern, size_t *n)
{
    const char *segment = *pattern;

    if (*segment != '/' || !segment[1])
        return NULL;
    *n = strcspn(++segment, "/");
    *pattern = segment + *n;
    return segment;
}

bool target_matches(const struct http_target *t, const char *pattern)
{
    const char *want;
    size_t n = 0, i = 0;

    while ((want = pattern_next(&pattern, &n))) {
        if (i == t->n_segments)
            return false;
        const char *is = t->segment[i++];
        if (want[0] != '{' && (strlen(is) != n || memcmp(is, want, n) != 0))
            return false;
    }
    return i == t->n_segments;
}

const char *target_arg(const struct http_target *t, const char *pattern, const char *name)
{
    const char *segment;
    size_t n = 0;

    for (size_t i = 0; i < t->n_segments && (segment = pattern_next(&pattern, &n)); i++)
        if (segment[0] == '{' && n == strlen(name) + 2 && memcmp(segment + 1, name, n - 2) == 0)
            return t->segment[i];
    return NULL;
}

const char *target_query(const struct http_target *t, const char *key, size_t nth)
{
    for (size_t i = 0; i < t->n_query; i++)
        if (strcmp(t->query[i].key, key) == 0 && nth-- == 0)
            return t->query[i].value;
    return NULL;
}
