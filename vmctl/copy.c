/* vmctl cp: files through the API's /files, directories as a tar through exec. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>
#include "cli.h"
#include "select.h"
#include "session.h"
#include "stream.h"
#include "tar.h"

/* A file that is larger goes through exec; GET's answer to one is "too large". */
#define FILES_MAX (64l << 20)

struct copy {
    struct cli *cli;
    char *guest;
    const char *inside, *outside; /* paths in the guest and here */
};

/* "NAME:/path": the path; NULL: it is one of this host. */
static const char *inside_path(const char *arg)
{
    const char *colon = strchr(arg, ':');

    return colon && colon != arg && colon[1] == '/' && !memchr(arg, '/', (size_t)(colon - arg)) ? colon + 1 : NULL;
}

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

struct output {
    struct text complaint; /* what it wrote to standard error, bounded */
    int fd;                /* where standard output goes; -1: nowhere */
};

static int on_output(enum frame_channel channel, const void *p, size_t n, void *arg, struct vm_err *e)
{
    struct output *o = arg;

    if (channel == CHANNEL_STDERR) {
        if (o->complaint.len + n < sizeof e->text)
            text_add_bytes(&o->complaint, p, n);
        return 0;
    }
    return o->fd >= 0 ? path_write_all(o->fd, p, n, e) : 0;
}

/* A command of the guest that reads from in and writes to out; it must end well unless status is asked for. */
static int inside(struct copy *c, const char *const *argv, int in, int out, int *status, struct vm_err *e)
{
    OWN(json) json_t *request = session_request(argv);
    struct output o = {.fd = out};
    struct session_io io = {.in = in, .out = on_output, .arg = &o};
    int ended = 0, rc;

    if (!request)
        return vm_fail(e, VM_E_INVALID, "%s: a path in a guest must be UTF-8", c->inside);
    rc = session_run(&c->cli->client, c->guest, request, &io, &ended, e);
    if (rc == 0 && status)
        *status = ended;
    else if (rc == 0 && ended)
        rc = vm_fail(e, VM_E_BACKEND, "%s:%s: %s ended with status %d%s%.*s", c->guest, c->inside, argv[0], ended,
                     o.complaint.len ? ": " : "", (int)strcspn(o.complaint.s ? o.complaint.s : "", "\n"),
                     o.complaint.s ? o.complaint.s : "");
    text_done(o.complaint);
    return rc;
}

static int inside_is_directory(struct copy *c, const char *path, bool *yes, struct vm_err *e)
{
    const char *argv[] = {"test", "-d", path, NULL};
    int status = 0;

    if (inside(c, argv, -1, -1, &status, e) < 0)
        return -1;
    *yes = status == 0;
    return 0;
}

/* path, or path/NAME where path is a directory. Yours. */
static int inside_target(struct copy *c, char **out, struct vm_err *e)
{
    const char *name = last_part(c->outside);
    bool slash = c->inside[strlen(c->inside) - 1] == '/', directory = slash;

    if (!slash && inside_is_directory(c, c->inside, &directory, e) < 0)
        return -1;
    /* What has no name of its own gives its content. */
    if (!directory || !*name || !strcmp(name, ".") || !strcmp(name, ".."))
        *out = strdup(c->inside);
    else
        *out = text_format("%s%s%s", c->inside, slash ? "" : "/", name);
    return *out ? 0 : vm_no_memory(e);
}

static char *files_path(const struct copy *c, const char *path, const char *mode)
{
    OWN(str) char *head = client_path("/v1/guests/", c->guest, "/files");
    struct text t = {0};

    text_add(&t, head ? head : "");
    t.failed |= !head;
    client_query(&t, "path", path);
    if (mode)
        client_query(&t, "mode", mode);
    return text_take(&t);
}

/* What the API does not carry in one piece goes through a shell of the guest, by a scratch file as well. */
static int large_file_in(struct copy *c, int fd, const char *octal, const char *target, struct vm_err *e)
{
    static const char script[] = "umask 077; t=$1.vmctl; cat >\"$t\" && chmod \"$2\" \"$t\" && mv -f \"$t\" \"$1\" ||"
                                 " { rm -f \"$t\"; exit 1; }";
    const char *argv[] = {"/bin/sh", "-c", script, "sh", target, octal, NULL};

    return inside(c, argv, fd, -1, NULL, e);
}

static int file_in(struct copy *c, int fd, const struct stat *st, const char *target, struct vm_err *e)
{
    char octal[8];
    OWN(str) char *path = NULL;
    struct transfer t = {.method = "PUT", .body_fd = fd, .has_body_fd = true};

    snprintf(octal, sizeof octal, "%04o", (unsigned)st->st_mode & 0777);
    if (st->st_size > FILES_MAX)
        return large_file_in(c, fd, octal, target, e);
    if (!(path = files_path(c, target, octal)))
        return vm_no_memory(e);
    t.path = path;
    return client_stream(&c->cli->client, &t, e);
}

