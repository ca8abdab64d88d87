#include "version.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <vmsd/child.h>
#include <vmsd/own.h>

enum { ASK_MS = 5000 };

static bool is_fresh(const struct version *v, const char *program, const struct stat *st)
{
    return !strcmp(v->program, program) && v->file == st->st_ino && v->changed.tv_sec == st->st_mtim.tv_sec &&
           v->changed.tv_nsec == st->st_mtim.tv_nsec;
}

static void ask(struct version *v, const char *program, const struct stat *st)
{
    char *const argv[] = {(char *)program, "--version", NULL};
    OWN(str) char *text = NULL;

    *v->program = *v->line = '\0';
    if (child_must(argv, deadline_in(ASK_MS), &text, NULL) < 0)
        return;
    snprintf(v->program, sizeof v->program, "%s", program);
    snprintf(v->line, sizeof v->line, "%.*s", (int)strcspn(text, "\n"), text);
    v->file = st->st_ino;
    v->changed = st->st_mtim;
}

void version_ask(struct version *v, const char *program, char out[static VERSION_LINE])
{
    struct stat st = {0};

    stat(program, &st);
    pthread_mutex_lock(&v->lock);
    if (!is_fresh(v, program, &st))
        ask(v, program, &st);
    memcpy(out, v->line, VERSION_LINE);
    pthread_mutex_unlock(&v->lock);
}
