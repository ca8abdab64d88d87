/* A guest's logs: its console and the output of its install scripts, as files of ours; with follow, what is added. */
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { LOGS_MAX = 8 << 20, FOLLOW_MS = 500, PIECE_MAX = 256 << 10, SCRIPTS_MAX = 200 };

struct logs {
    struct world *w;
    struct http_request *request; /* until it is answered */
    struct http_stream *stream;   /* while it is followed */
    struct loop_timer *timer;
    char *dir;
    bool install, follow, busy;   /* busy: a worker reads */
    int64_t script;               /* 0: all */
    uint64_t lines;               /* 0: all */
    char last[32];                /* the file that is followed … */
    off_t at;                     /* … and how far it has been read */
    struct text out;
    size_t sent;                  /* of out, to the stream */
    int rc;
    struct vm_err err;
};

/* Appends what the file has from *at on. A file that is not there is no error: nothing has been printed yet. */
static int read_from(struct logs *l, int dir, const char *name, off_t *at, size_t max)
{
    OWN(fd) int fd = path_open(dir, name, PATH_BENEATH, O_RDONLY | O_NOFOLLOW, 0, NULL);
    char block[16384];
    ssize_t n;

    if (fd < 0)
        return -1;
    while (max && (n = pread(fd, block, sizeof block < max ? sizeof block : max, *at)) > 0) {
        text_add_bytes(&l->out, block, (size_t)n);
        *at += n;
        max -= (size_t)n;
    }
    return 0;
}

static void read_install(struct logs *l, int dir)
{
    unsigned first = l->script ? (unsigned)l->script : 1, last = l->script ? (unsigned)l->script : SCRIPTS_MAX;

    for (unsigned i = first; i <= last && l->out.len < LOGS_MAX; i++) {
        char name[32];

        snprintf(name, sizeof name, "install-%02u.log", i);
        if (!l->script && !path_exists(dir, name))
            continue; /* the one that was asked for may yet begin, and is followed then */
        if (!l->script)
            text_addf(&l->out, "== install:%02u ==\n", i);
        l->at = 0;
        snprintf(l->last, sizeof l->last, "%s", name);
        read_from(l, dir, name, &l->at, LOGS_MAX - (l->out.len < LOGS_MAX ? l->out.len : LOGS_MAX));
    }
}

static void keep_last_lines(struct text *t, uint64_t lines)
{
    size_t at = t->len;

    if (at && t->s[at - 1] == '\n')
        at--;
    for (; at; at--)
        if (t->s[at - 1] == '\n' && --lines == 0)
            break;
    memmove(t->s, t->s + at, t->len - at + 1);
    t->len -= at;
}

static void first_run(void *arg)
{
    struct logs *l = arg;
    OWN(fd) int dir = path_open_host(l->dir, O_RDONLY | O_DIRECTORY, NULL);
    off_t old = 0;

    if (dir < 0)
        return; /* never started: no logs yet */
    if (l->install) {
        read_install(l, dir);
    } else {
        read_from(l, dir, "console.log.1", &old, LOGS_MAX);
        snprintf(l->last, sizeof l->last, "console.log");
        read_from(l, dir, "console.log", &l->at, LOGS_MAX);
    }
    if (l->lines && l->out.len)
        keep_last_lines(&l->out, l->lines);
}

