#include <vmsd/bundle.h>

#include "bundle_build.h"

#include <archive.h>
#include <archive_entry.h>
#include <locale.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <vmsd/lazy.h>
#include <vmsd/text.h>

enum { TAR_BLOCK = 512 };

/* ---- libarchive, loaded when the first tar is read or written ---- */

#define FUNCTIONS(X) \
    X(error_string) X(filter_bytes) X(read_new) X(read_free) X(read_support_format_tar) X(read_support_filter_gzip) \
    X(read_open_memory) X(read_next_header) X(read_data) \
    X(write_new) X(write_free) X(write_set_format_gnutar) X(write_open) X(write_header) X(write_data) X(write_close) \
    X(entry_new) X(entry_free) X(entry_pathname) X(entry_hardlink) X(entry_filetype) X(entry_perm) X(entry_size) \
    X(entry_size_is_set) X(entry_sparse_count) X(entry_set_pathname) X(entry_set_mode) X(entry_set_size) X(entry_set_mtime)
#define X(f) __typeof__(archive_##f) *f;
static struct { FUNCTIONS(X) } la;
#undef X
#define X(f) "archive_" #f,
static const char *const names[] = {FUNCTIONS(X)};
#undef X
_Static_assert(sizeof la == sizeof names, "the table holds a pointer for each name");

static int need(struct vm_err *e)
{
    static struct lazy lazy = {.so = "libarchive.so.13", .package = "libarchive13", .names = names, .table = &la,
                               .n = ARRAY_LEN(names), .lock = PTHREAD_MUTEX_INITIALIZER};

    return lazy_need(&lazy, e);
}

OWN_DEFINE(reader, struct archive *, la.read_free)
OWN_DEFINE(writer, struct archive *, la.write_free)
OWN_DEFINE(entry, struct archive_entry *, la.entry_free)

static int fail_archive(struct vm_err *e, struct archive *a, const char *what)
{
    const char *why = la.error_string(a);
    OWN(text) struct text shown = {0};

    if (why)
        text_add_visible(&shown, why, strlen(why), NULL);
    return vm_fail(e, VM_E_INVALID, "%s: %.200s", what, shown.len ? shown.s : "unknown cause");
}

/* ---- reading ---- */

struct tar {
    struct archive *from;
    struct build *build;
    int64_t end;   /* of the last entry in the tar */
    bool has_root; /* there was an entry "./": nothing above its paths to be dropped */
};

static const char *kind_of(struct archive_entry *entry)
{
    if (la.entry_hardlink(entry))
        return "hard link";
    switch (la.entry_filetype(entry)) {
    case AE_IFREG:
        return la.entry_sparse_count(entry) ? "sparse file" : NULL;
    case AE_IFDIR:
        return NULL;
    case AE_IFLNK:
        return "symbolic link";
    case AE_IFIFO:
        return "fifo";
    case AE_IFSOCK:
        return "socket";
    default:
        return "device";
    }
}

static int read_content(struct tar *t, const char *path, size_t size, char **out, struct vm_err *e)
{
    OWN(str) char *data = NULL;
    char beyond;

    if (build_check_size(t->build, path, size, e) < 0)
        return -1;
    if (!(data = malloc(size + 1)))
        return vm_no_memory(e);
    for (size_t len = 0; len < size;) {
        la_ssize_t got = la.read_data(t->from, data + len, size - len);
        if (got < 0)
            return fail_archive(e, t->from, "tar");
        if (got == 0)
            return build_fail(e, VM_E_INVALID, path, "is cut off in the tar");
        len += (size_t)got;
    }
    if (la.read_data(t->from, &beyond, 1) != 0)
        return build_fail(e, VM_E_INVALID, path, "is longer than its header says");
    data[size] = '\0';
    *out = TAKE(data);
    return 0;
}

/* Without "./" in front and "/" behind. */
static int plain_path(const char *raw, char out[static BUNDLE_PATH_MAX + 1], struct vm_err *e)
{
    while (raw[0] == '.' && raw[1] == '/')
        raw += 2;
    size_t n = strlen(raw);
    if (n && raw[n - 1] == '/')
        n--;
    if (n > BUNDLE_PATH_MAX)
        return build_fail(e, VM_E_INVALID, raw, "a path is at most %d bytes long", BUNDLE_PATH_MAX);
    memcpy(out, raw, n);
    out[n] = '\0';
    return 0;
}

