#include <vmsd/text.h>

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static bool text_room(struct text *t, size_t more)
{
    size_t cap = t->cap ? t->cap : 64;
    char *s;

    if (t->failed || more > SIZE_MAX / 4 || t->len > SIZE_MAX / 4) {
        t->failed = true;
        return false;
    }
    while (cap < t->len + more + 1)
        cap *= 2;
    if (cap == t->cap)
        return true;
    if (!(s = realloc(t->s, cap))) {
        t->failed = true;
        return false;
    }
    t->s = s;
    t->cap = cap;
    return true;
}

void text_add_bytes(struct text *t, const void *p, size_t n)
{
    if (!text_room(t, n))
        return;
    if (n)
        memcpy(t->s + t->len, p, n);
    t->len += n;
    t->s[t->len] = '\0';
}

void text_add(struct text *t, const char *s)
{
    text_add_bytes(t, s, strlen(s));
}

__attribute__((format(printf, 2, 0))) static void text_addv(struct text *t, const char *fmt, va_list ap)
{
    va_list again;
    int n;

    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, again);
    va_end(again);
    if (n < 0 || !text_room(t, (size_t)n)) {
        t->failed = true;
        return;
    }
    vsnprintf(t->s + t->len, (size_t)n + 1, fmt, ap);
    t->len += (size_t)n;
}

void text_addf(struct text *t, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    text_addv(t, fmt, ap);
    va_end(ap);
}

char *text_take(struct text *t)
{
    char *s;

    text_add_bytes(t, "", 0); /* an empty text is "" and not NULL */
    s = t->failed ? NULL : t->s;
    if (t->failed)
        free(t->s);
    *t = (struct text){0};
    return s;
}

void text_done(struct text t)
{
    free(t.s);
}

const char *text_next_line(const char *s)
{
    const char *end = strchr(s, '\n');

    return end ? end + 1 : NULL;
}

char *text_format(const char *fmt, ...)
{
    struct text t = {0};
    va_list ap;

    va_start(ap, fmt);
    text_addv(&t, fmt, ap);
    va_end(ap);
    return text_take(&t);
}

static void strv_take(struct strv *v, char *s)
{
    if (s && v->n + 2 > v->cap) {
        size_t cap = v->cap ? v->cap * 2 : 8;
        char **grown = realloc(v->v, cap * sizeof *grown);

        if (grown) {
            v->v = grown;
            v->cap = cap;
        } else {
            free(s);
            s = NULL;
        }
    }
    if (!s) {
        v->failed = true;
        return;
    }
    v->v[v->n++] = s;
    v->v[v->n] = NULL;
}

void strv_add(struct strv *v, const char *s)
{
    strv_take(v, strdup(s));
}

void strv_addf(struct strv *v, const char *fmt, ...)
{
    struct text t = {0};
    va_list ap;

    va_start(ap, fmt);
    text_addv(&t, fmt, ap);
    va_end(ap);
    strv_take(v, text_take(&t));
}

bool strv_has(const struct strv *v, const char *s)
{
    for (size_t i = 0; i < v->n; i++)
        if (!strcmp(v->v[i], s))
            return true;
    return false;
}

void strv_done(struct strv v)
{
    for (size_t i = 0; i < v.n; i++)
        free(v.v[i]);
    free(v.v);
}
