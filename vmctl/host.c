/* vmctl host, doctor, version */
#include <string.h>
#include "cli.h"
#include "human.h"
#include "table.h"
#include "term.h"

int cmd_host(struct cli *cli)
{
    static const struct table_column columns[] = {
        {"DRIVER", .least = 6},  {"KIND", .least = 5}, {"USABLE", .coloured = false},
        {"VERSION", .least = 6}, {"WHY", .least = 10},
    };
    OWN(table) struct table t = {.columns = columns, .n_columns = ARRAY_LEN(columns)};
    OWN(json) json_t *h = NULL;
    OWN(str) char *cgroup = NULL, *systemd = NULL;
    struct vm_err e = {0};
    char a[HUMAN_MAX], b[HUMAN_MAX], c[HUMAN_MAX];
    const json_t *counts;
    json_t *driver;
    size_t i;

    if (client_json(&cli->client, "GET", "/v1/host", &h, &e) < 0)
        return cli_fail(cli, &e);
    if (cli->json)
        return cli_written(cli_print_json(h));
    counts = json_object_get(h, "counts");
    cgroup = human_value(json_object_get(h, "cgroup"));
    systemd = human_value(json_object_get(h, "systemd"));
    term_say("%s: vmsd %s, Linux %s, up %s", json_str(h, "hostname", "-"), json_str(h, "version", "-"),
             json_str(h, "kernel", "-"), human_seconds(json_object_get(h, "uptime"), a));
    term_say("%s processors, %s memory, systemd %s, cgroup %s", human_int(json_object_get(h, "cpus"), a),
             human_size(json_object_get(h, "memory_bytes"), b), systemd ? systemd : "-", cgroup ? cgroup : "-");
    term_say("%s guests, %s running, %s healthy", human_int(json_object_get(counts, "guests"), a),
             human_int(json_object_get(counts, "running"), b), human_int(json_object_get(counts, "healthy"), c));
    putchar('\n');
    json_array_foreach(json_object_get(h, "drivers"), i, driver) {
        table_add(&t, json_str(driver, "name", NULL));
        table_add(&t, json_str(driver, "kind", NULL));
        table_add(&t, json_flag(driver, "usable", false) ? "yes" : "no");
        table_add(&t, json_str(driver, "version", NULL));
        table_add(&t, json_str(driver, "why", NULL));
    }
    return cli_written(table_print(&t));
}

/* One finding: "error    no KVM: why" and below it how to mend it. */
static void add_finding(struct text *out, const json_t *f)
{
    const char *level = json_str(f, "level", "info"), *what = json_str(f, "what", ""), *why = json_str(f, "why", ""),
               *mend = json_str(f, "mend", "");
    OWN(text) struct text word = {0};

    text_add_visible(&word, level, strlen(level), NULL);
    if (word.failed) {
        out->failed = true;
        return;
    }
    term_add_styled(out, word.s ? word.s : "", term_style_of(level), term_has_colour());
    text_addf(out, "%*s  ", (int)(word.len < 7 ? 7 - word.len : 0), "");
    text_add_visible(out, what, strlen(what), NULL);
    if (*why) {
        text_add(out, ": ");
        text_add_visible(out, why, strlen(why), NULL);
    }
    text_add(out, "\n");
    if (*mend) {
        text_add(out, "         to mend it: ");
        text_add_visible(out, mend, strlen(mend), NULL);
        text_add(out, "\n");
    }
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
    json_array_foreach(json_object_get(doc, "findings"), i, f) {
        bad |= !strcmp(json_str(f, "level", ""), "error");
        add_finding(&out, f);
    }
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