static int directory_in(struct copy *c, int fd, const char *target, struct vm_err *e)
{
    static const char script[] = "[ -d \"$1\" ] || [ ! -e \"$1\" ] || { echo 'it is there and no directory' >&2; exit 1; }; "
                                 "mkdir -p -- \"$1\" && cd -- \"$1\" && exec tar -xf -";
    const char *argv[] = {"/bin/sh", "-c", script, "sh", target, NULL};
    OWN(fd) int from = -1;
    pid_t pid;
    int rc;

    if (tar_pack(fd, &from, &pid, e) < 0)
        return -1;
    rc = inside(c, argv, from, -1, NULL, e);
    from = fd_drop(from); /* so that a tar that is not read to its end ends as well */
    return tar_wait(pid, rc < 0 ? NULL : e) < 0 ? -1 : rc;
}

static int copy_in(struct copy *c, struct vm_err *e)
{
    OWN(fd) int fd = open(c->outside, O_RDONLY | O_CLOEXEC);
    OWN(str) char *target = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return vm_fail_sys(e, "open '%s'", c->outside);
    if (inside_target(c, &target, e) < 0)
        return -1;
    return S_ISDIR(st.st_mode) ? directory_in(c, fd, target, e) : file_in(c, fd, &st, target, e);
}

/* Where a copy from the guest goes: a directory of this host, the name in it, and a scratch name beside that. */
struct place {
    int dir;
    const char *name;
    char scratch[32];
};

static int place_open(struct copy *c, struct place *p, struct vm_err *e)
{
    const char *name = last_part(c->outside);
    OWN(str) char *parent = strndup(c->outside, (size_t)(name - c->outside));
    struct stat st;

    if (!parent)
        return vm_no_memory(e);
    snprintf(p->scratch, sizeof p->scratch, ".vmctl-%d", (int)getpid());
    if (stat(c->outside, &st) == 0 && S_ISDIR(st.st_mode)) {
        free(parent);
        if (!(parent = strdup(c->outside)))
            return vm_no_memory(e);
        name = last_part(c->inside);
    }
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return vm_fail(e, VM_E_INVALID, "'%s' gives the copy no name", c->outside);
    p->name = name;
    p->dir = open(*parent ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return p->dir < 0 ? vm_fail_sys(e, "open directory '%s'", parent) : 0;
}

static int file_out(struct copy *c, const struct place *p, struct vm_err *e)
{
    const char *cat[] = {"cat", "--", c->inside, NULL};
    OWN(str) char *path = files_path(c, c->inside, NULL);
    OWN(fd) int fd = openat(p->dir, p->scratch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    struct transfer t = {.method = "GET", .path = path, .sink = stream_fd_sink, .arg = &fd};

    if (!path)
        return vm_no_memory(e);
    if (fd < 0)
        return vm_fail_sys(e, "write beside '%s'", p->name);
    if (client_stream(&c->cli->client, &t, e) < 0 && (e->code != VM_E_TOO_LARGE || inside(c, cat, -1, fd, NULL, e) < 0))
        return -1;
    return renameat(p->dir, p->scratch, p->dir, p->name) < 0 ? vm_fail_sys(e, "rename to '%s'", p->name) : 0;
}

static int directory_out(struct copy *c, const struct place *p, struct vm_err *e)
{
    const char *argv[] = {"tar", "-C", c->inside, "-cf", "-", ".", NULL};
    OWN(fd) int fd = -1;
    int to;
    pid_t pid;
    int rc;

    if (mkdirat(p->dir, p->scratch, 0777) < 0)
        return vm_fail_sys(e, "make a directory beside '%s'", p->name);
    if ((fd = path_open(p->dir, p->scratch, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e)) < 0 ||
        tar_unpack(fd, &to, &pid, e) < 0)
        return -1;
    rc = inside(c, argv, -1, to, NULL, e);
    fd_drop(to);
    if (tar_wait(pid, rc < 0 ? NULL : e) < 0 || rc < 0)
        return -1;
    if (renameat2(p->dir, p->scratch, p->dir, p->name, RENAME_NOREPLACE) < 0)
        return vm_fail_sys(e, "rename to '%s'", p->name);
    return 0;
}

/* Nothing is seen under its name before it is whole. */
static int copy_out(struct copy *c, struct vm_err *e)
{
    struct place p = {.dir = -1};
    bool directory;
    int rc;

    if (inside_is_directory(c, c->inside, &directory, e) < 0 || place_open(c, &p, e) < 0)
        return -1;
    rc = directory ? directory_out(c, &p, e) : file_out(c, &p, e);
    if (rc < 0)
        path_remove(p.dir, p.scratch, NULL);
    fd_drop(p.dir);
    return rc;
}

int cmd_cp(struct cli *cli)
{
    const char *src = cli->args[0], *dst = cli->args[1];
    bool out = inside_path(src) != NULL;
    struct copy c = {.cli = cli, .inside = inside_path(out ? src : dst), .outside = out ? dst : src};
    OWN(str) char *name = NULL;
    struct vm_err e = {0};
    int rc;

    if (out == (inside_path(dst) != NULL)) {
        vm_fail(&e, VM_E_INVALID, "one of the two must be NAME:/PATH, the other a path of this host");
        return cli_fail(cli, &e);
    }
    name = strndup(out ? src : dst, (size_t)(c.inside - 1 - (out ? src : dst)));
    if (!name)
        rc = vm_no_memory(&e);
    else if ((rc = select_one(cli, name, &c.guest, &e)) == 0)
        rc = out ? copy_out(&c, &e) : copy_in(&c, &e);
    free(c.guest);
    return rc < 0 ? cli_fail(cli, &e) : EXIT_DONE;
}
