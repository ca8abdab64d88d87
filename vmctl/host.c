/* vmctl host, doctor, version */
#include <string.h>
#include "cli.h"
#include "human.h"
#include "table.h"
#include "term.h"

/* ---- host ---- */

static void say_machine(const json_t *h, const json_t *p)
{
    const json_t *cpu = json_object_get(p, "cpu"), *memory = json_object_get(p, "memory");
    OWN(str) char *load = human_list(json_object_get(cpu, "load")), *cgroup = human_value(json_object_get(h, "cgroup"));
    char a[HUMAN_MAX], b[HUMAN_MAX];

    term_say("%s: %s, Linux %s on %s, up %s, vmsd %s", json_str(h, "hostname", "-"), json_str(json_object_get(p, "os"), "name", "-"),
             json_str(h, "kernel", "-"), json_str(p, "machine", "-"), human_seconds(json_object_get(h, "uptime"), a),
             json_str(h, "version", "-"));
    term_say("%s processors, %s; load %s", human_int(json_object_get(h, "cpus"), a), json_str(cpu, "model", "-"), load ? load : "-");
    term_say("%s of %s memory available; %s, cgroup %s, time zone %s", human_size(json_object_get(memory, "available_bytes"), a),
             human_size(json_object_get(memory, "total_bytes"), b), json_flag(h, "systemd", false) ? "systemd" : "no systemd",
             cgroup ? cgroup : "-", json_str(p, "time_zone", "-"));
}

