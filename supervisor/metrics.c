/* What guests use and how they are, as OpenMetrics text, or as the older text of Prometheus: tables of families. */
#include "alert.h"
#include "health.h"
#include "measures.h"
#include "scripts.h"
#include "usage.h"

#include <math.h>
#include <string.h>
#include <vmsd/text.h>

enum { NAME = 64 };

/* One row for each series of a guest; rows of one family follow each other. NAN: left out. */
struct series {
    const char *family, *type, *label, *value, *help; /* label NULL: none; help NULL: as in the row before */
    double (*get)(const struct guest *g, const struct usage_sample *u);
};

static double known(uint64_t v)
{
    return v == UINT64_MAX ? NAN : (double)v;
}

/* OpenMetrics wants ratios, the kernel gives per cent. */
static double ratio(double percent)
{
    return percent / 100;
}

#define GET(name, expression) \
    static double get_##name(const struct guest *g, const struct usage_sample *u) \
    { \
        (void)g, (void)u; \
        return expression; \
    }
GET(up, guest_is_up(g))
GET(healthy, health_of(g) == HEALTH_HEALTHY)
GET(provisioned, g->provisioned_at != 0)
GET(restarts, g->restarts)
GET(applied, g->applied_at ? (double)g->applied_at / 1000 : NAN)
GET(failed, g->error != NULL)
GET(started, guest_is_up(g) && g->started_at ? (double)g->started_at / 1000 : NAN)
GET(cpu, u->stats.cpu_seconds)
GET(memory, known(u->stats.memory))
GET(memory_peak, known(u->stats.memory_peak))
GET(memory_limit, known(u->stats.memory_limit))
GET(pids, known(u->stats.pids))
GET(disk, known(u->disk))
GET(io_read, known(u->stats.io_read))
GET(io_write, known(u->stats.io_write))
GET(rx_bytes, known(u->net.rx_bytes))
GET(tx_bytes, known(u->net.tx_bytes))
GET(rx_packets, known(u->net.rx_packets))
GET(tx_packets, known(u->net.tx_packets))
GET(rx_drops, known(u->net.rx_drops))
GET(tx_drops, known(u->net.tx_drops))
GET(pressure_cpu, ratio(u->stats.pressure_cpu))
GET(pressure_memory, ratio(u->stats.pressure_memory))
GET(pressure_io, ratio(u->stats.pressure_io))

static const struct series guest_series[] = {
    {"up", "gauge", NULL, NULL, "1 if the guest runs.", get_up},
    {"healthy", "gauge", NULL, NULL, "1 if all its checks pass.", get_healthy},
    {"provisioned", "gauge", NULL, NULL, "1 if its install scripts have succeeded.", get_provisioned},
    {"restarts", "counter", NULL, NULL, "Times that it was started again without being asked to.", get_restarts},
    {"applied_timestamp_seconds", "gauge", NULL, NULL, "When its spec was last brought into force.", get_applied},
    {"failed", "gauge", NULL, NULL, "1 if what was last asked of it, or its last run, failed.", get_failed},
    {"started_timestamp_seconds", "gauge", NULL, NULL, "When it was started.", get_started},
    {"cpu_seconds", "counter", NULL, NULL, "CPU time used since it was started.", get_cpu},
    {"memory_bytes", "gauge", NULL, NULL, "Memory in use.", get_memory},
    {"memory_peak_bytes", "gauge", NULL, NULL, "Most memory in use since it was started.", get_memory_peak},
    {"memory_limit_bytes", "gauge", NULL, NULL, "Memory that it may use.", get_memory_limit},
    {"pids", "gauge", NULL, NULL, "Processes and threads.", get_pids},
    {"disk_bytes", "gauge", NULL, NULL, "Space that its root takes on the host.", get_disk},
    {"io_bytes", "counter", "direction", "read", "Bytes read from and written to disks.", get_io_read},
    {"io_bytes", "counter", "direction", "write", NULL, get_io_write},
    {"network_bytes", "counter", "direction", "rx", "Bytes received and sent by the guest.", get_rx_bytes},
    {"network_bytes", "counter", "direction", "tx", NULL, get_tx_bytes},
    {"network_packets", "counter", "direction", "rx", "Packets received and sent by the guest.", get_rx_packets},
    {"network_packets", "counter", "direction", "tx", NULL, get_tx_packets},
    {"network_drops", "counter", "direction", "rx", "Packets to and from the guest that were dropped.", get_rx_drops},
    {"network_drops", "counter", "direction", "tx", NULL, get_tx_drops},
    {"pressure", "gauge", "resource", "cpu", "Share of the last 10 s in which some task of it waited.", get_pressure_cpu},
    {"pressure", "gauge", "resource", "memory", NULL, get_pressure_memory},
    {"pressure", "gauge", "resource", "io", NULL, get_pressure_io},
};

