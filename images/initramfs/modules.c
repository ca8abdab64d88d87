#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { NEEDS_MAX = 64 };           /* modules that one module needs */

static int is_module(const struct dirent *de)
{
    size_t n = strlen(de->d_name);
    return n > 3 && strcmp(de->d_name + n - 3, ".ko") == 0;
}

/* One that fails is told and passed over: a kernel of the user's may have it built in. What is truly missing shows at
 * the disk or file system that it was for. */
static void load(int dir, const char *path)
{
    size_t n = strlen(path);
    bool packed = n > 3 && strcmp(path + n - 3, ".ko") != 0;
    OWN(fd) int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && syscall(SYS_finit_module, fd, "", packed ? MODULE_INIT_COMPRESSED_FILE : 0) == 0)
        return;
    if (errno != EEXIST && errno != ENODEV) /* there already; no such device here */
        say("module %s: %s, going on without it", path, strerror(errno));
}

void modules_load(const char *dir)
{
    struct dirent **list = NULL;
    OWN(fd) int at = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int n = at < 0 ? 0 : scandir(dir, &list, is_module, alphasort);
    for (int i = 0; i < n; i++) {
        load(at, list[i]->d_name);
        free(list[i]);
    }
    free(list);
}

/* ---- by name, from the disk of all modules that comes with the kernel ---- */

/* "kernel/fs/xfs/xfs.ko[.xz]: PATH…", where each path needs those behind it. Cuts the line; 0: it is another module's. */
static size_t paths_of(char *line, const char *name, const char *paths[static NEEDS_MAX + 1])
{
    char *end = strchr(line, ':'), *base;
    size_t n = 0;

    if (!end)
        return 0;
    *end++ = '\0';
    base = strrchr(line, '/');
    base = base ? base + 1 : line;
    if (strncmp(base, name, strlen(name)) != 0 || strncmp(base + strlen(name), ".ko", 3) != 0)
        return 0;
    paths[n++] = line;
    for (char *path; (path = strsep(&end, " \n"));) {
        if (*path && n <= NEEDS_MAX)
            paths[n++] = path;
    }
    return n;
}

static void load_with_needs(int dir, const char *name)
{
    OWN(fd) int fd = openat(dir, "modules.dep", O_RDONLY | O_CLOEXEC);
    OWN(file) FILE *f = fd < 0 ? NULL : fdopen(fd, "r");
    OWN(str) char *line = NULL;
    const char *paths[NEEDS_MAX + 1];
    size_t room = 0, n = 0;

    if (f)
        take_fd(&fd);
    while (f && n == 0 && getline(&line, &room, f) > 0)
        n = paths_of(line, name, paths);
    while (n > 0)
        load(dir, paths[--n]);
}

void module_find(const char *name)
{
    struct vm_err why = { 0 };
    char disk[DISK_NAME];
    const char *type;
    struct utsname u;
    static bool looking;           /* what that disk itself needs is not on it */

    if (looking || !disk_find("modules", disk) || disk_type(disk, &type, &why) < 0 || !type)
        return;
    looking = true;
    OWN(fd) int mount = mount_disk(disk, type, true, "the disk 'modules'", &why);
    looking = false;
    uname(&u);
    OWN(fd) int dir = mount < 0 ? -1 : openat(mount, u.release, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir >= 0)
        load_with_needs(dir, name);
}
