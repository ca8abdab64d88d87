/* How well a guest is: its checks, made one after the other by one timer, each never twice at once. */
#include "facts.h"
#include "health.h"
#include "job.h"
#include "probe.h"
#include "usage.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

enum { CHECK_TEXT_MAX = 100 };

/* Its own copy of a check: the spec of a guest is replaced while checks run. */
struct rule {
    struct spec_check is;
    const char *words[]; /* of its lists; and behind them the bytes of all strings */
};

struct check {
    struct health *health;
    struct rule *rule;           /* NULL: the built-in check, whether the agent answers */
    char *name;                  /* "tcp 5432": no two of a guest have the same */
    struct verdict verdict;
    struct probe *probe;         /* that runs, or NULL */
    int64_t due, began;          /* monotonic: next try; start of this one */
    int64_t since, last_at;      /* wall: of the state; of the last result, 0: none */
    int64_t duration_ms;
    char *message;               /* of the last result, or NULL */
    struct numbers *numbers;     /* that came with it, or NULL */
};

struct health {
    struct guest *g;
    struct loop_timer *timer;
    enum health_state state;
    int64_t started_at;          /* monotonic */
    size_t n;
    struct check checks[];
};

static const struct spec_check agent_check = {
    .every_ms = 5000, .timeout_ms = 5000, .start_period_ms = 30000, .failures = 3, .successes = 1};

static const struct spec_check *rule_of(const struct check *c)
{
    return c->rule ? &c->rule->is : &agent_check;
}

const char *health_name(enum health_state s)
{
    static const char *const names[] = {[HEALTH_NONE] = "none", [HEALTH_STARTING] = "starting",
                                        [HEALTH_HEALTHY] = "healthy", [HEALTH_UNHEALTHY] = "unhealthy"};

    return names[s];
}

/* ---- rules ---- */

static size_t bytes_of(const char *s)
{
    return s ? strlen(s) + 1 : 0;
}

static const char *put(char **at, const char *s)
{
    char *to = *at;

    if (!s)
        return NULL;
    *at = stpcpy(to, s) + 1;
    return to;
}

static size_t bytes_of_list(const struct spec_list *l)
{
    size_t n = 0;

    for (size_t i = 0; i < l->n; i++)
        n += bytes_of(l->v[i]);
    return n;
}

/* slots: where its pointers go; the next free one is returned. */
static const char **put_list(char **at, const char **slots, struct spec_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        slots[i] = put(at, l->v[i]);
    l->v = slots;
    return slots + l->n;
}

static struct rule *rule_copy(const struct spec_check *c)
{
    size_t size = sizeof(struct rule) + (c->exec.n + c->numbers.n + 1) * sizeof(char *);
    size_t strings = bytes_of(c->path) + bytes_of(c->host) + bytes_of(c->body) + bytes_of_list(&c->exec) +
                     bytes_of_list(&c->numbers);
    struct rule *r = calloc(1, size + strings);
    char *at;

    if (!r)
        return NULL;
    at = (char *)r + size;
    r->is = *c;
    r->is.path = put(&at, c->path);
    r->is.host = put(&at, c->host);
    r->is.body = put(&at, c->body);
    put_list(&at, put_list(&at, r->words, &r->is.exec), &r->is.numbers);
    return r;
}

static bool same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_list(const struct spec_list *a, const struct spec_list *b)
{
    for (size_t i = 0; i < a->n && i < b->n; i++)
        if (strcmp(a->v[i], b->v[i]))
            return false;
    return a->n == b->n;
}

static bool rule_equal(const struct spec_check *a, const struct spec_check *b)
{
    return a->kind == b->kind && a->port == b->port && a->status == b->status && a->every_ms == b->every_ms &&
           a->timeout_ms == b->timeout_ms && a->start_period_ms == b->start_period_ms && a->failures == b->failures &&
           a->successes == b->successes && same(a->path, b->path) && same(a->host, b->host) && same(a->body, b->body) &&
           same_list(&a->exec, &b->exec) && same_list(&a->numbers, &b->numbers);
}

static void describe(const struct check *c, struct text *t)
{
    const struct spec_check *r = rule_of(c);
    OWN(text) struct text argv = {0};

    if (!c->rule) {
        text_add(t, "agent");
    } else if (r->kind == CHECK_TCP) {
        text_addf(t, "tcp %u", r->port);
    } else if (r->kind == CHECK_HTTP) {
        text_addf(t, "http :%u%s", r->port, r->path);
    } else if (r->kind == CHECK_UNITS) {
        text_add(t, "units");
    } else {
        for (size_t i = 0; i < r->exec.n; i++)
            text_addf(&argv, " %s", r->exec.v[i]);
        text_add(t, "exec");
        text_add_visible(t, argv.s ? argv.s : "", argv.len < CHECK_TEXT_MAX ? argv.len : CHECK_TEXT_MAX, NULL);
    }
}