static int print_drivers(const json_t *h)
{
    static const struct table_column columns[] = {
        {"DRIVER", .least = 6},  {"KIND", .least = 5}, {"USABLE", .coloured = false},
        {"VERSION", .least = 6}, {"REMARK", .least = 10},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    json_t *driver;
    size_t i;

    json_array_foreach(json_object_get(h, "drivers"), i, driver) {
        table_add(&t, json_str(driver, "name", NULL));
        table_add(&t, json_str(driver, "kind", NULL));
        table_add(&t, json_flag(driver, "usable", false) ? "yes" : "no");
        table_add(&t, json_str(driver, "version", NULL));
        table_add(&t, json_str(driver, "why", json_str(driver, "warning", NULL)));
    }
    return table_print(&t);
}

static int print_file_systems(const json_t *p)
{
    static const struct table_column columns[] = {
        {"MOUNTED", .least = 8}, {"TYPE", .least = 4}, {"SIZE", .right = true}, {"USED", .right = true}, {"FREE", .right = true},
        {"SOURCE", .least = 8},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    char a[HUMAN_MAX];
    json_t *fs;
    size_t i;

    json_array_foreach(json_object_get(p, "file_systems"), i, fs) {
        table_add(&t, json_str(fs, "target", NULL));
        table_add(&t, json_str(fs, "type", NULL));
        table_add(&t, human_size(json_object_get(fs, "size_bytes"), a));
        table_add(&t, human_size(json_object_get(fs, "used_bytes"), a));
        table_add(&t, human_size(json_object_get(fs, "available_bytes"), a));
        table_add(&t, json_str(fs, "source", NULL));
    }
    return table_print(&t);
}

/* Only what there is: a host without arrays needs no line about them. */
static void say_arrays(const json_t *p)
{
    static const struct { const char *list, *name; } kinds[] = {{"md", "name"}, {"btrfs", "uuid"}, {"zfs", "name"}};
    json_t *row;
    size_t i;

    for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
        json_array_foreach(json_object_get(p, kinds[k].list), i, row)
            term_say("%s %s: %s%s", kinds[k].list, json_str(row, kinds[k].name, "-"), json_str(row, "state", "in use"),
                     json_flag(row, "degraded", false) ? " DEGRADED" : "");
    json_array_foreach(json_object_get(p, "smart"), i, row) {
        const json_t *healthy = json_object_get(row, "healthy");

        term_say("drive %s %s: %s", json_str(row, "device", "-"), json_str(row, "model", "-"),
                 json_is_true(healthy) ? "well" : json_is_false(healthy) ? "FAILING" : json_str(row, "why", "-"));
    }
}

int cmd_host(struct cli *cli)
{
    OWN(json) json_t *h = NULL, *p = NULL;
    struct vm_err e = {0};
    char a[HUMAN_MAX], b[HUMAN_MAX], c[HUMAN_MAX];
    const json_t *counts;

    if (client_json(&cli->client, "GET", "/v1/host", &h, &e) < 0 ||
        client_json(&cli->client, "GET", "/v1/host/profile", &p, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json) {
        json_put(h, "profile", json_incref(p));
        return cli_written(cli_print_json(h));
    }
    counts = json_object_get(h, "counts");
    say_machine(h, p);
    term_say("%s, %s running, %s healthy", human_count((size_t)json_num(counts, "guests", 0), "guest", a),
             human_int(json_object_get(counts, "running"), b), human_int(json_object_get(counts, "healthy"), c));
    say_arrays(p);
    putchar('\n');
    if (print_file_systems(p) < 0)
        return cli_written(-1);
    putchar('\n');
    return cli_written(print_drivers(h));
}

/* ---- doctor ---- */

enum { LEVEL = 9 }; /* cells before what a finding says */

/* "error    no KVM: why", over several lines where the terminal is narrow. */
static void add_line(struct text *out, const char *level, const char *said)
{
    OWN(text) struct text word = {0}, shown = {0};

    term_add_visible(&word, level);
    term_add_visible(&shown, said);
    out->failed |= word.failed || shown.failed;
    if (out->failed)
        return;
    if (word.len)
        term_add_styled(out, word.s, term_style_of(level), term_has_colour());
    term_add_spaces(out, word.len < LEVEL - 1 ? LEVEL - word.len : 1);
    term_add_wrapped(out, shown.s ? shown.s : "", LEVEL, term_is_tty() ? term_columns() : 0);
}

/* One finding, and below it how to mend it. */
static void add_finding(struct text *out, const json_t *f)
{
    const char *level = json_str(f, "level", "info"), *why = json_str(f, "why", ""), *mend = json_str(f, "mend", "");
    OWN(text) struct text what = {0}, how = {0};

    text_addf(&what, "%s%s%s", json_str(f, "what", ""), *why ? ": " : "", why);
    text_addf(&how, "%s%s", !strcmp(level, "info") ? "to change it: " : "to mend it: ", mend);
    out->failed |= what.failed || how.failed;
    if (out->failed)
        return;
    add_line(out, level, what.s);
    if (*mend)
        add_line(out, "", how.s);
}

/* The worst first; what is well, by name only: -o json has it all. */
static void add_findings(struct text *out, const json_t *findings)
{
    static const char *const levels[] = {"error", "warning", "info"};
    OWN(json) json_t *well = json_array();
    OWN(str) char *names = NULL;
    json_t *f;
    size_t i;

    for (size_t k = 0; k < ARRAY_LEN(levels); k++)
        json_array_foreach(findings, i, f)
            if (!strcmp(json_str(f, "level", "info"), levels[k]))
                add_finding(out, f);
    json_array_foreach(findings, i, f)
        if (!strcmp(json_str(f, "level", ""), "ok"))
            json_array_append(well, json_object_get(f, "what"));
    names = human_list(well);
    out->failed |= !names;
    if (names && *names)
        add_line(out, "ok", names);
}

int cmd_doctor(struct cli *cli)
{
    OWN(json) json_t *doc = NULL;
    OWN(text) struct text out = {0};
    struct vm_err e = {0};
    bool bad = false;
    json_t *f;
    size_t i;

    if (client_json(&cli->client, "GET", "/v1/doctor", &doc, &e) < 0)
        return cli_fail(cli, &e);
    json_array_foreach(json_object_get(doc, "findings"), i, f)
        bad |= !strcmp(json_str(f, "level", ""), "error");
    add_findings(&out, json_object_get(doc, "findings"));
    if ((cli->json ? cli_print_json(doc) : term_write(&out)) < 0)
        return cli_written(-1);
    return bad ? EXIT_FAILED : EXIT_DONE;
}

int cmd_version(struct cli *cli)
{
    OWN(json) json_t *host = NULL, *doc = json_object();
    struct vm_err e = {0};
    int rc = client_json(&cli->client, "GET", "/v1/host", &host, &e);

    if (cli->json) {
        json_put_str(doc, "vmctl", VMSD_VERSION);
        json_put_str(doc, "vmsd", json_str(host, "version", NULL));
        return cli_written(cli_print_json(doc));
    }
    term_say("vmctl %s", VMSD_VERSION);
    if (rc < 0)
        term_complain("%s", e.text);
    else
        term_say("vmsd %s", json_str(host, "version", "unknown"));
    return EXIT_DONE;
}
