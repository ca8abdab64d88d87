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
    bool archive, std;            /* owners are kept; outside is "-" */
    char *owner, *chown;          /* in the guest, as vmsd and as chown take it; NULL: root */
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
    struct text said;      /* what it wrote to standard output, bounded, unless that goes to … */
    int fd;                /* -1: nowhere */
};

static void output_done(struct output o)
{
    text_done(o.complaint);
    text_done(o.said);
}
OWN_DEFINE(output, struct output, output_done)

static int on_output(enum frame_channel channel, const void *p, size_t n, void *arg, struct vm_err *e)
{
    struct output *o = arg;
    struct text *t = channel == CHANNEL_STDERR ? &o->complaint : &o->said;

    if (channel != CHANNEL_STDERR && o->fd >= 0)
        return path_write_all(o->fd, p, n, e);
    if (t->len + n < sizeof e->text)
        text_add_bytes(t, p, n);
    return 0;
}

/* A command of the guest that reads from in; it must end well unless status is asked for. */
static int inside_with(struct copy *c, const char *const *argv, int in, struct output *o, int *status, struct vm_err *e)
{
    OWN(json) json_t *request = session_request(argv);
    struct session_io io = {.in = in, .out = on_output, .arg = o};
    int ended = 0;

    if (!request)
        return vm_fail(e, VM_E_INVALID, "%s: a path in a guest must be UTF-8", c->inside);
    if (session_run(&c->cli->client, c->guest, request, &io, &ended, e) < 0)
        return -1;
    if (status)
        *status = ended;
    else if (ended)
        return vm_fail(e, VM_E_BACKEND, "%s:%s: %s ended with status %d%s%.*s", c->guest, c->inside, argv[0], ended,
                       o->complaint.len ? ": " : "", (int)strcspn(o->complaint.s ? o->complaint.s : "", "\n"),
                       o->complaint.s ? o->complaint.s : "");
    return 0;
}

