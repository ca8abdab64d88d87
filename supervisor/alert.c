#include "alert.h"

#include "measures.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>
#include <vmsd/log.h>

enum { EVERY_MS = 5000, SLACK_MS = 1000, SOON_MS = 100, LOOK_MS = 60000, ARRAYS_MS = 3600000, TEXT_MAX = 400 };

#define X(id, name) [ALERT_##id] = name,
static const char *const kind_names[ALERT_KIND_COUNT] = {ALERT_KINDS(X)};
#undef X
static const char *const level_names[] = {[ALERT_WARNING] = "warning", [ALERT_CRITICAL] = "critical"};

struct alert {
    struct alert *next;
    enum alert_kind kind;
    enum alert_level level;
    char *guest, *subject, *text;
    struct alert_course course;
    int64_t id;                    /* 0: not written yet */
    int64_t began_at;              /* wall */
    enum alert_turn due;           /* to be written; until it is, nothing else happens to it */
    bool seen;                     /* in this round */
};

struct alerts {
    struct world *w;
    struct loop_timer *timer;
    struct tellers *tellers;
    struct alert *first;
    json_t *look, *arrays, *writable;
    int64_t looked, asked;         /* monotonic: when look and arrays were begun, 0: never */
    bool looking, writing, failing;
};

const char *alert_kind_name(enum alert_kind k)
{
    return kind_names[k];
}

/* ---- the list ---- */

static void alert_free(struct alert *x)
{
    if (!x)
        return;
    free(x->guest);
    free(x->subject);
    free(x->text);
    free(x);
}
OWN_DEFINE(alert, struct alert *, alert_free)

static bool same(const char *a, const char *b)
{
    return a && b ? !strcmp(a, b) : a == b;
}

static struct alert *alert_find(struct alerts *a, const struct alert_sight *s)
{
    for (struct alert *x = a->first; x; x = x->next)
        if (x->kind == s->kind && x->level == s->level && same(x->guest, s->guest) && !strcmp(x->subject, s->subject))
            return x;
    return NULL;
}

/* NULL: no memory, and then the next round finds it. */
static struct alert *alert_new(struct alerts *a, const struct alert_sight *s)
{
    OWN(alert) struct alert *x = calloc(1, sizeof *x);

    if (!x || (s->guest && !(x->guest = strdup(s->guest))) || !(x->subject = strdup(s->subject)) || !(x->text = strdup("")))
        return NULL;
    x->kind = s->kind;
    x->level = s->level;
    x->next = a->first;
    return a->first = TAKE(x);
}

static bool silenced(const struct alerts *a, const struct alert_sight *s)
{
    const struct guest *g = s->guest ? world_guest(a->w, s->guest) : NULL;

    return g && g->silent_until > wall_ms();
}

void alert_see(struct alerts *a, const struct alert_sight *s, const char *fmt, ...)
{
    const struct host_spec *h = a->w->host_spec;
    struct alert_times t = {s->after_ms, h->remind_ms, h->recover_ms};
    struct alert *x = alert_find(a, s);
    OWN(text) struct text shown = {0};
    char what[TEXT_MAX];
    va_list ap;

    if (!x && (s->sign != SIGN_BAD || !(x = alert_new(a, s))))
        return;
    x->seen = true;
    if (x->due || silenced(a, s))
        return;
    if (s->sign == SIGN_BAD) { /* parts of it may be a guest's words */
        va_start(ap, fmt);
        vsnprintf(what, sizeof what, fmt, ap);
        va_end(ap);
        text_add_visible(&shown, what, strlen(what), NULL);
        guest_set_text(&x->text, shown.s ? shown.s : "");
    }
    x->due = alert_step(&x->course, s->sign, &t, now_ms());
    if (x->due == TURN_BEGINS)
        x->began_at = wall_ms();
}

size_t alerts_firing(const struct world *w, enum alert_kind k)
{
    size_t n = 0;

    for (const struct alert *x = w->alerts ? w->alerts->first : NULL; x; x = x->next)
        n += x->kind == k && (x->course.phase == ALERT_FIRING || x->course.phase == ALERT_CALMING);
    return n;
}

/* ---- writing ---- */

