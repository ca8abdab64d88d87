/* The store: intent survives, all or nothing, and what is damaged or newer is left untouched. */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>
#include <vmsd/store.h>
#include <vmsd/text.h>

static const struct store_actor root = {.uid = 0, .login = 1000, .pid = 1};
static char dir[64];
static struct vm_err e;

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/vmsd-store-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    e = (struct vm_err){0};
}

static void tear_down(void)
{
    char command[100];

    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static struct store *open_store(void)
{
    struct store *s = NULL;

    ck_assert_msg(store_open(dir, &s, &e) == 0, "%s", e.text);
    return s;
}

struct found {
    int n;
    struct store_guest last;
    char spec[100], name[40];
};

static int keep(const struct store_guest *g, void *arg)
{
    struct found *f = arg;

    f->n++;
    f->last = *g;
    snprintf(f->spec, sizeof f->spec, "%s", g->spec);
    snprintf(f->name, sizeof f->name, "%s", g->name);
    return 0;
}

static struct found guests(struct store *s)
{
    struct found f = {0};

    ck_assert_int_eq(store_guests(s, keep, &f, &e), 0);
    return f;
}

START_TEST(intent_outlives_the_process)
{
    struct store *s = open_store();
    uint32_t id, slot, again, slot2;

    ck_assert_int_eq(store_put_spec(s, "db", "{\"a\":1}", "b1", &id, &slot, &e), 0);
    ck_assert_int_eq(store_put_wish(s, id, false, &e), 0);
    ck_assert_int_eq(store_put_scripts(s, id, 2, "x\ny\n", &e), 0);
    store_close(s);
    s = open_store();
    struct found f = guests(s);
    ck_assert_int_eq(f.n, 1);
    ck_assert_str_eq(f.name, "db");
    ck_assert(!f.last.up);
    ck_assert_uint_eq(f.last.scripts_done, 2);
    ck_assert_int_eq(store_put_spec(s, "db", "{\"a\":2}", "b2", &again, &slot2, &e), 0);
    ck_assert_uint_eq(again, id);
    ck_assert_uint_eq(slot2, slot);
    f = guests(s);
    ck_assert_str_eq(f.spec, "{\"a\":2}");
    ck_assert_uint_eq(f.last.generation, 2);
    ck_assert(!f.last.up); /* a changed spec is no wish to run */
    store_close(s);
}
END_TEST

START_TEST(test_the_state_directory_may_be_a_link)
{
    char real[80], link[80];
    struct store *s;

    snprintf(real, sizeof real, "%s/real", dir);
    snprintf(link, sizeof link, "%s/link", dir);
    ck_assert(mkdir(real, 0700) == 0 && symlink("real", link) == 0);
    ck_assert_msg(store_open(link, &s, &e) == 0, "%s", e.text);
    store_close(s);
    snprintf(link, sizeof link, "%s/real/vmsd.db", dir);
    ck_assert_int_eq(access(link, F_OK), 0);
}
END_TEST

START_TEST(ids_are_never_given_twice_slots_are)
{
    struct store *s = open_store();
    uint32_t a, b, c, slot_a, slot_b, slot_c;

    ck_assert_int_eq(store_put_spec(s, "a", "{}", "b", &a, &slot_a, &e), 0);
    ck_assert_int_eq(store_put_spec(s, "b", "{}", "b", &b, &slot_b, &e), 0);
    ck_assert_uint_ne(slot_a, slot_b);
    ck_assert_int_eq(store_drop_guest(s, b, &e), 0);
    ck_assert_int_eq(store_drop_guest(s, a, &e), 0);
    ck_assert_int_eq(store_put_spec(s, "c", "{}", "b", &c, &slot_c, &e), 0);
    ck_assert_uint_gt(c, b);
    ck_assert_uint_eq(slot_c, 0);
    store_close(s);
}
END_TEST

static int half(struct store *s, void *arg, struct vm_err *why)
{
    uint32_t id, slot;

    (void)arg;
    if (store_put_spec(s, "one", "{}", "b", &id, &slot, why) < 0)
        return -1;
    return vm_fail(why, VM_E_CONFLICT, "changed my mind");
}

START_TEST(a_transaction_is_all_or_nothing)
{
    struct store *s = open_store();

    ck_assert_int_eq(store_transaction(s, half, NULL, &e), -1);
    ck_assert_str_eq(e.text, "changed my mind");
    ck_assert_int_eq(guests(s).n, 0);
    store_close(s);
}
END_TEST

static int count_cut(uint32_t guest, const char *step, void *arg)
{
    ck_assert_uint_eq(guest, 7);
    ck_assert_str_eq(step, "start");
    (*(int *)arg)++;
    return 0;
}

static int no_scripts(const struct store_guest *g, void *arg)
{
    (void)arg;
    ck_assert(!g->rebuilding);
    ck_assert_uint_eq(g->scripts_done, 0);
    ck_assert_str_eq(g->script_digests, "");
    ck_assert_int_eq(g->provisioned_at, 0);
    return 0;
}

/* A job that was still at work on the old root when the rebuild was written has its scripts recorded after that. */
START_TEST(test_G3_a_new_root_has_no_scripts)
{
    struct store *s = open_store();
    uint32_t id, slot;

    ck_assert_int_eq(store_put_spec(s, "db", "{}", "b", &id, &slot, &e), 0);
    ck_assert_int_eq(store_put_rebuilding(s, id, true, &e), 0);
    ck_assert_int_eq(store_put_scripts(s, id, 1, "digest\n", &e), 0);
    ck_assert_int_eq(store_put_applied(s, id, "{}", 5, true, &e), 0);
    ck_assert_int_eq(store_put_rebuilding(s, id, false, &e), 0);
    ck_assert_int_eq(store_guests(s, no_scripts, NULL, &e), 0);
    store_close(s);
}
END_TEST

START_TEST(test_G1_cut_off_jobs_are_told_once)
{
    struct store *s = open_store();
    int64_t job, done;
    int n = 0;

    ck_assert_int_eq(store_job_begin(s, 7, "db", "converge", &job, &e), 0);
    ck_assert_int_eq(store_step_begin(s, job, "image", &e), 0);
    ck_assert_int_eq(store_step_end(s, job, "image", NULL, &e), 0);
    ck_assert_int_eq(store_step_begin(s, job, "start", &e), 0);
    ck_assert_int_eq(store_job_begin(s, 8, "dns", "stop", &done, &e), 0);
    ck_assert_int_eq(store_job_end(s, done, NULL, &e), 0);
    store_close(s);
    s = open_store();
    ck_assert_int_eq(store_jobs_cut(s, count_cut, &n, &e), 0);
    ck_assert_int_eq(n, 1);
    ck_assert_int_eq(store_jobs_cut(s, count_cut, &n, &e), 0);
    ck_assert_int_eq(n, 1);
    OWN(json) json_t *jobs = store_jobs(s, job, 1, &e);
    ck_assert_str_eq(json_str(json_array_get(jobs, 0), "state", ""), "failed");
    store_close(s);
}
END_TEST

/* As vmsd 0.1.0 made it at first: what is missing is added, and nothing is lost. */
START_TEST(test_an_older_store_is_brought_up_to_date)
{
    static const char old[] = "ALTER TABLE audit DROP COLUMN login; ALTER TABLE audit DROP COLUMN detail;"
                              "INSERT INTO audit (at, uid, pid, verb, what) VALUES (5, 7, 9, 'stop', 'db'); PRAGMA user_version = 1; ALTER TABLE guest DROP COLUMN silent_until;"
                              "DROP TABLE notice; DROP TABLE alert; DROP TABLE host; DROP TABLE size";
    struct store *s = open_store();
    OWN(json) json_t *list = NULL;
    char file[100];
    sqlite3 *db;

    store_close(s);
    snprintf(file, sizeof file, "%s/vmsd.db", dir);
    ck_assert_int_eq(sqlite3_open(file, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, old, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    for (int i = 0; i < 2; i++) { /* and once only */
        s = open_store();
        ck_assert_int_eq(store_audit(s, &root, &(struct store_deed){.verb = "start", .what = "db"}, &e), 0);
        json_decref(list);
        list = store_audits(s, 0, 100, &e);
        store_close(s);
    }
    ck_assert_uint_eq(json_array_size(list), 3);
    ck_assert_str_eq(json_str(json_array_get(list, 0), "verb", ""), "stop");
    ck_assert(json_is_null(json_object_get(json_array_get(list, 0), "login")));
    ck_assert_int_eq(json_int(json_array_get(list, 1), "login", 0), 1000);
}
END_TEST

/* What an upgrade makes is what a new store has. */
START_TEST(test_an_upgraded_store_is_like_a_new_one)
{
    static const char old[] = "DROP TABLE notice; DROP TABLE alert; DROP TABLE host; DROP TABLE size;"
                              "ALTER TABLE guest DROP COLUMN silent_until; PRAGMA user_version = 2",
                      all[] = "SELECT group_concat(sql, ';') FROM (SELECT sql FROM sqlite_schema ORDER BY name)";
    char file[100], *tables[2];
    sqlite3 *db;

    snprintf(file, sizeof file, "%s/vmsd.db", dir);
    for (int i = 0; i < 2; i++) {
        sqlite3_stmt *q;

        store_close(open_store());
        ck_assert_int_eq(sqlite3_open(file, &db), SQLITE_OK);
        ck_assert_int_eq(sqlite3_prepare_v2(db, all, -1, &q, NULL), SQLITE_OK);
        ck_assert_int_eq(sqlite3_step(q), SQLITE_ROW);
        tables[i] = strdup((const char *)sqlite3_column_text(q, 0));
        sqlite3_finalize(q);
        ck_assert_int_eq(sqlite3_exec(db, i ? "" : old, NULL, NULL, NULL), SQLITE_OK);
        sqlite3_close(db);
    }
    ck_assert_ptr_nonnull(strstr(tables[0], "CREATE TABLE alert"));
    ck_assert_str_eq(tables[0], tables[1]);
    free(tables[0]);
    free(tables[1]);
}
END_TEST

static int64_t put_alert(struct store *s, int64_t id, const char *what, int64_t ended_at)
{
    struct store_alert a = {.id = id, .kind = "disk", .level = "warning", .guest = id == 2 ? NULL : "db", .subject = "",
                            .text = what, .began_at = 1000, .told_at = 2000, .ended_at = ended_at};
    OWN(strv) struct strv to = {0};
    int64_t out;

    strv_add(&to, "mail");
    strv_add(&to, "page");
    ck_assert_msg(store_put_alert(s, &a, what, &to, &out, &e) == 0, "%s", e.text);
    return out;
}

/* The next thing that `channel` has to tell is that, of that alert; NULL: nothing. */
static int64_t next_is(struct store *s, const char *channel, int64_t alert, const char *what)
{
    OWN(notice) struct store_notice n = {0};
    bool found;

    ck_assert_int_eq(store_notice_next(s, channel, &n, &found, &e), 0);
    ck_assert_int_eq(found, what != NULL);
    if (found)
        ck_assert_str_eq(n.what, what);
    if (found)
        ck_assert_int_eq(n.alert.id, alert);
    return found ? n.id : 0;
}

static int count_open(const struct store_alert *a, void *arg)
{
    ck_assert_int_eq(a->told_at, 2000);
    ++*(int *)arg;
    return 0;
}

START_TEST(test_alerts_are_told_in_order_and_kept)
{
    struct store *s = open_store();
    int64_t now = 100000, id;
    int open = 0;

    next_is(s, "mail", 0, NULL);
    ck_assert_int_eq(put_alert(s, 0, "firing", 0), 1);
    ck_assert_int_eq(put_alert(s, 1, "recovered", 3000), 1);
    ck_assert_int_eq(put_alert(s, 0, "firing", 0), 2);
    id = next_is(s, "mail", 1, "firing");
    ck_assert_int_eq(store_notice_try(s, id, INT64_MAX, &e), 0);
    ck_assert_int_eq(store_notice_tried(s, id, "no route", false, &e), 0);
    next_is(s, "mail", 2, "firing"); /* another alert does not wait for it, but what became of it does */
    next_is(s, "page", 1, "firing");
    store_close(s);
    s = open_store();
    ck_assert_int_eq(store_notice_try(s, id, now, &e), 0);
    ck_assert_int_eq(next_is(s, "mail", 1, "firing"), id);
    ck_assert_int_eq(store_notice_tried(s, id, NULL, true, &e), 0);
    id = next_is(s, "mail", 1, "recovered");
    ck_assert_int_eq(store_notice_tried(s, id, "given up", true, &e), 0);
    next_is(s, "mail", 2, "firing");
    ck_assert_int_eq(store_alerts_open(s, count_open, &open, &e), 0);
    ck_assert_int_eq(open, 1);

    OWN(json) json_t *now_open = store_alerts(s, false, 10, &e), *all = store_alerts(s, true, 10, &e);
    json_t *first = json_array_get(all, 1), *notices = json_object_get(first, "notices");
    ck_assert_uint_eq(json_array_size(now_open), 1);
    ck_assert_uint_eq(json_array_size(all), 2);
    ck_assert_str_eq(json_str(first, "ended_at", ""), "1970-01-01T00:00:03.000Z");
    ck_assert_uint_eq(json_array_size(notices), 4);
    ck_assert_int_eq(json_int(json_array_get(notices, 0), "tries", 0), 2);
    ck_assert(json_is_null(json_object_get(json_array_get(notices, 0), "error")));
    ck_assert_str_eq(json_str(json_array_get(notices, 2), "error", ""), "given up");

    OWN(strv) struct strv left = {0};
    strv_add(&left, "mail");
    ck_assert_int_eq(store_notices_keep(s, &left, &e), 0);
    next_is(s, "page", 0, NULL);
    next_is(s, "mail", 2, "firing");
    store_close(s);
}
END_TEST

START_TEST(test_the_host_and_sizes_are_kept)
{
    struct store *s = open_store();
    char *spec = NULL;
    int64_t bytes;

    ck_assert_int_eq(store_host(s, &spec, &e), 0);
    ck_assert_ptr_null(spec);
    ck_assert_int_eq(store_put_host(s, "{}", &e), 0);
    ck_assert_int_eq(store_put_host(s, "{\"a\":1}", &e), 0);
    ck_assert_int_eq(store_host(s, &spec, &e), 0);
    ck_assert_str_eq(spec, "{\"a\":1}");
    free(spec);
    ck_assert_int_eq(store_put_host(s, NULL, &e), 0);
    ck_assert_int_eq(store_host(s, &spec, &e), 0);
    ck_assert_ptr_null(spec);
    for (int64_t at = 0; at < 3 * 86400000LL; at += 3600000)
        ck_assert_int_eq(store_put_size(s, "path /", at, at, &e), 0);
    ck_assert_int_eq(store_size_since(s, "path /", 2 * 86400000LL, &bytes, &e), 0);
    ck_assert_int_eq(bytes, 2 * 86400000LL);
    ck_assert_int_eq(store_size_since(s, "path /", 0, &bytes, &e), 0);
    ck_assert_int_eq(bytes, 71 * 3600000LL - 2 * 86400000LL); /* older ones are gone */
    ck_assert_int_eq(store_size_since(s, "path /srv", 0, &bytes, &e), 0);
    ck_assert_int_eq(bytes, -1);
    store_close(s);
}
END_TEST

START_TEST(test_the_audit_is_read_in_parts)
{
    struct store *s = open_store();
    OWN(json) json_t *last = NULL, *after = NULL;

    for (int i = 1; i <= 5; i++)
        ck_assert_int_eq(store_audit(s, &root, &(struct store_deed){.verb = "apply", .what = "x", .detail = "{\"commit\":\"ab\"}",
                                                                  .result = i == 5 ? "why" : NULL}, &e), 0);
    last = store_audits(s, 0, 2, &e);
    after = store_audits(s, 4, 100, &e);
    store_close(s);
    ck_assert_uint_eq(json_array_size(last), 2);
    ck_assert_int_eq(json_int(json_array_get(last, 0), "id", 0), 4);
    ck_assert_uint_eq(json_array_size(after), 1);
    ck_assert_str_eq(json_str(json_array_get(after, 0), "result", ""), "why");
    ck_assert_str_eq(json_str(json_object_get(json_array_get(after, 0), "detail"), "commit", ""), "ab");
}
END_TEST

START_TEST(test_G7_a_newer_store_is_left_untouched)
{
    char file[100], sql[] = "PRAGMA user_version = 99";
    struct store *s = open_store();
    sqlite3 *db;
    struct stat a, b;

    store_close(s);
    snprintf(file, sizeof file, "%s/vmsd.db", dir);
    ck_assert_int_eq(sqlite3_open(file, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    ck_assert_int_eq(stat(file, &a), 0);
    s = NULL;
    ck_assert_int_eq(store_open(dir, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_CONFLICT);
    ck_assert_ptr_nonnull(strstr(e.text, "newer vmsd"));
    ck_assert_int_eq(stat(file, &b), 0);
    ck_assert_int_eq(a.st_size, b.st_size);
    ck_assert_int_eq(a.st_mtim.tv_nsec, b.st_mtim.tv_nsec);
}
END_TEST

START_TEST(test_G10_rubbish_is_told_and_left_alone)
{
    char file[100];
    struct store *s = NULL;
    struct stat st;
    int fd;

    snprintf(file, sizeof file, "%s/vmsd.db", dir);
    fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(write(fd, "this is no database ", 20), 20);
    close(fd);
    ck_assert_int_eq(store_open(dir, &s, &e), -1);
    ck_assert_int_eq(e.code, VM_E_BACKEND);
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_int_eq(st.st_size, 20000);
}
END_TEST

START_TEST(test_A8_nobody_else_reads_it)
{
    char file[100];
    struct stat st;

    umask(0);
    store_close(open_store());
    snprintf(file, sizeof file, "%s/vmsd.db", dir);
    ck_assert_int_eq(stat(file, &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(test_G3_kill_loses_nothing_that_was_told)
{
    for (int round = 0; round < 20; round++) {
        int line[2], told = 0, got;
        pid_t pid;

        ck_assert_int_eq(pipe(line), 0);
        if ((pid = fork()) == 0) {
            struct store *s = open_store();
            uint32_t id, slot;

            for (int i = 0;; i++) {
                char name[40];

                snprintf(name, sizeof name, "g%d-%d", round, i);
                if (store_put_spec(s, name, "{}", "b", &id, &slot, &e) < 0 || write(line[1], &i, sizeof i) < 0)
                    _exit(1);
            }
        }
        close(line[1]);
        for (int i = 0; i < 1 + round % 5; i++)
            ck_assert_int_eq(read(line[0], &told, sizeof told), sizeof told);
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(line[0], &got, sizeof got) == sizeof got)
            told = got;
        close(line[0]);
        struct store *s = open_store();
        char name[40];
        uint32_t id, slot, before = (uint32_t)guests(s).n;
        snprintf(name, sizeof name, "g%d-%d", round, told);
        ck_assert_int_eq(store_put_spec(s, name, "{}", "b", &id, &slot, &e), 0);
        ck_assert_uint_eq((uint32_t)guests(s).n, before); /* it was there already */
        store_close(s);
    }
}
END_TEST

/* A bit for each that is as it was put. */
static int meet_script(uint32_t guest, const struct store_script *r, void *met)
{
    ck_assert_uint_ne(guest, 0);
    if (r->index == 1) {
        ck_assert_str_eq(r->script, "b.sh");
        ck_assert_str_eq(r->error, "why");
        ck_assert(r->exit_code == 3 && r->signal == 9 && r->started_at == 60000 && r->duration_ms == 1500);
    }
    ck_assert_str_eq(r->state, r->index ? "failed" : "done");
    *(unsigned *)met |= 1u << r->index;
    return 0;
}

START_TEST(history)
{
    struct store *s = open_store();
    uint32_t id, slot;
    int64_t last = 0;

    ck_assert_int_eq(store_put_spec(s, "db", "{}", "b", &id, &slot, &e), 0);
    struct store_sample v[] = {{id, 60000, 12.5, 1, 2, 3, 4}, {id + 9, 60000, 1, 1, 1, 1, 1}, {id, 120000, NAN, -1, 2, 3, 4}};
    ck_assert_msg(store_put_samples(s, v, 3, &e) == 0, "%s", e.text); /* one guest of them is gone already */
    OWN(json) json_t *samples = store_samples(s, id, 0, &e);
    ck_assert_uint_eq(json_array_size(samples), 2);
    ck_assert(json_is_null(json_object_get(json_array_get(samples, 1), "memory_bytes")));
    struct store_event ev[] = {{1001, 5, "{\"a\":1}"}, {1002, 6, "{}"}};
    ck_assert_int_eq(store_put_events(s, ev, 2, &e), 0);
    ck_assert_int_eq(store_event_last(s, &last, &e), 0);
    ck_assert_int_eq(last, 1002);
    ck_assert_int_eq(store_put_script(s, id, &(struct store_script){.index = 0, .script = "a.sh", .state = "done"}, &e), 0);
    OWN(json) json_t *scripts = store_scripts(s, id, &e);
    ck_assert_int_eq(json_int(json_array_get(scripts, 0), "index", 0), 1);
    ck_assert_int_eq(store_put_script(s, id, &(struct store_script){1, "b.sh", "failed", 3, 9, 60000, 1500, "why"}, &e), 0);
    unsigned met = 0;
    ck_assert_int_eq(store_all_scripts(s, meet_script, &met, &e), 0);
    ck_assert_uint_eq(met, 1u << 0 | 1u << 1);
    ck_assert_int_eq(store_audit(s, &root, &(struct store_deed){.verb = "apply", .what = "x", .detail = "{\"commit\":\"ab\"}"}, &e), 0);
    ck_assert_int_eq(store_drop_guest(s, id, &e), 0);
    json_decref(samples);
    samples = store_samples(s, id, 0, &e);
    ck_assert_uint_eq(json_array_size(samples), 0);
    store_close(s);
}
END_TEST

/* The first number of the answer, or 0. */
static int64_t ask(const char *sql)
{
    char path[160];
    sqlite3_stmt *q;
    sqlite3 *db;
    int64_t n;

    snprintf(path, sizeof path, "%s/vmsd.db", dir);
    ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
    ck_assert_int_eq(sqlite3_prepare_v2(db, sql, -1, &q, NULL), SQLITE_OK);
    n = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_finalize(q);
    ck_assert_int_eq(sqlite3_close(db), SQLITE_OK);
    return n;
}

/* One row of each. */
static void tell(struct store *s, uint32_t guest, int64_t event)
{
    int64_t job;

    ck_assert_int_eq(store_audit(s, &root, &(struct store_deed){.verb = "start", .what = "db"}, &e), 0);
    ck_assert_int_eq(store_job_begin(s, guest, "db", "start", &job, &e), 0);
    ck_assert_int_eq(store_step_begin(s, job, "start", &e), 0);
    ck_assert_int_eq(store_job_end(s, job, NULL, &e), 0);
    ck_assert_int_eq(store_put_events(s, &(struct store_event){event, 5, "{}"}, 1, &e), 0);
}

/* What is told each time that somebody asks, or a guest ends, takes no more than so much room. */
START_TEST(test_P2_history_is_bounded)
{
    struct store *s = open_store();
    uint32_t id, slot;

    ck_assert_int_eq(store_put_spec(s, "db", "{}", "b", &id, &slot, &e), 0);
    tell(s, id, 1);
    tell(s, id, 20001);
    put_alert(s, 0, "firing", 0);
    store_close(s);
    ck_assert_int_eq(ask("SELECT count(*) FROM audit"), 2);
    ck_assert_int_eq(ask("SELECT count(*) FROM job"), 2);
    ck_assert_int_eq(ask("SELECT min(id) FROM event"), 20001);
    ask("UPDATE sqlite_sequence SET seq = 100499 WHERE name = 'audit'"); /* as if so many had been told since */
    ask("UPDATE sqlite_sequence SET seq = 2499 WHERE name = 'job'");
    ask("UPDATE sqlite_sequence SET seq = 50499 WHERE name = 'notice'"); /* each alert takes two */
    s = open_store();
    tell(s, id, 20002);
    put_alert(s, 0, "firing", 0);
    store_close(s);
    ck_assert_int_eq(ask("SELECT min(id) FROM audit"), 100500);
    ck_assert_int_eq(ask("SELECT min(id) FROM job"), 2500);
    ck_assert_int_eq(ask("SELECT min(id) FROM notice"), 50500);
    ck_assert_int_eq(ask("SELECT count(*) FROM step"), 1);
    ck_assert_int_eq(ask("SELECT count(*) FROM event"), 2);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("store");
    TCase *t = tcase_create("store");
    SRunner *r;
    int failed;

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, intent_outlives_the_process);
    tcase_add_test(t, test_the_state_directory_may_be_a_link);
    tcase_add_test(t, ids_are_never_given_twice_slots_are);
    tcase_add_test(t, a_transaction_is_all_or_nothing);
    tcase_add_test(t, test_G1_cut_off_jobs_are_told_once);
    tcase_add_test(t, test_G3_a_new_root_has_no_scripts);
    tcase_add_test(t, test_an_older_store_is_brought_up_to_date);
    tcase_add_test(t, test_an_upgraded_store_is_like_a_new_one);
    tcase_add_test(t, test_alerts_are_told_in_order_and_kept);
    tcase_add_test(t, test_the_host_and_sizes_are_kept);
    tcase_add_test(t, test_the_audit_is_read_in_parts);
    tcase_add_test(t, test_G7_a_newer_store_is_left_untouched);
    tcase_add_test(t, test_G10_rubbish_is_told_and_left_alone);
    tcase_add_test(t, test_A8_nobody_else_reads_it);
    tcase_add_test(t, test_G3_kill_loses_nothing_that_was_told);
    tcase_add_test(t, history);
    tcase_add_test(t, test_P2_history_is_bounded);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