static int inside(struct copy *c, const char *const *argv, int in, int out, int *status, struct vm_err *e)
{
    OWN(output) struct output o = {.fd = out};

    return inside_with(c, argv, in, &o, status, e);
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

/* What the guest says about the source: text from an enemy, taken only when it is three numbers. Where it says nothing the
 * copy is as any new file; that there is none will be told when it is asked for. */
static int inside_source(struct copy *c, struct stat *st, struct vm_err *e)
{
    const char *argv[] = {"stat", "-L", "-c", "%f %u %g", "--", c->inside, NULL};
    OWN(output) struct output o = {.fd = -1};
    int status = 0;
    bool directory;
    unsigned mode;

    *st = (struct stat){.st_mode = S_IFREG | 0666};
    if (inside_with(c, argv, -1, &o, &status, e) < 0)
        return -1;
    if (status == 0 && o.said.s && sscanf(o.said.s, "%x %u %u", &mode, &st->st_uid, &st->st_gid) == 3) {
        st->st_mode = mode;
        return 0;
    }
    if (c->archive)
        return vm_fail(e, VM_E_BACKEND, "%s:%s: the guest does not say whose it is; leave out -a", c->guest, c->inside);
    if (inside_is_directory(c, c->inside, &directory, e) < 0)
        return -1;
    if (directory)
        st->st_mode = S_IFDIR | 0777;
    return 0;
}

/* --owner as numbers, which only the guest knows. */
static int inside_owner(struct copy *c, struct tar_owner *owner, struct vm_err *e)
{
    static const char script[] =
        "f=$(mktemp) && chown -- \"$1\" \"$f\" && stat -c '%u %g' \"$f\"; s=$?; rm -f \"$f\"; exit $s";
    const char *argv[] = {"/bin/sh", "-c", script, "sh", c->chown, NULL};
    OWN(output) struct output o = {.fd = -1};

    if (inside_with(c, argv, -1, &o, NULL, e) < 0)
        return -1;
    if (!o.said.s || sscanf(o.said.s, "%u %u", &owner->uid, &owner->gid) != 2)
        return vm_fail(e, VM_E_BACKEND, "%s: the guest does not say who '%.60s' is; give --owner as numbers", c->guest, c->owner);
    return 0;
}

/* path, or path/NAME where path is a directory. Yours. */
static int inside_target(struct copy *c, char **out, struct vm_err *e)
{
    const char *name = last_part(c->outside);
    bool slash = c->inside[strlen(c->inside) - 1] == '/', directory = slash;

    if (!slash && inside_is_directory(c, c->inside, &directory, e) < 0)
        return -1;
    if (directory && c->std)
        return vm_fail(e, VM_E_INVALID, "%s:%s is a directory; name the file that it is to be", c->guest, c->inside);
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
    if (mode && c->owner)
        client_query(&t, "owner", c->owner);
    return text_take(&t);
}

/* What the API does not carry in one piece goes through a shell of the guest, by a scratch file as well. */
static int large_file_in(struct copy *c, int fd, const char *octal, const char *target, struct vm_err *e)
{
    static const char script[] = "umask 077; t=$1.vmctl; trap 'rm -f \"$t\"' EXIT; trap 'exit 1' HUP INT TERM; cat >\"$t\" &&"
                                 " { [ -z \"$3\" ] || chown -- \"$3\" \"$t\"; } && chmod \"$2\" \"$t\" && mv -f \"$t\" \"$1\"";
    const char *argv[] = {"/bin/sh", "-c", script, "sh", target, octal, c->chown ? c->chown : "", NULL};

    return inside(c, argv, fd, -1, NULL, e);
}

static int file_in(struct copy *c, int fd, const struct stat *st, const char *target, struct vm_err *e)
{
    char octal[8];
    OWN(str) char *path = NULL;
    struct transfer t = {.method = "PUT", .body_fd = fd, .has_body_fd = true};

    snprintf(octal, sizeof octal, "%04o", c->std ? 0644 : (unsigned)st->st_mode & 0777);
    if (!S_ISREG(st->st_mode) || st->st_size > FILES_MAX) /* how long a pipe's content is, only its end tells */
        return large_file_in(c, fd, octal, target, e);
    if (!(path = files_path(c, target, octal)))
        return vm_no_memory(e);
    t.path = path;
    return client_stream(&c->cli->client, &t, e);
}

static int directory_in(struct copy *c, int fd, const char *target, struct vm_err *e)
{
    static const char script[] =
        "[ -d \"$1\" ] || [ ! -e \"$1\" ] || { echo 'it is there and no directory' >&2; exit 1; }; "
        "mkdir -p -- \"$1\" && cd -- \"$1\" && exec tar -xf -";
    const char *argv[] = {"/bin/sh", "-c", script, "sh", target, NULL};
    OWN(fd) int from = -1;
    struct tar_owner owner = {0};
    pid_t pid;
    int rc;

    if (c->chown && !c->archive && inside_owner(c, &owner, e) < 0)
        return -1;
    if (tar_pack(fd, c->archive ? NULL : &owner, &from, &pid, e) < 0)
        return -1;
    rc = inside(c, argv, from, -1, NULL, e);
    from = fd_drop(from); /* so that a tar that is not read to its end ends as well */
    return tar_wait(pid, rc < 0 ? NULL : e) < 0 ? -1 : rc;
}

static int copy_in(struct copy *c, struct vm_err *e)
{
    OWN(fd) int fd = c->std ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0) : open(c->outside, O_RDONLY | O_CLOEXEC);
    OWN(str) char *target = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0)
        return vm_fail_sys(e, "open '%s'", c->outside);
    if (c->archive && !S_ISDIR(st.st_mode)) {
        c->owner = text_format("%u:%u", st.st_uid, st.st_gid);
        c->chown = text_format("%u:%u", st.st_uid, st.st_gid);
        if (!c->owner || !c->chown)
            return vm_no_memory(e);
    }
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
        return vm_fail(e, VM_E_INVALID, "'%s' gives the copy no name; name the file that it is to be", c->outside);
    p->name = name;
    p->dir = open(*parent ? parent : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return p->dir < 0 ? vm_fail_sys(e, "open directory '%s'", parent) : 0;
}

