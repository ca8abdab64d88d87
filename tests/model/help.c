#include "help.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static void *must(void *p)
{
    if (!p) {
        fputs("no memory\n", stderr);
        exit(2);
    }
    return p;
}

struct bundle *help_bundle(const char *base)
{
    struct bundle *b = must(calloc(1, sizeof *b));

    b->base = base ? must(strdup(base)) : NULL;
    return b;
}

void help_file(struct bundle *b, const char *path, mode_t mode, const char *data, size_t n)
{
    char *copy = must(malloc(n + 1));

    if (n)
        memcpy(copy, data, n);
    copy[n] = '\0';
    b->files = must(realloc(b->files, (b->n + 1) * sizeof *b->files));
    b->files[b->n++] = (struct bundle_file){must(strdup(path)), mode, copy, n};
}

void help_text(struct bundle *b, const char *path, const char *text)
{
    help_file(b, path, 0644, text, strlen(text));
}

static int file_order(const void *a, const void *b)
{
    return strcmp(((const struct bundle_file *)a)->path, ((const struct bundle_file *)b)->path);
}

void help_seal(struct bundle *b)
{
    qsort(b->files, b->n, sizeof *b->files, file_order);
}

void help_bundle_free(struct bundle *b)
{
    for (size_t i = 0; b && i < b->n; i++) {
        free(b->files[i].path);
        free(b->files[i].data);
    }
    if (b) {
        free(b->files);
        free(b->base);
    }
    free(b);
}

void help_usual_files(struct bundle *b)
{
    help_file(b, "scripts/base.sh", 0755, "#!/bin/sh\ntrue\n", 15);
    help_file(b, "scripts/plain.sh", 0644, "#!/bin/sh\n", 10);
    help_file(b, "scripts/words.txt", 0644, "just words\n", 11);
    help_text(b, "scripts/lib.sh", "# functions\n");
    help_text(b, "files/site.conf", "listen ${PORT}; price $$5; $host\n");
    help_text(b, "files/broken.conf", "fine\n  bad ${no name}\n");
    help_text(b, "files/web/index.html", "<p>hello\n");
    help_text(b, "files/web/style.css", "p {}\n");
}

char *help_read(const char *path, size_t *n)
{
    OWN(file) FILE *f = fopen(path, "re");
    struct text t = {0};
    char part[4096];
    size_t got;

    if (!f)
        return NULL;
    while ((got = fread(part, 1, sizeof part, f)))
        text_add_bytes(&t, part, got);
    if (n)
        *n = t.len;
    return must(text_take(&t));
}

static void add_tree(struct bundle *b, const char *dir, const char *below)
{
    OWN(str) char *top = must(text_format("%s/%s", dir, below));
    struct dirent **all;
    struct stat st;
    int n = scandir(top, &all, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        OWN(str) char *name = must(text_format("%s%s%s", below, *below ? "/" : "", all[i]->d_name));
        OWN(str) char *path = must(text_format("%s/%s", dir, name));
        size_t length = 0;

        if (all[i]->d_name[0] != '.' && !stat(path, &st)) {
            if (S_ISDIR(st.st_mode)) {
                add_tree(b, dir, name);
            } else {
                OWN(str) char *data = must(help_read(path, &length));

                help_file(b, name, st.st_mode & 0111 ? 0755 : 0644, data, length);
            }
        }
        free(all[i]);
    }
    if (n >= 0)
        free(all);
}

void help_tree(struct bundle *b, const char *dir)
{
    add_tree(b, dir, "");
    help_seal(b);
}

struct spec_set *help_set(const char *text)
{
    OWN(help_bundle) struct bundle *b = help_bundle("/srv/vms.d");
    struct spec_set *s = NULL;
    struct vm_err e = {0};

    help_text(b, "a.yaml", text);
    help_usual_files(b);
    help_seal(b);
    if (spec_set_read(b, &(struct spec_host){0}, &s, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        exit(2);
    }
    return s;
}

char *help_issues(const struct spec_set *s)
{
    struct text t = {0};

    for (size_t i = 0; i < s->n_issues; i++) {
        char *line = must(spec_issue_text(&s->issues[i]));

        text_addf(&t, "%s\n", line);
        free(line);
    }
    return must(text_take(&t));
}

struct guest_spec *help_guest(const char *text)
{
    struct spec_set *s = help_set(text);
    struct guest_spec *g = NULL;
    char *issues = help_issues(s);

    if (s->n_errors || s->n_guests != 1) {
        fprintf(stderr, "not one guest:\n%s%s", text, issues);
        exit(2);
    }
    g = s->guests[0];
    s->n_guests = 0;
    free(issues);
    spec_set_free(s);
    return g;
}
