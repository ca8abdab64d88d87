#include "stream.h"

#include <string.h>
#include <unistd.h>
#include <vmsd/path.h>
#include "term.h"

static int take_line(struct stream_records *r, struct vm_err *e)
{
    OWN(json) json_t *object = NULL;
    struct vm_err why = {0};

    if (r->line.failed)
        return vm_no_memory(e);
    if (!r->line.len)
        return 0;
    object = json_from_text(r->line.s, r->line.len, &why);
    r->line.len = 0;
    if (!object)
        return vm_fail(e, VM_E_BACKEND, "a line of vmsd's answer: %s", why.text);
    return r->record(object, r->arg, e);
}

int stream_records_sink(const char *p, size_t n, void *records, struct vm_err *e)
{
    struct stream_records *r = records;

    while (n) {
        const char *end = memchr(p, '\n', n);
        size_t part = end ? (size_t)(end - p) : n;

        if (r->line.len + part > STREAM_LINE_MAX)
            return vm_fail(e, VM_E_BACKEND, "a line of vmsd's answer is longer than %d MiB", STREAM_LINE_MAX >> 20);
        text_add_bytes(&r->line, p, part);
        if (!end)
            return r->line.failed ? vm_no_memory(e) : 0;
        if (take_line(r, e) < 0)
            return -1;
        p = end + 1;
        n -= part + 1;
    }
    return 0;
}

int stream_records_end(struct stream_records *r, struct vm_err *e)
{
    int rc = take_line(r, e);

    text_done(r->line);
    r->line = (struct text){0};
    return rc;
}

/* Bytes of the CSI sequence at s ("ESC [ parameters letter"); 0: it is none; n + 1: it may go on behind n. */
static size_t csi_length(const char *s, size_t n)
{
    enum { CSI_MAX = 32 };
    size_t i = 2;

    if (s[0] != '\033' || (n > 1 && s[1] != '['))
        return 0;
    while (i < n && i < CSI_MAX && s[i] >= 0x20 && s[i] <= 0x3f)
        i++;
    if (i >= n)
        return i < CSI_MAX ? n + 1 : 0;
    return s[i] >= 0x40 && s[i] <= 0x7e ? i + 1 : 0;
}

/* Does the UTF-8 character at s go on behind its n bytes? */
static bool cut_character(const char *s, size_t n)
{
    unsigned char c = (unsigned char)s[0];
    size_t need = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : c >= 0xc0 ? 2 : 1;

    if (n >= need)
        return false;
    for (size_t i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return false;
    return true;
}

size_t stream_show(struct text *out, const char *s, size_t n, bool whole)
{
    size_t at = 0;

    while (at < n) {
        size_t plain = 0, csi;

        while (at + plain < n && s[at + plain] != '\033' && s[at + plain] != '\r' &&
               !(((unsigned char)s[at + plain] & 0x80) && cut_character(s + at + plain, n - at - plain)))
            plain++;
        text_add_visible(out, s + at, plain, "\n\t");
        at += plain;
        if (at == n)
            break;
        if (s[at] == '\r') {
            at++;
            continue;
        }
        csi = s[at] == '\033' ? csi_length(s + at, n - at) : n - at + 1;
        if (csi > n - at && !whole)
            break;
        if (csi == 0 || csi > n - at) {
            text_add_visible(out, s + at, 1, NULL);
            csi = 1;
        }
        at += csi;
    }
    return at;
}

static int show(struct stream_shown *st, bool whole, struct vm_err *e)
{
    OWN(text) struct text out = {0};
    size_t used = stream_show(&out, st->held.s, st->held.len, whole);

    if (out.failed || st->held.failed)
        return vm_no_memory(e);
    memmove(st->held.s, st->held.s + used, st->held.len - used);
    st->held.len -= used;
    return out.len && term_write(&out) < 0 ? vm_fail_sys(e, "write to standard output") : 0;
}

int stream_shown_sink(const char *p, size_t n, void *shown, struct vm_err *e)
{
    struct stream_shown *s = shown;

    text_add_bytes(&s->held, p, n);
    if (s->held.failed)
        return vm_no_memory(e);
    return s->held.len ? show(s, false, e) : 0;
}

int stream_shown_end(struct stream_shown *s, struct vm_err *e)
{
    int rc = s->held.len ? show(s, true, e) : 0;

    text_done(s->held);
    s->held = (struct text){0};
    return rc;
}

int stream_fd_sink(const char *p, size_t n, void *fd, struct vm_err *e)
{
    return path_write_all(*(int *)fd, p, n, e);
}
