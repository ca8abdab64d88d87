#include "top_rows.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/json.h>
#include "hosts.h"
#include "human.h"
#include "table.h"

#define X(id, key, word) [TOP_##id] = {key, word},
static const struct { int key; const char *word; } sorts[] = {TOP_SORTS(X)};
#undef X

struct row {
    const json_t *guest, *usage;
    double rx, tx; /* bytes a second; NAN: not known */
    double order;  /* by what is sorted; NAN comes last */
};

static double number(const json_t *v)
{
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *name_of(const json_t *guest)
{
    return json_str(guest, "name", "");
}

static const char *host_of(const json_t *guest)
{
    return json_str(guest, "host", "");
}

/* label -> what a rate is counted from */
static json_t *counters(const json_t *guests)
{
    json_t *all = json_object(), *guest;
    size_t i;

    json_array_foreach(guests, i, guest) {
        OWN(str) char *label = hosts_label(guest, "name");

        if (label)
            json_put(all, label, json_incref(json_object_get(json_object_get(guest, "usage"), "net")));
    }
    return all;
}

int top_update(struct top *t, const json_t *doc, int64_t at)
{
    json_t *guests = json_object_get(doc, "guests");

    if (!json_is_array(guests))
        return -1;
    json_decref(t->before);
    t->before = t->guests ? counters(t->guests) : NULL;
    t->before_at = t->at;
    json_decref(t->guests);
    t->guests = json_incref(guests);
    t->at = at;
    return 0;
}

const json_t *top_guest(const struct top *t, const char *wanted_label)
{
    json_t *guest;
    size_t i;

    json_array_foreach(t->guests, i, guest) {
        OWN(str) char *label = hosts_label(guest, "name");

        if (label && !strcmp(label, wanted_label))
            return guest;
    }
    return NULL;
}

bool top_key(struct top *t, int key)
{
    for (int i = 0; i < TOP_SORT_COUNT; i++) {
        if (sorts[i].key != key)
            continue;
        t->reverse = t->sort == (enum top_sort)i && !t->reverse;
        t->sort = (enum top_sort)i;
        return true;
    }
    return false;
}

/* Counters that went back are of another boot. */
static double rate(const struct top *t, const json_t *guest, const char *counter)
{
    const json_t *net = json_object_get(json_object_get(guest, "usage"), "net");
    double now = number(json_object_get(net, counter));
    OWN(str) char *label = hosts_label(guest, "name");
    double then = number(json_object_get(json_object_get(t->before, label ? label : ""), counter));

    return t->at > t->before_at && now >= then ? (now - then) * 1000 / (double)(t->at - t->before_at) : NAN;
}

static double worst_pressure(const json_t *usage)
{
    const json_t *p = json_object_get(usage, "pressure");

    return fmax(fmax(number(json_object_get(p, "cpu")), number(json_object_get(p, "memory"))), number(json_object_get(p, "io")));
}

static double ill(const json_t *guest)
{
    const char *health = json_str(guest, "health", ""), *state = json_str(guest, "state", "");

    return !strcmp(health, "unhealthy") || !strcmp(state, "failed") ? 3 : !strcmp(health, "starting") ? 2 : !strcmp(state, "running");
}

static double age(const json_t *guest, int64_t now)
{
    int64_t started = human_time(json_str(guest, "started_at", ""));

    return started < 0 ? NAN : (double)(now - started);
}

static double order(const struct row *r, enum top_sort sort, int64_t now)
{
    switch (sort) {
    case TOP_CPU: return number(json_object_get(r->usage, "cpu_percent"));
    case TOP_MEMORY: return number(json_object_get(r->usage, "memory_bytes"));
    case TOP_DISK: return number(json_object_get(r->usage, "disk_bytes"));
    case TOP_NET: return r->rx + r->tx;
    case TOP_PRESSURE: return worst_pressure(r->usage);
    case TOP_HEALTH: return ill(r->guest);
    case TOP_AGE: return age(r->guest, now);
    default: return 0;
    }
}

static int by_order(const void *a, const void *b, void *top)
{
    const struct top *t = top;
    const struct row *x = a, *y = b;
    int sign = t->reverse ? -1 : 1;

    if (isnan(x->order) != isnan(y->order))
        return isnan(x->order) ? 1 : -1;
    if (x->order > y->order || x->order < y->order)
        return x->order > y->order ? -sign : sign;
    int host = strcmp(host_of(x->guest), host_of(y->guest)), name = strcmp(name_of(x->guest), name_of(y->guest));
    int by = name && !(t->sort == TOP_HOST && host) ? name : host;
    return t->sort == TOP_NAME || t->sort == TOP_HOST ? sign * by : by;
}

static bool wanted(const struct top *t, const json_t *guest)
{
    static const char *const keys[] = {"name", "state", "health", "kind", "host"};
    json_t *tag;
    size_t i;

    for (i = 0; i < ARRAY_LEN(keys); i++)
        if (strstr(json_str(guest, keys[i], ""), t->filter))
            return true;
    json_array_foreach(json_object_get(guest, "tags"), i, tag)
        if (json_is_string(tag) && strstr(json_string_value(tag), t->filter))
            return true;
    return false;
}

static void add_pair(struct table *t, const json_t *used, const json_t *limit)
{
    char a[HUMAN_MAX], b[HUMAN_MAX];

    if (json_is_number(limit))
        table_addf(t, "%s/%s", human_size(used, a), human_size(limit, b));
    else
        table_add(t, human_size(used, a));
}

static void add_rates(struct table *t, double rx, double tx)
{
    OWN(json) json_t *in = isnan(rx) ? json_null() : json_real(rx), *out = isnan(tx) ? json_null() : json_real(tx);
    char a[HUMAN_MAX], b[HUMAN_MAX];

    if (isnan(rx) || isnan(tx))
        table_add(t, NULL);
    else
        table_addf(t, "%s/%s", human_size(in, a), human_size(out, b));
}

static void add_row(struct table *t, const struct row *r, int64_t now)
{
    OWN(json) json_t *pressure = isnan(worst_pressure(r->usage)) ? json_null() : json_real(worst_pressure(r->usage));
    char a[HUMAN_MAX];

    if (!strcmp(t->columns->title, "HOST"))
        table_add(t, host_of(r->guest));
    table_add(t, name_of(r->guest));
    table_add(t, json_str(r->guest, "state", NULL));
    table_add(t, json_str(r->guest, "health", NULL));
    table_add(t, human_percent(json_object_get(r->usage, "cpu_percent"), a));
    add_pair(t, json_object_get(r->usage, "memory_bytes"), json_object_get(r->usage, "memory_limit_bytes"));
    table_add(t, human_size(json_object_get(r->usage, "disk_bytes"), a));
    add_rates(t, r->rx, r->tx);
    table_add(t, human_percent(pressure, a));
    table_add(t, human_ago(json_object_get(r->guest, "started_at"), now, a));
}

static void summary(const struct top *t, const struct row *rows, size_t n, struct text *out)
{
    size_t running = 0, bad = 0;
    double cpu = 0, memory = 0;
    char a[HUMAN_MAX], b[HUMAN_MAX];

    for (size_t i = 0; i < n; i++) {
        double c = number(json_object_get(rows[i].usage, "cpu_percent")), m = number(json_object_get(rows[i].usage, "memory_bytes"));

        running += !strcmp(json_str(rows[i].guest, "state", ""), "running");
        bad += ill(rows[i].guest) > 2;
        cpu += isnan(c) ? 0 : c;
        memory += isnan(m) ? 0 : m;
    }
    OWN(json) json_t *bytes = json_real(memory);
    text_add(out, human_count(n, "guest", a));
    if (t->here < t->hosts)
        text_addf(out, " on %zu of %s", t->here, human_count(t->hosts, "host", a));
    else if (t->hosts)
        text_addf(out, " on %s", human_count(t->hosts, "host", a));
    text_addf(out, ", %zu running, %zu ill; CPU %.1f%%, memory %s; by %s%s%s%s\n", running, bad, cpu,
              human_size(bytes, b), sorts[t->sort].word, t->reverse ? ", reversed" : "", *t->filter ? "; only " : "", t->filter);
}

int top_render(struct top *t, size_t width, int64_t now, struct text *out)
{
    static const struct table_column columns[] = {
        {"HOST", .least = 4}, /* of several only */
        {"NAME", .least = 6}, {"STATE", .least = 4}, {"HEALTH", .least = 4}, {"CPU", .right = true}, {"MEMORY", .right = true},
        {"DISK", .right = true}, {"NET/s", .right = true}, {"PRESSURE", .right = true}, {"AGE", .right = true},
    };
    size_t hidden = !t->hosts;
    OWN(table) struct table table = {.columns = columns + hidden, .n_columns = ARRAY_LEN(columns) - hidden};
    OWN(mem) struct row *rows = calloc(json_array_size(t->guests) + 1, sizeof *rows);
    json_t *guest;
    size_t i, n = 0;

    if (!rows)
        return -1;
    json_array_foreach(t->guests, i, guest) {
        if (!wanted(t, guest))
            continue;
        rows[n] = (struct row){.guest = guest, .usage = json_object_get(guest, "usage"), .rx = rate(t, guest, "rx_bytes"),
                               .tx = rate(t, guest, "tx_bytes")};
        rows[n].order = order(&rows[n], t->sort, now);
        n++;
    }
    qsort_r(rows, n, sizeof *rows, by_order, t);
    strv_done(t->names);
    t->names = (struct strv){0};
    summary(t, rows, n, out);
    for (i = 0; i < n; i++) {
        OWN(str) char *label = hosts_label(rows[i].guest, "name");

        add_row(&table, &rows[i], now);
        strv_add(&t->names, label ? label : "");
    }
    table_render(&table, width, false, out);
    return out->failed || t->names.failed ? -1 : 0;
}

void top_done(struct top *t)
{
    json_decref(t->guests);
    json_decref(t->before);
    strv_done(t->names);
    *t = (struct top){0};
}
