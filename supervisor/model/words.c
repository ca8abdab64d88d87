/* Words with a meaning: numbers, sizes, times, names. */
#include "fields.h"

#include <stdarg.h>
#include <string.h>

json_t *word_wrong(struct word_cx *cx, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(cx->why, sizeof cx->why, fmt, ap);
    va_end(ap);
    return NULL;
}

static bool whole(double v)
{
    return v > -0x1p53 && v < 0x1p53 && (double)(int64_t)v == v;
}

const char *word_bound(const struct field *f, double v, char out[static WORD_BOUND])
{
    static const struct unit {
        const char *name;
        double factor;
    } sizes[] = {{"T", 0x1p40}, {"G", 0x1p30}, {"M", 0x1p20}, {"K", 0x1p10}, {"", 1}},
      times[] = {{"d", 864e5}, {"h", 36e5}, {"m", 6e4}, {"s", 1e3}, {"ms", 1}};
    const struct unit *u = f->word == &word_size ? sizes : f->word == &word_duration ? times : NULL;

    while (u && u->factor > 1 && v > 0 && !whole(v / u->factor))
        u++;
    if (u && v > 0)
        snprintf(out, WORD_BOUND, "%.0f%s", v / u->factor, u->name);
    else
        snprintf(out, WORD_BOUND, "%.10g", v);
    return out;
}

json_t *word_range(const struct field *f, const char *text, double v, struct word_cx *cx)
{
    char lo[WORD_BOUND], hi[WORD_BOUND];

    if ((f->min || f->max) && !(v >= f->min && v <= f->max))
        return word_wrong(cx, "%.40s is outside %s..%s", text, word_bound(f, f->min, lo), word_bound(f, f->max, hi));
    if (whole(v))
        return json_integer((json_int_t)v);
    if (f->flags & F_WHOLE)
        return word_wrong(cx, "%.40s is not a whole number", text);
    return json_real(v);
}

static bool view_int(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    json_int_t n = json_integer_value(v);

    (void)arena;
    if (!json_is_integer(v) || n < 0 || (f->max && (double)n > f->max))
        return false;
    switch (f->size) {
    case 2: *(uint16_t *)at = (uint16_t)n; return true;
    case 4: *(uint32_t *)at = (uint32_t)n; return true;
    case 8: *(uint64_t *)at = (uint64_t)n; return true;
    }
    return false;
}

static json_t *parse_bool(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    if (!strcmp(text, "true") || !strcmp(text, "false"))
        return json_boolean(*text == 't');
    return word_wrong(cx, "%.40s is neither true nor false", text);
}

static bool view_bool(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    (void)f;
    (void)arena;
    *(bool *)at = json_is_true(v);
    return json_is_boolean(v);
}

const struct word word_bool = {"boolean", "true or false", NULL, SCALAR_BOOL, parse_bool, view_bool};

static json_t *parse_true(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return !strcmp(text, "true") ? json_true() : word_wrong(cx, "%.40s has no meaning here", text);
}

static bool view_true(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    (void)f;
    (void)arena;
    (void)at;
    return json_is_true(v);
}

const struct word word_true = {"true", "true; leave it out otherwise", NULL, SCALAR_BOOL, parse_true, view_true};

/* Plain decimals: digits, at most one dot. */
static bool decimal(const char *s, double *out)
{
    double v = 0, unit = 1;
    bool dot = false;
    size_t n = strlen(s);

    if (!n || n > 15 || s[0] == '.' || s[n - 1] == '.')
        return false;
    for (; *s; s++) {
        if (*s == '.' && !dot) {
            dot = true;
            continue;
        }
        if (*s < '0' || *s > '9')
            return false;
        v = v * 10 + (*s - '0');
        unit = dot ? unit * 10 : unit;
    }
    *out = v / unit;
    return true;
}

static json_t *parse_count(const struct field *f, const char *text, struct word_cx *cx)
{
    uint64_t v;

    if (!text_to_u64(text, &v)) {
        if (!text[strspn(text, "-0123456789")])
            return word_range(f, text, *text == '-' ? -1 : 0x1p64, cx);
        return word_wrong(cx, "%.40s is not a whole number", text);
    }
    return word_range(f, text, (double)v, cx);
}

const struct word word_count = {"integer", "a whole number", NULL, SCALAR_INT, parse_count, view_int};

