#include <vmsd/bundle.h>

#include "bundle_build.h"

#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

void bundle_free(struct bundle *b)
{
    if (!b)
        return;
    for (size_t i = 0; i < b->n; i++) {
        free(b->files[i].path);
        free(b->files[i].data);
    }
    free(b->files);
    free(b->base);
    free(b);
}

static int compare_files(const void *a, const void *b)
{
    const struct bundle_file *fa = a, *fb = b;
    return strcmp(fa->path, fb->path);
}

const struct bundle_file *bundle_find(const struct bundle *b, const char *path)
{
    struct bundle_file key = {.path = (char *)path};
    return b->n ? bsearch(&key, b->files, b->n, sizeof key, compare_files) : NULL;
}

/* ---- building ---- */

int build_fail(struct vm_err *e, enum vm_errc code, const char *path, const char *fmt, ...)
{
    OWN(text) struct text shown = {0};
    char what[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    text_add_visible(&shown, path, strnlen(path, BUNDLE_PATH_MAX), NULL);
    return vm_fail(e, code, "'%.180s': %s", shown.len ? shown.s : "", what);
}

int build_open(struct build *b, const char *base, struct vm_err *e)
{
    if (base && (base[0] != '/' || strlen(base) >= PATH_MAX || !text_is_clean(base, strlen(base))))
        return build_fail(e, VM_E_INVALID, base, "a bundle's base must be an absolute path of a directory");
    *b = (struct build){.bundle = calloc(1, sizeof(struct bundle))};
    if (!b->bundle || (base && !(b->bundle->base = strdup(base))))
        return vm_no_memory(e);
    return 0;
}

void build_done(struct build b)
{
    bundle_free(b.bundle);
}

bool build_passes_over(const char *path)
{
    for (const char *part = path, *end; part; part = *end ? end + 1 : NULL) {
        char name[NAME_MAX + 1];

        end = strchrnul(part, '/');
        snprintf(name, sizeof name, "%.*s", (int)(end - part), part);
        if (name[0] == '.' || fnmatch("*~", name, 0) == 0 || fnmatch("#*#", name, 0) == 0 ||
            fnmatch("*.swp", name, 0) == 0)
            return true;
    }
    return false;
}

int build_check(struct build *b, const char *path, struct vm_err *e)
{
    size_t len = strlen(path);
    unsigned depth = 0;

    if (b->entries >= BUNDLE_FILES_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "more than %d files and directories; is this the right directory?",
                       BUNDLE_FILES_MAX);
    if (len > BUNDLE_PATH_MAX)
        return build_fail(e, VM_E_INVALID, path, "a path is at most %d bytes long", BUNDLE_PATH_MAX);
    if (path[0] == '/')
        return build_fail(e, VM_E_INVALID, path, "an absolute path can't be in a bundle");
    if (!text_is_clean(path, len))
        return build_fail(e, VM_E_INVALID, path, "a name must be UTF-8 without control characters; rename the file");
    for (const char *part = path, *end; part; part = *end ? end + 1 : NULL) {
        end = strchrnul(part, '/');
        size_t n = (size_t)(end - part);
        if (n == 0 || n > NAME_MAX || (n == 1 && part[0] == '.') || (n == 2 && part[0] == '.' && part[1] == '.'))
            return build_fail(e, VM_E_INVALID, path, "not a plain relative path");
        if (++depth > BUNDLE_DEPTH_MAX)
            return build_fail(e, VM_E_INVALID, path, "more than %d levels deep; a symbolic link that leads back up?",
                              BUNDLE_DEPTH_MAX);
    }
    b->entries++;
    return 0;
}

int build_check_size(const struct build *b, const char *path, size_t size, struct vm_err *e)
{
    if (size > BUNDLE_BYTES_MAX - b->bytes)
        return build_fail(e, VM_E_TOO_LARGE, path, "with it the bundle has more than %lu bytes; leave large files out",
                          BUNDLE_BYTES_MAX);
    return 0;
}

int build_take_file(struct build *b, const char *path, bool exec, char *data, size_t len, struct vm_err *e)
{
    OWN(str) char *owned = data, *name = strdup(path);
    struct bundle *bundle = b->bundle;

    if (bundle->n == b->cap) {
        size_t cap = b->cap ? b->cap * 2 : 64;
        struct bundle_file *grown = realloc(bundle->files, cap * sizeof *grown);
        if (!grown)
            return vm_no_memory(e);
        bundle->files = grown;
        b->cap = cap;
    }
    if (!name)
        return vm_no_memory(e);
    b->bytes += len;
    bundle->files[bundle->n++] = (struct bundle_file){
        .path = TAKE(name),
        .mode = exec ? 0755 : 0644,
        .data = TAKE(owned),
        .len = len,
    };
    return 0;
}

/* A path may be there once, and not as a file and as a directory. The files are sorted. */
static int check_unique(const struct bundle *b, struct vm_err *e)
{
    for (size_t i = 0; i < b->n; i++) {
        char dir[BUNDLE_PATH_MAX + 1];

        if (i && strcmp(b->files[i - 1].path, b->files[i].path) == 0)
            return build_fail(e, VM_E_INVALID, b->files[i].path, "is in the bundle twice");
        snprintf(dir, sizeof dir, "%s", b->files[i].path);
        for (char *slash; (slash = strrchr(dir, '/'));) {
            *slash = '\0';
            if (bundle_find(b, dir))
                return build_fail(e, VM_E_INVALID, dir, "is in the bundle as a file and as a directory");
        }
    }
    return 0;
}

static int sum(struct bundle *b, struct vm_err *e)
{
    struct hash *h = hash_new();

    if (!h)
        return vm_no_memory(e);
    for (size_t i = 0; i < b->n; i++) {
        const struct bundle_file *f = &b->files[i];
        char len[24];

        snprintf(len, sizeof len, "%zu", f->len);
        hash_add_str(h, f->path);
        hash_add_str(h, f->mode & 0100 ? "x" : "-");
        hash_add_str(h, len);
        hash_add(h, f->data, f->len);
    }
    hash_end(h, b->sha256);
    return 0;
}

int build_end(struct build *b, struct bundle **out, struct vm_err *e)
{
    struct bundle *bundle = b->bundle;

    if (bundle->n)
        qsort(bundle->files, bundle->n, sizeof bundle->files[0], compare_files);
    if (check_unique(bundle, e) < 0 || sum(bundle, e) < 0)
        return -1;
    *out = TAKE(b->bundle);
    return 0;
}

/* ---- from a directory ---- */

static int open_beneath(int root, const char *path, int flags, struct vm_err *e)
{
    struct vm_err why;
    int fd = path_open(root, path, PATH_BENEATH, flags, 0, &why);

    if (fd >= 0)
        return fd;
    if (why.sys == EXDEV)
        return build_fail(e, VM_E_INVALID, path, "a symbolic link out of the directory; put a copy there instead");
    return build_fail(e, VM_E_INVALID, path, "%s", strerror(why.sys));
}

static int add_file(struct build *b, int root, const char *path, const struct stat *st, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    char *data = NULL;
    size_t len = 0;

    if (build_check_size(b, path, (size_t)st->st_size, e) < 0)
        return -1;
    /* O_NONBLOCK: it may have become a fifo since; path_read_fd looks again. */
    if ((fd = open_beneath(root, path, O_RDONLY | O_NONBLOCK, e)) < 0 ||
        path_read_fd(fd, path, BUNDLE_BYTES_MAX - b->bytes, &data, &len, e) < 0)
        return -1;
    return build_take_file(b, path, st->st_mode & 0100, data, len, e);
}

static int add_dir(struct build *b, int root, const char *path, struct vm_err *e);

static int add_entry(struct build *b, int root, const char *path, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    struct stat st;

    if (build_check(b, path, e) < 0)
        return -1;
    /* O_PATH: to open a device for reading may already do something. */
    if ((fd = open_beneath(root, path, O_PATH, e)) < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", path);
    fd = fd_drop(fd);
    if (S_ISREG(st.st_mode))
        return add_file(b, root, path, &st, e);
    if (S_ISDIR(st.st_mode))
        return add_dir(b, root, path, e);
    return build_fail(e, VM_E_INVALID, path, "a %s can't be in a bundle",
                      S_ISFIFO(st.st_mode) ? "fifo" : S_ISSOCK(st.st_mode) ? "socket" : "device");
}

/* path: relative to root, "" for root itself. */
static int add_dir(struct build *b, int root, const char *path, struct vm_err *e)
{
    int fd = open_beneath(root, *path ? path : ".", O_RDONLY | O_DIRECTORY, e);

    if (fd < 0)
        return -1;
    OWN(dir) DIR *list = dir_take(fd);
    if (!list)
        return vm_no_memory(e);
    for (struct dirent *d; (errno = 0, d = readdir(list));) {
        char below[BUNDLE_PATH_MAX + NAME_MAX + 2];

        if (build_passes_over(d->d_name)) /* "." and ".." too */
            continue;
        snprintf(below, sizeof below, "%s%s%s", path, *path ? "/" : "", d->d_name);
        if (add_entry(b, root, below, e) < 0)
            return -1;
    }
    return errno ? vm_fail_sys(e, "read directory '%s'", path) : 0;
}

static int add_root(struct build *b, const char *dir, struct vm_err *e)
{
    OWN(str) char *real = realpath(dir, NULL);
    OWN(fd) int root = real ? path_open_host(real, O_RDONLY | O_DIRECTORY, e) : -1;

    if (!real)
        return vm_fail(e, VM_E_INVALID, "%s: %s", dir, strerror(errno));
    if (root < 0)
        return -1;
    if (!b->bundle && build_open(b, real, e) < 0)
        return vm_context(e, "%s", dir);
    return add_dir(b, root, "", e) < 0 ? vm_context(e, "%s", dir) : 0;
}

int bundle_from_dirs(char *const *dirs, size_t n, struct bundle **out, struct vm_err *e)
{
    OWN(build) struct build b = {0};

    for (size_t i = n; i-- > 0;) /* the last one is the base */
        if (add_root(&b, dirs[i], e) < 0)
            return -1;
    return build_end(&b, out, e) < 0 ? vm_context(e, "%s", dirs[n - 1]) : 0;
}

int bundle_from_dir(const char *dir, struct bundle **out, struct vm_err *e)
{
    return bundle_from_dirs((char *[]){(char *)dir}, 1, out, e);
}
