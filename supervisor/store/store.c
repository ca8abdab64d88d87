#include "store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

enum { STORE_SCHEMA = 4, STORE_BUSY_MS = 5000, STORE_RESERVE = 4 << 20 };

#define ALERT_TABLES \
    "CREATE TABLE host (one INTEGER PRIMARY KEY CHECK (one = 1), spec TEXT NOT NULL) STRICT;" \
    "CREATE TABLE alert (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, level TEXT NOT NULL, guest TEXT," \
    " subject TEXT NOT NULL, text TEXT NOT NULL, began_at INTEGER NOT NULL, told_at INTEGER NOT NULL," \
    " ended_at INTEGER) STRICT;" \
    "CREATE TABLE notice (id INTEGER PRIMARY KEY AUTOINCREMENT, alert INTEGER NOT NULL REFERENCES alert ON DELETE CASCADE," \
    " channel TEXT NOT NULL, what TEXT NOT NULL, at INTEGER NOT NULL, next_at INTEGER NOT NULL," \
    " tries INTEGER NOT NULL DEFAULT 0, error TEXT, done_at INTEGER) STRICT;" \
    "CREATE INDEX notice_of ON notice (alert, channel);" \
    "CREATE INDEX notice_open ON notice (channel, id) WHERE done_at IS NULL;" \
    "CREATE TABLE size (subject TEXT NOT NULL, at INTEGER NOT NULL, bytes INTEGER NOT NULL," \
    " PRIMARY KEY (subject, at)) STRICT, WITHOUT ROWID;"

static const char schema[] =
    "CREATE TABLE guest (id INTEGER PRIMARY KEY AUTOINCREMENT, slot INTEGER NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE,"
    " spec TEXT NOT NULL, bundle TEXT NOT NULL, applied TEXT, image TEXT, up INTEGER NOT NULL DEFAULT 1,"
    " removing INTEGER NOT NULL DEFAULT 0, purge TEXT, rebuilding INTEGER NOT NULL DEFAULT 0,"
    " scripts_done INTEGER NOT NULL DEFAULT 0, script_digests TEXT NOT NULL DEFAULT '',"
    " generation INTEGER NOT NULL DEFAULT 1, restarts INTEGER NOT NULL DEFAULT 0,"
    " applied_at INTEGER NOT NULL DEFAULT 0, provisioned_at INTEGER NOT NULL DEFAULT 0, error TEXT,"
    " silent_until INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE network (name TEXT PRIMARY KEY, spec TEXT NOT NULL, removing INTEGER NOT NULL DEFAULT 0) STRICT;"
    "CREATE TABLE nic (guest INTEGER NOT NULL REFERENCES guest ON DELETE CASCADE, nic INTEGER NOT NULL,"
    " network TEXT NOT NULL, address TEXT, address6 TEXT, mac TEXT, PRIMARY KEY (guest, nic)) STRICT;"
    "CREATE TABLE job (id INTEGER PRIMARY KEY AUTOINCREMENT, guest INTEGER NOT NULL, name TEXT NOT NULL,"
    " verb TEXT NOT NULL, created_at INTEGER NOT NULL, ended_at INTEGER, error TEXT) STRICT;"
    "CREATE TABLE step (job INTEGER NOT NULL REFERENCES job ON DELETE CASCADE, step TEXT NOT NULL,"
    " started_at INTEGER NOT NULL, ended_at INTEGER, error TEXT, PRIMARY KEY (job, step)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE script (guest INTEGER NOT NULL REFERENCES guest ON DELETE CASCADE, nr INTEGER NOT NULL,"
    " script TEXT NOT NULL, state TEXT NOT NULL, exit_code INTEGER, signal INTEGER, started_at INTEGER,"
    " duration_ms INTEGER, error TEXT, PRIMARY KEY (guest, nr)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE event (id INTEGER PRIMARY KEY, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;"
    "CREATE TABLE sample (guest INTEGER NOT NULL REFERENCES guest ON DELETE CASCADE, at INTEGER NOT NULL, cpu REAL,"
    " memory INTEGER, disk INTEGER, rx INTEGER, tx INTEGER, PRIMARY KEY (guest, at)) STRICT, WITHOUT ROWID;"
    "CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, uid INTEGER NOT NULL,"
    " pid INTEGER NOT NULL, verb TEXT NOT NULL, what TEXT NOT NULL, result TEXT,"
    " login INTEGER NOT NULL DEFAULT -1, detail TEXT) STRICT;"
    ALERT_TABLES;