static json_t *parse_number(const struct field *f, const char *text, struct word_cx *cx)
{
    double v;

    if (!decimal(text, &v))
        return word_wrong(cx, "%.40s is not a decimal number", text);
    return word_range(f, text, v, cx);
}

static bool view_number(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    (void)f;
    (void)arena;
    *(double *)at = json_number_value(v);
    return json_is_number(v);
}

const struct word word_number = {"number", "a number such as 2 or 0.5", NULL, SCALAR_INT | SCALAR_FLOAT, parse_number,
                                 view_number};

static json_t *parse_size(const struct field *f, const char *text, struct word_cx *cx)
{
    uint64_t v;

    if (!text_to_size(text, &v)) {
        if (*text && strchr("BbKkMmGg", text[strlen(text) - 1]))
            snprintf(cx->hint, sizeof cx->hint, "the units are K, M, G and T, and binary");
        return word_wrong(cx, "\"%.40s\" is not a size", text);
    }
    return word_range(f, text, (double)v, cx);
}

const struct word word_size = {"size", "a size such as 512M or 2G", "^[0-9]+[KMGT]?$", SCALAR_STRING | SCALAR_INT,
                               parse_size, view_int};

static json_t *parse_duration(const struct field *f, const char *text, struct word_cx *cx)
{
    int64_t v;

    if (!text_to_duration(text, &v))
        return word_wrong(cx, "\"%.40s\" is not a duration", text);
    return word_range(f, text, (double)v, cx);
}

const struct word word_duration = {"duration", "a duration such as 5s, 10m or 1h", "^[0-9]+(ms|s|m|h|d)$",
                                   SCALAR_STRING, parse_duration, view_int};

/* "A<between>B": copies A, gives B. */
static const char *cut(const char *text, const char *between, char first[static 24])
{
    const char *at = strstr(text, between);

    if (!at || at - text >= 24)
        return NULL;
    memcpy(first, text, (size_t)(at - text));
    first[at - text] = '\0';
    return at + strlen(between);
}

static json_t *parse_backoff(const struct field *f, const char *text, struct word_cx *cx)
{
    char first[24];
    const char *second = cut(text, "..", first);
    int64_t lo, hi;

    (void)f;
    if (!second || !text_to_duration(first, &lo) || !text_to_duration(second, &hi))
        return word_wrong(cx, "\"%.40s\" is not a range of durations", text);
    if (lo < 100 || lo > hi || hi > 86400000)
        return word_wrong(cx, "%.40s is not a rising range within 100ms..1d", text);
    return json_pack("[I, I]", (json_int_t)lo, (json_int_t)hi);
}

static bool view_backoff(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    int64_t *pair = at; /* backoff_min_ms, backoff_max_ms */

    (void)f;
    (void)arena;
    pair[0] = json_integer_value(json_array_get(v, 0));
    pair[1] = json_integer_value(json_array_get(v, 1));
    return pair[0] > 0 && pair[1] >= pair[0];
}

_Static_assert(offsetof(struct spec_restart, backoff_max_ms) ==
                   offsetof(struct spec_restart, backoff_min_ms) + sizeof(int64_t), "view_backoff writes both");

const struct word word_backoff = {"range of durations", "a range such as 1s..1m",
                                  "^[0-9]+(ms|s|m|h|d)\\.\\.[0-9]+(ms|s|m|h|d)$", SCALAR_STRING, parse_backoff,
                                  view_backoff};

static json_t *parse_give_up(const struct field *f, const char *text, struct word_cx *cx)
{
    char first[24];
    const char *second = cut(text, "/", first);
    uint64_t times;
    int64_t window;

    (void)f;
    if (!strcmp(text, "never"))
        return json_pack("[i, i]", 0, 0);
    if (!second || !text_to_u64(first, &times) || !text_to_duration(second, &window))
        return word_wrong(cx, "\"%.40s\" is not a number of restarts in a time", text);
    if (times < 1 || times > 1000 || window < 1000 || window > 86400000)
        return word_wrong(cx, "%.40s is outside 1..1000 restarts in 1s..1d", text);
    return json_pack("[I, I]", (json_int_t)times, (json_int_t)window);
}

static bool view_give_up(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    struct spec_restart *r = (void *)((char *)at - offsetof(struct spec_restart, give_up));

    (void)f;
    (void)arena;
    r->give_up = (unsigned)json_integer_value(json_array_get(v, 0));
    r->give_up_window_ms = json_integer_value(json_array_get(v, 1));
    return json_array_size(v) == 2 && r->give_up_window_ms >= 0;
}

