/* vms-unpack: the tarball on standard input becomes a root tree in the current directory. Started by the image store as
 * root; reads the first foreign byte when it is root no more. Prints progress, and on failure the reason as last line.
 *
 * Policy: nothing leaves the tree and nothing in it is overwritten; device nodes, fifos and sockets are passed over;
 * of extended attributes only file capabilities are kept; no immutable flags, no ACLs. */
#include "sandbox.h"
#include "unpack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <vmsd/own.h>

#define CAPS_XATTR "security.capability"

enum { READ_BYTES = 128 << 10, PROGRESS_EVERY = 5000, UID_MAX_KEPT = 65535 };

struct unpack {
    struct archive *from, *to;
    uint64_t bytes, bytes_max, entries, entries_max, passed_over;
};

static void unpack_done(struct unpack u)
{
    archive_read_free(u.from);
    archive_write_free(u.to);
}
OWN_DEFINE(unpack, struct unpack, unpack_done)

static int bad_archive(struct archive *a, const char *doing, const char *path, struct vm_err *e)
{
    const char *why = archive_error_string(a);
    int sys = archive_errno(a) == ENOSPC || archive_errno(a) == EDQUOT ? ENOSPC : 0;

    vm_fail(e, VM_E_INVALID, "%s%s%.100s%s: %.150s", doing, path ? " '" : "", path ? path : "", path ? "'" : "",
            why ? why : "damaged archive");
    if (sys && e)
        e->sys = sys;
    return -1;
}

/* One line, also with a name of two in it. By write alone: libc's streams ask a terminal for its modes, which the sandbox
 * forbids. */
VM_PRINTF(2) static void say(int fd, const char *fmt, ...)
{
    char line[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof line - 1, fmt, ap);
    va_end(ap);
    size_t n = 0;
    for (; line[n]; n++)
        if (line[n] == '\n')
            line[n] = '?';
    line[n++] = '\n';
    (void)!write(fd, line, n);
}

/* ---- bounds, before anything is written ---- */

static int check_path(const char *path, struct vm_err *e)
{
    unsigned depth = 0;

    if (!path || !*path)
        return vm_fail(e, VM_E_INVALID, "an entry has no name that is valid UTF-8");
    if (strlen(path) > UNPACK_PATH_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "a name is longer than %d bytes: '%.60s...'", UNPACK_PATH_MAX, path);
    for (const char *p = path; *p; p += strspn(p, "/")) {
        size_t n = strcspn(p, "/");
        if (n > UNPACK_NAME_MAX)
            return vm_fail(e, VM_E_TOO_LARGE, "part of a name is longer than %d bytes: '%.60s...'", UNPACK_NAME_MAX, p);
        if (++depth > UNPACK_DEPTH_MAX)
            return vm_fail(e, VM_E_TOO_LARGE, "nested deeper than %d directories: '%.60s...'", UNPACK_DEPTH_MAX, path);
        p += n;
    }
    return 0;
}

static int check_twice(struct archive_entry *at, const char *path, struct vm_err *e)
{
    char exact[UNPACK_PATH_MAX + 1];
    struct stat st;
    size_t n = strlen(path);

    while (n > 1 && path[n - 1] == '/') /* which would have lstat look behind a link */
        n--;
    snprintf(exact, sizeof exact, "%.*s", (int)n, path);
    if (lstat(exact, &st) < 0)
        return 0;
    if (S_ISDIR(st.st_mode) && !archive_entry_hardlink(at) && archive_entry_filetype(at) == AE_IFDIR)
        return 0;
    return vm_fail(e, VM_E_INVALID, "'%.200s' is in it twice", path);
}

static int check_entry(struct unpack *u, struct archive_entry *at, struct vm_err *e)
{
    const char *path = archive_entry_pathname(at);
    int64_t size = archive_entry_hardlink(at) ? 0 : archive_entry_size(at);

    if (++u->entries > u->entries_max)
        return vm_fail(e, VM_E_TOO_LARGE, "more than %llu entries (%d, or half of the free inodes)",
                       (unsigned long long)u->entries_max, UNPACK_ENTRIES_MAX);
    if (check_path(path, e) < 0)
        return -1;
    if (archive_entry_uid(at) < 0 || archive_entry_uid(at) > UID_MAX_KEPT || archive_entry_gid(at) < 0 ||
        archive_entry_gid(at) > UID_MAX_KEPT)
        return vm_fail(e, VM_E_INVALID, "'%.200s' belongs to %lld:%lld, outside 0..%d; pack it with its ids unshifted",
                       path, (long long)archive_entry_uid(at), (long long)archive_entry_gid(at), UID_MAX_KEPT);
    if (size < 0 || (uint64_t)size > u->bytes_max - u->bytes)
        return vm_fail(e, VM_E_TOO_LARGE,
                       "unpacks to more than %llu MiB (32 GiB, or half of the free space) at '%.200s'",
                       (unsigned long long)(u->bytes_max >> 20), path);
    u->bytes += (uint64_t)size;
    return check_twice(at, path, e);
}

/* ---- writing ---- */

static int keep_capabilities_only(struct archive_entry *at, struct vm_err *e)
{
    const char *name;
    const void *value;
    size_t n, n_caps = 0;
    OWN(mem) void *caps = NULL;

    archive_entry_xattr_reset(at);
    while (archive_entry_xattr_next(at, &name, &value, &n) == ARCHIVE_OK) {
        if (!name || strcmp(name, CAPS_XATTR) || caps || n == 0)
            continue;
        if (!(caps = malloc(n)))
            return vm_no_memory(e);
        memcpy(caps, value, n);
        n_caps = n;
    }
    archive_entry_xattr_clear(at);
    if (caps)
        archive_entry_xattr_add_entry(at, CAPS_XATTR, caps, n_caps);
    return 0;
}