static void add_family(struct text *t, const char *prefix, const char *name, const char *type, const char *help)
{
    text_addf(t, "# TYPE %s%s %s\n# HELP %s%s %s\n", prefix, name, type, prefix, name, help);
}

/* What a counter's series is called; in the older text its family is called so, too. */
static const char *total(const struct series *s)
{
    return s->type[0] == 'c' ? "_total" : "";
}

/* ---- a series: name{label="…",…} value. A thousand guests have tens of thousands of them, and the loop waits meanwhile. ---- */

enum { DIGITS = 24 };
#define WHOLE 1e15 /* below it a double says each of them, and %.15g all of their digits */

static void add_value(struct text *t, double v)
{
    char digits[DIGITS], *at = digits + sizeof digits;
    uint64_t left = v >= 0 && v < WHOLE ? (uint64_t)v : 0;

    if (v < 0 || v >= WHOLE || (double)left != v) {
        text_addf(t, "%.15g", v); /* the daemon's numeric locale is always "C" */
        return;
    }
    do
        *--at = (char)('0' + left % 10);
    while (left /= 10);
    text_add_bytes(t, at, (size_t)(digits + sizeof digits - at));
}

/* Names of guests are DNS labels: nothing in them needs an escape. */
static void open_series(struct text *t, const char *prefix, const char *family, const struct guest *g)
{
    text_add(t, prefix);
    text_add(t, family);
    text_add(t, "{guest=\"");
    text_add(t, g->name);
    text_add(t, "\"");
}

static void add_label(struct text *t, const char *name, const char *value)
{
    text_add(t, ",");
    text_add(t, name);
    text_add(t, "=\"");
    for (size_t n; *value; value += n) {
        n = strcspn(value, "\"\\\n");
        text_add_bytes(t, value, n);
        if (value[n]) {
            text_add(t, "\\");
            text_add_bytes(t, value[n] == '\n' ? "n" : value + n, 1);
            n++;
        }
    }
    text_add(t, "\"");
}

static void close_series(struct text *t, double v)
{
    text_add(t, "} ");
    add_value(t, v);
    text_add(t, "\n");
}

/* ---- guests ---- */

/* name: with the _total of a counter. */
static void add_guest(struct text *t, const char *name, const struct series *s, const struct guest *g)
{
    double v = s->get(g, usage_last(g));

    if (isnan(v))
        return;
    open_series(t, "vmsd_guest_", name, g);
    if (s->label)
        add_label(t, s->label, s->value);
    close_series(t, v);
}

static void add_guests(struct text *t, const struct world *w, bool openmetrics)
{
    for (const struct series *s = guest_series; s < guest_series + ARRAY_LEN(guest_series); s++) {
        char name[NAME];

        snprintf(name, sizeof name, "%s%s", s->family, total(s));
        if (s->help)
            add_family(t, "vmsd_guest_", openmetrics ? s->family : name, s->type, s->help);
        for (size_t i = 0; i < w->n_guests; i++)
            add_guest(t, name, s, w->guests[i]);
    }
}

/* ---- checks ---- */

#define CHECK(name, expression) \
    static double check_##name(const struct health_view *c) \
    { \
        return expression; \
    }
CHECK(ok, c->ok)
CHECK(at, c->last_at ? (double)c->last_at / 1000 : NAN)
CHECK(duration, c->last_at ? (double)c->duration_ms / 1000 : NAN)

static const struct {
    const char *family, *help;
    double (*get)(const struct health_view *c);
} check_series[] = {
    {"ok", "1 if the check passes.", check_ok},
    {"timestamp_seconds", "When the check was last made.", check_at},
    {"duration_seconds", "How long that took.", check_duration},
};