const struct word word_give_up = {"restarts in a time", "restarts in a time such as 10/10m, or never",
                                  "^([0-9]+/[0-9]+(ms|s|m|h|d)|never)$", SCALAR_STRING, parse_give_up, view_give_up};

static size_t choice_count(const struct field *f)
{
    size_t n = 0;

    while (f->choices[n])
        n++;
    return n;
}

static json_t *parse_choice(const struct field *f, const char *text, struct word_cx *cx)
{
    const char *near;

    for (size_t i = 0; f->choices[i]; i++)
        if (!strcmp(f->choices[i], text))
            return json_string(text);
    if ((near = text_nearest(text, f->choices, choice_count(f))))
        snprintf(cx->hint, sizeof cx->hint, "did you mean \"%s\"?", near);
    return word_wrong(cx, "\"%.40s\" is not one of its values", text);
}

/* Into an enum or a bool, by the order of the choices; into a string as it is. */
static bool view_choice(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    const char *s = json_string_value(v);

    (void)arena;
    for (size_t i = 0; s && f->choices[i]; i++) {
        if (strcmp(f->choices[i], s))
            continue;
        if (f->size == sizeof(char *))
            *(const char **)at = f->choices[i];
        else if (f->size == sizeof(bool))
            *(bool *)at = i;
        else
            *(unsigned *)at = (unsigned)i;
        return true;
    }
    return false;
}

const struct word word_choice = {"choice", NULL, NULL, SCALAR_STRING, parse_choice, view_choice};

static json_t *parse_label(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    if (!text_is_label(text, SPEC_NAME_MAX))
        return word_wrong(cx, "\"%.60s\" is not a name", text);
    return json_string(text);
}

#define LABEL "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
const struct word word_label = {"name", "1 to 32 of a-z, 0-9 and -, no - at the ends", "^" LABEL "$", SCALAR_STRING,
                                parse_label, NULL};
const struct word word_tag = {"tag", "1 to 32 of a-z, 0-9 and -, no - at the ends", "^" LABEL "$", SCALAR_STRING,
                              parse_label, NULL};

static json_t *parse_peer(const struct field *f, const char *text, struct word_cx *cx)
{
    OWN(json) json_t *name = parse_label(f, strncmp(text, "tag:", 4) ? text : text + 4, cx);

    return name ? json_string(text) : NULL;
}

const struct word word_peer = {"peer", "the name of a guest, tag:NAME, host or any", "^(tag:)?" LABEL "$",
                               SCALAR_STRING, parse_peer, NULL};

