#include "modes.h"

#include <stdlib.h>
#include <string.h>

/* What "ESC [ MARK NUMBER FINAL" changes, and what undoes it. How a mode is when nobody touched it: off, but for
 * line wrap and the cursor. The alternate screen is left first, then its cursor is where the shell's was. */
static const struct row {
    char mark;          /* '?', '>', ' ' (before FINAL) or '\0' */
    int number;         /* -1: any */
    const char *change; /* finals that change it, in any case or with this number … */
    const char *back;   /* … and those that bring it back */
    const char *undo;
} rows[] = {
    {'?', 1049, "h", "l", "\033[?1049l"},
    {'?', 1047, "h", "l", "\033[?1047l"},
    {'?', 47, "h", "l", "\033[?47l"},
    {'\0', -1, "r", "", "\0337\033[r\0338"}, /* scrolling in a part of the screen; the cursor stays */
    {'?', 6, "h", "l", "\033[?6l"},
    {'?', 7, "l", "h", "\033[?7h"},
    {'?', 25, "l", "h", "\033[?25h"},
    {'?', 1, "h", "l", "\033[?1l"},
    {'?', 5, "h", "l", "\033[?5l"},
    {'?', 9, "h", "l", "\033[?9l"}, /* the mouse, in its dialects */
    {'?', 1000, "h", "l", "\033[?1000l"},
    {'?', 1002, "h", "l", "\033[?1002l"},
    {'?', 1003, "h", "l", "\033[?1003l"},
    {'?', 1004, "h", "l", "\033[?1004l"},
    {'?', 1005, "h", "l", "\033[?1005l"},
    {'?', 1006, "h", "l", "\033[?1006l"},
    {'?', 1015, "h", "l", "\033[?1015l"},
    {'?', 2004, "h", "l", "\033[?2004l"},
    {'?', 2026, "h", "l", "\033[?2026l"},
    {'\0', 4, "h", "l", "\033[4l"},
    {'>', -1, "m", "", "\033[>4m"}, /* how keys are spelled, in xterm's way and in kitty's */
    {'>', -1, "u", "", "\033[<9u"},
    {' ', -1, "q", "", "\033[0 q"},
    {'\0', -1, "m", "", "\033[0m"},
};
/* And of those that have no number: "ESC =", "ESC ( 0", shift out. */
enum { KEYPAD = ARRAY_LEN(rows), CHARSET, SHIFT, ALL };
_Static_assert(ALL <= 32, "a bit for each");

static void mark(struct modes *m, size_t bit, bool changed)
{
    m->changed = changed ? m->changed | UINT32_C(1) << bit : m->changed & ~(UINT32_C(1) << bit);
}

/* seen is "ESC [ … final". */
static void on_csi(struct modes *m)
{
    char *at = m->seen + 2, final = m->seen[m->n - 1], lead = '\0';

    if (*at == '?' || *at == '>')
        lead = *at++;
    else if (m->seen[m->n - 2] == ' ')
        lead = ' ';
    m->seen[m->n - 1] = '\0';
    do {
        long number = strtol(at, NULL, 10);

        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            const struct row *r = &rows[i];

            if (r->mark != lead || (r->number >= 0 && r->number != number))
                continue;
            if (strchr(r->change, final))
                mark(m, i, true);
            else if (strchr(r->back, final))
                mark(m, i, false);
        }
    } while ((at = strchr(at, ';')) && *++at);
}

static void on_escape(struct modes *m)
{
    char kind = m->seen[1];

    if (kind == 'c') /* a reset of all */
        m->changed = 0;
    else if (kind == '=' || kind == '>')
        mark(m, KEYPAD, kind == '=');
    else if (kind == '(')
        mark(m, CHARSET, m->seen[2] != 'B');
}

/* Is the sequence whole with this byte? */
static bool ends(const struct modes *m, char c)
{
    if (m->n == 2)
        return c != '[' && c != '(';
    return m->seen[1] == '(' || (c >= 0x40 && c <= 0x7e);
}

void modes_see(struct modes *m, const char *p, size_t n)
{
    for (; n; p++, n--) {
        if (*p == '\033')
            m->n = 0;
        else if (*p == '\016' || *p == '\017')
            mark(m, SHIFT, *p == '\016');
        if (!m->n && *p != '\033')
            continue;
        m->seen[m->n++] = *p;
        if (m->n > 1 && ends(m, *p)) {
            if (m->seen[1] == '[')
                on_csi(m);
            else
                on_escape(m);
            m->n = 0;
        }
        if (m->n == MODES_SEQUENCE) /* too long to be one of ours */
            m->n = 0;
    }
}

void modes_undo(struct modes *m, struct text *out)
{
    static const char *const others[] = {"\033>", "\033(B", "\017"};

    for (size_t i = 0; i < ALL; i++)
        if (m->changed & UINT32_C(1) << i)
            text_add(out, i < KEYPAD ? rows[i].undo : others[i - KEYPAD]);
    *m = (struct modes){0};
}