static const char *const turn_names[] = {[TURN_BEGINS] = "firing", [TURN_REMINDS] = "reminder", [TURN_ENDS] = "recovered"};

/* Copies of what is due; alerts that are due stay, and stay as they are, until it is written. */
struct item {
    struct alert *alert;
    struct store_alert row;
    bool written;
};
struct writing {
    struct alerts *a;
    struct store *store;
    struct strv channels;
    struct vm_err err;
    size_t n;
    struct item items[];
};

static void write_run(void *arg)
{
    struct writing *o = arg;

    for (size_t i = 0; i < o->n && o->err.code == VM_E_OK; i++) {
        struct item *x = &o->items[i];

        x->written = store_put_alert(o->store, &x->row, turn_names[x->alert->due], &o->channels, &x->row.id, &o->err) == 0;
    }
}

static void write_free(struct writing *o)
{
    strv_done(o->channels);
    free(o);
}

static void tell_event(struct world *w, const struct alert *x)
{
    json_t *body = json_pack("{sI ss ss}", "alert", (json_int_t)x->id, "kind", kind_names[x->kind], "level", level_names[x->level]);

    json_put_str(body, "subject", x->subject);
    if (x->due == TURN_BEGINS)
        events_add(w, x->guest, "alert", body, "%s: %s", kind_names[x->kind], x->text);
    else
        events_add(w, x->guest, "alert-over", body, "%s%s%s: well again", kind_names[x->kind], *x->subject ? " " : "", x->subject);
}

static void write_done(void *arg, bool cancelled)
{
    struct writing *o = arg;
    struct alerts *a = o->a;
    bool failed = o->err.code != VM_E_OK;

    for (size_t i = 0; i < o->n; i++) {
        struct alert *x = o->items[i].alert;

        if (!o->items[i].written)
            continue;
        x->id = o->items[i].row.id;
        if (x->due != TURN_REMINDS)
            tell_event(a->w, x);
        x->due = TURN_NONE;
    }
    if (failed && !a->failing)
        log_warn(NULL, "alerts are not kept, so nobody is told: %s, trying again", o->err.text);
    a->failing = failed;
    a->writing = false;
    write_free(o);
    if (!cancelled)
        tellers_kick(a->tellers);
}

static struct writing *write_new(struct alerts *a)
{
    const struct strv *channels = tellers_channels(a->tellers);
    struct writing *o;
    size_t n = 0;

    for (const struct alert *x = a->first; x; x = x->next)
        n += x->due != TURN_NONE;
    if (!n || !(o = calloc(1, sizeof *o + n * sizeof o->items[0])))
        return NULL;
    *o = (struct writing){.a = a, .store = a->w->store};
    for (size_t i = 0; i < channels->n; i++)
        strv_add(&o->channels, channels->v[i]);
    for (struct alert *x = a->first; x; x = x->next)
        if (x->due)
            o->items[o->n++] = (struct item){.alert = x, .row = {x->id, kind_names[x->kind], level_names[x->level], x->guest,
                x->subject, x->text, x->began_at, wall_ms(), x->due == TURN_ENDS ? wall_ms() : 0}};
    return o;
}

static void write_due(struct alerts *a)
{
    struct writing *o = a->writing ? NULL : write_new(a);

    if (!o)
        return;
    a->writing = !o->channels.failed && loop_work(a->w->loop, (struct loop_job){write_run, write_done, o}, NULL) == 0;
    if (!a->writing)
        write_free(o);
}

/* ---- rounds ---- */

static void looked(json_t *look, json_t *arrays, bool cancelled, void *arg)
{
    struct alerts *a = arg;

    a->looking = false;
    if (look) {
        json_decref(a->look);
        a->look = look;
    }
    if (arrays) {
        json_decref(a->arrays);
        a->arrays = arrays;
    }
    if (!cancelled)
        loop_timer_set(a->timer, SOON_MS, 0);
}

static void look(struct alerts *a, int64_t now)
{
    bool arrays = a->w->host_spec->drives && (!a->asked || now - a->asked >= ARRAYS_MS);

    if (a->looking || (a->looked && now - a->looked < LOOK_MS && !arrays))
        return;
    a->looking = alert_look(a->w, arrays, looked, a) == 0;
    a->looked = now;
    if (arrays && a->looking)
        a->asked = now;
}

