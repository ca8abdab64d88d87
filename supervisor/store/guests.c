/* Guests, networks and addresses: intent. */
#include "store_private.h"

#include <string.h>
#include <vmsd/clock.h>

int store_guests(struct store *s, int (*each)(const struct store_guest *g, void *arg), void *arg, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_GUESTS, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_guest g = {
            .id = (uint32_t)sqlite3_column_int64(q, 0),
            .slot = (uint32_t)sqlite3_column_int64(q, 1),
            .name = store_text(q, 2),
            .spec = store_text(q, 3),
            .bundle = store_text(q, 4),
            .applied = store_text(q, 5),
            .image = store_text(q, 6),
            .up = sqlite3_column_int(q, 7),
            .removing = sqlite3_column_int(q, 8),
            .purge = store_text(q, 9),
            .rebuilding = sqlite3_column_int(q, 10),
            .scripts_done = (unsigned)sqlite3_column_int64(q, 11),
            .script_digests = store_text(q, 12),
            .generation = (unsigned)sqlite3_column_int64(q, 13),
            .restarts = (unsigned)sqlite3_column_int64(q, 14),
            .applied_at = sqlite3_column_int64(q, 15),
            .provisioned_at = sqlite3_column_int64(q, 16),
            .error = store_text(q, 17),
            .silent_until = sqlite3_column_int64(q, 18),
        };

        if (store_lost(s, &rc) || each(&g, arg) < 0)
            break;
    }
    return store_done(s, q, rc, e);
}

static int guest_find(struct store *s, const char *name, uint32_t *id, uint32_t *slot, bool *found, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_GUEST_ID, "s", name);
    int rc = store_step(s, q);

    *found = rc == SQLITE_ROW;
    if (*found) {
        *id = (uint32_t)sqlite3_column_int64(q, 0);
        *slot = (uint32_t)sqlite3_column_int64(q, 1);
    }
    return store_done(s, q, rc, e);
}

int store_put_spec(struct store *s, const char *name, const char *spec, const char *bundle, uint32_t *id, uint32_t *slot,
                   struct vm_err *e)
{
    sqlite3_stmt *q;
    bool found;
    int rc;

    if (guest_find(s, name, id, slot, &found, e) < 0)
        return -1;
    if (found)
        return STORE_RUN(s, Q_GUEST_SPEC, e, "iss", (int64_t)*id, spec, bundle);
    q = store_bind(s, Q_GUEST_SLOT, "");
    rc = store_step(s, q);
    if (rc == SQLITE_ROW)
        *slot = (uint32_t)sqlite3_column_int64(q, 0);
    if (store_done(s, q, rc, e) < 0 || STORE_RUN(s, Q_GUEST_NEW, e, "isss", (int64_t)*slot, name, spec, bundle) < 0)
        return -1;
    *id = (uint32_t)sqlite3_last_insert_rowid(s->db);
    return 0;
}

int store_restore_guest(struct store *s, const struct store_guest *g, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_RESTORE, e, "iisssssiisii", (int64_t)g->id, (int64_t)g->slot, g->name, g->spec, g->bundle,
                     g->applied, g->image, (int64_t)g->up, (int64_t)g->scripts_done, g->script_digests, g->applied_at,
                     g->provisioned_at);
}

int store_skip_id(struct store *s, uint32_t id, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_SKIP_INIT, e, "") < 0 ? -1 : STORE_RUN(s, Q_GUEST_SKIP, e, "i", (int64_t)id);
}

int store_put_wish(struct store *s, uint32_t id, bool up, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_WISH, e, "ii", (int64_t)id, (int64_t)up);
}

int store_put_removing(struct store *s, uint32_t id, const char *purge, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_REMOVING, e, "is", (int64_t)id, purge);
}

int store_put_rebuilding(struct store *s, uint32_t id, bool rebuilding, struct vm_err *e)
{
    return STORE_RUN(s, rebuilding ? Q_GUEST_REBUILDING : Q_GUEST_REBUILT, e, "i", (int64_t)id);
}

int store_put_image(struct store *s, uint32_t id, const char *image, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_IMAGE, e, "is", (int64_t)id, image);
}

int store_put_scripts(struct store *s, uint32_t id, unsigned done, const char *digests, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_SCRIPTS, e, "iis", (int64_t)id, (int64_t)done, digests);
}

int store_put_applied(struct store *s, uint32_t id, const char *spec, int64_t at, bool provisioned, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_APPLIED, e, "isii", (int64_t)id, spec, at, (int64_t)provisioned);
}

int store_put_restarts(struct store *s, uint32_t id, unsigned restarts, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_RESTARTS, e, "ii", (int64_t)id, (int64_t)restarts);
}

int store_put_error(struct store *s, uint32_t id, const char *error, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_ERROR, e, "is", (int64_t)id, error);
}

int store_put_silence(struct store *s, uint32_t id, int64_t until, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_SILENCE, e, "ii", (int64_t)id, until);
}

int store_drop_guest(struct store *s, uint32_t id, struct vm_err *e)
{
    return STORE_RUN(s, Q_GUEST_DROP, e, "i", (int64_t)id);
}

int store_networks(struct store *s, int (*each)(const struct store_network *n, void *arg), void *arg, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_NETWORKS, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_network n = {store_text(q, 0), store_text(q, 1), sqlite3_column_int(q, 2)};

        if (store_lost(s, &rc) || each(&n, arg) < 0)
            break;
    }
    return store_done(s, q, rc, e);
}

int store_put_network(struct store *s, const char *name, const char *spec, struct vm_err *e)
{
    return STORE_RUN(s, Q_NETWORK_PUT, e, "ss", name, spec);
}

int store_restore_network(struct store *s, const char *name, const char *spec, struct vm_err *e)
{
    return STORE_RUN(s, Q_NETWORK_RESTORE, e, "ss", name, spec);
}

int store_put_network_removing(struct store *s, const char *name, struct vm_err *e)
{
    return STORE_RUN(s, Q_NETWORK_REMOVING, e, "s", name);
}

int store_drop_network(struct store *s, const char *name, struct vm_err *e)
{
    return STORE_RUN(s, Q_NETWORK_DROP, e, "s", name);
}

int store_nics(struct store *s, int (*each)(const struct store_nic *n, void *arg), void *arg, struct vm_err *e)
{
    sqlite3_stmt *q = store_bind(s, Q_NICS, "");
    int rc;

    while ((rc = store_step(s, q)) == SQLITE_ROW) {
        struct store_nic n = {
            .guest = (uint32_t)sqlite3_column_int64(q, 0),
            .index = (unsigned)sqlite3_column_int64(q, 1),
            .network = store_text(q, 2),
            .address = store_text(q, 3),
            .address6 = store_text(q, 4),
            .mac = store_text(q, 5),
        };

        if (store_lost(s, &rc) || each(&n, arg) < 0)
            break;
    }
    return store_done(s, q, rc, e);
}

int store_put_nic(struct store *s, const struct store_nic *n, struct vm_err *e)
{
    return STORE_RUN(s, Q_NIC_PUT, e, "iissss", (int64_t)n->guest, (int64_t)n->index, n->network, n->address,
                     n->address6, n->mac);
}

int store_drop_nics(struct store *s, uint32_t guest, unsigned from, struct vm_err *e)
{
    return STORE_RUN(s, Q_NIC_DROP, e, "ii", (int64_t)guest, (int64_t)from);
}