static void more_run(void *arg)
{
    struct logs *l = arg;
    OWN(fd) int dir = path_open_host(l->dir, O_RDONLY | O_DIRECTORY, NULL);
    struct stat st;

    if (dir < 0)
        return;
    if (l->install && !l->script) { /* the next script may have begun */
        char next[32];
        unsigned nr = 0;

        sscanf(l->last, "install-%u.log", &nr);
        snprintf(next, sizeof next, "install-%02u.log", nr + 1);
        read_from(l, dir, l->last, &l->at, PIECE_MAX);
        if (path_exists(dir, next) && l->out.len == 0) {
            snprintf(l->last, sizeof l->last, "%s", next);
            l->at = 0;
        }
    }
    if (fstatat(dir, l->last, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size < l->at)
        l->at = 0; /* rotated, or begun anew */
    read_from(l, dir, l->last, &l->at, PIECE_MAX);
}

static void logs_free(struct logs *l)
{
    loop_timer_free(l->timer);
    text_done(l->out);
    free(l->dir);
    free(l);
}

/* The next piece, when the reader has taken the one before; after the last, a look at the file for more. */
static void push(void *arg)
{
    struct logs *l = arg;
    size_t left = l->out.len - l->sent, n = left < PIECE_MAX ? left : PIECE_MAX;

    if (n) {
        l->sent += n;
        http_stream_on_drain(l->stream, push, l);
        http_stream_write(l->stream, l->out.s + l->sent - n, n);
        return;
    }
    http_stream_on_drain(l->stream, NULL, NULL);
    text_done(l->out);
    l->out = (struct text){0};
    l->sent = 0;
    loop_timer_set(l->timer, FOLLOW_MS, FOLLOW_MS / 4);
}

static void more_done(void *arg, bool cancelled)
{
    struct logs *l = arg;

    l->busy = false;
    if (!l->stream)
        logs_free(l);
    else if (cancelled || l->out.failed)
        http_stream_end(l->stream); /* gone comes, and frees */
    else
        push(l);
}

static void more(void *arg)
{
    struct logs *l = arg;

    l->busy = true;
    if (loop_work(l->w->loop, (struct loop_job){more_run, more_done, l}, NULL) < 0)
        more_done(l, true);
}

static void gone(void *arg)
{
    struct logs *l = arg;

    l->stream = NULL;
    if (!l->busy)
        logs_free(l);
}

static void first_done(void *arg, bool cancelled)
{
    struct logs *l = arg;
    struct http_request *r = l->request;
    struct vm_err e = {0};

    l->busy = false;
    if (!r || cancelled || l->out.failed) {
        vm_fail(&e, VM_E_UNAVAILABLE, "vmsd is ending or out of memory");
        if (r)
            http_reply_error(r, &e);
        logs_free(l);
        return;
    }
    l->request = NULL;
    if (!l->follow || loop_timer_new(l->w->loop, more, l, &l->timer, &e) < 0) {
        http_reply_text(r, 200, "text/plain; charset=utf-8", l->out.s ? l->out.s : "", l->out.len);
        logs_free(l);
        return;
    }
    l->busy = true; /* gone may be called while the first bytes are written */
    if ((l->stream = http_reply_stream(r, 200, "text/plain; charset=utf-8", gone, l)))
        more_done(l, false);
    else
        logs_free(l);
}

static void aborted(void *arg)
{
    ((struct logs *)arg)->request = NULL;
}

void logs_get(struct http_request *r, void *arg)
{
    struct guest *g = api_guest(r, arg);
    const char *source = http_query(r, "source"), *lines = http_query(r, "lines"), *script = http_query(r, "script");
    struct vm_err e = {0};
    uint64_t n = 0, nr = 0;
    struct logs *l;

    if (!g)
        return;
    if ((source && strcmp(source, "install") && strcmp(source, "console")) || (lines && !text_to_u64(lines, &n)) ||
        (script && (!text_to_u64(script, &nr) || nr == 0 || nr > SCRIPTS_MAX))) {
        vm_fail(&e, VM_E_INVALID, "logs: expected source=install or console, lines=N, script=1..%d", SCRIPTS_MAX);
        http_reply_error(r, &e);
        return;
    }
    if (!(l = calloc(1, sizeof *l)) || !(l->dir = guest_log_dir(g))) {
        free(l);
        vm_no_memory(&e);
        http_reply_error(r, &e);
        return;
    }
    l->w = g->w;
    l->request = r;
    l->install = source && !strcmp(source, "install");
    l->follow = api_flag(r, "follow");
    l->lines = n;
    l->script = (int64_t)nr;
    l->busy = true;
    http_on_abort(r, aborted, l);
    if (loop_work(g->w->loop, (struct loop_job){first_run, first_done, l}, &e) < 0)
        first_done(l, true);
}