/* A thing that is not there any more is well; but of what is not known nothing is said. */
static void see_gone(struct alerts *a, struct alert *x, bool known)
{
    struct alert_sight s = {.kind = x->kind, .level = x->level, .guest = x->guest, .subject = x->subject, .sign = SIGN_FINE};

    if (!x->guest ? !known : world_guest(a->w, x->guest) && !known)
        s.sign = SIGN_UNKNOWN;
    alert_see(a, &s, "gone");
}

static void sweep(struct alerts *a)
{
    for (struct alert **p = &a->first; *p;) {
        struct alert *x = *p;

        if (x->course.phase == ALERT_QUIET && !x->due) {
            *p = x->next;
            alert_free(x);
        } else {
            p = &x->next;
        }
    }
}

static void round_of(void *arg)
{
    struct alerts *a = arg;
    const json_t *measures = measures_last(a->w);
    struct alert_facts f = {a->look, a->w->host_spec->drives ? a->arrays : NULL, json_object_get(measures, "file_systems"), a->writable};
    bool known = json_is_array(json_object_get(f.look, "volumes")) && f.file_systems && (f.arrays || !a->w->host_spec->drives);

    look(a, now_ms());
    for (struct alert *x = a->first; x; x = x->next)
        x->seen = false;
    alert_rules(a, a->w, &f);
    for (struct alert *x = a->first; x; x = x->next)
        if (!x->seen)
            see_gone(a, x, known);
    sweep(a);
    write_due(a);
    loop_timer_set(a->timer, EVERY_MS, SLACK_MS);
}

/* ---- beginning and end ---- */

static int kind_of(const char *name)
{
    for (int k = 0; k < ALERT_KIND_COUNT; k++)
        if (!strcmp(kind_names[k], name))
            return k;
    return -1;
}

static int load(const struct store_alert *row, void *arg)
{
    struct alerts *a = arg;
    int kind = kind_of(row->kind);
    struct alert_sight s = {.kind = (enum alert_kind)kind, .level = strcmp(row->level, level_names[ALERT_CRITICAL]) ? ALERT_WARNING : ALERT_CRITICAL,
                            .guest = row->guest, .subject = row->subject};
    int64_t ago = wall_ms() - row->told_at;
    struct alert *x = kind >= 0 ? alert_new(a, &s) : NULL;

    if (kind >= 0 && !x)
        return -1;
    if (x) {
        x->id = row->id;
        x->began_at = row->began_at;
        x->course = (struct alert_course){ALERT_FIRING, now_ms(), now_ms() - (ago > 0 ? ago : 0)};
        guest_set_text(&x->text, row->text);
    }
    return 0;
}

int alerts_open(struct world *w, struct vm_err *e)
{
    struct alerts *a = calloc(1, sizeof *a);

    if (!a)
        return vm_no_memory(e);
    a->w = w;
    a->writable = json_object();
    w->alerts = a;
    if (store_alerts_open(w->store, load, a, e) < 0 || tellers_open(w, &a->tellers, e) < 0 ||
        loop_timer_new(w->loop, round_of, a, &a->timer, e) < 0)
        return -1;
    loop_timer_set(a->timer, SOON_MS, 0);
    return 0;
}

void alerts_changed(struct world *w)
{
    struct alerts *a = w->alerts;
    struct vm_err e;

    if (!a)
        return;
    if (tellers_set(a->tellers, w->host_spec, &e) < 0)
        log_warn(NULL, "who is told of alerts: %s, continuing", e.text);
    a->looked = 0;
    loop_timer_set(a->timer, SOON_MS, 0);
}

void alerts_close(struct world *w)
{
    struct alerts *a = TAKE(w->alerts);

    if (!a)
        return;
    loop_timer_free(a->timer);
    tellers_close(a->tellers);
    for (struct alert *x = a->first, *next; x; x = next) {
        next = x->next;
        alert_free(x);
    }
    json_decref(a->look);
    json_decref(a->arrays);
    json_decref(a->writable);
    free(a);
}
