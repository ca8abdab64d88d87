/* How guests and the host are, as far as somebody wants to be told of it. */
#include "alert.h"
#include "usage.h"

#include <math.h>
#include <string.h>
#include <vmsd/clock.h>

enum { REASON_MAX = 240 };

/* The words of the first check that fails. */
static void failing_check(const struct guest *g, char out[static REASON_MAX])
{
    OWN(json) json_t *checks = health_json(g);
    json_t *check;
    size_t i;

    snprintf(out, REASON_MAX, "unhealthy");
    json_array_foreach(checks, i, check) {
        if (strcmp(json_str(check, "state", ""), "failing") != 0)
            continue;
        snprintf(out, REASON_MAX, "unhealthy: %.60s: %.150s", json_str(check, "check", "?"), json_str(check, "message", "fails"));
        return;
    }
}

static enum alert_sign health_sign(const struct guest *g)
{
    if (!g->up || g->removing)
        return SIGN_FINE;
    if (g->state == ST_FAILED || (guest_is_up(g) && health_of(g) == HEALTH_UNHEALTHY))
        return SIGN_BAD;
    return guest_is_up(g) && health_of(g) == HEALTH_HEALTHY ? SIGN_FINE : SIGN_UNKNOWN;
}

static void see_health(struct alerts *a, const struct guest *g)
{
    const struct spec_alerts *want = &g->spec->alerts;
    struct alert_sight s = {.kind = ALERT_UNHEALTHY, .level = ALERT_CRITICAL, .guest = g->name, .subject = "",
                            .sign = want->unhealthy_ms ? health_sign(g) : SIGN_FINE, .after_ms = want->unhealthy_ms};
    char why[REASON_MAX] = "";

    if (s.sign == SIGN_BAD && g->state == ST_FAILED)
        snprintf(why, sizeof why, "down: %.200s", g->error ? g->error : "nobody knows why");
    else if (s.sign == SIGN_BAD)
        failing_check(g, why);
    alert_see(a, &s, "%s", why);
}

/* Restarts in a row are forgotten by a person's apply, and by a long run. */
static enum alert_sign crash_sign(const struct guest *g, int64_t now)
{
    const struct spec_restart *r = &g->spec->restart;
    bool lasts = guest_is_up(g) && g->up_since && now - g->up_since >= LIFE_STABLE_MS;
    bool given_up = r->give_up && g->backoff.in_window >= r->give_up && g->state == ST_FAILED;

    if (!g->up || g->removing || !g->spec->alerts.restarts || lasts)
        return SIGN_FINE;
    if (given_up || g->backoff.streak >= g->spec->alerts.restarts)
        return SIGN_BAD;
    return guest_is_up(g) ? SIGN_FINE : SIGN_UNKNOWN;
}

static void see_crashes(struct alerts *a, const struct guest *g, int64_t now)
{
    struct alert_sight s = {.kind = ALERT_CRASH_LOOP, .level = ALERT_CRITICAL, .guest = g->name, .subject = "",
                            .sign = crash_sign(g, now)};

    alert_see(a, &s, "started again %u times in a row%s%.200s", g->backoff.streak, g->error ? "; the last time: " : "",
              g->error ? g->error : "");
}

static unsigned share(uint64_t used, uint64_t of)
{
    return of ? (unsigned)((double)used * 100 / (double)of) : 0;
}

/* Caches that the kernel takes back are not in the way of anybody. */
static bool memory_of(const struct guest *g, uint64_t *used, uint64_t *limit)
{
    const struct drv_stats *s = &usage_last(g)->stats;

    if (g->driver && (g->driver->can & DRV_BOOTS_KERNEL))
        return inside_memory(g, used, limit);
    *limit = g->spec->memory;
    *used = s->memory_cache != UINT64_MAX && s->memory_cache <= s->memory ? s->memory - s->memory_cache : s->memory;
    return s->memory != UINT64_MAX;
}

static void see_memory(struct alerts *a, const struct guest *g)
{
    const struct spec_alerts *want = &g->spec->alerts;
    struct alert_sight s = {.kind = ALERT_MEMORY, .level = ALERT_WARNING, .guest = g->name, .subject = "", .sign = SIGN_UNKNOWN,
                            .after_ms = want->memory_for_ms};
    uint64_t used = 0, limit = 0;
    char u[TEXT_HUMAN], l[TEXT_HUMAN];

    if (!want->memory || !g->up)
        s.sign = SIGN_FINE;
    else if (guest_is_up(g) && memory_of(g, &used, &limit))
        s.sign = share(used, limit) >= want->memory ? SIGN_BAD : SIGN_FINE;
    alert_see(a, &s, "memory: %s of %s in use (%u %%)", text_human_size(used, u), text_human_size(limit, l), share(used, limit));
}