/* From that schema to the next one. */
static const char *const upgrades[STORE_SCHEMA] = {
    [1] = "ALTER TABLE audit ADD COLUMN login INTEGER NOT NULL DEFAULT -1; ALTER TABLE audit ADD COLUMN detail TEXT;",
    [2] = ALERT_TABLES,
    [3] = "ALTER TABLE guest ADD COLUMN silent_until INTEGER NOT NULL DEFAULT 0;",
};

#define X(id, sql) [Q_##id] = sql,
static const char *const queries[Q_COUNT] = {STORE_SQL(X)};
#undef X

static int store_fail(sqlite3 *db, int rc, struct vm_err *e)
{
    if (rc == SQLITE_CORRUPT || rc == SQLITE_NOTADB)
        return vm_fail(e, VM_E_BACKEND, "the store is damaged: %s; move it away and apply again, guests keep running",
                       sqlite3_errmsg(db));
    if (rc == SQLITE_FULL) {
        vm_fail(e, VM_E_SYSTEM, "the store cannot grow: no space left on its disk");
        if (e)
            e->sys = ENOSPC;
        return -1;
    }
    return vm_fail(e, VM_E_SYSTEM, "store: %s", rc == SQLITE_NOMEM ? sqlite3_errstr(rc) : sqlite3_errmsg(db));
}

static int make_strict(struct store *s)
{
    int rc = sqlite3_exec(s->db, "PRAGMA synchronous = FULL", NULL, NULL, NULL);

    s->loose = rc != SQLITE_OK;
    return rc;
}

sqlite3_stmt *store_bind(struct store *s, enum store_query id, const char *fmt, ...)
{
    sqlite3_stmt *q = s->q[id];
    va_list ap;
    int rc;

    pthread_mutex_lock(&s->lock);
    rc = s->loose ? make_strict(s) : SQLITE_OK;
    va_start(ap, fmt);
    for (int i = 1; *fmt && rc == SQLITE_OK; fmt++, i++) {
        if (*fmt == 's')
            rc = sqlite3_bind_text(q, i, va_arg(ap, const char *), -1, SQLITE_TRANSIENT);
        else if (*fmt == 'd')
            rc = sqlite3_bind_double(q, i, va_arg(ap, double)); /* NAN is stored as NULL */
        else
            rc = sqlite3_bind_int64(q, i, va_arg(ap, int64_t));
    }
    va_end(ap);
    s->bound = rc;
    return q;
}

int store_step(struct store *s, sqlite3_stmt *q)
{
    return s->bound == SQLITE_OK ? sqlite3_step(q) : s->bound;
}

bool store_lost(struct store *s, int *rc)
{
    if (sqlite3_errcode(s->db) != SQLITE_NOMEM)
        return false;
    *rc = SQLITE_NOMEM;
    return true;
}

int store_done(struct store *s, sqlite3_stmt *q, int rc, struct vm_err *e)
{
    int out = rc == SQLITE_DONE || rc == SQLITE_ROW ? 0 : store_fail(s->db, rc, e);

    sqlite3_reset(q);
    sqlite3_clear_bindings(q);
    s->bound = SQLITE_OK;
    pthread_mutex_unlock(&s->lock);
    return out;
}

void store_sync(struct store *s, bool wait)
{
    if (wait) {
        make_strict(s);
        pthread_mutex_unlock(&s->lock);
    } else {
        pthread_mutex_lock(&s->lock);
        sqlite3_exec(s->db, "PRAGMA synchronous = NORMAL", NULL, NULL, NULL);
    }
}

int store_transaction(struct store *s, int (*run)(struct store *s, void *arg, struct vm_err *e), void *arg,
                      struct vm_err *e)
{
    int rc;

    pthread_mutex_lock(&s->lock);
    rc = STORE_RUN(s, Q_BEGIN, e, "");
    if (rc == 0) {
        rc = run(s, arg, e);
        if (rc == 0)
            rc = STORE_RUN(s, Q_COMMIT, e, "");
        if (rc < 0)
            STORE_RUN(s, Q_ROLLBACK, NULL, "");
    }
    pthread_mutex_unlock(&s->lock);
    return rc;
}

static int user_version(struct store *s, int *version, struct vm_err *e)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(s->db, "PRAGMA user_version", -1, &q, NULL);

    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    if (rc == SQLITE_ROW)
        *version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return rc == SQLITE_ROW ? 0 : store_fail(s->db, rc, e);
}

