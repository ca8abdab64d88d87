#include "keeper.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define X(id, name, file) [KEEPS_##id] = name,
const char *const keeper_kinds[KEEPER_KIND_COUNT] = {KEEPER_KINDS(X)};
#undef X
#define X(id, name, file) [KEEPS_##id] = file,
const char *const keeper_files[KEEPER_KIND_COUNT] = {KEEPER_KINDS(X)};
#undef X
#define X(id, name) [PHASE_##id] = name,
static const char *const phase_names[PHASE_COUNT] = {STATE_PHASES(X)};
#undef X
#define X(id, name) [END_##id] = name,
static const char *const end_names[END_COUNT] = {STATE_ENDS(X)};
#undef X

void state_text(char *out, size_t size, const char *line, size_t n)
{
    if (n > size - 1)
        n = size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = (char)(line[i] < ' ' || line[i] > '~' ? '?' : line[i]);
    out[n] = '\0';
}

void state_write(int run_dir, const struct state *s)
{
    char text[STATE_BYTES_MAX], scratch[32];
    const char *name = keeper_files[s->by];
    int n = snprintf(text, sizeof text,
                     "by=%s\nphase=%s\nkeeper=%d %" PRIu64 "\nnspawn=%d %" PRIu64 "\nleader=%d %" PRIu64
                     "\nboot=%s\nend=%s\nstatus=%d\ntext=%s\n",
                     keeper_kinds[s->by], phase_names[s->phase], s->keeper.pid, s->keeper.start, s->nspawn.pid, s->nspawn.start,
                     s->leader.pid, s->leader.start, s->boot, end_names[s->end], s->status, s->text);
    int fd;

    snprintf(scratch, sizeof scratch, "%s.new", name);
    fd = openat(run_dir, scratch, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    bool whole = write(fd, text, (size_t)n) == n;
    close(fd);
    if (whole)
        renameat(run_dir, scratch, run_dir, name);
}

static bool word_find(const char *const *names, int count, const char *word, int *out)
{
    for (int i = 0; i < count; i++)
        if (!strcmp(names[i], word)) {
            *out = i;
            return true;
        }
    return false;
}

static bool proc_parse(const char *value, struct state_proc *out)
{
    char end;

    return sscanf(value, "%d %" SCNu64 "%c", &out->pid, &out->start, &end) == 2 && out->pid >= 0;
}

static bool field_parse(struct state *s, const char *key, const char *value, unsigned *seen)
{
    int found;

    if (!strcmp(key, "phase") && word_find(phase_names, PHASE_COUNT, value, &found)) {
        s->phase = (enum state_phase)found;
        *seen |= 1;
        return true;
    }
    if (!strcmp(key, "by")) {
        if (!word_find(keeper_kinds, KEEPER_KIND_COUNT, value, &found))
            return false;
        s->by = (enum keeper_kind)found;
        return true;
    }
    if (!strcmp(key, "end") && word_find(end_names, END_COUNT, value, &found)) {
        s->end = (enum state_end)found;
        *seen |= 2;
        return true;
    }
    if (!strcmp(key, "keeper")) {
        *seen |= 4;
        return proc_parse(value, &s->keeper);
    }
    if (!strcmp(key, "nspawn"))
        return proc_parse(value, &s->nspawn);
    if (!strcmp(key, "leader"))
        return proc_parse(value, &s->leader);
    if (!strcmp(key, "boot")) {
        snprintf(s->boot, sizeof s->boot, "%s", value);
        return strlen(value) < sizeof s->boot;
    }
    if (!strcmp(key, "status")) {
        s->status = (int)strtol(value, NULL, 10);
        return true;
    }
    if (!strcmp(key, "text")) {
        state_text(s->text, sizeof s->text, value, strlen(value));
        return true;
    }
    return true; /* of a newer or older keeper, which runs on over an upgrade of vmsd */
}

bool state_parse(const char *text, struct state *out)
{
    struct state s = {0};
    char copy[STATE_BYTES_MAX], *rest = copy, *line;
    unsigned seen = 0;

    if (strlen(text) >= sizeof copy)
        return false;
    memcpy(copy, text, strlen(text) + 1);
    while ((line = strsep(&rest, "\n"))) {
        char *value = strchr(line, '=');

        if (!*line && !rest)
            break;
        if (!value)
            return false;
        *value++ = '\0';
        if (!field_parse(&s, line, value, &seen))
            return false;
    }
    if (seen != 7 || s.keeper.pid <= 0)
        return false;
    *out = s;
    return true;
}

uint64_t state_start_of(int proc, pid_t pid)
{
    char path[32], stat[1024], *at;
    uint64_t start = 0;
    ssize_t n;
    int fd;

    snprintf(path, sizeof path, "%d/stat", (int)pid);
    if ((fd = openat(proc, path, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    n = read(fd, stat, sizeof stat - 1);
    close(fd);
    if (n <= 0)
        return 0;
    stat[n] = '\0';
    /* Field 22; the second one, the name in parentheses, may hold blanks and parentheses: the last one ends it. */
    if (!(at = strrchr(stat, ')')))
        return 0;
    for (int field = 2; field < 22 && at; field++)
        at = strchr(at + 1, ' ');
    if (at)
        start = strtoull(at + 1, NULL, 10);
    return start;
}
