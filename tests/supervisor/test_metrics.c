#include "../../supervisor/usage.h"
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
        .stats = {NAN, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, NAN, NAN, NAN,
                  UINT64_MAX, UINT64_MAX, NAN},
        .net = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};

    return g->id == 1 ? &sample : &nothing;
}

enum health_state health_of(const struct guest *g)
{
    return guest_is_up(g) ? HEALTH_HEALTHY : HEALTH_NONE;
}

static char *text;

static void set_up(void)
{
    static struct guest db = {.id = 1, .name = (char *)"db", .state = ST_RUNNING, .restarts = 4, .applied_at = 1700000000500,
                              .provisioned_at = 1, .started_at = 1700000001000};
    static struct guest rss = {.id = 2, .name = (char *)"rss", .state = ST_STOPPED};
    static struct guest *guests[] = {&db, &rss};
    struct world w = {.guests = guests, .n_guests = 2, .running_jobs = 3, .started_at = 1700000000000};

    sample = (struct usage_sample){.disk = 1ull << 40, .stats = {.cpu_seconds = 12.25, .memory = 4096, .pressure_io = 50},
                                   .net = {.rx_bytes = 9007199254740993}};
    text = metrics_text(&w, true);
    ck_assert_ptr_nonnull(text);
}

static void tear_down(void)
{
    free(text);
}

static void has(const char *line)
{
    const char *at = strstr(text, line);

    ck_assert_msg(at && at[strlen(line)] == '\n' && (at == text || at[-1] == '\n'), "missing: %s", line);
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
    tcase_add_test(c, test_form);
    tcase_add_test(c, test_promtool);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
