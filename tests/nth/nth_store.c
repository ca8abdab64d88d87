/* J1: the store, with SQLite's own allocations counted too. */
#include "nth.h"
#include "nth_calls.h"
#include "supervisor/store/store_private.h"

#include <fcntl.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

static const struct store_actor nobody = {.uid = 65534, .login = -1, .pid = 1};
static const struct store_deed deed = {.verb = "apply", .what = "db", .detail = "{}", .result = "ok"};
static char dir[] = "/tmp/vmsd-nth-XXXXXX", state[40];
static int dir_fd;
static sqlite3_mem_methods libc;

static void *sqlite_malloc(int n)
{
    return nth_fails() ? NULL : libc.xMalloc(n);
}

static void *sqlite_realloc(void *p, int n)
{
    return nth_fails() ? NULL : libc.xRealloc(p, n);
}

static void count_sqlite(void)
{
    sqlite3_mem_methods ours;

    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &libc);
    ours = libc;
    ours.xMalloc = sqlite_malloc;
    ours.xRealloc = sqlite_realloc;
    sqlite3_config(SQLITE_CONFIG_MALLOC, &ours);
}

/* What is in it, read by another connection with memory enough. */
static int say_guest(const struct store_guest *g, void *arg)
{
    (void)arg;
    nth_say("%u %s %s up=%d scripts=%u error=%s;", g->id, g->name, g->spec, g->up, g->scripts_done, g->error);
    return 0;
}

static int say_network(const struct store_network *n, void *arg)
{
    (void)arg;
    nth_say("%s %s;", n->name, n->spec);
    return 0;
}

static int say_nic(const struct store_nic *n, void *arg)
{
    (void)arg;
    nth_say("%u %s;", n->guest, n->address);
    return 0;
}

static void say_store(void)
{
    struct store *s = NULL;
    struct vm_err e;

    if (store_open(state, &s, &e) < 0 || store_guests(s, say_guest, NULL, &e) < 0 ||
        store_networks(s, say_network, NULL, &e) < 0 || store_nics(s, say_nic, NULL, &e) < 0)
        nth_say("lost: %s", e.text);
    store_close(s);
}

/* A store with one guest, before anything is denied. */
static struct store *begin(uint32_t *id)
{
    struct store *s = NULL;
    struct vm_err e;
    uint32_t slot;

    path_remove(dir_fd, "state", NULL);
    if (store_open(state, &s, &e) < 0 || store_put_spec(s, "db", "{\"a\":1}", "b1", id, &slot, &e) < 0) {
        fprintf(stderr, "%s\n", e.text);
        abort();
    }
    return s;
}

static int open_new(struct vm_err *e)
{
    struct store *s = NULL;
    int rc;

    path_remove(dir_fd, "state", NULL);
    rc = store_open(state, &s, e);
    nth_over();
    store_close(s);
    if (!rc)
        say_store();
    return rc;
}

static int open_again(struct vm_err *e)
{
    uint32_t id;
    struct store *s = NULL;
    int rc;

    nth_over();
    store_close(begin(&id));
    nth_again();
    rc = store_open(state, &s, e);
    nth_over();
    store_close(s);
    if (!rc)
        say_store();
    return rc;
}

/* The next write waits for the disk, whatever became of a former one that did not. */
static void say_strict(struct store *s)
{
    sqlite3_stmt *q = NULL;
    struct vm_err e;

    if (store_audit(s, &nobody, &deed, &e) < 0 || sqlite3_prepare_v2(s->db, "PRAGMA synchronous", -1, &q, NULL) ||
        sqlite3_step(q) != SQLITE_ROW || sqlite3_column_int(q, 0) != 2) {
        fputs("writes do not wait for the disk any more\n", stderr);
        abort();
    }
    sqlite3_finalize(q);
}

/* Runs one operation on a store with one guest. */
static int on_store(int (*run)(struct store *s, uint32_t id, struct vm_err *e), struct vm_err *e)
{
    struct store *s;
    uint32_t id;
    int rc;

    nth_over();
    s = begin(&id);
    nth_again();
    rc = run(s, id, e);
    nth_over();
    say_strict(s);
    store_close(s);
    if (!rc)
        say_store();
    return rc;
}

struct change {
    uint32_t id;
};

static int change(struct store *s, void *arg, struct vm_err *e)
{
    const struct change *c = arg;
    uint32_t id, slot;

    return store_put_spec(s, "new", "{}", "b2", &id, &slot, e) < 0 || store_put_wish(s, c->id, false, e) < 0 ||
           store_put_scripts(s, c->id, 2, "x\ny\n", e) < 0 || store_put_error(s, c->id, "it broke", e) < 0 ||
           store_put_network(s, "lab", "{}", e) < 0 ||
           store_put_nic(s, &(struct store_nic){c->id, 0, "lab", "10.0.0.2", NULL, "02:00:00:00:00:01"}, e) < 0 ? -1 : 0;
}

static int run_transaction(struct store *s, uint32_t id, struct vm_err *e)
{
    struct change c = {id};

    return store_transaction(s, change, &c, e);
}

static int transaction(struct vm_err *e)
{
    return on_store(run_transaction, e);
}

static int run_job(struct store *s, uint32_t id, struct vm_err *e)
{
    int64_t job;

    return store_job_begin(s, id, "db", "apply", &job, e) < 0 || store_step_begin(s, job, "start", e) < 0 ||
           store_step_end(s, job, "start", NULL, e) < 0 || store_job_end(s, job, NULL, e) < 0 ? -1 : 0;
}

