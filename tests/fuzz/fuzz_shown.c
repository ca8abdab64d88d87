/* What programs in a guest print, on its way to somebody's terminal: as the last lines of a step it is harmless; handed through,
 * what it switched on there is switched off by sequences of ours alone. In whatever pieces it comes, the same. */
#include "fuzz.h"

#include <vmctl/modes.h>
#include <vmctl/stream.h>
#include <vmctl/tasks.h>

static void harmless(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        MUST(s[i] == '\n' || (unsigned char)s[i] >= ' ');
}

static void lines(const char *s, size_t n, size_t piece, struct text *out)
{
    struct tasks tasks = {0};
    struct task *t = tasks_get(&tasks, "db");

    for (size_t at = 0; at < n; at += piece)
        task_output(t, s + at, n - at < piece ? n - at : piece);
    task_output(t, "\n", 1);
    task_add_tail(t, out);
    tasks_done(tasks);
}

static void undo(const char *s, size_t n, size_t piece, struct text *out)
{
    struct modes m = {0};

    for (size_t at = 0; at < n; at += piece)
        modes_see(&m, s + at, n - at < piece ? n - at : piece);
    modes_undo(&m, out);
    MUST(m.n == 0 && m.changed == 0);
}

static void in_pieces(const char *s, size_t n, void (*make)(const char *, size_t, size_t, struct text *), struct text *whole)
{
    make(s, n, n + 1, whole);
    for (size_t piece = 1; piece < 8; piece += 3) {
        OWN(text) struct text pieces = {0};

        make(s, n, piece, &pieces);
        MUST(pieces.len == whole->len && (!whole->len || !memcmp(pieces.s, whole->s, whole->len)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *s = (const char *)data;
    OWN(text) struct text shown = {0}, tail = {0}, undone = {0}, again = {0};

    MUST(stream_show(&shown, s, size, true) == size);
    for (size_t i = 0; i < shown.len; i++)
        MUST(shown.s[i] == '\n' || shown.s[i] == '\t' || (unsigned char)shown.s[i] >= ' ');
    in_pieces(s, size, lines, &tail);
    harmless(tail.s ? tail.s : "", tail.len);
    in_pieces(s, size, undo, &undone);
    MUST(undone.len < 256);
    undo(undone.s ? undone.s : "", undone.len, 1, &again); /* switches nothing on */
    MUST(!again.s || !strstr(again.s, "\033[?"));
    return 0;
}