static int read_entry(struct tar *t, struct archive_entry *entry, struct vm_err *e)
{
    const char *raw = la.entry_pathname(entry), *kind = kind_of(entry);
    int64_t size = la.entry_size_is_set(entry) ? la.entry_size(entry) : 0;
    bool is_dir = la.entry_filetype(entry) == AE_IFDIR;
    char path[BUNDLE_PATH_MAX + 1], *data = NULL;

    if (!raw || !*raw)
        return vm_fail(e, VM_E_INVALID, "an entry of the tar has no name");
    if (size < 0 || size > INT64_MAX / 2)
        return build_fail(e, VM_E_INVALID, raw, "impossible size in the tar");
    t->end = la.filter_bytes(t->from, 0) + (size + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    if (is_dir && (strcmp(raw, "./") == 0 || strcmp(raw, ".") == 0)) {
        t->has_root = true;
        return 0;
    }
    if (plain_path(raw, path, e) < 0 || build_check(t->build, path, e) < 0)
        return -1;
    if (build_passes_over(path))
        return 0;
    if (kind)
        return build_fail(e, VM_E_INVALID, path, "a %s can't be in a bundle; put a plain file there", kind);
    if (is_dir)
        return 0;
    if (read_content(t, path, (size_t)size, &data, e) < 0)
        return -1;
    return build_take_file(t->build, path, la.entry_perm(entry) & 0100, data, (size_t)size, e);
}

static int read_entries(struct tar *t, struct vm_err *e)
{
    struct archive_entry *entry;
    int rc;

    /* A warning is a refusal: what a reader has to guess at, another one might read otherwise. */
    while ((rc = la.read_next_header(t->from, &entry)) == ARCHIVE_OK)
        if (read_entry(t, entry, e) < 0)
            return -1;
    if (rc != ARCHIVE_EOF)
        return fail_archive(e, t->from, "tar");
    /* libarchive takes an end between two entries for the end; only the closing block of zeros proves it. */
    if (la.filter_bytes(t->from, 0) < t->end + TAR_BLOCK)
        return vm_fail(e, VM_E_INVALID, "the tar is cut off: its end mark is missing");
    return 0;
}

/* git archive HEAD vms.d puts all below vms.d/: not part of what the bundle is. */
static void drop_top(struct bundle *b)
{
    const char *first = b->n ? b->files[0].path : "";
    size_t top = strcspn(first, "/") + 1;

    for (size_t i = 0; i < b->n; i++)
        if (strncmp(b->files[i].path, first, top) != 0 || strlen(b->files[i].path) <= top)
            return;
    for (size_t i = 0; i < b->n; i++)
        memmove(b->files[i].path, b->files[i].path + top, strlen(b->files[i].path + top) + 1);
}

static int read_tar(const void *tar, size_t n, const char *base, struct bundle **out, struct vm_err *e)
{
    OWN(reader) struct archive *from = la.read_new();
    OWN(build) struct build b = {0};

    if (!from)
        return vm_no_memory(e);
    struct tar t = {.from = from, .build = &b};
    la.read_support_format_tar(from);
    la.read_support_filter_gzip(from);
    if (la.read_open_memory(from, tar, n) != ARCHIVE_OK)
        return fail_archive(e, from, "tar");
    if (build_open(&b, base, e) < 0 || read_entries(&t, e) < 0)
        return -1;
    if (!t.has_root)
        drop_top(b.bundle);
    return build_end(&b, out, e);
}

/* libarchive reads pax names by the locale; a daemon's is "C", where only ASCII is text. Kept for all that come: the tables are
 * read from disk, and freed, behind locks of glibc's own, where ThreadSanitizer sees two archives race. */
static locale_t utf8_locale(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static locale_t kept;

    pthread_mutex_lock(&lock);
    if (!kept)
        kept = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t utf8 = kept;
    pthread_mutex_unlock(&lock);
    return utf8;
}

int bundle_from_tar(const void *tar, size_t n, const char *base, struct bundle **out, struct vm_err *e)
{
    if (need(e) < 0)
        return -1;
    locale_t utf8 = utf8_locale();
    if (!utf8)
        return vm_fail_sys(e, "locale C.UTF-8");
    locale_t before = uselocale(utf8);
    int rc = read_tar(tar, n, base, out, e);
    uselocale(before);
    return rc;
}

/* ---- writing ---- */

static la_ssize_t write_text(struct archive *a, void *arg, const void *p, size_t n)
{
    (void)a;
    text_add_bytes(arg, p, n);
    return (la_ssize_t)n;
}

static int write_entry(struct archive *a, const char *path, mode_t mode, const char *data, size_t len, struct vm_err *e)
{
    OWN(entry) struct archive_entry *entry = la.entry_new();

    if (!entry)
        return vm_no_memory(e);
    la.entry_set_pathname(entry, path);
    la.entry_set_mode(entry, mode);
    la.entry_set_size(entry, (la_int64_t)len);
    la.entry_set_mtime(entry, 0, 0);
    if (la.write_header(a, entry) != ARCHIVE_OK || la.write_data(a, data, len) != (la_ssize_t)len)
        return fail_archive(e, a, "write a tar");
    return 0;
}

int bundle_to_tar(const struct bundle *b, char **out, size_t *n, struct vm_err *e)
{
    if (need(e) < 0)
        return -1;

    OWN(text) struct text tar = {0};
    OWN(writer) struct archive *a = la.write_new();

    if (!a)
        return vm_no_memory(e);
    /* GNU's and not pax: names are bytes there, whatever the locale. */
    la.write_set_format_gnutar(a);
    if (la.write_open(a, &tar, NULL, write_text, NULL) != ARCHIVE_OK)
        return fail_archive(e, a, "write a tar");
    /* "./" says that a single directory at the top belongs to the bundle. */
    if (write_entry(a, "./", S_IFDIR | 0755, NULL, 0, e) < 0)
        return -1;
    for (size_t i = 0; i < b->n; i++) {
        const struct bundle_file *f = &b->files[i];
        if (write_entry(a, f->path, S_IFREG | f->mode, f->data, f->len, e) < 0)
            return -1;
    }
    if (la.write_close(a) != ARCHIVE_OK)
        return fail_archive(e, a, "write a tar");
    size_t len = tar.len;
    char *s = text_take(&tar);
    if (!s)
        return vm_no_memory(e);
    *out = s;
    *n = len;
    return 0;
}
