/* The store's inside: one connection, one lock, statements as rows. Private to this folder. */
#ifndef STORE_PRIVATE_H
#define STORE_PRIVATE_H

#include <pthread.h>
#include <sqlite3.h>
#include <vmsd/store.h>

#define JOB_CUT "'interrupted: vmsd ended while it ran'"
#define STORE_SQL(X) \
    X(BEGIN, "BEGIN IMMEDIATE") \
    X(COMMIT, "COMMIT") \
    X(ROLLBACK, "ROLLBACK") \
    X(GUESTS, "SELECT id, slot, name, spec, bundle, applied, image, up, removing, purge, rebuilding, scripts_done, " \
              "script_digests, generation, restarts, applied_at, provisioned_at, error, silent_until FROM guest " \
              "ORDER BY name") \
    X(GUEST_ID, "SELECT id, slot FROM guest WHERE name = ?1") \
    X(GUEST_SLOT, "SELECT min(n) FROM (SELECT 0 AS n UNION ALL SELECT slot + 1 FROM guest) " \
                  "WHERE n NOT IN (SELECT slot FROM guest)") \
    X(GUEST_RESTORE, "INSERT INTO guest (id, slot, name, spec, bundle, applied, image, up, scripts_done, script_digests, " \
                     "applied_at, provisioned_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)") \
    X(GUEST_SKIP_INIT, "INSERT INTO sqlite_sequence (name, seq) SELECT 'guest', 0 WHERE NOT EXISTS " \
                       "(SELECT 1 FROM sqlite_sequence WHERE name = 'guest')") \
    X(GUEST_SKIP, "UPDATE sqlite_sequence SET seq = max(seq, ?1) WHERE name = 'guest'") \
    X(GUEST_NEW, "INSERT INTO guest (slot, name, spec, bundle) VALUES (?1, ?2, ?3, ?4)") \
    X(GUEST_SPEC, "UPDATE guest SET spec = ?2, bundle = ?3, generation = generation + 1, removing = 0, purge = NULL " \
                  "WHERE id = ?1") \
    X(GUEST_WISH, "UPDATE guest SET up = ?2 WHERE id = ?1") \
    X(GUEST_REMOVING, "UPDATE guest SET removing = 1, up = 0, purge = ?2 WHERE id = ?1") \
    X(GUEST_REBUILDING, "UPDATE guest SET rebuilding = 1, scripts_done = 0, script_digests = '', provisioned_at = 0 " \
                        "WHERE id = ?1") \
    X(GUEST_REBUILT, "UPDATE guest SET rebuilding = 0, scripts_done = 0, script_digests = '', provisioned_at = 0 " \
                     "WHERE id = ?1") \
    X(GUEST_IMAGE, "UPDATE guest SET image = ?2 WHERE id = ?1") \
    X(GUEST_SCRIPTS, "UPDATE guest SET scripts_done = ?2, script_digests = ?3 WHERE id = ?1") \
    X(GUEST_APPLIED, "UPDATE guest SET applied = ?2, applied_at = ?3, error = NULL, " \
                     "provisioned_at = CASE WHEN ?4 THEN ?3 ELSE provisioned_at END WHERE id = ?1") \
    X(GUEST_RESTARTS, "UPDATE guest SET restarts = ?2 WHERE id = ?1") \
    X(GUEST_ERROR, "UPDATE guest SET error = ?2 WHERE id = ?1") \
    X(GUEST_SILENCE, "UPDATE guest SET silent_until = ?2 WHERE id = ?1") \
    X(GUEST_DROP, "DELETE FROM guest WHERE id = ?1") \
    X(NETWORKS, "SELECT name, spec, removing FROM network ORDER BY name") \
    X(NETWORK_PUT, "INSERT INTO network (name, spec) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET spec = ?2, " \
                   "removing = 0") \
    X(NETWORK_RESTORE, "INSERT OR IGNORE INTO network (name, spec) VALUES (?1, ?2)") \
    X(NETWORK_REMOVING, "UPDATE network SET removing = 1 WHERE name = ?1") \
    X(NETWORK_DROP, "DELETE FROM network WHERE name = ?1 AND removing = 1") \
    X(NICS, "SELECT guest, nic, network, address, address6, mac FROM nic ORDER BY guest, nic") \
    X(NIC_PUT, "INSERT OR REPLACE INTO nic (guest, nic, network, address, address6, mac) VALUES (?1, ?2, ?3, ?4, ?5, ?6)") \
    X(NIC_DROP, "DELETE FROM nic WHERE guest = ?1 AND nic >= ?2") \
    X(JOB_BEGIN, "INSERT INTO job (guest, name, verb, created_at) VALUES (?1, ?2, ?3, ?4)") \
    X(JOB_END, "UPDATE job SET ended_at = ?2, error = CASE id WHEN ?1 THEN ?3 ELSE error END WHERE id = ?1 OR " \
               "(ended_at IS NULL AND error IS NOT NULL AND guest = (SELECT guest FROM job WHERE id = ?1))") \
    X(STEP_BEGIN, "INSERT OR REPLACE INTO step (job, step, started_at) VALUES (?1, ?2, ?3)") \
    X(STEP_END, "UPDATE step SET ended_at = ?3, error = ?4 WHERE job = ?1 AND step = ?2") \
    X(JOBS_CUT, "SELECT guest, (SELECT step FROM step WHERE job = job.id AND ended_at IS NULL ORDER BY started_at DESC " \
                "LIMIT 1), verb = 'restart' AND NOT EXISTS (SELECT 1 FROM step WHERE job = job.id) " \
                "FROM job WHERE ended_at IS NULL ORDER BY id") \
    X(JOBS_CUT_END, "UPDATE job SET error = " JOB_CUT ", ended_at = CASE WHEN guest IN (SELECT id FROM guest) THEN " \
                    "NULL ELSE ?1 END WHERE ended_at IS NULL") \
    X(JOBS, "SELECT id, name, verb, created_at, ended_at, error, (SELECT group_concat(step, ' ') FROM step WHERE " \
            "job = job.id AND ended_at IS NULL) FROM job WHERE ?1 IN (0, id) ORDER BY id DESC LIMIT ?2") \
    X(JOBS_PRUNE, "DELETE FROM job WHERE id <= ?1 - 2000 AND ended_at IS NOT NULL") \
    X(SCRIPT_PUT, "INSERT OR REPLACE INTO script (guest, nr, script, state, exit_code, signal, started_at, duration_ms, " \
                  "error) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)") \
    X(SCRIPTS, "SELECT nr, script, state, exit_code, signal, started_at, duration_ms, error FROM script " \
               "WHERE guest = ?1 ORDER BY nr") \
    X(SCRIPTS_ALL, "SELECT nr, script, state, exit_code, signal, started_at, duration_ms, error, guest FROM script") \
    X(EVENT_PUT, "INSERT OR REPLACE INTO event (id, at, body) VALUES (?1, ?2, ?3)") \
    X(EVENTS_PRUNE, "DELETE FROM event WHERE id <= ?1 - 20000") \
    X(EVENTS, "SELECT id, at, body FROM event WHERE id > ?1 ORDER BY id LIMIT ?2") \
    X(EVENT_LAST, "SELECT coalesce(max(id), 0) FROM event") \
    X(SAMPLE_PUT, "INSERT OR REPLACE INTO sample (guest, at, cpu, memory, disk, rx, tx) SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 " \
                  "WHERE EXISTS (SELECT 1 FROM guest WHERE id = ?1)") /* it may have been removed meanwhile */ \
    X(SAMPLE_THIN, "DELETE FROM sample WHERE (at < ?1 - 86400000 AND at % 3600000 >= 60000) OR at < ?1 - 7776000000") \
    X(SAMPLES, "SELECT at, cpu, memory, disk, rx, tx FROM sample WHERE guest = ?1 AND at >= ?2 ORDER BY at") \
    X(AUDIT, "INSERT INTO audit (at, uid, login, pid, verb, what, detail, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)") \
    X(AUDITS, "SELECT * FROM (SELECT id, at, uid, login, pid, verb, what, detail, result FROM audit WHERE id > ?1 " \
              "ORDER BY id DESC LIMIT ?2) ORDER BY id") \
    X(AUDIT_PRUNE, "DELETE FROM audit WHERE id <= ?1 - 100000") \
    X(HOST, "SELECT spec FROM host") \
    X(HOST_PUT, "INSERT INTO host (one, spec) VALUES (1, ?1) ON CONFLICT (one) DO UPDATE SET spec = ?1") \
    X(HOST_DROP, "DELETE FROM host") \
    X(ALERT_NEW, "INSERT INTO alert (kind, level, guest, subject, text, began_at, told_at, ended_at) " \
                 "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)") \
    X(ALERT_PUT, "UPDATE alert SET text = ?2, told_at = ?3, ended_at = ?4 WHERE id = ?1") \
    X(ALERTS_OPEN, "SELECT id, kind, level, guest, subject, text, began_at, told_at FROM alert WHERE ended_at IS NULL") \
    X(ALERTS, "SELECT id, kind, level, guest, subject, text, began_at, ended_at FROM alert WHERE ?1 OR ended_at IS NULL " \
              "ORDER BY id DESC LIMIT ?2") \
    X(ALERTS_PRUNE, "DELETE FROM alert WHERE id <= ?1 - 10000 AND ended_at IS NOT NULL") \
    X(NOTICE_NEW, "INSERT INTO notice (alert, channel, what, at, next_at) VALUES (?1, ?2, ?3, ?4, ?4)") \
    X(NOTICES, "SELECT channel, what, at, tries, error, done_at FROM notice WHERE alert = ?1 ORDER BY id DESC LIMIT 20") \
    X(NOTICES_OPEN, "SELECT channel, count(*) FROM notice WHERE done_at IS NULL GROUP BY channel") \
    X(NOTICES_PRUNE, "DELETE FROM notice WHERE id <= ?1 - 50000") \
    X(NOTICES_CLOSE, "UPDATE notice SET done_at = ?2, error = 'this way is not in the spec any more' " \
                     "WHERE channel = ?1 AND done_at IS NULL") \
    X(NOTICE_NEXT, "SELECT n.id, n.what, n.at, n.tries, a.id, a.kind, a.level, a.guest, a.subject, a.text, a.began_at, " \
                   "a.ended_at, n.next_at FROM notice n JOIN alert a ON a.id = n.alert WHERE n.channel = ?1 AND " \
                   "n.done_at IS NULL AND NOT EXISTS (SELECT 1 FROM notice o WHERE o.alert = n.alert AND " \
                   "o.channel = n.channel AND o.id < n.id AND o.done_at IS NULL) ORDER BY n.next_at, n.id LIMIT 1") \
    X(NOTICE_TRY, "UPDATE notice SET tries = tries + 1, next_at = ?2 WHERE id = ?1") \
    X(NOTICE_TRIED, "UPDATE notice SET error = ?2, done_at = ?3 WHERE id = ?1") \
    X(SIZE_PUT, "INSERT OR REPLACE INTO size (subject, at, bytes) VALUES (?1, ?2, ?3)") \
    X(SIZE_OLD, "SELECT bytes FROM size WHERE subject = ?1 AND at >= ?2 ORDER BY at LIMIT 1") \
    X(SIZES_PRUNE, "DELETE FROM size WHERE at < ?1")

