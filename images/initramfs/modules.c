#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_module(const struct dirent *de)
{
    size_t n = strlen(de->d_name);
    return n > 3 && strcmp(de->d_name + n - 3, ".ko") == 0;
}

/* One that fails is told and passed over: a kernel of the user's may have it built in. What is truly missing shows at
 * the disk or file system that it was for. */
static void load(const char *dir, const char *name)
{
    char path[300];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && syscall(SYS_finit_module, fd, "", 0) == 0)
        return;
    if (errno != EEXIST && errno != ENODEV) /* there already; no such device here */
        say("module %s: %s, going on without it", name, strerror(errno));
}

void modules_load(const char *dir)
{
    struct dirent **list = NULL;
    int n = scandir(dir, &list, is_module, alphasort);
    for (int i = 0; i < n; i++) {
        load(dir, list[i]->d_name);
        free(list[i]);
    }
    free(list);
}
