/* Alerts, who is told of them, and how large things were. */
#include "store_private.h"

#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/json.h>

enum { KEEP_SIZES_MS = 2 * 86400000 };

int store_host(struct store *s, char **spec, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_HOST, "");
    int rc = store_step(s, q);
    char *text = rc == SQLITE_ROW ? strdup(store_text(q, 0) ? store_text(q, 0) : "") : NULL;
    bool lost = rc == SQLITE_ROW && (!text || store_lost(s, &rc));

    if (store_done(s, q, rc, e) < 0 || lost) {
        free(text);
        return lost ? vm_no_memory(e) : -1;
    }
    *spec = text;
    return 0;
}

int store_put_host(struct store *s, const char *spec, struct vm_err *e)
{
    return spec ? STORE_RUN(s, Q_HOST_PUT, e, "s", spec) : STORE_RUN(s, Q_HOST_DROP, e, "");
}

/* ---- alerts ---- */

struct putting {
    const struct store_alert *alert;
    const char *what;
    const struct strv *channels;
    int64_t id;
};

static int put_new(struct store *s, struct putting *p, struct vm_err *e)
{
    const struct store_alert *a = p->alert;
    sqlite3_stmt *q = store_bind(s, Q_ALERT_NEW, "sssssii", a->kind, a->level, a->guest, a->subject, a->text, a->began_at,
                                 a->told_at);
    int rc = store_step(s, q);

    p->id = sqlite3_last_insert_rowid(s->db);
    if (store_done(s, q, rc, e) < 0)
        return -1;
    return p->id % 500 ? 0 : STORE_RUN(s, Q_ALERTS_PRUNE, e, "i", p->id);
}

static int put_ended(struct store *s, const struct store_alert *a, struct vm_err *e)
{
    if (a->ended_at)
        return STORE_RUN(s, Q_ALERT_PUT, e, "isii", a->id, a->text, a->told_at, a->ended_at);
    return STORE_RUN(s, Q_ALERT_PUT, e, "isi", a->id, a->text, a->told_at);
}

static int put_alert(struct store *s, void *arg, struct vm_err *e)
{
    struct putting *p = arg;

    p->id = p->alert->id;
    if ((p->id ? put_ended(s, p->alert, e) : put_new(s, p, e)) < 0)
        return -1;
    for (size_t i = 0; i < p->channels->n; i++) {
        if (STORE_RUN(s, Q_NOTICE_NEW, e, "issi", p->id, p->channels->v[i], p->what, wall_ms()) < 0)
            return -1;
        int64_t id = sqlite3_last_insert_rowid(s->db);
        if (id % 500 == 0 && STORE_RUN(s, Q_NOTICES_PRUNE, e, "i", id) < 0)
            return -1;
    }
    return 0;
}

int store_put_alert(struct store *s, const struct store_alert *a, const char *what, const struct strv *channels, int64_t *id,
                    struct vm_err *e)
{
    struct putting p = {a, what, channels, 0};

    if (store_transaction(s, put_alert, &p, e) < 0)
        return -1;
    *id = p.id;
    return 0;
}

static struct store_alert alert_of(sqlite3_stmt *q, int first)
{
    return (struct store_alert){.id = sqlite3_column_int64(q, first), .kind = store_text(q, first + 1),
                                .level = store_text(q, first + 2), .guest = store_text(q, first + 3),
                                .subject = store_text(q, first + 4), .text = store_text(q, first + 5),
                                .began_at = sqlite3_column_int64(q, first + 6)};
}

int store_alerts_open(struct store *s, int (*each)(const struct store_alert *a, void *arg), void *arg, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_ALERTS_OPEN, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_alert a = alert_of(q, 0);

        a.told_at = sqlite3_column_int64(q, 7);
        if (store_lost(s, &rc) || each(&a, arg) < 0)
            break;
    }
    return store_done(s, q, rc, e);
}

static void put_time(json_t *j, const char *key, int64_t at)
{
    char text[CLOCK_TEXT];

    json_put_str(j, key, at ? wall_text(at, text) : NULL);
}

static int add_notices(struct store *s, json_t *alert, struct vm_err *e)
{
    json_t *list = json_array();
    sqlite3_stmt *q = store_bind(s, Q_NOTICES, "i", json_int(alert, "id", 0));
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        json_t *j = json_object();

        json_put_str(j, "to", store_text(q, 0));
        json_put_str(j, "what", store_text(q, 1));
        put_time(j, "at", sqlite3_column_int64(q, 2));
        json_put_int(j, "tries", sqlite3_column_int64(q, 3));
        json_put_str(j, "error", store_text(q, 4));
        put_time(j, "done_at", sqlite3_column_int64(q, 5));
        json_array_insert_new(list, 0, j);
        if (store_lost(s, &rc))
            break;
    }
    json_put(alert, "notices", list);
    return store_done(s, q, rc, e);
}