#define X(id, sql) Q_##id,
enum store_query { STORE_SQL(X) Q_COUNT };
#undef X

struct store {
    sqlite3 *db;
    sqlite3_stmt *q[Q_COUNT];
    int reserve;          /* fd of a file that only holds space */
    int bound;            /* what store_bind came to, until store_done */
    bool loose;           /* writes do not wait for the disk, though they should again */
    pthread_mutex_t lock; /* recursive: a transaction holds it over its writes */
};

void store_fill_reserve(struct store *s);

/* Locks, binds by fmt and returns the statement ready to step: 'i' int64_t, 's' const char * or NULL, 'd' double or
 * NAN. Every store_bind is followed by one store_done. */
sqlite3_stmt *store_bind(struct store *s, enum store_query id, const char *fmt, ...);
int store_step(struct store *s, sqlite3_stmt *q); /* sqlite3_step; or what store_bind had no memory for */
/* Was there no memory for a text of this row, which looks like NULL then? Sets *rc to say so. */
bool store_lost(struct store *s, int *rc);
/* Resets and unlocks; rc is what the last sqlite3_step gave. 0 for DONE and ROW, else -1. */
int store_done(struct store *s, sqlite3_stmt *q, int rc, struct vm_err *e);
/* The usual case: bind, step, done. */
#define STORE_RUN(s, q, e, ...) \
    __extension__({ \
        sqlite3_stmt *st_ = store_bind(s, q, __VA_ARGS__); \
        store_done(s, st_, store_step(s, st_), e); \
    })

/* The same for what only an end of vmsd asks for: the write survives that, but does not wait for the disk. A loss of power
 * may take it back, with all that it tells of: then no guest runs. */
#define STORE_RUN_UNSYNCED(s, q, e, ...) \
    __extension__({ \
        store_sync(s, false); \
        int rc_ = STORE_RUN(s, q, e, __VA_ARGS__); \
        store_sync(s, true); \
        rc_; \
    })
/* Outside of transactions. Holds the lock from false to true. */
void store_sync(struct store *s, bool wait);

static inline const char *store_text(sqlite3_stmt *q, int column)
{
    return (const char *)sqlite3_column_text(q, column);
}

#endif