static void see_full(struct alerts *a, const char *guest, const char *subject, uint64_t used, uint64_t size, unsigned full)
{
    struct alert_sight s = {.kind = ALERT_DISK, .level = ALERT_WARNING, .guest = guest, .subject = subject,
                            .sign = full && share(used, size) >= full ? SIGN_BAD : SIGN_FINE};
    char u[TEXT_HUMAN], l[TEXT_HUMAN];

    alert_see(a, &s, "%s: %s of %s in use (%u %%)", *subject ? subject : "its root", text_human_size(used, u),
              text_human_size(size, l), share(used, size));
}

/* said: bytes within a day; no number: not known. */
static void see_growth(struct alerts *a, const char *guest, const char *subject, const json_t *said, uint64_t most)
{
    uint64_t grown = json_integer_value(said) > 0 ? (uint64_t)json_integer_value(said) : 0;
    struct alert_sight s = {.kind = ALERT_GROWTH, .level = ALERT_WARNING, .guest = guest, .subject = subject,
                            .sign = !most ? SIGN_FINE : !json_is_integer(said) ? SIGN_UNKNOWN : grown > most ? SIGN_BAD : SIGN_FINE};
    char size[TEXT_HUMAN];

    alert_see(a, &s, "%s: %s more than a day ago", *subject ? subject : "its root", text_human_size(grown, size));
}

static void see_disks(struct alerts *a, const struct guest *g, const struct alert_facts *f)
{
    uint64_t used = usage_last(g)->disk;

    if (used != UINT64_MAX)
        see_full(a, g->name, "", used, g->spec->disk, g->spec->alerts.disk);
    else
        alert_see(a, &(struct alert_sight){.kind = ALERT_DISK, .guest = g->name, .subject = ""}, "unknown");
    see_growth(a, g->name, "", json_object_get(json_object_get(f->look, "roots"), g->name), g->spec->alerts.growth);
}

static void see_volumes(struct alerts *a, struct world *w, const struct alert_facts *f)
{
    json_t *volume;
    size_t i;

    json_array_foreach(json_object_get(f->look, "volumes"), i, volume) {
        const struct guest *g = world_guest(w, json_str(volume, "guest", ""));
        OWN(str) char *subject = text_format("volume %s", json_str(volume, "name", "?"));
        int64_t size = json_int(volume, "size", 0), bytes = json_int(volume, "bytes", 0);

        if (!g || !subject)
            continue;
        if (!strcmp(json_str(volume, "type", ""), "disk") && size > 0)
            see_full(a, g->name, subject, (uint64_t)bytes, (uint64_t)size, g->spec->alerts.disk);
        see_growth(a, g->name, subject, json_object_get(volume, "grown"), g->spec->alerts.growth);
    }
}

/* By the wall clock: it may have been off for a month. */
static void see_age(struct alerts *a, const struct guest *g)
{
    int64_t most = g->spec->alerts.applied_ms, age = g->applied_at ? wall_ms() - g->applied_at : 0;
    struct alert_sight s = {.kind = ALERT_APPLY_AGE, .level = ALERT_WARNING, .guest = g->name, .subject = "",
                            .sign = most && age > most ? SIGN_BAD : SIGN_FINE};
    char shown[TEXT_HUMAN];

    alert_see(a, &s, "applied %s ago", text_human_duration(age, shown));
}

/* ---- the host ---- */

/* In use of what there is to use, of space or of files, whichever is more; as df counts. */
static unsigned filled(const json_t *fs)
{
    int64_t used = json_int(fs, "used_bytes", 0), free = json_int(fs, "available_bytes", 0);
    int64_t files = json_int(fs, "files", 0), files_free = json_int(fs, "files_free", 0);
    unsigned space = share((uint64_t)used, (uint64_t)(used + free)), nodes = share((uint64_t)(files - files_free), (uint64_t)files);

    return space > nodes ? space : nodes;
}

static void see_level(struct alerts *a, const char *target, unsigned in_use, enum alert_level level, unsigned most, enum alert_sign known)
{
    struct alert_sight s = {.kind = ALERT_FILE_SYSTEM, .level = level, .subject = target,
                            .sign = !most ? SIGN_FINE : known == SIGN_UNKNOWN ? known : in_use >= most ? SIGN_BAD : SIGN_FINE};

    alert_see(a, &s, "%s: %u %% in use", target, in_use);
}

