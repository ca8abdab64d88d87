/* Jobs, scripts, events, samples, audit: what happened. */
#include "store_private.h"

#include <math.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/json.h>

int store_job_begin(struct store *s, uint32_t guest, const char *name, const char *verb, int64_t *job, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_JOB_BEGIN, "issi", (int64_t)guest, name, verb, wall_ms());
    int rc = store_step(s, q);

    *job = sqlite3_last_insert_rowid(s->db);
    if (store_done(s, q, rc, e) < 0)
        return -1;
    return *job % 500 ? 0 : STORE_RUN(s, Q_JOBS_PRUNE, e, "i", *job);
}

int store_job_end(struct store *s, int64_t job, const char *error, struct vm_err *e)
{
    return STORE_RUN(s, Q_JOB_END, e, "iis", job, wall_ms(), error);
}

int store_step_begin(struct store *s, int64_t job, const char *step, struct vm_err *e)
{
    return STORE_RUN_UNSYNCED(s, Q_STEP_BEGIN, e, "isi", job, step, wall_ms());
}

int store_step_end(struct store *s, int64_t job, const char *step, const char *error, struct vm_err *e)
{
    return STORE_RUN_UNSYNCED(s, Q_STEP_END, e, "isis", job, step, wall_ms(), error);
}

int store_jobs_cut(struct store *s, int (*each)(uint32_t guest, const char *step, void *arg), void *arg, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_JOBS_CUT, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        /* A restart that was written, and not yet begun, is cut off in what would be its first step. */
        const char *step = sqlite3_column_int(q, 2) ? "stop" : store_text(q, 1);

        if (store_lost(s, &rc) || each((uint32_t)sqlite3_column_int64(q, 0), step, arg) < 0)
            break;
    }
    if (store_done(s, q, rc, e) < 0)
        return -1;
    return STORE_RUN(s, Q_JOBS_CUT_END, e, "i", wall_ms());
}

static void put_time(json_t *j, const char *key, sqlite3_stmt *q, int column)
{
    char text[CLOCK_TEXT];
    int64_t at = sqlite3_column_int64(q, column);

    json_put_str(j, key, at ? wall_text(at, text) : NULL);
}

/* rows is taken. */
static json_t *handed_over(json_t *rows, int rc, struct vm_err *e)
{
    if (json_lost() && rc == 0)
        rc = vm_no_memory(e);
    if (rc == 0)
        return rows;
    json_decref(rows);
    return NULL;
}

json_t *store_jobs(struct store *s, int64_t id, unsigned limit, struct vm_err *e)
{
    json_t *jobs = json_array();
    sqlite3_stmt *q = store_bind(s, Q_JOBS, "ii", id, (int64_t)limit);
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        json_t *j = json_object();
        const char *error = store_text(q, 5);
        bool ended = sqlite3_column_type(q, 4) != SQLITE_NULL;

        json_put_int(j, "id", sqlite3_column_int64(q, 0));
        json_put_str(j, "guest", store_text(q, 1));
        json_put_str(j, "verb", store_text(q, 2));
        json_put_str(j, "state", !ended ? "running" : error ? "failed" : "done");
        json_put_str(j, "step", store_text(q, 6));
        put_time(j, "created_at", q, 3);
        put_time(j, "ended_at", q, 4);
        json_put_str(j, "error", error);
        json_array_append_new(jobs, j);
        if (store_lost(s, &rc))
            break;
    }
    return handed_over(jobs, store_done(s, q, rc, e), e);
}

int store_put_script(struct store *s, uint32_t guest, const struct store_script *r, struct vm_err *e)
{
    return STORE_RUN(s, Q_SCRIPT_PUT, e, "iissiiiis", (int64_t)guest, (int64_t)r->index, r->script, r->state,
                     (int64_t)r->exit_code, (int64_t)r->signal, r->started_at, r->duration_ms, r->error);
}

json_t *store_scripts(struct store *s, uint32_t guest, struct vm_err *e)
{
    json_t *scripts = json_array();
    sqlite3_stmt *q = store_bind(s, Q_SCRIPTS, "i", (int64_t)guest);
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        json_t *j = json_object();

        json_put_int(j, "index", sqlite3_column_int64(q, 0) + 1); /* as in install:01 */
        json_put_str(j, "script", store_text(q, 1));
        json_put_str(j, "state", store_text(q, 2));
        json_put_int(j, "exit_code", sqlite3_column_int64(q, 3));
        json_put_int(j, "signal", sqlite3_column_int64(q, 4));
        put_time(j, "started_at", q, 5);
        json_put(j, "duration", json_real((double)sqlite3_column_int64(q, 6) / 1000));
        json_put_str(j, "error", store_text(q, 7));
        json_array_append_new(scripts, j);
        if (store_lost(s, &rc))
            break;
    }
    return handed_over(scripts, store_done(s, q, rc, e), e);
}

int store_all_scripts(struct store *s, int (*each)(uint32_t guest, const struct store_script *r, void *arg), void *arg,
                      struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_SCRIPTS_ALL, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_script r = {
            .index = (unsigned)sqlite3_column_int64(q, 0),
            .script = store_text(q, 1),
            .state = store_text(q, 2),
            .exit_code = sqlite3_column_int(q, 3),
            .signal = sqlite3_column_int(q, 4),
            .started_at = sqlite3_column_int64(q, 5),
            .duration_ms = sqlite3_column_int64(q, 6),
            .error = store_text(q, 7),
        };

        if (store_lost(s, &rc) || each((uint32_t)sqlite3_column_int64(q, 8), &r, arg) < 0)
            break;
    }
    return store_done(s, q, rc, e);
}