/* ---- results ---- */

static void arm(struct health *h)
{
    int64_t now = now_ms(), first = INT64_MAX, last = INT64_MAX;

    for (size_t i = 0; i < h->n; i++) {
        const struct check *c = &h->checks[i];
        int64_t late = c->due + verdict_slack(c->due - now);

        if (c->probe)
            continue;
        first = c->due < first ? c->due : first;
        last = late < last ? late : last;
    }
    if (first != INT64_MAX)
        loop_timer_set(h->timer, first - now, last - first);
}

/* Told last of all: whoever hears it may stop the checks. */
static void tell(struct health *h)
{
    static const enum health_state by_worst[] = {
        [VERDICT_OK] = HEALTH_HEALTHY, [VERDICT_WAITING] = HEALTH_STARTING, [VERDICT_FAILING] = HEALTH_UNHEALTHY};
    const struct check *worst = &h->checks[0];
    OWN(text) struct text why = {0};

    for (size_t i = 1; i < h->n; i++)
        if (h->checks[i].verdict.state > worst->verdict.state)
            worst = &h->checks[i];
    if (h->state == by_worst[worst->verdict.state])
        return;
    h->state = by_worst[worst->verdict.state];
    if (h->state != HEALTH_HEALTHY) {
        text_addf(&why, "%s: %s", worst->name, worst->message ? worst->message : "no result yet");
    }
    guest_health_changed(h->g, h->state, why.s);
}

/* A job that began after the checks did is at work on the guest: what its scripts restart is no illness. */
static bool excused(const struct health *h)
{
    return h->g->job && h->g->job->began > h->started_at;
}

/* Its numbers, and in the message what became of them. */
static void take_numbers(struct check *c, enum outcome o, const struct probe_said *said)
{
    OWN(text) struct text t = {0};

    numbers_free(c->numbers);
    c->numbers = said ? numbers_read(said->s, said->n, &rule_of(c)->numbers) : NULL;
    if (!said || o != OUTCOME_PASSED)
        return;
    if (c->message)
        text_addf(&t, "%s; ", c->message);
    if (c->numbers)
        numbers_say(c->numbers, &t);
    else
        text_add(&t, "no memory for its numbers");
    guest_set_text(&c->message, t.s);
}

static void result(struct check *c, enum outcome o, const char *message, const struct probe_said *said)
{
    const struct spec_check *rule = rule_of(c);
    int64_t now = now_ms();

    c->probe = NULL;
    c->last_at = wall_ms();
    c->duration_ms = now - c->began;
    guest_set_text(&c->message, *message ? message : NULL);
    take_numbers(c, o, said);
    if (verdict_add(&c->verdict, rule, o, excused(c->health), now))
        c->since = c->last_at;
    c->due = now + verdict_pause(&c->verdict, rule, now, arc4random());
}

static void probed(enum outcome o, const char *message, const struct probe_said *said, void *arg)
{
    struct check *c = arg;

    result(c, o, message, said);
    arm(c->health);
    tell(c->health);
}

static void begin(struct check *c)
{
    const struct guest *g = c->health->g;
    const struct spec_check *rule = rule_of(c);
    bool outside = c->rule && (rule->kind == CHECK_TCP || rule->kind == CHECK_HTTP), up = agent_is_up(g->agent);
    struct facts facts = facts_of(g);
    OWN(strv) struct strv env = {0};
    struct probe_target at = {.loop = g->w->loop, .address = "", .agent = g->agent, .env = &env};
    struct vm_err e = {0};

    c->began = now_ms();
    if (c->rule && rule->kind == CHECK_EXEC)
        facts_env(&facts, &env);
    if (g->n_nics)
        at.address = *g->nics[0].address ? g->nics[0].address : g->nics[0].address6;
    if (!c->rule)
        result(c, up ? OUTCOME_PASSED : OUTCOME_FAILED, up ? "" : "the agent does not answer", NULL);
    else if (outside && !*at.address)
        result(c, OUTCOME_FAILED, "the guest has no address", NULL);
    else if (!outside && !up) /* the check of the agent counts that */
        result(c, OUTCOME_UNKNOWN, "the agent does not answer", NULL);
    else if (probe_start(&at, rule, probed, c, &c->probe, &e) < 0)
        result(c, OUTCOME_UNKNOWN, e.text, NULL);
}

static void wake(void *arg)
{
    struct health *h = arg;
    int64_t now = now_ms();

    for (size_t i = 0; i < h->n; i++)
        if (!h->checks[i].probe && h->checks[i].due <= now)
            begin(&h->checks[i]);
    arm(h);
    tell(h);
}

/* ---- start and stop ---- */