/* One that was always read-only is meant to be; one that cannot be asked is unknown. */
static void see_file_system(struct alerts *a, const struct host_spec *h, const struct alert_facts *f, const json_t *fs)
{
    const char *target = json_str(fs, "target", "?");
    bool read_only = json_flag(fs, "read_only", false);
    enum alert_sign known = json_is_integer(json_object_get(fs, "size_bytes")) ? SIGN_FINE : SIGN_UNKNOWN;
    struct alert_sight s = {.kind = ALERT_READ_ONLY, .level = ALERT_CRITICAL, .subject = target, .sign = known};

    if (known && !read_only)
        json_put(f->writable, target, json_true());
    if (known && read_only)
        s.sign = json_object_get(f->writable, target) ? SIGN_BAD : SIGN_UNKNOWN;
    alert_see(a, &s, "%s: it has become read-only; see the kernel's log", target);
    if (read_only)
        return;
    see_level(a, target, filled(fs), ALERT_WARNING, h->full, known);
    see_level(a, target, filled(fs), ALERT_CRITICAL, h->critical, known);
}

/* The bounds of a path stand beside those of its file system. */
static void see_path(struct alerts *a, const struct host_spec *h, const json_t *path)
{
    const char *name = json_str(path, "path", "");
    bool known = json_is_integer(json_object_get(path, "used_bytes"));

    for (size_t i = 0; i < h->n_paths; i++) {
        OWN(str) char *subject = strcmp(h->paths[i].path, name) ? NULL : text_format("path %s", name);

        if (!subject)
            continue;
        see_level(a, subject, filled(path), ALERT_WARNING, h->paths[i].full, known ? SIGN_FINE : SIGN_UNKNOWN);
        see_growth(a, NULL, subject, json_object_get(path, "grown"), h->paths[i].growth);
    }
}

static void see_arrays(struct alerts *a, const json_t *arrays)
{
    static const struct { const char *list, *name; } all[] = {{"md", "name"}, {"btrfs", "uuid"}, {"zfs", "name"}};
    json_t *one;
    size_t i;

    for (size_t k = 0; k < ARRAY_LEN(all); k++) {
        json_array_foreach(json_object_get(arrays, all[k].list), i, one) {
            OWN(str) char *subject = text_format("%s %s", all[k].list, json_str(one, all[k].name, "?"));
            struct alert_sight s = {.kind = ALERT_ARRAY, .level = ALERT_CRITICAL, .subject = subject ? subject : all[k].list,
                                    .sign = json_flag(one, "degraded", false) ? SIGN_BAD : SIGN_FINE};

            alert_see(a, &s, "%s: degraded (%s)", s.subject, json_str(one, "state", "a disk is missing, or makes errors"));
        }
    }
}

static void see_drives(struct alerts *a, const json_t *arrays)
{
    json_t *drive;
    size_t i;

    json_array_foreach(json_object_get(arrays, "smart"), i, drive) {
        const json_t *healthy = json_object_get(drive, "healthy");
        struct alert_sight s = {.kind = ALERT_DRIVE, .level = ALERT_CRITICAL, .subject = json_str(drive, "device", "?"),
                                .sign = json_is_false(healthy) ? SIGN_BAD : json_is_true(healthy) ? SIGN_FINE : SIGN_UNKNOWN};

        alert_see(a, &s, "%s (%s): it says that it is failing; replace it", s.subject, json_str(drive, "model", "model unknown"));
    }
}

void alert_rules(struct alerts *a, struct world *w, const struct alert_facts *f)
{
    const struct host_spec *h = w->host_spec;
    int64_t now = now_ms();
    json_t *one;
    size_t i;

    for (size_t k = 0; k < w->n_guests; k++) {
        see_health(a, w->guests[k]);
        see_crashes(a, w->guests[k], now);
        see_memory(a, w->guests[k]);
        see_disks(a, w->guests[k], f);
        see_age(a, w->guests[k]);
    }
    see_volumes(a, w, f);
    json_array_foreach(f->file_systems, i, one)
        see_file_system(a, h, f, one);
    json_array_foreach(json_object_get(f->look, "paths"), i, one)
        see_path(a, h, one);
    see_arrays(a, f->arrays);
    see_drives(a, f->arrays);
}
