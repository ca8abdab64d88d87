/* Words with a meaning: paths, of the host, of the guest, of the bundle. */
#include "fields.h"

#include <string.h>

/* Takes "//" and "/./" and a final '/' out; NULL: not a path that we take, with cx->why. */
static char *normal(const char *text, struct word_cx *cx)
{
    OWN(text) struct text out = {0};
    const char *s = text;

    if (strlen(text) > 1024) {
        word_wrong(cx, "a path of %zu bytes is outside 1..1024", strlen(text));
        return NULL;
    }
    while (*s) {
        size_t n = strcspn(s, "/");

        if (n == 2 && !memcmp(s, "..", 2)) {
            word_wrong(cx, "\"%.60s\" contains \"..\"", text);
            return NULL;
        }
        if (n && !(n == 1 && *s == '.')) {
            if (out.len || *text == '/')
                text_add(&out, "/");
            text_add_bytes(&out, s, n);
        }
        s += n;
        s += *s == '/';
    }
    if (!out.len && *text == '/')
        text_add(&out, "/");
    return text_take(&out);
}

/* Absolute, or relative to the spec's own directory, which is the bundle's. */
static json_t *parse_host_path(const struct field *f, const char *text, struct word_cx *cx)
{
    OWN(str) char *path = normal(text, cx);

    (void)f;
    if (!path)
        return NULL;
    if (!*path || *path == '-')
        return word_wrong(cx, "\"%.60s\" is not a path", text);
    if (*path == '/')
        return json_string(path);
    if (!cx->base) {
        snprintf(cx->hint, sizeof cx->hint, "apply the directory itself, or write an absolute path");
        return word_wrong(cx, "\"%.60s\" is relative, but the specs came without a directory", text);
    }
    return json_sprintf("%s/%s", cx->base, path);
}

const struct word word_host_path = {"path on the host",
                                    "a path without \"..\", absolute or relative to the spec's file", "^[^-]",
                                    SCALAR_STRING, parse_host_path, NULL};

static json_t *parse_guest_path(const struct field *f, const char *text, struct word_cx *cx)
{
    OWN(str) char *path = normal(text, cx);

    (void)f;
    if (!path)
        return NULL;
    if (*path != '/')
        return word_wrong(cx, "\"%.60s\" is not absolute", text);
    if (!path[1])
        return word_wrong(cx, "/ is the guest's own root");
    if (strchr(path, ':'))
        return word_wrong(cx, "\"%.60s\" contains \":\"", text);
    return json_string(path);
}

const struct word word_guest_path = {"path in the guest", "an absolute path without \"..\" and \":\", not /",
                                     "^/[^:]+$", SCALAR_STRING, parse_guest_path, NULL};

static json_t *parse_bundle_path(const struct field *f, const char *text, struct word_cx *cx)
{
    OWN(str) char *path = normal(text, cx);

    (void)f;
    if (!path)
        return NULL;
    if (!*path || *path == '/' || *path == '-')
        return word_wrong(cx, "\"%.60s\" is not a path in the spec directory", text);
    return json_string(path);
}

const struct word word_bundle_path = {"path in the spec directory",
                                      "a path without \"..\", relative to the spec's file", "^[^/-]", SCALAR_STRING,
                                      parse_bundle_path, NULL};