static void add_checks(struct text *t, const struct world *w)
{
    struct health_view c;

    for (size_t s = 0; s < ARRAY_LEN(check_series); s++) {
        add_family(t, "vmsd_guest_check_", check_series[s].family, "gauge", check_series[s].help);
        for (size_t i = 0; i < w->n_guests; i++) {
            for (size_t k = 0; health_look(w->guests[i], k, &c); k++) {
                double v = check_series[s].get(&c);

                if (isnan(v))
                    continue;
                open_series(t, "vmsd_guest_check_", check_series[s].family, w->guests[i]);
                add_label(t, "check", c.name);
                close_series(t, v);
            }
        }
    }
}

/* One family for all that guests tell: what they call it is a label, so that none can pass for one of ours. */
static void add_numbers(struct text *t, const struct world *w)
{
    struct health_view c;

    add_family(t, "vmsd_", "guest_number", "gauge", "What a check was told of its service, by the name in the label number.");
    for (size_t i = 0; i < w->n_guests; i++) {
        for (size_t k = 0; health_look(w->guests[i], k, &c); k++) {
            for (size_t m = 0; c.numbers && m < c.numbers->n; m++) {
                const struct number *one = c.numbers->v[m];
                bool labels = one->n > one->n_name;

                open_series(t, "vmsd_guest_", "number", w->guests[i]);
                add_label(t, "check", c.name);
                text_add(t, ",number=\"");
                text_add_bytes(t, one->series, one->n_name);
                text_add(t, "\"");
                if (labels) { /* written so that they can stand here as they are */
                    text_add(t, ",");
                    text_add_bytes(t, one->series + one->n_name + 1, one->n - one->n_name - 2);
                }
                close_series(t, one->value);
            }
        }
    }
}

/* ---- install scripts ---- */

#define SCRIPT(name, expression) \
    static double script_##name(const struct script_result *r) \
    { \
        return expression; \
    }
SCRIPT(ok, r->ok)
SCRIPT(exit_code, r->exit_code)
SCRIPT(at, (double)(r->started_at + r->duration_ms) / 1000)
SCRIPT(duration, (double)r->duration_ms / 1000)

static const struct {
    const char *family, *help;
    double (*get)(const struct script_result *r);
} script_series[] = {
    {"ok", "1 if the last run of the install script succeeded.", script_ok},
    {"exit_code", "Its exit code; 128 and the signal that ended it; -1 if it did not end by itself.", script_exit_code},
    {"timestamp_seconds", "When that run ended.", script_at},
    {"duration_seconds", "How long it took.", script_duration},
};

static void add_scripts(struct text *t, const struct world *w)
{
    char step[NAME];

    for (size_t s = 0; s < ARRAY_LEN(script_series); s++) {
        add_family(t, "vmsd_guest_script_", script_series[s].family, "gauge", script_series[s].help);
        for (size_t i = 0; i < w->n_guests; i++) {
            const struct guest *g = w->guests[i];

            for (size_t k = 0; k < g->n_scripts && k < g->spec->n_install; k++) {
                const struct script_result *r = &g->scripts[k];

                if (!r->script)
                    continue;
                snprintf(step, sizeof step, "install:%02zu", k + 1);
                open_series(t, "vmsd_guest_script_", script_series[s].family, g);
                add_label(t, "step", step);
                add_label(t, "script", r->script);
                close_series(t, script_series[s].get(r));
            }
        }
    }
}

/* ---- the host ---- */

/* Where in its measures; label NULL: none; help NULL: as in the row before. */
static const struct {
    const char *family, *label, *value, *help, *part, *key;
    double scale;
} host_series[] = {
    {"load", "minutes", "1", "Processes that run or want to, on average.", "load", "1m", 1},
    {"load", "minutes", "5", NULL, "load", "5m", 1},
    {"load", "minutes", "15", NULL, "load", "15m", 1},
    {"memory_bytes", NULL, NULL, "Memory of the host.", "memory", "total_bytes", 1},
    {"memory_available_bytes", NULL, NULL, "Memory that can be had without swapping.", "memory", "available_bytes", 1},
    {"swap_bytes", NULL, NULL, "Swap of the host.", "memory", "swap_total_bytes", 1},
    {"swap_free_bytes", NULL, NULL, "Swap that is not in use.", "memory", "swap_free_bytes", 1},
    {"pressure", "resource", "cpu", "Share of the last 10 s in which some task of the host waited.", "pressure", "cpu", 0.01},
    {"pressure", "resource", "memory", NULL, "pressure", "memory", 0.01},
    {"pressure", "resource", "io", NULL, "pressure", "io", 0.01},
};