static void health_free(struct health *h)
{
    if (!h)
        return;
    for (size_t i = 0; i < h->n; i++) {
        probe_cancel(h->checks[i].probe);
        free(h->checks[i].rule);
        free(h->checks[i].name);
        free(h->checks[i].message);
        numbers_free(h->checks[i].numbers);
    }
    loop_timer_free(h->timer);
    free(h);
}

/* "tcp 80", and a second one that looks like it "tcp 80 #2". NULL: no memory. */
static char *name_of(const struct health *h, const struct check *c)
{
    OWN(text) struct text t = {0};
    size_t bare;
    unsigned n = 1;

    describe(c, &t);
    bare = t.len;
    for (const struct check *other = h->checks; other < c && !t.failed; other++) {
        if (strcmp(other->name, t.s))
            continue;
        t.len = bare;
        text_addf(&t, " #%u", ++n);
        other = h->checks;
    }
    return text_take(&t);
}

static bool fill(struct health *h, const struct guest_spec *s, int64_t now)
{
    for (size_t i = 0; i < h->n; i++) {
        struct check *c = &h->checks[i];

        *c = (struct check){.health = h, .verdict = verdict_new(now), .since = wall_ms(), .due = now};
        if (i && !(c->rule = rule_copy(&s->health[i - 1])))
            return false;
        if (i)
            c->due += verdict_first_pause(arc4random());
        if (!(c->name = name_of(h, c)))
            return false;
    }
    return true;
}

static struct health *health_new(struct guest *g, int64_t now)
{
    const struct guest_spec *s = g->spec;
    struct health *h = calloc(1, sizeof *h + (s->n_health + 1) * sizeof h->checks[0]);

    if (!h)
        return NULL;
    *h = (struct health){.g = g, .state = HEALTH_STARTING, .started_at = now, .n = s->n_health + 1};
    if (!fill(h, s, now) || loop_timer_new(g->w->loop, wake, h, &h->timer, NULL) < 0) {
        health_free(h);
        return NULL;
    }
    return h;
}

/* What is known of checks that did not change stays; each old one serves at most one new one. */
static void inherit(struct health *h, struct health *old)
{
    h->state = old->state;
    for (size_t i = 0; i < h->n; i++) {
        for (size_t k = 0; k < old->n; k++) {
            struct check *to = &h->checks[i], *from = &old->checks[k];

            if (from->health != old || !to->rule != !from->rule || !rule_equal(rule_of(to), rule_of(from)))
                continue;
            from->health = NULL;
            to->verdict = from->verdict;
            to->since = from->since;
            to->last_at = from->last_at;
            to->duration_ms = from->duration_ms;
            to->message = TAKE(from->message);
            to->numbers = TAKE(from->numbers);
            break;
        }
    }
}

void health_start(struct guest *g)
{
    struct health *h = health_new(g, now_ms());

    if (!h) {
        events_add(g->w, g->name, "health", NULL, "its checks cannot run: no memory");
        return;
    }
    if (g->health) {
        inherit(h, g->health);
        health_free(g->health);
    }
    g->health = h;
    usage_soon(g->w);
    wake(h); /* the check of the agent costs nothing: a guest without others is healthy at once */
}

void health_stop(struct guest *g)
{
    health_free(TAKE(g->health));
}

enum health_state health_of(const struct guest *g)
{
    if (!guest_is_up(g))
        return HEALTH_NONE;
    return g->health ? g->health->state : HEALTH_STARTING;
}

static json_t *check_json(const struct check *c)
{
    json_t *o = json_object();
    char at[CLOCK_TEXT];

    json_put_str(o, "check", c->name);
    json_put_str(o, "state", verdict_name(c->verdict.state));
    json_put_str(o, "since", wall_text(c->since, at));
    json_put_str(o, "last_at", c->last_at ? wall_text(c->last_at, at) : NULL);
    json_put(o, "duration", c->last_at ? json_real((double)c->duration_ms / 1000) : NULL);
    json_put_int(o, "failures", c->verdict.failures);
    json_put_str(o, "message", c->message);
    json_put(o, "numbers", rule_of(c)->numbers.n ? numbers_json(c->numbers) : NULL);
    return o;
}

json_t *health_json(const struct guest *g)
{
    json_t *list = json_array();

    for (size_t i = 0; g->health && i < g->health->n; i++)
        json_array_append_new(list, check_json(&g->health->checks[i]));
    return list;
}

bool health_look(const struct guest *g, size_t i, struct health_view *out)
{
    const struct check *c = g->health && i < g->health->n ? &g->health->checks[i] : NULL;

    if (!c)
        return false;
    *out = (struct health_view){.name = c->name, .ok = c->verdict.state == VERDICT_OK, .last_at = c->last_at,
                                .duration_ms = c->duration_ms, .numbers = c->numbers};
    return true;
}