static int job(struct vm_err *e)
{
    return on_store(run_job, e);
}

static int run_history(struct store *s, uint32_t id, struct vm_err *e)
{
    struct store_event events[] = {{1, 5, "{}"}, {2, 6, "{\"a\":1}"}};
    struct store_sample sample = {id, 60000, 1.5, 1 << 20, -1, 5, 6};
    struct store_script script = {0, "one.sh", "done", 0, 0, 5, 6, NULL};

    return store_put_events(s, events, 2, e) < 0 || store_put_samples(s, &sample, 1, e) < 0 ||
           store_put_script(s, id, &script, e) < 0 || store_audit(s, &nobody, &deed, e) < 0 ? -1 : 0;
}

static int history(struct vm_err *e)
{
    return on_store(run_history, e);
}

static int said(json_t *taken, struct vm_err *e)
{
    OWN(json) json_t *j = taken;
    OWN(str) char *text = j ? json_to_text(j) : NULL;

    if (j && !text)
        return vm_no_memory(e);
    if (text)
        nth_say("%zu ", json_array_size(j));
    return text ? 0 : -1;
}

static int one_more(uint32_t guest, const struct store_script *r, void *n)
{
    (void)guest;
    *(unsigned *)n += r->script && r->state;
    return 0;
}

static int run_read(struct store *s, uint32_t id, struct vm_err *e)
{
    unsigned n = 0;

    nth_over();
    if (run_job(s, id, e) < 0 || run_history(s, id, e) < 0)
        return vm_context(e, "not ready");
    nth_again();
    if (store_all_scripts(s, one_more, &n, e) < 0)
        return -1;
    nth_say("%u ", n);
    return said(store_jobs(s, 0, 10, e), e) < 0 || said(store_scripts(s, id, e), e) < 0 ||
           said(store_samples(s, id, 0, e), e) < 0 || said(store_audits(s, 0, 10, e), e) < 0 ? -1 : 0;
}

static int read_back(struct vm_err *e)
{
    return on_store(run_read, e);
}

static int run_drop(struct store *s, uint32_t id, struct vm_err *e)
{
    return store_put_removing(s, id, "data\n", e) < 0 || store_drop_nics(s, id, 0, e) < 0 ||
           store_drop_guest(s, id, e) < 0 ? -1 : 0;
}

static int drop(struct vm_err *e)
{
    return on_store(run_drop, e);
}

static int begin_alert(struct store *s, int64_t *id, struct vm_err *e)
{
    const struct store_alert alert = {.kind = "disk", .level = "warning", .guest = "db", .subject = "", .text = "full", .began_at = 1};
    OWN(strv) struct strv to = {0};

    strv_add(&to, "mail");
    return to.failed ? vm_no_memory(e) : store_put_alert(s, &alert, "firing", &to, id, e);
}

static int run_alert(struct store *s, uint32_t id, struct vm_err *e)
{
    int64_t alert;

    (void)id;
    return begin_alert(s, &alert, e) < 0 || store_put_host(s, "{}", e) < 0 || store_put_size(s, "path /", 5, 6, e) < 0 ? -1 : 0;
}

static int alert(struct vm_err *e)
{
    return on_store(run_alert, e);
}

static int see_alert(const struct store_alert *a, void *n)
{
    *(unsigned *)n += a->kind && a->level && a->guest && a->text;
    return 0;
}

static int run_tell(struct store *s, uint32_t id, struct vm_err *e)
{
    OWN(notice) struct store_notice n = {0};
    OWN(strv) struct strv none = {0};
    OWN(str) char *spec = NULL;
    unsigned open = 0;
    bool found;

    nth_over();
    if (run_alert(s, id, e) < 0)
        return vm_context(e, "not ready");
    nth_again();
    if (store_alerts_open(s, see_alert, &open, e) < 0 || store_host(s, &spec, e) < 0 ||
        store_notice_next(s, "mail", &n, &found, e) < 0)
        return -1;
    nth_say("%u %s %d %s %s ", open, spec, found, n.what, n.alert.text);
    return store_notice_try(s, n.id, 5, e) < 0 || store_notice_tried(s, n.id, "no", false, e) < 0 || store_notices_keep(s, &none, e) < 0 ? -1 :
           said(store_alerts(s, true, 10, e), e);
}

static int tell(struct vm_err *e)
{
    return on_store(run_tell, e);
}

static const struct nth_case cases[] = {
    {"store: new", open_new},
    {"store: opened again", open_again},
    {"store: transaction", transaction},
    {"store: job", job},
    {"store: history", history},
    {"store: read", read_back},
    {"store: removal", drop},
    {"store: alert", alert},
    {"store: an alert is told", tell},
};

int main(int argc, char **argv)
{
    int rc;

    count_sqlite();
    if (!mkdtemp(dir))
        return 1;
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("tmpfs", dir, "tmpfs", 0, NULL) < 0)
        puts("not root: every write waits for the disk");
    if ((dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    snprintf(state, sizeof state, "%s/state", dir);
    rc = test_J1_each_allocation_fails(argc, argv, cases, ARRAY_LEN(cases));
    path_remove(dir_fd, "state", NULL);
    close(dir_fd);
    umount2(dir, MNT_DETACH);
    rmdir(dir);
    return rc;
}
