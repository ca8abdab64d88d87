/* Who may, what somebody who only reads is shown, and who did what. */
#include "api.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>
#include <vmsd/path.h>

enum { GROUPS_FRESH_MS = 5000, GROUP_BYTES = 64 << 10 };

/* The groups may come from a directory server: who connects is judged by what a worker found last. */
struct access_groups {
    struct world *w;
    gid_t write, read;   /* (gid_t)-1: no such group */
    int64_t looked_at;
    bool looking;
};

static gid_t group_id(const char *name, gid_t was)
{
    OWN(str) char *buf = malloc(GROUP_BYTES);
    struct group g, *found = NULL;
    int rc = buf ? getgrnam_r(name, &g, buf, GROUP_BYTES, &found) : ENOMEM;

    if (rc && rc != ENOENT)
        return was; /* nobody knows: as before */
    return found ? found->gr_gid : (gid_t)-1;
}

static void groups_look(void *arg)
{
    struct access_groups *a = arg;

    a->write = group_id("vmsd", a->write);
    a->read = group_id("vmsd-read", a->read);
}

static void groups_looked(void *arg, bool cancelled)
{
    struct access_groups *found = arg, *a = found->w->access;

    a->looking = false;
    if (!cancelled) {
        a->write = found->write;
        a->read = found->read;
        a->looked_at = now_ms();
    }
    free(found);
}

static void groups_refresh(struct access_groups *a)
{
    struct access_groups *copy;

    if (a->looking || now_ms() - a->looked_at < GROUPS_FRESH_MS || !(copy = malloc(sizeof *copy)))
        return;
    *copy = *a;
    a->looking = true;
    if (loop_work(a->w->loop, (struct loop_job){groups_look, groups_looked, copy}, NULL) < 0)
        groups_looked(copy, true);
}

int access_open(struct world *w, struct vm_err *e)
{
    struct access_groups *a = calloc(1, sizeof *a);

    if (!a)
        return vm_no_memory(e);
    *a = (struct access_groups){.w = w, .write = (gid_t)-1, .read = (gid_t)-1};
    groups_look(a);
    a->looked_at = now_ms();
    w->access = a;
    return 0;
}

static bool is_member(const struct http_peer *p, const gid_t *groups, size_t n, gid_t gid)
{
    bool is = p->gid == gid;

    for (size_t i = 0; i < n; i++)
        is |= groups[i] == gid;
    return is && gid != (gid_t)-1;
}

enum http_role access_role(const struct http_peer *p, const gid_t *groups, size_t n, void *arg)
{
    const struct world *w = arg;
    struct access_groups *a = w->access;

    groups_refresh(a);
    if (p->uid == 0 || is_member(p, groups, n, a->write))
        return ROLE_WRITE;
    return is_member(p, groups, n, a->read) ? ROLE_READ : ROLE_NONE;
}

static void hide_values(json_t *env)
{
    const char *key;
    json_t *v;

    json_object_foreach (env, key, v)
        json_object_set(env, key, json_null());
}

json_t *access_spec(const struct http_request *r, json_t *spec)
{
    json_t *shown, *script;
    size_t i;

    if (http_peer(r)->role == ROLE_WRITE)
        return json_incref(spec);
    if (!(shown = json_deep_copy(spec)))
        return NULL;
    hide_values(json_object_get(shown, "env"));
    json_array_foreach (json_object_get(shown, "install"), i, script)
        hide_values(json_object_get(script, "env"));
    return shown;
}

/* The kernel keeps it over su and sudo; 4294967295 where nobody logged in. */
static int64_t login_of(pid_t pid)
{
    OWN(str) char *path = text_format("/proc/%d/loginuid", (int)pid);
    OWN(fd) int fd = path ? path_open_host(path, O_RDONLY, NULL) : -1;
    char text[16] = "";
    uint64_t uid;

    if (fd < 0 || read(fd, text, sizeof text - 1) <= 0 || !text_to_u64(text, &uid) || uid == UINT32_MAX)
        return -1;
    return (int64_t)uid;
}

struct store_actor access_actor(const struct http_request *r)
{
    const struct http_peer *p = http_peer(r);

    return (struct store_actor){.uid = p->uid, .login = login_of(p->pid), .pid = p->pid};
}

struct record {
    struct store *store;
    struct store_actor by;
    const char *verb;
    char *what;
    struct vm_err err;
};

static void record_run(void *arg)
{
    struct record *x = arg;

    if (store_audit(x->store, &x->by, &(struct store_deed){.verb = x->verb, .what = x->what}, &x->err) < 0)
        log_warn(NULL, "audit of '%s %s' by uid %lld: %s, continuing", x->verb, x->what, (long long)x->by.uid, x->err.text);
}

static void record_done(void *arg, bool cancelled)
{
    struct record *x = arg;

    if (cancelled) /* vmsd ends, or no thread is to be had: written all the same, the next start may be far */
        record_run(x);
    free(x->what);
    free(x);
}

void access_record(struct world *w, const struct http_request *r, const char *verb, const char *what)
{
    struct record *x = calloc(1, sizeof *x);

    if (!x)
        return;
    *x = (struct record){.store = w->store, .by = access_actor(r), .verb = verb};
    guest_set_text(&x->what, what);
    if (loop_work(w->loop, (struct loop_job){record_run, record_done, x}, NULL) < 0)
        record_done(x, true);
}
