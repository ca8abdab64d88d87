/* What guests use and how they are, as OpenMetrics text, or as the older text of Prometheus: one table of families. */
#include "usage.h"

#include <math.h>
#include <vmsd/text.h>

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

static void add_family(struct text *t, const char *name, const char *type, const char *help)
{
    text_addf(t, "# TYPE %s %s\n# HELP %s %s\n", name, type, name, help);
}

/* What a counter's series is called; in the older text its family is called so, too. */
static const char *total(const struct series *s)
{
    return s->type[0] == 'c' ? "_total" : "";
}

/* Names of guests are DNS labels: nothing in them needs an escape. The daemon's numeric locale is always "C". */
static void add_guest(struct text *t, const struct series *s, const struct guest *g)
{
    double v = s->get(g, usage_last(g));

    if (isnan(v))
        return;
    text_addf(t, "vmsd_guest_%s%s{guest=\"%s\"", s->family, total(s), g->name);
    if (s->label)
        text_addf(t, ",%s=\"%s\"", s->label, s->value);
    text_addf(t, "} %.15g\n", v);
}

static void add_guests(struct text *t, const struct world *w, bool openmetrics)
{
    for (const struct series *s = guest_series; s < guest_series + ARRAY_LEN(guest_series); s++) {
        OWN(str) char *name = text_format("vmsd_guest_%s%s", s->family, openmetrics ? "" : total(s));

        if (s->help)
            add_family(t, name ? name : "", s->type, s->help);
        for (size_t i = 0; i < w->n_guests; i++)
            add_guest(t, s, w->guests[i]);
    }
}

static void add_host(struct text *t, const struct world *w)
{
    size_t by_state[ST_COUNT] = {0};

    add_family(t, "vmsd_build_info", "gauge", "Version of the daemon, as a label.");
    text_addf(t, "vmsd_build_info{version=\"%s\"} 1\n", VMSD_VERSION);
    add_family(t, "vmsd_start_timestamp_seconds", "gauge", "When the daemon was started.");
    text_addf(t, "vmsd_start_timestamp_seconds %.15g\n", (double)w->started_at / 1000);
    add_family(t, "vmsd_jobs_running", "gauge", "Jobs that change a guest now.");
    text_addf(t, "vmsd_jobs_running %u\n", w->running_jobs);
    add_family(t, "vmsd_guests", "gauge", "Guests by the state that they are in.");
    for (size_t i = 0; i < w->n_guests; i++)
        by_state[w->guests[i]->state]++;
    for (size_t i = 0; i < ST_COUNT; i++)
        text_addf(t, "vmsd_guests{state=\"%s\"} %zu\n", life_state_name((enum life_state)i), by_state[i]);
}

char *metrics_text(struct world *w, bool openmetrics)
{
    OWN(text) struct text t = {0};

    add_host(&t, w);
    add_guests(&t, w, openmetrics);
    if (openmetrics)
        text_add(&t, "# EOF\n");
    return text_take(&t);
}
