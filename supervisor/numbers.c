#include "numbers.h"

#include <math.h>
#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_"
#define DIGITS "0123456789"

enum { VALUE_MAX = 40, BAD_MAX = 100 /* lines; then it speaks another language, and is not listened to any more */ };

/* A piece of what the guest wrote. */
struct slice { const char *s; size_t n; };
struct label { struct slice name, value; };
struct line {
    const char *at, *end;
    struct slice name;
    struct label labels[NUMBER_LABELS_MAX]; size_t n_labels;
    double value;
};

static void skip_blanks(struct line *x)
{
    while (x->at < x->end && (*x->at == ' ' || *x->at == '\t'))
        x->at++;
}

static bool eat(struct line *x, char c)
{
    skip_blanks(x);
    return x->at < x->end && *x->at == c && x->at++;
}

/* Characters of first, and behind it also of more; empty: there is none. */
static struct slice word(struct line *x, const char *first, const char *more)
{
    struct slice w = {x->at, 0};

    while (x->at < x->end && *x->at && (strchr(first, *x->at) || (w.n && strchr(more, *x->at))))
        x->at++, w.n++;
    return w;
}

static bool slice_is(struct slice a, const char *s)
{
    return a.n == strlen(s) && !memcmp(a.s, s, a.n);
}

/* ---- labels ---- */

