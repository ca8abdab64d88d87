/* Whatever comes as an image's tarball: vms-unpack ends in one of its ways, with one line that says why, and lets libarchive
 * write nothing that its policy forbids. Sandbox and disk are fakes, so nothing is written. */
#include "tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <images/unpack.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <vmsd/err.h>

enum {
    ROOM = 1 << 20, /* that the disk has; half of it may be taken */
    PATHS_MAX = 64, /* that are remembered */
    SECURE = ARCHIVE_EXTRACT_NO_OVERWRITE | ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
             ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS,
};

static struct {
    const uint8_t *data;
    size_t n;
    bool sandboxed;
    int options;
    uint64_t claimed;
    char *paths[PATHS_MAX];
    mode_t types[PATHS_MAX];
    unsigned n_paths, lines;
    char last[512];
    int last_fd;
} now;

/* ---- what vms-unpack meets ---- */

int fake_main(void);

int fake_sandbox_enter(struct vm_err *e);
int fake_sandbox_enter(struct vm_err *e)
{
    (void)e;
    now.sandboxed = true;
    return 0;
}

int fake_statvfs(const char *path, struct statvfs *fs);
int fake_statvfs(const char *path, struct statvfs *fs)
{
    (void)path;
    *fs = (struct statvfs){.f_bavail = ROOM / 512, .f_frsize = 512, .f_files = 1000, .f_favail = 1000};
    return 0;
}

static int find(const char *path)
{
    for (unsigned i = 0; i < now.n_paths; i++)
        if (!strcmp(now.paths[i], path))
            return (int)i;
    return -1;
}

int fake_lstat(const char *path, struct stat *st);
int fake_lstat(const char *path, struct stat *st)
{
    int i = find(path);

    MUST(*path && (path[strlen(path) - 1] != '/' || !strcmp(path, "/")));
    if (i < 0)
        return -1;
    *st = (struct stat){.st_mode = now.types[i]};
    return 0;
}

ssize_t fake_write(int fd, const void *p, size_t n);
ssize_t fake_write(int fd, const void *p, size_t n)
{
    MUST(n > 1 && n < sizeof now.last);
    memcpy(now.last, p, n);
    now.last[n] = '\0';
    MUST(strchr(now.last, '\n') == now.last + n - 1);
    now.last_fd = fd;
    now.lines++;
    return (ssize_t)n;
}

/* ---- the archive, and the disk that it goes to ---- */

int fake_archive_read_open_fd(struct archive *a, int fd, size_t block);
int fake_archive_read_open_fd(struct archive *a, int fd, size_t block)
{
    (void)block;
    MUST(fd == STDIN_FILENO && now.sandboxed);
    return archive_read_open_memory(a, now.data, now.n);
}

int fake_archive_write_disk_set_options(struct archive *a, int options);
int fake_archive_write_disk_set_options(struct archive *a, int options)
{
    (void)a;
    now.options = options;
    return ARCHIVE_OK;
}

static void check_xattrs(struct archive_entry *at)
{
    const char *name;
    const void *value;
    size_t n;
    unsigned count = 0;

    archive_entry_xattr_reset(at);
    for (; archive_entry_xattr_next(at, &name, &value, &n) == ARCHIVE_OK; count++)
        MUST(!strcmp(name, "security.capability") && n);
    MUST(count <= 1);
}

int fake_archive_write_header(struct archive *a, struct archive_entry *at);
int fake_archive_write_header(struct archive *a, struct archive_entry *at)
{
    const char *path = archive_entry_pathname(at);
    mode_t type = archive_entry_filetype(at);
    bool link = archive_entry_hardlink(at);
    int before = path ? find(path) : -1;

    (void)a;
    MUST((now.options & SECURE) == SECURE);
    MUST(path && *path && strlen(path) <= UNPACK_PATH_MAX);
    MUST(link || type == AE_IFREG || type == AE_IFDIR || type == AE_IFLNK);
    MUST(archive_entry_uid(at) >= 0 && archive_entry_uid(at) <= 65535 && archive_entry_gid(at) >= 0 && archive_entry_gid(at) <= 65535);
    MUST(before < 0 || (type == AE_IFDIR && !link && S_ISDIR(now.types[before])));
    check_xattrs(at);
    MUST(link || archive_entry_size(at) >= 0);
    now.claimed += link ? 0 : (uint64_t)archive_entry_size(at);
    MUST(now.claimed <= ROOM / 2);
    if (before < 0 && now.n_paths < PATHS_MAX && path[strlen(path) - 1] != '/') {
        now.types[now.n_paths] = type;
        MUST((now.paths[now.n_paths++] = strdup(path)));
    }
    return ARCHIVE_OK;
}

la_ssize_t fake_archive_write_data_block(struct archive *a, const void *p, size_t n, la_int64_t at);
la_ssize_t fake_archive_write_data_block(struct archive *a, const void *p, size_t n, la_int64_t at)
{
    (void)a;
    MUST(at >= 0 && (p || n == 0));
    return ARCHIVE_OK;
}

int fake_archive_write_finish_entry(struct archive *a);
int fake_archive_write_finish_entry(struct archive *a)
{
    (void)a;
    return ARCHIVE_OK;
}

int fake_archive_write_close(struct archive *a);
int fake_archive_write_close(struct archive *a)
{
    (void)a;
    return ARCHIVE_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint8_t *copy = malloc(n + !n);
    int end;

    MUST(copy);
    memcpy(copy, data, n);
    if (n & 1)
        tar_mend(copy, n);
    memset(&now, 0, sizeof now);
    now.data = copy;
    now.n = n;
    end = fake_main();
    MUST(end == UNPACK_DONE || end == UNPACK_REFUSED);
    MUST(now.lines && now.last_fd == (end == UNPACK_DONE ? STDOUT_FILENO : STDERR_FILENO));
    for (unsigned i = 0; i < now.n_paths; i++)
        free(now.paths[i]);
    free(copy);
    return 0;
}
