#include "raw.h"

#include <string.h>
#include <termios.h>
#include <unistd.h>
#include <vmsd/path.h>
#include "modes.h"

enum { DETACH_KEYS = 3, DETACH_MS = 1000 };

static struct termios cooked, raw;
static bool is_raw;
static struct modes modes;

void raw_leave(void)
{
    OWN(text) struct text undo = {0};

    if (!is_raw)
        return;
    is_raw = false;
    modes_undo(&modes, &undo);
    if (undo.len && !undo.failed)
        path_write_all(STDOUT_FILENO, undo.s, undo.len, NULL);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &cooked);
}

int raw_enter(struct vm_err *e)
{
    static bool at_exit;

    if (tcgetattr(STDIN_FILENO, &cooked) < 0)
        return vm_fail_sys(e, "standard input is no terminal");
    if (!at_exit)
        atexit(raw_leave);
    at_exit = true;
    raw = cooked;
    cfmakeraw(&raw);
    if (tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) < 0)
        return vm_fail_sys(e, "make the terminal raw");
    is_raw = true;
    return 0;
}

void raw_again(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

void raw_see(const char *p, size_t n)
{
    if (is_raw && isatty(STDOUT_FILENO)) /* else it went elsewhere */
        modes_see(&modes, p, n);
}

/* Bytes of Ctrl-] at the beginning of these keys; the longer ones are as programs have a terminal spell keys. */
static size_t escape_length(const char *keys, size_t n)
{
    static const char *const spelled[] = {"\x1d", "\033[93;5u", "\033[27;5;93~"};

    for (size_t i = 0; i < ARRAY_LEN(spelled); i++)
        if (n >= strlen(spelled[i]) && !memcmp(keys, spelled[i], strlen(spelled[i])))
            return strlen(spelled[i]);
    return 0;
}

bool raw_detaches(struct raw_detach *d, const char *keys, size_t n, int64_t now)
{
    for (size_t at = 0, length; at < n; at += length ? length : 1) {
        length = escape_length(keys + at, n - at);
        if (!length)
            d->count = 0;
        else if (!d->count || now - d->first > DETACH_MS)
            *d = (struct raw_detach){1, now};
        else if (++d->count == DETACH_KEYS)
            return true;
    }
    return false;
}