/* Only these characters, the first one of them no '-' and no '.'. */
static json_t *of_characters(const char *text, const char *set, size_t max, const char *what, struct word_cx *cx)
{
    size_t n = strlen(text);

    if (!n || n > max || strspn(text, set) != n || *text == '-' || *text == '.')
        return word_wrong(cx, "\"%.60s\" is not %s", text, what);
    return json_string(text);
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGIT "0123456789"

static json_t *parse_file_name(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return of_characters(text, LOWER UPPER DIGIT "._-", 64, "a name", cx);
}

const struct word word_file_name = {"file name",
                                    "letters, digits, '.', '_' and '-', at most 64, a letter or digit first",
                                    "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$", SCALAR_STRING, parse_file_name, NULL};

static json_t *parse_text(const struct field *f, const char *text, struct word_cx *cx)
{
    if (f->max && (strlen(text) < f->min || strlen(text) > f->max))
        return word_wrong(cx, "a string of %zu bytes is outside %.0f..%.0f", strlen(text), f->min, f->max);
    return json_string(text);
}

const struct word word_text = {"string", "a string", NULL, SCALAR_STRING, parse_text, NULL};
const struct word word_arg = {"word", "a word", NULL, SCALAR_STRING | SCALAR_INT | SCALAR_FLOAT | SCALAR_BOOL,
                              parse_text, NULL};

bool env_key(const char *s)
{
    size_t n = strlen(s);

    return n && n <= 128 && strspn(s, LOWER UPPER DIGIT "_") == n && !(*s >= '0' && *s <= '9');
}

static json_t *parse_env_name(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    return env_key(text) ? json_string(text) : word_wrong(cx, "\"%.60s\" is not the name of a variable", text);
}

const struct word word_env_name = {"variable", "letters, digits and _, no digit first",
                                   "^[A-Za-z_][A-Za-z0-9_]{0,127}$", SCALAR_STRING, parse_env_name, NULL};

/* true: all of them. */
static json_t *parse_numbers(const struct field *f, const char *text, struct word_cx *cx)
{
    size_t n = strspn(text, LOWER UPPER DIGIT "_:");

    (void)f;
    if (!strcmp(text, "true"))
        return json_string("*");
    if (!strcmp(text, "false") || n > NUMBER_NAME_MAX || (n && strchr(DIGIT, *text)) || (strcmp(text + n, "*") && (text[n] || !n)))
        return word_wrong(cx, "\"%.60s\" is not the name of a number", text);
    return json_string(text);
}

const struct word word_numbers = {"name of numbers", "a name such as queue_length, pg_* for all that begin so, or true for all",
                                  "^([A-Za-z_:][A-Za-z0-9_:]{0,127})?\\*$|^[A-Za-z_:][A-Za-z0-9_:]{0,127}$",
                                  SCALAR_STRING | SCALAR_BOOL, parse_numbers, NULL};

static json_t *parse_user(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    if (*text >= '0' && *text <= '9')
        return word_wrong(cx, "\"%.40s\" is not the name of a user", text);
    return of_characters(text, LOWER DIGIT "_-", 32, "the name of a user", cx);
}

const struct word word_user = {"user", "a user of the guest", "^[a-z_][a-z0-9_-]{0,31}$", SCALAR_STRING, parse_user,
                               NULL};

static json_t *parse_owner(const struct field *f, const char *text, struct word_cx *cx)
{
    const char *colon = strchr(text, ':');
    char user[33] = "";
    json_t *good;

    (void)f;
    if (colon && colon - text < 33)
        memcpy(user, text, (size_t)(colon - text));
    if (!(good = of_characters(colon ? user : text, LOWER DIGIT "_-", 32, "an owner", cx)))
        return NULL;
    json_decref(good);
    if (colon && !(good = of_characters(colon + 1, LOWER DIGIT "_-", 32, "a group", cx)))
        return NULL;
    if (colon)
        json_decref(good);
    return json_string(text);
}

const struct word word_owner = {"owner", "USER or USER:GROUP of the guest, names or numbers",
                                "^[a-z0-9_][a-z0-9_-]{0,31}(:[a-z0-9_][a-z0-9_-]{0,31})?$", SCALAR_STRING, parse_owner,
                                NULL};

/* Octal, as chmod takes it, also where YAML 1.2 would take the same digits for a decimal number. */
static json_t *parse_mode(const struct field *f, const char *text, struct word_cx *cx)
{
    const char *digits = text + strspn(text, "0");
    size_t n = strlen(digits);
    char mode[8];

    (void)f;
    if (!*text || strlen(text) > 5 || n > 4 || strspn(digits, "01234567") != n)
        return word_wrong(cx, "\"%.40s\" is not a mode", text);
    snprintf(mode, sizeof mode, "%04lo", strtoul(text, NULL, 8));
    return json_string(mode);
}

static bool view_mode(const struct field *f, const json_t *v, void *at, struct arena *arena)
{
    const char *s = json_string_value(v);

    (void)f;
    (void)arena;
    *(mode_t *)at = s ? (mode_t)strtoul(s, NULL, 8) & 07777 : 0;
    return s;
}

const struct word word_mode = {"mode", "an octal mode such as \"0644\"", "^0?[0-7]{1,4}$", SCALAR_STRING | SCALAR_INT,
                               parse_mode, view_mode};

const char *const capability_names[] = {
    "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_KILL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_MKNOD",
    "CAP_NET_ADMIN", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_RAW", "CAP_PERFMON", "CAP_SETFCAP",
    "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYSLOG", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE", "CAP_SYS_NICE", "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM", NULL,
};

const struct word word_capability = {"capability", "one of capabilities(7), such as CAP_NET_ADMIN", NULL,
                                     SCALAR_STRING, parse_choice, NULL};

static json_t *parse_sha256(const struct field *f, const char *text, struct word_cx *cx)
{
    (void)f;
    if (strlen(text) != 64 || strspn(text, DIGIT "abcdef") != 64)
        return word_wrong(cx, "\"%.70s\" is not a SHA-256", text);
    return json_string(text);
}

const struct word word_sha256 = {"SHA-256", "64 digits 0-9a-f", "^[0-9a-f]{64}$", SCALAR_STRING, parse_sha256, NULL};