static int content_out(struct copy *c, int fd, struct vm_err *e)
{
    const char *cat[] = {"cat", "--", c->inside, NULL};
    OWN(str) char *path = files_path(c, c->inside, NULL);
    struct transfer t = {.method = "GET", .path = path, .sink = stream_fd_sink, .arg = &fd};

    if (!path)
        return vm_no_memory(e);
    if (client_stream(&c->cli->client, &t, e) == 0)
        return 0;
    return e->code == VM_E_TOO_LARGE ? inside(c, cat, -1, fd, NULL, e) : -1;
}

static int file_out(struct copy *c, const struct place *p, const struct stat *st, struct vm_err *e)
{
    OWN(fd) int fd = -1;
    struct stat was;

    if (fstatat(p->dir, p->name, &was, 0) == 0 && !S_ISREG(was.st_mode)) /* /dev/null, say, is not to become a file */
        return vm_fail(e, VM_E_INVALID, "'%s' is there and no file; '-' gives the content to standard output", c->outside);
    if ((fd = openat(p->dir, p->scratch, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0777)) < 0)
        return vm_fail_sys(e, "write beside '%s'", p->name);
    if (content_out(c, fd, e) < 0)
        return -1;
    if (c->archive && fchown(fd, st->st_uid, st->st_gid) < 0)
        return vm_fail_sys(e, "give '%s' to its owner", p->name);
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
        tar_unpack(fd, c->archive, &to, &pid, e) < 0)
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
    struct stat st;
    int rc;

    if (inside_source(c, &st, e) < 0)
        return -1;
    if (c->std && S_ISDIR(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "%s:%s is a directory; vmctl exec %s -- tar -C %s -cf - . gives it as a tar",
                       c->guest, c->inside, c->guest, c->inside);
    if (c->std)
        return content_out(c, STDOUT_FILENO, e);
    if (place_open(c, &p, e) < 0)
        return -1;
    rc = S_ISDIR(st.st_mode) ? directory_out(c, &p, e) : file_out(c, &p, &st, e);
    if (rc < 0)
        path_remove(p.dir, p.scratch, NULL);
    fd_drop(p.dir);
    return rc;
}

/* Without a group it is the user's own, which chown wants a colon for. */
static int choose_owner(struct copy *c, bool out, struct vm_err *e)
{
    const char *owner = cli_value(c->cli, OPT_OWNER);
    uint64_t id;

    c->archive = cli_has(c->cli, OPT_ARCHIVE);
    if (owner && (out || c->archive))
        return vm_fail(e, VM_E_INVALID, "--owner says whose a copy in a guest is; %s",
                       out ? "out of it -a keeps owners" : "-a keeps the owners as they are: give one of them");
    if (c->archive && c->std)
        return vm_fail(e, VM_E_INVALID, "-a wants a file or a directory; '-' has no owner");
    if (c->archive && out && geteuid() != 0)
        return vm_fail(e, VM_E_DENIED, "-a gives files to their owners, which only root may; leave it out");
    if (!owner)
        return 0;
    c->owner = strdup(owner);
    c->chown = text_format("%s%s", owner, strchr(owner, ':') || text_to_u64(owner, &id) ? "" : ":");
    return c->owner && c->chown ? 0 : vm_no_memory(e);
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
    c.std = !strcmp(c.outside, "-");
    name = strndup(out ? src : dst, (size_t)(c.inside - 1 - (out ? src : dst)));
    if (!name)
        rc = vm_no_memory(&e);
    else if ((rc = choose_owner(&c, out, &e)) == 0 && (rc = select_one(cli, name, &c.guest, &e)) == 0)
        rc = out ? copy_out(&c, &e) : copy_in(&c, &e);
    free(c.guest);
    free(c.owner);
    free(c.chown);
    if (rc < 0 && c.std && e.sys == EPIPE)
        return EXIT_PIPE;
    return rc < 0 ? cli_fail(cli, &e) : EXIT_DONE;
}
