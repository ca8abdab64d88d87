#include "../../supervisor/health.h"
#include "../../supervisor/measures.h"
#include "../../supervisor/scripts.h"
#include "../../supervisor/usage.h"
#include "../../supervisor/alert.h"
#include "stubs.h"

#include <check.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct usage_sample sample;

const struct usage_sample *usage_last(const struct guest *g)
{
    static struct usage_sample nothing = {
        .cpu_percent = NAN, .disk = UINT64_MAX,
        .stats = {.cpu_seconds = NAN, .memory = UINT64_MAX, .memory_peak = UINT64_MAX, .memory_limit = UINT64_MAX,
                  .pids = UINT64_MAX, .io_read = UINT64_MAX, .io_write = UINT64_MAX,
                  .pressure_cpu = NAN, .pressure_memory = NAN, .pressure_io = NAN},
        .net = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    return g->id == 1 ? &sample : &nothing;
}

enum health_state health_of(const struct guest *g)
{
    return guest_is_up(g) ? HEALTH_HEALTHY : HEALTH_NONE;
}

/* Two checks of db: one that tells numbers, and one that was never made. */
static struct numbers *numbers;

bool health_look(const struct guest *g, size_t i, struct health_view *out)
{
    if (g->id != 1 || i > 1)
        return false;
    *out = i ? (struct health_view){.name = "exec \"x\" \\"}
             : (struct health_view){.name = "http :80/", .ok = true, .last_at = 1700000002000, .duration_ms = 250,
                                    .numbers = numbers};
    return true;
}

static json_t *measures;

size_t alerts_firing(const struct world *w, enum alert_kind k)
{
    (void)w;
    return k == ALERT_DISK ? 2 : 0;
}

const char *alert_kind_name(enum alert_kind k)
{
    return k == ALERT_DISK ? "disk" : "other";
}

const json_t *measures_last(const struct world *w)
{
    (void)w;
    return measures;
}

static char *text;

static void set_up(void)
{
    static const char *const all[] = {"*"};
    static const char told[] = "queue 5\nvmsd_guest_up{guest=\"rss\",q=\"a\\\"b\"} 1\n";
    static struct spec_script install[2];
    static struct guest_spec spec = {.install = install, .n_install = 2};
    static struct guest db = {.id = 1, .name = (char *)"db", .state = ST_RUNNING, .restarts = 4, .applied_at = 1700000000500,
                              .provisioned_at = 1, .started_at = 1700000001000, .spec = &spec};
    static struct guest rss = {.id = 2, .spec = &spec, .error = (char *)"it broke", .name = (char *)"rss", .state = ST_STOPPED};
    static struct guest *guests[] = {&db, &rss};
    struct world w = {.guests = guests, .n_guests = 2, .running_jobs = 3, .started_at = 1700000000000,
                      .apply = {1700000003000, true}};

    numbers = numbers_read(told, strlen(told), &(struct spec_list){(const char **)all, 1});
    scripts_put(&db, &(struct store_script){.index = 1, .script = "scripts/b.sh", .state = "failed", .signal = 9,
                                            .started_at = 1700000000000, .duration_ms = 1500});
    scripts_put(&db, &(struct store_script){.index = 1, .script = "scripts/b.sh", .state = "running"}); /* says nothing */
    scripts_put(&db, &(struct store_script){.index = 0, .script = "scripts/a\".sh", .state = "done"});
    scripts_put(&db, &(struct store_script){.index = 2, .script = "scripts/gone.sh", .state = "done"});
    scripts_put(&rss, &(struct store_script){.index = 1, .script = "late.sh", .state = "failed"});
    measures = json_loads("{\"load\": {\"1m\": 0.5, \"5m\": null}, \"memory\": {\"total_bytes\": 4096}, \"pressure\": {\"io\": 50.0},"
                          " \"file_systems\": [{\"target\": \"/srv/a\\\"b\", \"type\": \"ext4\", \"size_bytes\": 8192},"
                          " {\"target\": \"/two\\nlines\", \"type\": \"ext4\", \"size_bytes\": 1},"
                          " {\"target\": \"/lost\", \"type\": \"ext4\", \"size_bytes\": null}]}", 0, NULL);
    sample = (struct usage_sample){.disk = 1ull << 40, .stats = {.cpu_seconds = 12.25, .memory = 4096, .pressure_io = 50},
                                   .net = {.rx_bytes = 9007199254740993}};
    text = metrics_text(&w, true);
    ck_assert_ptr_nonnull(text);
    scripts_drop(&db);
    scripts_drop(&rss);
}

static void tear_down(void)
{
    free(text);
    json_decref(measures);
    measures = NULL;
    numbers_free(numbers);
}

static void has(const char *line)
{
    const char *at = strstr(text, line);

    while (at && (at[strlen(line)] != '\n' || (at != text && at[-1] != '\n')))
        at = strstr(at + 1, line);
    ck_assert_msg(at, "missing: %s", line);
}

START_TEST(test_values)
{
    has("vmsd_build_info{version=\"" VMSD_VERSION "\"} 1");
    has("vmsd_jobs_running 3");
    has("vmsd_guests{state=\"running\"} 1");
    has("vmsd_guests{state=\"failed\"} 0");
    has("vmsd_guest_up{guest=\"db\"} 1");
    has("vmsd_guest_up{guest=\"rss\"} 0");
    has("vmsd_guest_healthy{guest=\"rss\"} 0");
    has("vmsd_guest_restarts_total{guest=\"db\"} 4");
    has("vmsd_guest_applied_timestamp_seconds{guest=\"db\"} 1700000000.5");
    has("vmsd_guest_cpu_seconds_total{guest=\"db\"} 12.25");
    has("vmsd_guest_disk_bytes{guest=\"db\"} 1099511627776");
    has("vmsd_guest_network_bytes_total{guest=\"db\",direction=\"tx\"} 0");
    has("vmsd_guest_pressure{guest=\"db\",resource=\"io\"} 0.5");
    ck_assert_ptr_null(strstr(text, "vmsd_guest_memory_bytes{guest=\"rss\"}")); /* not known: not there, never 0 */
    ck_assert_ptr_null(strstr(text, "nan"));
}
END_TEST

static void lacks(const char *part)
{
    ck_assert_msg(!strstr(text, part), "there is: %s", part);
}

START_TEST(test_checks)
{
    has("vmsd_guest_check_ok{guest=\"db\",check=\"http :80/\"} 1");
    has("vmsd_guest_check_ok{guest=\"db\",check=\"exec \\\"x\\\" \\\\\"} 0");
    has("vmsd_guest_check_timestamp_seconds{guest=\"db\",check=\"http :80/\"} 1700000002");
    has("vmsd_guest_check_duration_seconds{guest=\"db\",check=\"http :80/\"} 0.25");
    lacks("vmsd_guest_check_timestamp_seconds{guest=\"db\",check=\"exec");
    has("vmsd_guest_number{guest=\"db\",check=\"http :80/\",number=\"queue\"} 5");
    /* What a guest calls by our names is no series of ours, nor of another guest. */
    has("vmsd_guest_number{guest=\"db\",check=\"http :80/\",number=\"vmsd_guest_up\",exported_guest=\"rss\",q=\"a\\\"b\"} 1");
    has("vmsd_guest_up{guest=\"rss\"} 0");
    lacks("vmsd_guest_up{guest=\"rss\",");
}
END_TEST

START_TEST(test_scripts_and_applies)
{
    has("vmsd_guest_script_ok{guest=\"db\",step=\"install:01\",script=\"scripts/a\\\".sh\"} 1");
    has("vmsd_guest_script_ok{guest=\"db\",step=\"install:02\",script=\"scripts/b.sh\"} 0");
    has("vmsd_guest_script_exit_code{guest=\"db\",step=\"install:02\",script=\"scripts/b.sh\"} 137");
    has("vmsd_guest_script_exit_code{guest=\"rss\",step=\"install:02\",script=\"late.sh\"} -1"); /* cut off by its timeout */
    has("vmsd_guest_script_timestamp_seconds{guest=\"db\",step=\"install:02\",script=\"scripts/b.sh\"} 1700000001.5");
    has("vmsd_guest_script_duration_seconds{guest=\"db\",step=\"install:02\",script=\"scripts/b.sh\"} 1.5");
    lacks("gone.sh"); /* the spec has it no more */
    has("vmsd_guest_failed{guest=\"rss\"} 1");
    has("vmsd_guest_failed{guest=\"db\"} 0");
    has("vmsd_apply_timestamp_seconds 1700000003");
    has("vmsd_apply_ok 1");
    has("vmsd_alerts{kind=\"disk\"} 2");
}
END_TEST

START_TEST(test_host)
{
    has("vmsd_host_load{minutes=\"1\"} 0.5");
    lacks("minutes=\"5\"");
    has("vmsd_host_memory_bytes 4096");
    has("vmsd_host_pressure{resource=\"io\"} 0.5");
    has("vmsd_host_file_system_size_bytes{type=\"ext4\",target=\"/srv/a\\\"b\"} 8192");
    has("vmsd_host_file_system_size_bytes{type=\"ext4\",target=\"/two\\nlines\"} 1");
    lacks("/lost");
}
END_TEST

/* Each family: TYPE and HELP once, before its samples, which stand together and have the name that the type asks for;
 * no empty line; the last line is # EOF. */
START_TEST(test_form)
{
    OWN(str) char *copy = strdup(text), *family = NULL, *seen = strdup(" ");
    bool counter = false, ended = false;
    char *rest = copy, *line;

    ck_assert(strlen(text) > 6 && !strcmp(text + strlen(text) - 6, "# EOF\n"));
    while ((line = strsep(&rest, "\n")) && (*line || rest)) {
        char name[80], type[16], want[120];

        ck_assert_msg(*line && !ended, "empty, or after the end");
        if (!strcmp(line, "# EOF")) {
            ended = true;
        } else if (sscanf(line, "# TYPE %79s %15s", name, type) == 2) {
            char *longer = text_format("%s%s ", seen, name);

            snprintf(want, sizeof want, " %s ", name);
            ck_assert_msg(!strstr(seen, want), "%s twice", name);
            free(seen);
            seen = longer;
            free(family);
            family = strdup(name);
            counter = !strcmp(type, "counter");
            ck_assert(counter || !strcmp(type, "gauge"));
            ck_assert_ptr_null(strstr(name, "_total"));
        } else if (sscanf(line, "# HELP %79s", name) == 1) {
            ck_assert_str_eq(name, family);
            ck_assert_ptr_null(strpbrk(line, "\\\""));
        } else {
            size_t n = strspn(line, "abcdefghijklmnopqrstuvwxyz_");

            snprintf(want, sizeof want, "%s%s", family, counter ? "_total" : "");
            ck_assert_msg(n == strlen(want) && !strncmp(line, want, n), "%s in %s", line, family);
            ck_assert(line[n] == '{' || line[n] == ' ');
            ck_assert(isdigit((unsigned char)line[strlen(line) - 1]));
        }
    }
    ck_assert(ended);
}
END_TEST

/* promtool reads the older text format, where the family of a counter has _total as well. */
START_TEST(test_promtool)
{
    FILE *p;

    if (system("command -v promtool >/dev/null") != 0) {
        printf("skipped: test_promtool: promtool is not installed (Debian: prometheus)\n");
        return;
    }
    p = popen("sed -E 's/^# TYPE ([^ ]+) counter/# TYPE \\1_total counter/; "
              "s/^# HELP ([^ ]*(restarts|cpu_seconds|io_bytes|network_bytes|network_packets|network_drops)) /# HELP \\1_total /' "
              "| promtool check metrics", "w");
    ck_assert_ptr_nonnull(p);
    fputs(text, p);
    ck_assert_int_eq(pclose(p), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *c = tcase_create("metrics");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 30);
    tcase_add_test(c, test_values);
    tcase_add_test(c, test_checks);
    tcase_add_test(c, test_scripts_and_applies);
    tcase_add_test(c, test_host);
    tcase_add_test(c, test_form);
    tcase_add_test(c, test_promtool);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
