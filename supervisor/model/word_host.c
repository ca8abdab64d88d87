/* Words with a meaning: shares, and where people are told. */
#include "fields.h"

#include <string.h>

static json_t *parse_percent(const struct field *f, const char *text, struct word_cx *cx)
{
    size_t n = strlen(text);
    char digits[8];
    uint64_t v;

    if (n && text[n - 1] == '%')
        n--;
    snprintf(digits, sizeof digits, "%.*s", (int)n, text);
    if (n >= sizeof digits || !text_to_u64(digits, &v))
        return word_wrong(cx, "\"%.40s\" is not a share in per cent", text);
    return word_range(f, text, (double)v, cx);
}

static bool view_percent(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    json_int_t n = json_integer_value(v);

    (void)f;
    (void)arena;
    *(unsigned *)at = (unsigned)n;
    return json_is_integer(v) && n >= 0 && n <= 100;
}

const struct word word_percent = {"per cent", "a share such as 90%", "^[0-9]{1,3}%?$", SCALAR_STRING | SCALAR_INT, parse_percent,
                                  view_percent};

#define ALNUM "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static json_t *parse_url(const struct field *f, const char *text, struct word_cx *cx)
{
    const char *rest = !strncmp(text, "https://", 8) ? text + 8 : !strncmp(text, "http://", 7) ? text + 7 : "";
    size_t n = strlen(rest);

    if (!strchr(ALNUM "[", *rest) || !n || strspn(rest, ALNUM "-._~:/?#[]@!$&'()*+,;=%") != n || (double)strlen(text) > f->max)
        return word_wrong(cx, "that is not a URL");
    return json_string(text);
}

/* A complaint does not repeat it: it may be a secret. */
const struct word word_url = {"URL", "a URL such as https://hooks.example.org/vmsd", "^https?://", SCALAR_STRING, parse_url, NULL};

/* One address, and nothing that a header of a mail, or a program's arguments, could be ended with. */
static json_t *parse_mail(const struct field *f, const char *text, struct word_cx *cx)
{
    const char *at = strchr(text, '@');
    size_t n = strlen(text), domain = at ? strlen(at + 1) : 0;

    (void)f;
    if (!at || at == text || !domain || n > 254 || *text == '-' || strspn(text, ALNUM "._+-=") != (size_t)(at - text) ||
        strspn(at + 1, ALNUM ".-") != domain || at[1] == '-' || at[1] == '.')
        return word_wrong(cx, "\"%.60s\" is not a mail address", text);
    return json_string(text);
}

const struct word word_mail = {"mail address", "an address such as ops@example.org",
                               "^[A-Za-z0-9._+=][A-Za-z0-9._+=-]*@[A-Za-z0-9][A-Za-z0-9.-]*$", SCALAR_STRING, parse_mail, NULL};