static const struct {
    const char *family, *key, *help;
} file_system_series[] = {
    {"size_bytes", "size_bytes", "Size of a file system of the host."},
    {"used_bytes", "used_bytes", "What of it is in use."},
    {"available_bytes", "available_bytes", "What of it users other than root can still have."},
};

static void add_measures(struct text *t, const json_t *m)
{
    const json_t *list = json_object_get(m, "file_systems"), *one;
    size_t i;

    for (size_t s = 0; s < ARRAY_LEN(host_series); s++) {
        double v = json_num(json_object_get(m, host_series[s].part), host_series[s].key, NAN) * host_series[s].scale;

        if (host_series[s].help)
            add_family(t, "vmsd_host_", host_series[s].family, "gauge", host_series[s].help);
        if (isnan(v))
            continue;
        text_addf(t, "vmsd_host_%s", host_series[s].family);
        if (host_series[s].label)
            text_addf(t, "{%s=\"%s\"}", host_series[s].label, host_series[s].value);
        text_addf(t, " %.15g\n", v);
    }
    for (size_t s = 0; s < ARRAY_LEN(file_system_series); s++) {
        add_family(t, "vmsd_host_file_system_", file_system_series[s].family, "gauge", file_system_series[s].help);
        json_array_foreach (list, i, one) {
            double v = json_num(one, file_system_series[s].key, NAN);

            if (isnan(v))
                continue;
            text_addf(t, "vmsd_host_file_system_%s{type=\"%s\"", file_system_series[s].family, json_str(one, "type", ""));
            add_label(t, "target", json_str(one, "target", ""));
            close_series(t, v);
        }
    }
}

/* An apply that changed nothing is known to this daemon alone; of others the guests know, too. */
static void add_applies(struct text *t, const struct world *w)
{
    int64_t at = w->apply.at;

    for (size_t i = 0; i < w->n_guests; i++)
        at = w->guests[i]->applied_at > at ? w->guests[i]->applied_at : at;
    add_family(t, "vmsd_", "apply_timestamp_seconds", "gauge", "When something was last applied.");
    if (at)
        text_addf(t, "vmsd_apply_timestamp_seconds %.15g\n", (double)at / 1000);
    add_family(t, "vmsd_", "apply_ok", "gauge", "1 if the last apply since the daemon started succeeded.");
    if (w->apply.at)
        text_addf(t, "vmsd_apply_ok %d\n", w->apply.ok);
}

static void add_host(struct text *t, const struct world *w)
{
    size_t by_state[ST_COUNT] = {0};

    add_family(t, "vmsd_", "build_info", "gauge", "Version of the daemon, as a label.");
    text_addf(t, "vmsd_build_info{version=\"%s\"} 1\n", VMSD_VERSION);
    add_family(t, "vmsd_", "start_timestamp_seconds", "gauge", "When the daemon was started.");
    text_addf(t, "vmsd_start_timestamp_seconds %.15g\n", (double)w->started_at / 1000);
    add_family(t, "vmsd_", "jobs_running", "gauge", "Jobs that change a guest now.");
    text_addf(t, "vmsd_jobs_running %u\n", w->running_jobs);
    add_family(t, "vmsd_", "guests", "gauge", "Guests by the state that they are in.");
    for (size_t i = 0; i < w->n_guests; i++)
        by_state[w->guests[i]->state]++;
    for (size_t i = 0; i < ST_COUNT; i++)
        text_addf(t, "vmsd_guests{state=\"%s\"} %zu\n", life_state_name((enum life_state)i), by_state[i]);
}

static void add_alerts(struct text *t, const struct world *w)
{
    add_family(t, "vmsd_", "alerts", "gauge", "Alerts that go on, by their kind.");
    for (int k = 0; k < ALERT_KIND_COUNT; k++)
        text_addf(t, "vmsd_alerts{kind=\"%s\"} %zu\n", alert_kind_name((enum alert_kind)k), alerts_firing(w, (enum alert_kind)k));
}

char *metrics_text(struct world *w, bool openmetrics)
{
    OWN(text) struct text t = {0};

    add_host(&t, w);
    add_applies(&t, w);
    add_alerts(&t, w);
    add_measures(&t, measures_last(w));
    add_guests(&t, w, openmetrics);
    add_checks(&t, w);
    add_numbers(&t, w);
    add_scripts(&t, w);
    if (openmetrics)
        text_add(&t, "# EOF\n");
    return text_take(&t);
}