json_t *store_alerts(struct store *s, bool all, unsigned limit, struct vm_err *e)
{
    OWN(json) json_t *list = json_array();
    sqlite3_stmt *q = store_bind(s, Q_ALERTS, "ii", (int64_t)all, (int64_t)limit);
    json_t *alert;
    size_t i;
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_alert a = alert_of(q, 0);
        json_t *j = json_object();

        json_put_int(j, "id", a.id);
        json_put_str(j, "kind", a.kind);
        json_put_str(j, "level", a.level);
        json_put_str(j, "guest", a.guest);
        json_put_str(j, "subject", a.subject);
        json_put_str(j, "text", a.text);
        put_time(j, "began_at", a.began_at);
        put_time(j, "ended_at", sqlite3_column_int64(q, 7));
        json_array_append_new(list, j);
        if (store_lost(s, &rc))
            break;
    }
    if (store_done(s, q, rc, e) < 0)
        return NULL;
    json_array_foreach(list, i, alert)
        if (add_notices(s, alert, e) < 0)
            return NULL;
    if (json_lost()) {
        vm_no_memory(e);
        return NULL;
    }
    return TAKE(list);
}

/* ---- notices ---- */

static const char *copied(const char *s, bool *failed)
{
    char *copy = s ? strdup(s) : NULL;

    *failed |= s && !copy;
    return copy;
}

/* Texts of a row go with the next step: each is copied. */
static bool copy_notice(sqlite3_stmt *q, struct store_notice *n)
{
    bool failed = false;

    n->id = sqlite3_column_int64(q, 0);
    n->what = (char *)copied(store_text(q, 1), &failed);
    n->at = sqlite3_column_int64(q, 2);
    n->tries = (unsigned)sqlite3_column_int64(q, 3);
    n->alert = alert_of(q, 4);
    n->alert.kind = copied(n->alert.kind, &failed);
    n->alert.level = copied(n->alert.level, &failed);
    n->alert.guest = copied(n->alert.guest, &failed);
    n->alert.subject = copied(n->alert.subject, &failed);
    n->alert.text = copied(n->alert.text, &failed);
    n->alert.ended_at = sqlite3_column_int64(q, 11);
    n->next_at = sqlite3_column_int64(q, 12);
    return !failed;
}

void store_notice_done(struct store_notice n)
{
    free(n.what);
    free((char *)n.alert.kind);
    free((char *)n.alert.level);
    free((char *)n.alert.guest);
    free((char *)n.alert.subject);
    free((char *)n.alert.text);
}

int store_notice_next(struct store *s, const char *channel, struct store_notice *out, bool *found, struct vm_err *e)
{
    OWN(notice) struct store_notice n = {0};
    sqlite3_stmt *q = store_bind(s, Q_NOTICE_NEXT, "s", channel);
    int rc = store_step(s, q);
    bool row = rc == SQLITE_ROW, whole = !row || (copy_notice(q, &n) && !store_lost(s, &rc));

    if (store_done(s, q, rc, e) < 0)
        return -1;
    if (!whole)
        return vm_no_memory(e);
    *found = row;
    *out = n;
    n = (struct store_notice){0};
    return 0;
}

int store_notice_try(struct store *s, int64_t id, int64_t next_at, struct vm_err *e)
{
    return STORE_RUN(s, Q_NOTICE_TRY, e, "ii", id, next_at);
}

int store_notice_tried(struct store *s, int64_t id, const char *error, bool over, struct vm_err *e)
{
    if (over)
        return STORE_RUN(s, Q_NOTICE_TRIED, e, "isi", id, error, wall_ms());
    return STORE_RUN(s, Q_NOTICE_TRIED, e, "is", id, error);
}

int store_notices_keep(struct store *s, const struct strv *channels, struct vm_err *e)
{
    OWN(strv) struct strv gone = {0};
    sqlite3_stmt *q = store_bind(s, Q_NOTICES_OPEN, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        const char *channel = store_text(q, 0);

        if (store_lost(s, &rc))
            break;
        if (channel && !strv_has(channels, channel))
            strv_add(&gone, channel);
    }
    if (store_done(s, q, rc, e) < 0)
        return -1;
    for (size_t i = 0; i < gone.n; i++)
        if (STORE_RUN(s, Q_NOTICES_CLOSE, e, "si", gone.v[i], wall_ms()) < 0)
            return -1;
    return gone.failed ? vm_no_memory(e) : 0;
}

/* ---- sizes ---- */

int store_put_size(struct store *s, const char *subject, int64_t at, int64_t bytes, struct vm_err *e)
{
    if (STORE_RUN_UNSYNCED(s, Q_SIZES_PRUNE, e, "i", at - KEEP_SIZES_MS) < 0)
        return -1;
    return STORE_RUN_UNSYNCED(s, Q_SIZE_PUT, e, "sii", subject, at, bytes);
}

int store_size_since(struct store *s, const char *subject, int64_t since, int64_t *bytes, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_SIZE_OLD, "si", subject, since);
    int rc = store_step(s, q);

    *bytes = rc == SQLITE_ROW ? sqlite3_column_int64(q, 0) : -1;
    return store_done(s, q, rc, e);
}