struct batch {
    const struct store_event *events;
    const struct store_sample *samples;
    size_t n;
};

static int put_events(struct store *s, void *arg, struct vm_err *e)
{
    const struct batch *b = arg;

    for (size_t i = 0; i < b->n; i++)
        if (STORE_RUN(s, Q_EVENT_PUT, e, "iis", b->events[i].id, b->events[i].at, b->events[i].body) < 0)
            return -1;
    return STORE_RUN(s, Q_EVENTS_PRUNE, e, "i", b->events[b->n - 1].id);
}

int store_put_events(struct store *s, const struct store_event *v, size_t n, struct vm_err *e)
{
    return n ? store_transaction(s, put_events, &(struct batch){.events = v, .n = n}, e) : 0;
}

int store_events(struct store *s, int64_t since, unsigned limit, int (*each)(const struct store_event *ev, void *arg),
                 void *arg, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_EVENTS, "ii", since, (int64_t)limit);
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_event ev = {sqlite3_column_int64(q, 0), sqlite3_column_int64(q, 1), store_text(q, 2)};

        if (store_lost(s, &rc) || each(&ev, arg) < 0)
            break;
    }
    return store_done(s, q, rc, e);
}

int store_event_last(struct store *s, int64_t *last, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_EVENT_LAST, "");
    int rc = store_step(s, q);

    if (rc == SQLITE_ROW)
        *last = sqlite3_column_int64(q, 0);
    return store_done(s, q, rc, e);
}

static int put_samples(struct store *s, void *arg, struct vm_err *e)
{
    const struct batch *b = arg;

    for (size_t i = 0; i < b->n; i++) {
        const struct store_sample *v = &b->samples[i];

        if (STORE_RUN(s, Q_SAMPLE_PUT, e, "iidiiii", (int64_t)v->guest, v->at, v->cpu_percent, v->memory, v->disk, v->rx,
                      v->tx) < 0)
            return -1;
    }
    return STORE_RUN(s, Q_SAMPLE_THIN, e, "i", b->samples[b->n - 1].at);
}

int store_put_samples(struct store *s, const struct store_sample *v, size_t n, struct vm_err *e)
{
    store_fill_reserve(s);
    return n ? store_transaction(s, put_samples, &(struct batch){.samples = v, .n = n}, e) : 0;
}

static json_t *known(int64_t v)
{
    return v < 0 ? json_null() : json_integer(v);
}

json_t *store_samples(struct store *s, uint32_t guest, int64_t since, struct vm_err *e)
{
    json_t *samples = json_array();
    sqlite3_stmt *q = store_bind(s, Q_SAMPLES, "ii", (int64_t)guest, since);
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        json_t *j = json_object();
        bool cpu = sqlite3_column_type(q, 1) != SQLITE_NULL;

        put_time(j, "at", q, 0);
        json_put(j, "cpu_percent", cpu ? json_real(sqlite3_column_double(q, 1)) : json_null());
        json_put(j, "memory_bytes", known(sqlite3_column_int64(q, 2)));
        json_put(j, "disk_bytes", known(sqlite3_column_int64(q, 3)));
        json_put(j, "rx_bytes", known(sqlite3_column_int64(q, 4)));
        json_put(j, "tx_bytes", known(sqlite3_column_int64(q, 5)));
        json_array_append_new(samples, j);
        if (store_lost(s, &rc))
            break;
    }
    return handed_over(samples, store_done(s, q, rc, e), e);
}

const struct store_actor store_vmsd = {.uid = -1, .login = -1, .pid = -1};

int store_audit(struct store *s, const struct store_actor *by, const struct store_deed *d, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_AUDIT, "iiiissss", wall_ms(), by->uid, by->login, by->pid, d->verb, d->what, d->detail,
                                 d->result);
    int rc = store_step(s, q);
    int64_t id = sqlite3_last_insert_rowid(s->db);

    if (store_done(s, q, rc, e) < 0)
        return -1;
    return id % 500 ? 0 : STORE_RUN(s, Q_AUDIT_PRUNE, e, "i", id);
}

json_t *store_audits(struct store *s, int64_t since, unsigned limit, struct vm_err *e)
{
    json_t *list = json_array();
    sqlite3_stmt *q = store_bind(s, Q_AUDITS, "ii", since, (int64_t)limit);
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        const char *text = store_text(q, 7);
        json_t *j = json_object(), *detail = text ? json_from_text(text, strlen(text), NULL) : NULL;

        json_put_int(j, "id", sqlite3_column_int64(q, 0));
        put_time(j, "at", q, 1);
        json_put(j, "uid", known(sqlite3_column_int64(q, 2)));
        json_put(j, "login", known(sqlite3_column_int64(q, 3)));
        json_put(j, "pid", known(sqlite3_column_int64(q, 4)));
        json_put_str(j, "verb", store_text(q, 5));
        json_put_str(j, "what", store_text(q, 6));
        json_put(j, "detail", detail);
        json_put_str(j, "result", store_text(q, 8));
        json_array_append_new(list, j);
        if (text && !detail)
            rc = SQLITE_NOMEM;
        if (rc != SQLITE_ROW || store_lost(s, &rc))
            break;
    }
    return handed_over(list, store_done(s, q, rc, e), e);
}
