#include "script_log.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

/* A script that prints without end costs this much disk and not more: its beginning and its end are kept. */
enum { HEAD_MAX = 512 << 10, TAIL_MAX = 512 << 10 };
/* Of that, what the audit log keeps. */
enum { LAST_MAX = 2048 };

struct script_log {
    struct job *j;
    pthread_mutex_t lock; /* the loop adds, a worker writes to the file */
    pthread_cond_t idle;
    int fd;
    struct text pending;  /* of the head, not yet written */
    size_t head;          /* bytes taken into the head so far */
    char *tail;           /* ring, once the head is full */
    size_t tail_at, tail_total;
    size_t untold;        /* bytes that the watcher was not told of, for it lagged */
    bool writing;
};

int script_log_new(struct job *j, unsigned index, struct script_log **out, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(j->log_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(fd) int fd = -1;
    struct script_log *l;
    char name[32];

    snprintf(name, sizeof name, "install-%02u.log", index + 1);
    if (dir < 0 || (fd = path_open(dir, name, PATH_BENEATH, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600, e)) < 0)
        return -1;
    if (!(l = calloc(1, sizeof *l)))
        return vm_no_memory(e);
    l->j = j;
    l->fd = take_fd(&fd);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->idle, NULL);
    *out = l;
    return 0;
}

/* The loop does not write to disks: a worker does. One at a time, so the order stays. */
static void write_run(void *arg)
{
    struct script_log *l = arg;
    struct text now;

    pthread_mutex_lock(&l->lock);
    now = l->pending;
    l->pending = (struct text){0};
    pthread_mutex_unlock(&l->lock);
    if (now.len)
        path_write_all(l->fd, now.s, now.len, NULL); /* a full disk must not fail the script */
    text_done(now);
    pthread_mutex_lock(&l->lock);
    l->writing = false;
    pthread_cond_signal(&l->idle);
    pthread_mutex_unlock(&l->lock);
}

static void write_done(void *arg, bool cancelled)
{
    if (cancelled)
        write_run(arg);
}

static void tail_add(struct script_log *l, const char *p, size_t n)
{
    if (!l->tail && !(l->tail = malloc(TAIL_MAX)))
        return;
    l->tail_total += n;
    if (n > TAIL_MAX) {
        p += n - TAIL_MAX;
        n = TAIL_MAX;
    }
    while (n) {
        size_t room = TAIL_MAX - l->tail_at, part = n < room ? n : room;

        memcpy(l->tail + l->tail_at, p, part);
        l->tail_at = (l->tail_at + part) % TAIL_MAX;
        p += part;
        n -= part;
    }
}

/* A script may print faster than its watcher reads: then that one is told less, rather than cut off. */
static void tell(struct script_log *l, const char *p, size_t n)
{
    OWN(text) struct text shown = {0};
    json_t *line;

    if (l->j->watcher->lags(l->j->watcher)) {
        l->untold += n;
        return;
    }
    if (l->untold)
        text_addf(&shown, "\n[vmsd: %zu bytes left out]\n", l->untold);
    l->untold = 0;
    line = json_object();
    text_add_visible(&shown, p, n, "\n\t");
    json_put_str(line, "type", "output");
    json_put_str(line, "guest", l->j->name);
    json_put_str(line, "step", l->j->step);
    json_put_str(line, "text", shown.failed ? "" : shown.s);
    job_tell(l->j, line);
}

void script_log_add(enum agent_channel ch, const void *p, size_t n, void *arg)
{
    struct script_log *l = arg;
    size_t head = n < HEAD_MAX - l->head ? n : HEAD_MAX - l->head;
    bool start;

    (void)ch;
    if (l->j->watcher)
        tell(l, p, n);
    pthread_mutex_lock(&l->lock);
    text_add_bytes(&l->pending, p, head);
    l->head += head;
    tail_add(l, (const char *)p + head, n - head);
    start = head && !l->writing;
    l->writing |= start;
    pthread_mutex_unlock(&l->lock);
    if (start && loop_work(l->j->w->loop, (struct loop_job){write_run, write_done, l}, NULL) < 0)
        write_run(l);
}

/* The tail in the order that it was printed; yours. */
static struct text tail_text(const struct script_log *l)
{
    struct text t = {0};
    size_t n = l->tail_total < TAIL_MAX ? l->tail_total : TAIL_MAX;
    size_t from = l->tail_total < TAIL_MAX ? 0 : l->tail_at;

    if (!l->tail)
        return t;
    if (l->tail_total > TAIL_MAX)
        text_addf(&t, "\n[vmsd: %zu bytes left out]\n", l->tail_total - n);
    text_add_bytes(&t, l->tail + from, n - from);
    text_add_bytes(&t, l->tail, from);
    return t;
}

static struct text last_lines(int fd)
{
    struct text shown = {0};
    char end[LAST_MAX];
    struct stat st;
    size_t from = 0, to;
    ssize_t n;

    if (fstat(fd, &st) < 0)
        return shown;
    bool cut = st.st_size > (off_t)sizeof end;
    n = pread(fd, end, sizeof end, cut ? st.st_size - (off_t)sizeof end : 0);
    for (to = n > 0 ? (size_t)n : 0; to && strchr("\n\r ", end[to - 1]); to--)
        ;
    while (cut && from < to && end[from++] != '\n') /* whole lines, unless all is one */
        ;
    from = from < to ? from : 0;
    text_add_visible(&shown, end + from, to - from, "\n\r\t");
    return shown;
}

struct text script_log_end(struct script_log *l)
{
    struct text tail, last;

    pthread_mutex_lock(&l->lock);
    while (l->writing)
        pthread_cond_wait(&l->idle, &l->lock);
    pthread_mutex_unlock(&l->lock);
    write_run(l);
    tail = tail_text(l);
    if (tail.len)
        path_write_all(l->fd, tail.s, tail.len, NULL);
    text_done(tail);
    last = last_lines(l->fd);
    fd_drop(l->fd);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->idle);
    free(l->tail);
    free(l);
    return last;
}
