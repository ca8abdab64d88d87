#include "node.h"

#include <stdarg.h>
#include <string.h>

static bool word_in(const char *s, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(s, words[i]))
            return true;
    return false;
}

static bool is_float(const char *s)
{
    static const char *const special[] = {".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"};
    size_t whole, fraction = 0;

    s += *s == '+' || *s == '-';
    if (word_in(s, special, ARRAY_LEN(special)))
        return true;
    s += whole = strspn(s, "0123456789");
    if (*s == '.')
        s += 1 + (fraction = strspn(s + 1, "0123456789"));
    if (!whole && !fraction)
        return false;
    if (*s == 'e' || *s == 'E') {
        s += 1 + (s[1] == '+' || s[1] == '-');
        if (!*s)
            return false;
        s += strspn(s, "0123456789");
    }
    return !*s;
}

static bool is_int(const char *s)
{
    if (s[0] == '0' && s[1] == 'o' && s[2])
        return !s[2 + strspn(s + 2, "01234567")];
    if (s[0] == '0' && s[1] == 'x' && s[2])
        return !s[2 + strspn(s + 2, "0123456789abcdefABCDEF")];
    s += *s == '+' || *s == '-';
    return *s && !s[strspn(s, "0123456789")];
}

enum scalar node_scalar(const struct node *s)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
    static const char *const bools[] = {"true", "True", "TRUE", "false", "False", "FALSE"};

    if (!s->plain)
        return SCALAR_STRING;
    if (word_in(s->text, nulls, ARRAY_LEN(nulls)))
        return SCALAR_NULL;
    if (word_in(s->text, bools, ARRAY_LEN(bools)))
        return SCALAR_BOOL;
    if (is_int(s->text))
        return SCALAR_INT;
    return is_float(s->text) ? SCALAR_FLOAT : SCALAR_STRING;
}

const char *node_kind_name(const struct node *s)
{
    if (s->kind != NODE_SCALAR)
        return s->kind == NODE_LIST ? "a list" : "a map";
    switch (node_scalar(s)) {
    case SCALAR_NULL: return "null";
    case SCALAR_BOOL: return "a boolean";
    case SCALAR_INT:
    case SCALAR_FLOAT: return "a number";
    case SCALAR_STRING: break;
    }
    return "a string";
}

struct node *node_get(const struct node *map, const char *key, struct node **where)
{
    if (map->kind != NODE_MAP)
        return NULL;
    for (size_t i = 0; i < map->n; i++) {
        struct node *k = map->items[2 * i];

        if (k->kind == NODE_SCALAR && !strcmp(k->text, key)) {
            if (where)
                *where = k;
            return map->items[2 * i + 1];
        }
    }
    return NULL;
}

const struct node *node_at(const struct node *root, const char *path)
{
    char key[64];

    while (*path) {
        size_t n = strcspn(path, ".[");
        const struct node *next = NULL;

        if (n && n < sizeof key) {
            memcpy(key, path, n);
            key[n] = '\0';
            if (root->kind == NODE_MAP && !(next = node_get(root, key, NULL)))
                return root;
            root = next ? next : root;
        }
        path += n;
        if (*path == '[') {
            size_t i = strtoul(path + 1, NULL, 10);

            if (root->kind == NODE_LIST && i >= root->n)
                return root;
            root = root->kind == NODE_LIST ? root->items[i] : root;
            path += strcspn(path, "]");
            path += *path == ']';
        }
        path += *path == '.';
    }
    return root;
}

void issue_at(struct issues *is, const struct node *at, const char *fmt, ...)
{
    char *what = NULL;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&what, fmt, ap);
    va_end(ap);
    if (n < 0) {
        is->failed = true;
        return;
    }
    issue_add(is, at->doc->file, at->line, at->column, false, "%s", what);
    free(what);
}
