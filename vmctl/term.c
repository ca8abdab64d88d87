#include "term.h"

#include <locale.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>
#include <vmsd/path.h>

static bool is_tty, has_colour;

void term_init(void)
{
    const char *kind = getenv("TERM"), *no = getenv("NO_COLOR");

    setlocale(LC_CTYPE, "C.UTF-8");
    is_tty = isatty(STDOUT_FILENO) && kind && *kind && strcmp(kind, "dumb") != 0;
    has_colour = is_tty && !(no && *no);
}

bool term_is_tty(void)
{
    return is_tty;
}

bool term_has_colour(void)
{
    return has_colour;
}

static struct winsize window(void)
{
    struct winsize w = {0};

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) < 0)
        return (struct winsize){0};
    return w;
}

size_t term_columns(void)
{
    return window().ws_col;
}

size_t term_rows(void)
{
    return window().ws_row;
}

/* Bytes of the character at s, at least 1; *cells is what a terminal gives it. */
static size_t character(const char *s, size_t *cells)
{
    mbstate_t state = {0};
    wchar_t c;
    size_t n = mbrtowc(&c, s, MB_CUR_MAX, &state);
    int w;

    if (n == (size_t)-1 || n == (size_t)-2 || n == 0) {
        *cells = 1;
        return 1;
    }
    w = wcwidth(c);
    *cells = w < 0 ? 1 : (size_t)w;
    return n;
}

size_t term_width(const char *s)
{
    size_t total = 0, cells;

    while (*s) {
        s += character(s, &cells);
        total += cells;
    }
    return total;
}

size_t term_add_cut(struct text *t, const char *s, size_t cells)
{
    size_t used = 0, next, n;

    if (!cells)
        return 0;
    if ((used = term_width(s)) <= cells) {
        text_add(t, s);
        return used;
    }
    for (used = 0; (n = character(s, &next)), used + next <= cells - 1; s += n) {
        text_add_bytes(t, s, n);
        used += next;
    }
    text_add(t, "…");
    return used + 1;
}

void term_add_spaces(struct text *t, size_t n)
{
    while (n--)
        text_add_bytes(t, " ", 1);
}

void term_add_visible(struct text *t, const char *s)
{
    text_add_visible(t, s, strlen(s), NULL);
}

void term_add_wrapped(struct text *t, const char *s, size_t indent, size_t columns)
{
    size_t at = indent;

    for (size_t n; *s; s += n + strspn(s + n, " ")) {
        OWN(text) struct text word = {0};
        size_t width;

        n = strcspn(s, " ");
        text_add_bytes(&word, s, n);
        width = word.s ? term_width(word.s) : 0;
        t->failed |= word.failed;
        if (columns && at > indent && at + 1 + width > columns) {
            text_add(t, "\n");
            term_add_spaces(t, indent);
            at = indent;
        } else if (at > indent) {
            text_add(t, " ");
            at++;
        }
        text_add_bytes(t, s, n);
        at += width;
    }
    text_add(t, "\n");
}

void term_add_styled(struct text *t, const char *s, enum term_style style, bool colour)
{
#define X(id, code) [STYLE_##id] = code,
    static const char *const codes[STYLE_COUNT] = {TERM_STYLES(X)};
#undef X

    if (colour && style != STYLE_NONE)
        text_addf(t, "\033[%sm%s\033[0m", codes[style], s);
    else
        text_add(t, s);
}

enum term_style term_style_of(const char *word)
{
    static const struct {
        const char *word;
        enum term_style style;
    } styles[] = {
        {"running", STYLE_GREEN},  {"healthy", STYLE_GREEN},   {"ok", STYLE_GREEN},         {"done", STYLE_GREEN},
        {"failed", STYLE_RED},     {"unhealthy", STYLE_RED},   {"failing", STYLE_RED},      {"error", STYLE_RED},
        {"blocked", STYLE_RED},    {"starting", STYLE_YELLOW}, {"preparing", STYLE_YELLOW}, {"stopping", STYLE_YELLOW},
        {"waiting", STYLE_YELLOW}, {"warning", STYLE_YELLOW},  {"unknown", STYLE_YELLOW},   {"stopped", STYLE_DIM},
        {"absent", STYLE_DIM},     {"none", STYLE_DIM},        {"pending", STYLE_DIM},
    };

    for (size_t i = 0; i < ARRAY_LEN(styles); i++)
        if (!strcmp(word, styles[i].word))
            return styles[i].style;
    return STYLE_NONE;
}

int term_write(const struct text *t)
{
    if (t->failed)
        return -1;
    fflush(stdout);
    return path_write_all(STDOUT_FILENO, t->s, t->len, NULL);
}

__attribute__((format(printf, 3, 0))) static void say(FILE *to, const char *lead, const char *fmt, va_list ap)
{
    OWN(text) struct text shown = {0};
    OWN(str) char *raw = NULL;

    if (vasprintf(&raw, fmt, ap) < 0) {
        raw = NULL;
        return;
    }
    text_add(&shown, lead);
    term_add_visible(&shown, raw);
    text_add(&shown, "\n");
    if (!shown.failed)
        fputs(shown.s, to);
}

void term_say(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    say(stdout, "", fmt, ap);
    va_end(ap);
}

void term_complain(const char *fmt, ...)
{
    va_list ap;

    fflush(stdout);
    va_start(ap, fmt);
    say(stderr, "vmctl: ", fmt, ap);
    va_end(ap);
}
