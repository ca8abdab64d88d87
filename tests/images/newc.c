#include "newc.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { HEAD = 110, FIELDS = 13 };
enum { INO, MODE, UID, GID, NLINK, MTIME, SIZE, MAJOR, MINOR, RMAJOR, RMINOR, NAMESIZE, CHECK };

static size_t aligned(size_t at)
{
    return (at + 3) & ~(size_t)3;
}

/* One entry at `at`; what is behind it. */
static size_t read_entry(struct newc *c, size_t at, struct newc_file *f)
{
    unsigned v[FIELDS];
    char digits[9] = "";

    ck_assert_msg(at % 4 == 0, "an entry at %zu", at);
    ck_assert_msg(at + HEAD <= c->n && !memcmp(c->bytes + at, "070701", 6), "no header at %zu", at);
    for (size_t i = 0; i < FIELDS; i++) {
        memcpy(digits, c->bytes + at + 6 + 8 * i, 8);
        ck_assert_uint_eq(strspn(digits, "0123456789abcdefABCDEF"), 8);
        v[i] = (unsigned)strtoul(digits, NULL, 16);
    }
    *f = (struct newc_file){.mode = v[MODE], .uid = v[UID], .gid = v[GID], .nlink = v[NLINK], .mtime = v[MTIME]};
    ck_assert_msg(v[NAMESIZE] >= 2 && v[NAMESIZE] <= sizeof f->name, "a name of %u bytes", v[NAMESIZE]);
    ck_assert_uint_le(at + HEAD + v[NAMESIZE], c->n);
    memcpy(f->name, c->bytes + at + HEAD, v[NAMESIZE]);
    ck_assert_uint_eq(strlen(f->name), v[NAMESIZE] - 1);
    f->at = aligned(at + HEAD + v[NAMESIZE]);
    f->n = v[SIZE];
    ck_assert_msg(f->n <= c->n - f->at, "'%s' is cut off", f->name);
    ck_assert_uint_eq(v[RMAJOR] + v[RMINOR] + v[CHECK], 0);
    return aligned(f->at + f->n);
}

static size_t read_archive(struct newc *c, size_t at)
{
    struct newc_file f;

    for (;;) {
        at = read_entry(c, at, &f);
        if (!strcmp(f.name, "TRAILER!!!"))
            return at;
        ck_assert_msg(S_ISDIR(f.mode) || S_ISREG(f.mode), "'%s' has mode %o", f.name, f.mode);
        char *slash = strrchr(f.name, '/');
        if (slash) { /* the kernel makes no parents */
            *slash = '\0';
            const struct newc_file *parent = newc_find(c, f.name);
            ck_assert_msg(parent && S_ISDIR(parent->mode), "'%s' comes before its directory", f.name);
            *slash = '/';
        }
        ck_assert_uint_lt(c->n_files, NEWC_FILES_MAX);
        c->files[c->n_files++] = f;
    }
}

struct newc *newc_read(const char *path)
{
    struct newc *c = calloc(1, sizeof *c);
    FILE *f = fopen(path, "re");

    ck_assert_msg(c && f, "%s", path);
    fseek(f, 0, SEEK_END);
    c->n = (size_t)ftell(f);
    rewind(f);
    ck_assert_ptr_nonnull(c->bytes = malloc(c->n));
    ck_assert_uint_eq(fread(c->bytes, 1, c->n, f), c->n);
    fclose(f);
    for (size_t at = 0; at < c->n;) {
        if (c->bytes[at] == 0) {
            at++;
            continue;
        }
        at = read_archive(c, at);
        c->n_archives++;
    }
    return c;
}

const struct newc_file *newc_find(const struct newc *c, const char *name)
{
    for (unsigned i = c->n_files; i-- > 0;)
        if (!strcmp(c->files[i].name, name))
            return &c->files[i];
    return NULL;
}

bool newc_holds(const struct newc *c, const char *name, const char *text)
{
    const struct newc_file *f = newc_find(c, name);

    return f && f->n == strlen(text) && !memcmp(c->bytes + f->at, text, f->n);
}

void newc_free(struct newc *c)
{
    if (c)
        free(c->bytes);
    free(c);
}
