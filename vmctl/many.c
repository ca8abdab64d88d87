#include "many.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/path.h>
#include "term.h"

enum { LINE_MAX_BYTES = 64 << 10 };

struct source {
    const char *guest;
    pid_t pid;
    int fd; /* -1: ended */
    struct text line;
};
struct sources {
    struct source *v;
    struct pollfd *polls;
    size_t n, width;
};

static void sources_done(struct sources s)
{
    for (size_t i = 0; i < s.n; i++) {
        fd_drop(s.v[i].fd);
        if (s.v[i].pid) {
            kill(s.v[i].pid, SIGTERM);
            waitpid(s.v[i].pid, NULL, 0);
        }
        text_done(s.v[i].line);
    }
    free(s.v);
    free(s.polls);
}
OWN_DEFINE(sources, struct sources, sources_done)

static int begin(struct cli *cli, struct source *s, const char *guest, int (*one)(struct cli *, const char *), struct vm_err *e)
{
    pid_t parent = getpid();
    int ends[2];

    *s = (struct source){.guest = guest, .fd = -1};
    if (pipe2(ends, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    fflush(stdout);
    s->fd = ends[0];
    s->pid = fork();
    if (s->pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent || dup2(ends[1], STDOUT_FILENO) < 0)
            _exit(EXIT_FAILED);
        int status = one(cli, guest);
        _exit(fflush(stdout) == 0 ? status : EXIT_FAILED);
    }
    close(ends[1]);
    if (s->pid > 0)
        return 0;
    s->pid = 0;
    return vm_fail_sys(e, "fork");
}

/* What the one that ran wrote is fit for a terminal already. */
static int say(const struct sources *all, const struct source *s, const char *line, size_t n)
{
    OWN(text) struct text out = {0};

    term_add_styled(&out, s->guest, STYLE_BOLD, term_has_colour());
    term_add_spaces(&out, all->width - term_width(s->guest));
    text_add(&out, " | ");
    text_add_bytes(&out, line, n);
    text_add(&out, "\n");
    return term_write(&out);
}

/* Whole lines go out; at the end, and when one gets too long, what there is of it as well. */
static int hand_on(const struct sources *all, struct source *s, bool end)
{
    char *at = s->line.s, *newline;
    size_t left = s->line.len;

    while (left && ((newline = memchr(at, '\n', left)) || end || left >= LINE_MAX_BYTES)) {
        size_t n = newline ? (size_t)(newline - at) : left, used = n + (newline != NULL);

        if (say(all, s, at, n) < 0)
            return -1;
        at += used;
        left -= used;
    }
    if (left)
        memmove(s->line.s, at, left);
    s->line.len = left;
    return 0;
}

static int take(const struct sources *all, size_t i, struct vm_err *e)
{
    struct source *s = &all->v[i];
    char block[8192];
    ssize_t n = read(s->fd, block, sizeof block);

    if (n < 0 && errno == EINTR)
        return 0;
    if (n > 0)
        text_add_bytes(&s->line, block, (size_t)n);
    if (s->line.failed)
        return vm_no_memory(e);
    if (n <= 0)
        all->polls[i].fd = s->fd = fd_drop(s->fd);
    return hand_on(all, s, n <= 0) < 0 ? vm_fail_sys(e, "write to standard output") : 0;
}

static int follow(const struct sources *all, struct vm_err *e)
{
    size_t open = all->n;

    while (open) {
        if (poll(all->polls, all->n, -1) < 0) {
            if (errno == EINTR)
                continue;
            return vm_fail_sys(e, "poll");
        }
        for (size_t i = 0; i < all->n; i++) {
            if (!all->polls[i].revents || all->v[i].fd < 0)
                continue;
            if (take(all, i, e) < 0)
                return -1;
            open -= all->v[i].fd < 0;
        }
    }
    return 0;
}

static int worst(struct sources *all)
{
    int worst = EXIT_DONE, status;

    for (size_t i = 0; i < all->n; i++) {
        waitpid(all->v[i].pid, &status, 0);
        all->v[i].pid = 0;
        status = WIFEXITED(status) ? WEXITSTATUS(status) : EXIT_FAILED;
        worst = status > worst ? status : worst;
    }
    return worst;
}

int many_run(struct cli *cli, const json_t *guests, int (*one)(struct cli *cli, const char *guest), struct vm_err *e)
{
    OWN(sources) struct sources all = {.v = calloc(json_array_size(guests) + 1, sizeof *all.v),
                                       .polls = calloc(json_array_size(guests) + 1, sizeof *all.polls)};

    if (!all.v || !all.polls)
        return vm_no_memory(e);
    if (json_array_size(guests) > CLIENT_STREAMS_MAX)
        return vm_fail(e, VM_E_INVALID, "%zu guests at once are too many; at most %d", json_array_size(guests), CLIENT_STREAMS_MAX);
    for (size_t i = 0; i < json_array_size(guests); i++) {
        const char *guest = json_str(json_array_get(guests, i), "name", "");

        all.width = term_width(guest) > all.width ? term_width(guest) : all.width;
        if (begin(cli, &all.v[all.n++], guest, one, e) < 0)
            return -1;
        all.polls[i] = (struct pollfd){.fd = all.v[i].fd, .events = POLLIN};
    }
    return follow(&all, e) < 0 ? -1 : worst(&all);
}