static int copy_content(struct unpack *u, const char *path, struct vm_err *e)
{
    const void *data;
    size_t n;
    int64_t at;

    for (;;) {
        int rc = archive_read_data_block(u->from, &data, &n, &at);
        if (rc == ARCHIVE_EOF)
            return 0;
        if (rc != ARCHIVE_OK)
            return bad_archive(u->from, "read", path, e);
        if (archive_write_data_block(u->to, data, n, at) < ARCHIVE_OK)
            return bad_archive(u->to, "write", path, e);
    }
}

static int unpack_entry(struct unpack *u, struct archive_entry *at, struct vm_err *e)
{
    const char *path = archive_entry_pathname(at);
    mode_t type = archive_entry_filetype(at);

    if (check_entry(u, at, e) < 0)
        return -1;
    if (!archive_entry_hardlink(at)) {
        if (type == AE_IFCHR || type == AE_IFBLK || type == AE_IFIFO || type == AE_IFSOCK) {
            u->passed_over++;
            return 0;
        }
        if (type != AE_IFREG && type != AE_IFDIR && type != AE_IFLNK)
            return vm_fail(e, VM_E_INVALID, "'%.200s' is of an unknown type", path);
    }
    if (keep_capabilities_only(at, e) < 0)
        return -1;
    if (archive_write_header(u->to, at) != ARCHIVE_OK)
        return bad_archive(u->to, "write", path, e);
    if (archive_entry_size(at) > 0 && copy_content(u, path, e) < 0)
        return -1;
    return archive_write_finish_entry(u->to) != ARCHIVE_OK ? bad_archive(u->to, "write", path, e) : 0;
}

/* An archive may take half of what is free, so that it hurts nobody else while it proves to be too large. */
static int unpack_bounds(struct unpack *u, struct vm_err *e)
{
    struct statvfs fs;

    if (statvfs(".", &fs) < 0)
        return vm_fail_sys(e, "look at the free space");
    u->bytes_max = (uint64_t)fs.f_bavail * fs.f_frsize / 2;
    if (u->bytes_max > UNPACK_BYTES_MAX)
        u->bytes_max = UNPACK_BYTES_MAX;
    u->entries_max = fs.f_files ? fs.f_favail / 2 : UNPACK_ENTRIES_MAX; /* some file systems count no inodes */
    if (u->entries_max > UNPACK_ENTRIES_MAX)
        u->entries_max = UNPACK_ENTRIES_MAX;
    return 0;
}

static int unpack_open(struct unpack *u, struct vm_err *e)
{
    enum {
        HOW = ARCHIVE_EXTRACT_OWNER | ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_XATTR |
              ARCHIVE_EXTRACT_NO_OVERWRITE | ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
              ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS
    };

    u->from = archive_read_new();
    u->to = archive_write_disk_new();
    if (!u->from || !u->to)
        return vm_no_memory(e);
    /* Named one by one: "all" includes filters that start programs. */
    archive_read_support_filter_gzip(u->from);
    archive_read_support_filter_bzip2(u->from);
    archive_read_support_filter_xz(u->from);
    archive_read_support_filter_zstd(u->from);
    archive_read_support_format_tar(u->from);
    archive_write_disk_set_options(u->to, HOW);
    return 0;
}

static int unpack_all(struct unpack *u, struct vm_err *e)
{
    struct archive_entry *at;
    int rc;

    if (archive_read_open_fd(u->from, STDIN_FILENO, READ_BYTES) != ARCHIVE_OK)
        return bad_archive(u->from, "no tar archive (plain, gz, bz2, xz or zst)", NULL, e);
    while ((rc = archive_read_next_header(u->from, &at)) == ARCHIVE_OK) {
        if (unpack_entry(u, at, e) < 0)
            return -1;
        if (u->entries % PROGRESS_EVERY == 0)
            say(STDOUT_FILENO, "unpacked %llu entries", (unsigned long long)u->entries);
    }
    if (rc != ARCHIVE_EOF)
        return bad_archive(u->from, "read archive", NULL, e);
    if (archive_write_close(u->to) != ARCHIVE_OK)
        return bad_archive(u->to, "finish directories", NULL, e);
    say(STDOUT_FILENO, "unpacked %llu entries, passed over %llu device nodes, fifos and sockets",
            (unsigned long long)u->entries, (unsigned long long)u->passed_over);
    return 0;
}

int main(void)
{
    OWN(unpack) struct unpack u = {0};
    struct vm_err e = {0};

    /* pax has names in UTF-8; libc has this locale built in, and has it now, while there still is a file system. */
    setlocale(LC_CTYPE, "C.UTF-8");
    umask(0);
    if (unpack_bounds(&u, &e) == 0 && unpack_open(&u, &e) == 0 && sandbox_enter(&e) == 0 && unpack_all(&u, &e) == 0)
        return UNPACK_DONE;
    say(STDERR_FILENO, "%s", e.text);
    return e.sys == ENOSPC || e.sys == EDQUOT ? UNPACK_FULL : e.code == VM_E_SYSTEM ? UNPACK_BROKEN : UNPACK_REFUSED;
}