static int name_order(struct slice a, struct slice b)
{
    int order = memcmp(a.s, b.s, a.n < b.n ? a.n : b.n);

    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static const char *label_add(struct line *x, struct label l)
{
    size_t i = x->n_labels;

    if (i == NUMBER_LABELS_MAX)
        return "more than 16 labels";
    while (i && name_order(l.name, x->labels[i - 1].name) < 0)
        i--;
    if (i && name_order(l.name, x->labels[i - 1].name) == 0)
        return "a label twice";
    memmove(&x->labels[i + 1], &x->labels[i], (x->n_labels++ - i) * sizeof l);
    x->labels[i] = l;
    return NULL;
}

/* Up to the quote; with its escapes, which are kept as they are. */
static const char *label_value(struct line *x, struct slice *out)
{
    *out = (struct slice){x->at, 0};
    for (; x->at < x->end && *x->at != '"'; x->at++)
        if (*x->at == '\\' && (++x->at == x->end || !*x->at || !strchr("\\\"n", *x->at)))
            return "a label with an unknown escape";
    if (x->at == x->end)
        return "a label without end";
    out->n = (size_t)(x->at++ - out->s);
    return text_is_clean(out->s, out->n) ? NULL : "a label with control characters or bad UTF-8";
}

/* Labels of ours are called as Prometheus calls what it would overwrite. */
static struct slice label_name(struct line *x)
{
    static const char *const ours[][2] = {
        {"guest", "exported_guest"}, {"check", "exported_check"}, {"number", "exported_number"}};
    struct slice w = word(x, LETTERS, DIGITS);

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (slice_is(w, ours[i][0]))
            return (struct slice){ours[i][1], strlen(ours[i][1])};
    return w;
}

static const char *read_labels(struct line *x)
{
    const char *why = NULL;

    while (!why && !eat(x, '}')) {
        struct label l = {.name = label_name(x)};

        if (!l.name.n || (l.name.n > 1 && !memcmp(l.name.s, "__", 2)) || !eat(x, '=') || !eat(x, '"'))
            return "labels that are not {name=\"value\", …}";
        why = label_value(x, &l.value);
        if (!why && l.value.n) /* an empty one counts as none */
            why = label_add(x, l);
        if (!why && !eat(x, ',') && (x->at == x->end || *x->at != '}'))
            return "labels without end";
    }
    return why;
}

/* ---- lines ---- */

/* Not finite: true, and *out says so. */
static bool to_value(struct slice w, double *out)
{
    static const char *const others[] = {"NaN", "nan", "Inf", "+Inf", "-Inf", "inf", "+inf", "-inf"};
    char copy[VALUE_MAX + 1], *end;

    if (!w.n || w.n > VALUE_MAX)
        return false;
    *out = NAN;
    for (size_t i = 0; i < ARRAY_LEN(others); i++)
        if (slice_is(w, others[i]))
            return true;
    memcpy(copy, w.s, w.n);
    copy[w.n] = '\0';
    if (strspn(copy, DIGITS "+-.eE") != w.n)
        return false;
    *out = strtod(copy, &end);
    return end != copy && !*end;
}

static struct slice token(struct line *x)
{
    struct slice w;

    skip_blanks(x);
    w.s = x->at;
    while (x->at < x->end && *x->at != ' ' && *x->at != '\t')
        x->at++;
    w.n = (size_t)(x->at - w.s);
    return w;
}

/* Behind the name: labels, a value, maybe a time, which nobody asked for, and an example, which is a comment here. */
static const char *read_rest(struct line *x)
{
    const char *why;
    double time;

    if (eat(x, '{') && (why = read_labels(x)))
        return why;
    if (!to_value(token(x), &x->value))
        return "its value is not a number";
    skip_blanks(x);
    if (x->at < x->end && *x->at != '#' && !to_value(token(x), &time))
        return "more than \"name value\"";
    skip_blanks(x);
    return x->at < x->end && *x->at != '#' ? "more than \"name value\"" : NULL;
}

static bool is_wanted(struct slice name, const struct spec_list *wanted)
{
    for (size_t i = 0; i < wanted->n; i++) {
        const char *w = wanted->v[i];
        size_t n = strlen(w);

        if (n && w[n - 1] == '*' ? name.n >= n - 1 && !memcmp(name.s, w, n - 1) : slice_is(name, w))
            return true;
    }
    return false;
}

/* ---- what is kept ---- */

static char *put(char *at, const void *s, size_t n)
{
    memcpy(at, s, n);
    return at + n;
}

/* What its series is called, at most NUMBER_SERIES_MAX bytes; 0: longer. */
static size_t series_of(const struct line *x, char out[static NUMBER_SERIES_MAX])
{
    size_t room = NUMBER_SERIES_MAX;
    char *at = out;

    if (x->name.n > NUMBER_NAME_MAX)
        return 0;
    at = put(at, x->name.s, x->name.n);
    for (size_t i = 0; i < x->n_labels; i++) {
        const struct label *l = &x->labels[i];

        if (l->name.n + l->value.n + strlen("{=\"\"}") > room - (size_t)(at - out))
            return 0;
        *at++ = i ? ',' : '{';
        at = put(at, l->name.s, l->name.n);
        at = put(at, "=\"", 2);
        at = put(at, l->value.s, l->value.n);
        *at++ = '"';
    }
    if (x->n_labels)
        *at++ = '}';
    return (size_t)(at - out);
}

/* False: no memory. */
static bool keep(struct numbers *all, const struct line *x, const char **why)
{
    char series[NUMBER_SERIES_MAX];
    size_t n = series_of(x, series);
    struct number *one;

    if (!n) {
        *why = "too long a name, or too much in its labels";
        return true;
    }
    if (all->n == NUMBERS_MAX) {
        all->surplus++;
        return true;
    }
    for (size_t i = 0; i < all->n; i++)
        if (all->v[i]->n == n && !memcmp(all->v[i]->series, series, n)) {
            *why = "told before";
            return true;
        }
    if (!(one = malloc(sizeof *one + n + 1)))
        return false;
    *one = (struct number){.value = x->value, .n = n, .n_name = x->name.n};
    *put(one->series, series, n) = '\0';
    all->v[all->n++] = one;
    return true;
}

static bool read_line(struct numbers *all, struct line *x, const struct spec_list *wanted, const char **why)
{
    skip_blanks(x);
    if (x->at == x->end || *x->at == '#')
        return true;
    x->name = word(x, LETTERS ":", DIGITS);
    if (!x->name.n || (x->at < x->end && !strchr(" \t{", *x->at)))
        *why = "no \"name value\"";
    else if (is_wanted(x->name, wanted) && !(*why = read_rest(x)) && isfinite(x->value))
        return keep(all, x, why);
    return true;
}

struct numbers *numbers_read(const char *text, size_t n, const struct spec_list *wanted)
{
    struct numbers *all = calloc(1, sizeof *all);
    const char *end = text + n, *next;
    size_t i = 0;

    for (const char *at = text; all && at < end && all->bad < BAD_MAX; at = next) {
        const char *stop = memchr(at, '\n', (size_t)(end - at)), *why = NULL;
        struct line x = {.at = at, .end = stop ? stop : end};

        next = stop ? stop + 1 : end;
        if (x.end > x.at && x.end[-1] == '\r')
            x.end--;
        i++;
        if (!read_line(all, &x, wanted, &why)) {
            numbers_free(all);
            return NULL;
        }
        if (why && !all->bad++) {
            all->line = i;
            all->why = why;
        }
    }
    return all;
}

void numbers_free(struct numbers *x)
{
    for (size_t i = 0; x && i < x->n; i++)
        free(x->v[i]);
    free(x);
}

/* ---- shown ---- */

void numbers_say(const struct numbers *x, struct text *t)
{
    if (x->n)
        text_addf(t, "%zu number%s", x->n, x->n == 1 ? "" : "s");
    else
        text_add(t, "no numbers");
    if (x->surplus)
        text_addf(t, ", %zu more are not kept", x->surplus);
    if (x->bad)
        text_addf(t, "; line %zu is left out: %s", x->line, x->why);
    if (x->bad > 1)
        text_addf(t, ", and %zu more", x->bad - 1);
}

/* A label's value without its escapes; it is no longer than what it is of. */
static json_t *plain(const char *s, size_t n)
{
    char out[NUMBER_SERIES_MAX];
    size_t len = 0;

    for (size_t i = 0; i < n; i++) {
        bool escaped = s[i] == '\\';

        i += escaped;
        out[len] = s[i];
        if (escaped && s[i] == 'n')
            out[len] = '\n';
        len++;
    }
    return json_stringn(out, len);
}

static json_t *labels_json(const char *at)
{
    json_t *o = json_object();

    while (*at == '{' || *at == ',') {
        const char *name = at + 1, *value = strchr(name, '=') + 2, *end = value;

        for (; *end != '"'; end++)
            if (*end == '\\')
                end++;
        json_object_setn_new(o, name, (size_t)(value - name) - 2, plain(value, (size_t)(end - value)));
        at = end + 1;
    }
    return o;
}

json_t *numbers_json(const struct numbers *x)
{
    json_t *list = json_array();

    for (size_t i = 0; x && i < x->n; i++) {
        const struct number *one = x->v[i];
        json_t *o = json_object();

        json_put(o, "name", json_stringn(one->series, one->n_name));
        json_put(o, "labels", labels_json(one->series + one->n_name));
        json_put(o, "value", json_real(one->value));
        json_array_append_new(list, o);
    }
    return list;
}