/* All of it, or nothing: a store that an end of vmsd cuts off here is as it was. */
static int bring_up_to(struct store *s, int version, struct vm_err *e)
{
    OWN(text) struct text make = {0};
    int rc;

    text_add(&make, "BEGIN;");
    if (version == 0)
        text_add(&make, schema);
    for (int v = version; v && v < STORE_SCHEMA; v++)
        text_add(&make, upgrades[v]);
    text_addf(&make, "PRAGMA user_version = %d; COMMIT", STORE_SCHEMA);
    if (make.failed)
        return vm_no_memory(e);
    rc = sqlite3_exec(s->db, make.s, NULL, NULL, NULL);
    return rc == SQLITE_OK ? 0 : store_fail(s->db, rc, e);
}

static int set_up(struct store *s, struct vm_err *e)
{
    int version = 0, rc;

    sqlite3_busy_timeout(s->db, STORE_BUSY_MS);
    if (user_version(s, &version, e) < 0)
        return -1;
    if (version > STORE_SCHEMA)
        return vm_fail(e, VM_E_CONFLICT,
                       "the store was written by a newer vmsd (schema %d, this one knows %d); install that version again",
                       version, STORE_SCHEMA);
    /* A small cache: rows are few and small, memory is counted. */
    rc = sqlite3_exec(s->db,
                      "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;"
                      "PRAGMA cache_size = -512; PRAGMA trusted_schema = OFF",
                      NULL, NULL, NULL);
    if (rc != SQLITE_OK)
        return store_fail(s->db, rc, e);
    if (version < STORE_SCHEMA && bring_up_to(s, version, e) < 0)
        return -1;
    for (size_t i = 0; i < Q_COUNT; i++)
        if ((rc = sqlite3_prepare_v3(s->db, queries[i], -1, SQLITE_PREPARE_PERSISTENT, &s->q[i], NULL)) != SQLITE_OK)
            return store_fail(s->db, rc, e);
    return 0;
}

/* Blocks, not a hole. A disk that is full already gives none, and then there is none to give back. */
void store_fill_reserve(struct store *s)
{
    struct stat st;

    if (s->reserve >= 0 && fstat(s->reserve, &st) == 0 && st.st_size < STORE_RESERVE &&
        posix_fallocate(s->reserve, 0, STORE_RESERVE))
        store_use_reserve(s);
}

void store_use_reserve(struct store *s)
{
    if (s->reserve >= 0 && ftruncate(s->reserve, 0) < 0)
        errno = 0; /* nothing was there to be had */
}

OWN_DEFINE(store, struct store *, store_close)

int store_open(const char *state, struct store **out, struct vm_err *e)
{
    OWN(store) struct store *s = calloc(1, sizeof *s);
    OWN(str) char *real = NULL, *file = NULL;
    OWN(fd) int dir = -1, fd = -1;
    pthread_mutexattr_t kind;
    int rc;

    if (!s)
        return vm_no_memory(e);
    s->reserve = -1;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&s->lock, &kind);
    pthread_mutexattr_destroy(&kind);
    if ((dir = path_mkdirs_host(state, 0700, e)) < 0)
        return -1;
    /* SQLite, which is to follow no link, means any on the way by that; /var/lib/vmsd may be one to a larger disk. */
    if (!(real = realpath(state, NULL)))
        return vm_fail_sys(e, "find '%s'", state);
    if (!(file = text_format("%s/vmsd.db", real)))
        return vm_no_memory(e);
    s->reserve = path_open(dir, "reserve", PATH_BENEATH, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, NULL);
    store_fill_reserve(s);
    /* Made here, so that no mask of the environment can make it readable to others. */
    if ((fd = path_open(dir, "vmsd.db", PATH_BENEATH, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, e)) < 0)
        return -1;
    rc = sqlite3_open_v2(file, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK)
        return s->db ? store_fail(s->db, rc, e) : vm_no_memory(e);
    if (set_up(s, e) < 0)
        return vm_context(e, "%s", file);
    *out = TAKE(s);
    return 0;
}

void store_close(struct store *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < Q_COUNT; i++)
        sqlite3_finalize(s->q[i]);
    sqlite3_close(s->db);
    fd_drop(s->reserve);
    pthread_mutex_destroy(&s->lock);
    free(s);
}
