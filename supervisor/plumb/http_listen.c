#include <vmsd/http.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/own.h>
#include <vmsd/path.h>

enum { BACKLOG = 128 };

/* bind and connect know only paths; by way of the directory's fd nobody can swap the directory meanwhile. */
static void address_of(int dir, const char *name, struct sockaddr_un *out)
{
    *out = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(out->sun_path, sizeof out->sun_path, "/proc/self/fd/%d/%s", dir, name);
}

static int make_socket(struct vm_err *e)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return fd < 0 ? vm_fail_sys(e, "make a socket") : fd;
}

/* In a directory where others may rename files, a socket could become theirs between two of our steps. */
static int check_parent(int dir, const char *parent, struct vm_err *e)
{
    struct stat st;

    if (fstat(dir, &st) < 0)
        return vm_fail_sys(e, "stat '%s'", parent);
    if ((st.st_uid != 0 && st.st_uid != geteuid()) || ((st.st_mode & 022) && !(st.st_mode & S_ISVTX)))
        return vm_fail(e, VM_E_DENIED, "directory '%s' belongs to another user or can be written by others", parent);
    return 0;
}

/* Makes room at dir/name: removes a socket of ours that nobody answers at, and nothing else. */
static int clear_stale(int dir, const char *name, const char *path, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    struct sockaddr_un addr;
    struct stat st;

    if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return errno == ENOENT ? 0 : vm_fail_sys(e, "stat '%s'", path);
    if (!S_ISSOCK(st.st_mode) || st.st_uid != geteuid())
        return vm_fail(e, VM_E_CONFLICT, "'%s' is there already and is no socket of this user; remove it", path);
    if ((fd = make_socket(e)) < 0)
        return -1;
    address_of(dir, name, &addr);
    if (connect(fd, (struct sockaddr *)&addr, sizeof addr) == 0 || errno == EAGAIN)
        return vm_fail(e, VM_E_CONFLICT, "another process answers at '%s'; stop it first", path);
    if (errno != ECONNREFUSED && errno != ENOENT)
        return vm_fail_sys(e, "connect to '%s'", path);
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT)
        return vm_fail_sys(e, "remove the stale socket '%s'", path);
    return 0;
}

/* Bound with mode 0 nobody can connect until group and mode are right, and listening starts last. The process is
 * threaded, so the umask stays alone: the fd's mode is what bind gives the file. */
static int bind_closed(int fd, int dir, const char *name, mode_t mode, gid_t group, const char *path, struct vm_err *e)
{
    struct sockaddr_un addr;

    address_of(dir, name, &addr);
    if (fchmod(fd, 0) < 0)
        return vm_fail_sys(e, "set the mode of '%s'", path);
    if (bind(fd, (struct sockaddr *)&addr, sizeof addr) < 0)
        return vm_fail_sys(e, "bind '%s'", path);
    if ((group != (gid_t)-1 && fchownat(dir, name, (uid_t)-1, group, AT_SYMLINK_NOFOLLOW) < 0) ||
        fchmodat(dir, name, mode, 0) < 0 || listen(fd, BACKLOG) < 0) {
        vm_fail_sys(e, "open '%s' to its group", path);
        unlinkat(dir, name, 0);
        return -1;
    }
    return 0;
}

int http_listen(const char *path, mode_t mode, gid_t group, int *out_fd, struct vm_err *e)
{
    OWN(fd) int dir = -1, fd = -1;
    OWN(str) char *parent = NULL;
    const char *slash = strrchr(path, '/');
    struct sockaddr_un addr;

    if (path[0] != '/' || !slash[1])
        return vm_fail(e, VM_E_INVALID, "'%s' is not an absolute path of a socket", path);
    if (strlen(path) >= sizeof addr.sun_path)
        return vm_fail(e, VM_E_INVALID, "'%s': the path of a socket is at most %zu bytes long", path,
                       sizeof addr.sun_path - 1);
    if (!(parent = strndup(path, slash == path ? 1 : (size_t)(slash - path))))
        return vm_no_memory(e);
    if ((dir = path_open_host(parent, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, e)) < 0 ||
        check_parent(dir, parent, e) < 0 || clear_stale(dir, slash + 1, path, e) < 0)
        return -1;
    if ((fd = make_socket(e)) < 0 || bind_closed(fd, dir, slash + 1, mode, group, path, e) < 0)
        return -1;
    *out_fd = take_fd(&fd);
    return 0;
}
