/* Numbers that a guest tells of its service: whatever it writes, what is kept of it can stand among metrics. */
#include "fuzz.h"

#include <ctype.h>
#include <math.h>
#include <supervisor/numbers.h>

/* name or name{label="value",…}, no label of ours, and none twice. Says what is wrong by ending. */
static void must_be_series(const struct number *x)
{
    const char *s = x->series, *last = "", *end = s + x->n;
    size_t last_n = 0;

    MUST(strlen(s) == x->n && x->n <= NUMBER_SERIES_MAX && x->n_name && x->n_name <= NUMBER_NAME_MAX);
    MUST(text_is_clean(s, x->n) && !isdigit((unsigned char)*s));
    for (size_t i = 0; i < x->n_name; i++)
        MUST(isalnum((unsigned char)s[i]) || s[i] == '_' || s[i] == ':');
    s += x->n_name;
    while (s < end - 1) {
        const char *name = s + 1;
        size_t n = strcspn(name, "="), both;

        MUST(*s == (last_n ? ',' : '{') && n && strncmp(name, "__", 2) && !isdigit((unsigned char)*name));
        MUST(strncmp(name, "guest=", 6) && strncmp(name, "check=", 6) && strncmp(name, "number=", 7));
        for (size_t i = 0; i < n; i++)
            MUST(isalnum((unsigned char)name[i]) || name[i] == '_');
        both = n < last_n ? n : last_n;
        MUST(memcmp(last, name, both) < 0 || (memcmp(last, name, both) == 0 && last_n < n));
        MUST(name[n + 1] == '"' && name[n + 2] != '"');
        for (s = name + n + 2; *s != '"'; s++)
            MUST(*s && *s != '\n' && (*s != '\\' || (*++s && strchr("\\\"n", *s))));
        s++;
        last = name;
        last_n = n;
    }
    MUST(last_n ? !strcmp(s, "}") : s == end);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const char *const patterns[] = {"*", "a*", "b"};
    uint8_t how = next_byte(&data, &n);
    struct spec_list wanted = {(const char **)patterns + how % 2, how % 2 ? 2 : 1};
    struct numbers *x = numbers_read((const char *)data, n, &wanted);
    OWN(text) struct text said = { 0 };
    OWN(json) json_t *list = NULL;

    MUST(x && x->n <= NUMBERS_MAX);
    for (size_t i = 0; i < x->n; i++) {
        must_be_series(x->v[i]);
        MUST(isfinite(x->v[i]->value));
        MUST(how % 2 == 0 || x->v[i]->series[0] == 'a' || (x->v[i]->n_name == 1 && x->v[i]->series[0] == 'b'));
        for (size_t k = 0; k < i; k++)
            MUST(strcmp(x->v[k]->series, x->v[i]->series));
    }
    numbers_say(x, &said);
    MUST(text_is_clean(said.s, said.len) && said.len < 200);
    list = numbers_json(x);
    MUST(json_array_size(list) == x->n);
    for (size_t i = 0; i < x->n; i++)
        MUST(json_is_object(json_object_get(json_array_get(list, i), "labels")));
    numbers_free(x);
    return 0;
}
