/* Alerts: their course by a clock of the test's own, what the rules make of guests and host, and what is said of channels. */
#include "../../supervisor/alert.h"
#include "../../supervisor/usage.h"
#include "stubs.h"

#include <check.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/starter.h>

/* ---- the course ---- */

static const struct alert_times times = {.after_ms = 1000, .remind_ms = 5000, .recover_ms = 300};

START_TEST(test_begins_when_it_lasts)
{
    struct alert_course c = {0};

    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 0), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 100), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 1099), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 1100), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 1200), TURN_NONE); /* counts anew */
    ck_assert_int_eq(alert_step(&c, SIGN_UNKNOWN, &times, 2500), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 2501), TURN_BEGINS); /* what is not known does not end it */
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 2502), TURN_NONE);
}
END_TEST

START_TEST(test_is_over_when_all_is_well_for_a_while)
{
    struct alert_course c = {.phase = ALERT_FIRING, .since = 0, .told = 0};

    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 100), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 399), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 400), TURN_NONE); /* flaps: neither over nor told again */
    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 500), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_UNKNOWN, &times, 900), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 901), TURN_ENDS);
    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &times, 902), TURN_NONE);
    ck_assert_int_eq(c.phase, ALERT_QUIET);
}
END_TEST

START_TEST(test_reminds)
{
    struct alert_course c = {.phase = ALERT_FIRING, .since = 0, .told = 0};
    struct alert_times once = times;

    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 4999), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 5000), TURN_REMINDS);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 9999), TURN_NONE);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &times, 10000), TURN_REMINDS);
    once.remind_ms = 0;
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &once, 1000000), TURN_NONE);
}
END_TEST

START_TEST(test_at_once_without_times)
{
    static const struct alert_times none = {0};
    struct alert_course c = {0};

    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &none, 7), TURN_BEGINS);
    ck_assert_int_eq(alert_step(&c, SIGN_FINE, &none, 8), TURN_ENDS);
    ck_assert_int_eq(alert_step(&c, SIGN_BAD, &none, 9), TURN_BEGINS);
}
END_TEST

/* ---- the rules ---- */

static struct seen { enum alert_sign sign; bool there; char text[300]; } seen;
static struct alert_sight want;
static struct usage_sample usage;
static enum health_state health;
static uint64_t said_used, said_total;

static struct vm_driver driver;
static struct guest_spec spec;
static struct guest guest, *guests[] = {&guest};
static struct host_spec host;
static struct world world;

void alert_see(struct alerts *a, const struct alert_sight *s, const char *fmt, ...)
{
    va_list ap;

    (void)a;
    if (s->kind != want.kind || s->level != want.level || strcmp(s->subject, want.subject) || !s->guest != !want.guest)
        return;
    ck_assert_msg(!seen.there, "it is looked at twice");
    seen.there = true;
    seen.sign = s->sign;
    va_start(ap, fmt);
    vsnprintf(seen.text, sizeof seen.text, fmt, ap);
    va_end(ap);
}

const struct usage_sample *usage_last(const struct guest *g)
{
    (void)g;
    return &usage;
}

enum health_state health_of(const struct guest *g)
{
    (void)g;
    return health;
}

json_t *health_json(const struct guest *g)
{
    (void)g;
    return json_pack("[{ssssss} {ssssss}]", "check", "agent", "state", "ok", "message", "", "check", "tcp:5432", "state", "failing",
                     "message", "refused");
}

bool inside_memory(const struct guest *g, uint64_t *used, uint64_t *total)
{
    (void)g;
    *used = said_used;
    *total = said_total;
    return said_total != 0;
}

struct guest *world_guest(struct world *w, const char *name)
{
    return strcmp(name, w->guests[0]->name) ? NULL : w->guests[0];
}

static void set_up(void)
{
    static char name[] = "db";

    health = HEALTH_HEALTHY;
    said_used = said_total = 0;
    usage = (struct usage_sample){.disk = UINT64_MAX, .stats = {.memory = UINT64_MAX, .memory_cache = UINT64_MAX}};
    driver = (struct vm_driver){.name = "nspawn"};
    spec = (struct guest_spec){.memory = 1000, .disk = 1000, .restart = {.give_up = 10, .give_up_window_ms = 600000},
                               .alerts = {.unhealthy_ms = 60000, .restarts = 3, .memory = 90, .memory_for_ms = 1, .disk = 80}};
    guest = (struct guest){.w = &world, .name = name, .spec = &spec, .up = true, .state = ST_RUNNING, .driver = &driver};
    host = (struct host_spec){.full = 90, .critical = 95};
    world = (struct world){.guests = guests, .n_guests = 1, .host_spec = &host};
}

/* What the rules say of that. */
static enum alert_sign look_at(enum alert_kind kind, enum alert_level level, const char *of, const char *subject, const char *look,
                               const char *arrays, const char *file_systems)
{
    static json_t *writable;
    OWN(json) json_t *l = look ? json_loads(look, 0, NULL) : NULL, *r = arrays ? json_loads(arrays, 0, NULL) : NULL,
                     *f = file_systems ? json_loads(file_systems, 0, NULL) : NULL;

    ck_assert((!look || l) && (!arrays || r) && (!file_systems || f));
    if (!writable)
        writable = json_object();
    want = (struct alert_sight){.kind = kind, .level = level, .guest = of, .subject = subject};
    seen = (struct seen){0};
    alert_rules(NULL, &world, &(struct alert_facts){l, r, f, writable});
    return seen.there ? seen.sign : SIGN_UNKNOWN;
}

static enum alert_sign of_guest(enum alert_kind kind)
{
    bool worst = kind == ALERT_UNHEALTHY || kind == ALERT_CRASH_LOOP;

    return look_at(kind, worst ? ALERT_CRITICAL : ALERT_WARNING, "db", "", NULL, NULL, NULL);
}

START_TEST(test_unhealthy)
{
    ck_assert_int_eq(of_guest(ALERT_UNHEALTHY), SIGN_FINE);
    health = HEALTH_UNHEALTHY;
    ck_assert_int_eq(of_guest(ALERT_UNHEALTHY), SIGN_BAD);
    ck_assert_str_eq(seen.text, "unhealthy: tcp:5432: refused");
    guest.up = false; /* by a wish */
    ck_assert_int_eq(of_guest(ALERT_UNHEALTHY), SIGN_FINE);
    guest.up = true;
    health = HEALTH_STARTING;
    ck_assert_int_eq(of_guest(ALERT_UNHEALTHY), SIGN_UNKNOWN);
    guest.state = ST_FAILED;
    guest.error = (char *)"its image is gone";
    ck_assert_int_eq(of_guest(ALERT_UNHEALTHY), SIGN_BAD);
    ck_assert_str_eq(seen.text, "down: its image is gone");
    spec.alerts.unhealthy_ms = 0;
    ck_assert_int_eq(of_guest(ALERT_UNHEALTHY), SIGN_FINE);
}
END_TEST

START_TEST(test_crash_loop)
{
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_FINE);
    guest.backoff.streak = 2;
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_FINE);
    guest.backoff.streak = 3;
    guest.up_since = now_ms();
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_BAD);
    guest.up_since = now_ms() - LIFE_STABLE_MS;
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_FINE);
    guest.backoff = (struct life_backoff){.streak = 1, .in_window = 10};
    guest.state = ST_FAILED;
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_BAD); /* given up */
    guest.backoff.in_window = 9;
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_UNKNOWN); /* on its way up again */
    spec.alerts.restarts = 0;
    ck_assert_int_eq(of_guest(ALERT_CRASH_LOOP), SIGN_FINE);
}
END_TEST

START_TEST(test_memory)
{
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_UNKNOWN);
    usage.stats.memory = 899;
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_FINE);
    usage.stats.memory = 900;
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_BAD);
    usage.stats.memory_cache = 500; /* nobody's loss */
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_FINE);
    driver.can = DRV_BOOTS_KERNEL; /* then only the guest knows */
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_UNKNOWN);
    said_total = 200;
    said_used = 190;
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_BAD);
    spec.alerts.memory = 0;
    ck_assert_int_eq(of_guest(ALERT_MEMORY), SIGN_FINE);
}
END_TEST

START_TEST(test_disk_and_growth)
{
    static const char look[] = "{\"roots\": {\"db\": 51}, \"volumes\": ["
        "{\"name\": \"data\", \"guest\": \"db\", \"type\": \"disk\", \"size\": 100, \"bytes\": 80, \"grown\": 50},"
        "{\"name\": \"free\", \"guest\": \"db\", \"type\": \"directory\", \"size\": null, \"bytes\": 800, \"grown\": -7},"
        "{\"name\": \"lost\", \"guest\": \"nobody\", \"type\": \"disk\", \"size\": 100, \"bytes\": 100}]}";
    static const char unknown[] = "{\"roots\": {\"db\": null}, \"volumes\": ["
        "{\"name\": \"data\", \"guest\": \"db\", \"type\": \"directory\", \"size\": null, \"bytes\": null}]}";

    ck_assert_int_eq(of_guest(ALERT_DISK), SIGN_UNKNOWN);
    usage.disk = 799;
    ck_assert_int_eq(of_guest(ALERT_DISK), SIGN_FINE);
    usage.disk = 800;
    ck_assert_int_eq(of_guest(ALERT_DISK), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_DISK, ALERT_WARNING, "db", "volume data", look, NULL, NULL), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_DISK, ALERT_WARNING, "db", "volume free", look, NULL, NULL), SIGN_UNKNOWN);
    ck_assert(!seen.there);
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, "db", "", look, NULL, NULL), SIGN_FINE); /* nobody asked */
    spec.alerts.growth = 50;
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, "db", "", look, NULL, NULL), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, "db", "", unknown, NULL, NULL), SIGN_UNKNOWN);
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, "db", "volume data", unknown, NULL, NULL), SIGN_UNKNOWN);
    ck_assert(seen.there); /* or it would be taken for one that is gone */
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, "db", "volume data", look, NULL, NULL), SIGN_FINE);
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, "db", "volume free", look, NULL, NULL), SIGN_FINE);
}
END_TEST

START_TEST(test_age)
{
    guest.applied_at = wall_ms() - 10000;
    ck_assert_int_eq(of_guest(ALERT_APPLY_AGE), SIGN_FINE);
    spec.alerts.applied_ms = 9000;
    ck_assert_int_eq(of_guest(ALERT_APPLY_AGE), SIGN_BAD);
    guest.applied_at = 0;
    ck_assert_int_eq(of_guest(ALERT_APPLY_AGE), SIGN_FINE);
}
END_TEST

#define FS(target, used, available, files_free, ro) \
    "[{\"target\": \"" target "\", \"size_bytes\": 1000, \"used_bytes\": " #used ", \"available_bytes\": " #available \
    ", \"files\": 100, \"files_free\": " #files_free ", \"read_only\": " #ro "}]"

static enum alert_sign fs(enum alert_level level, const char *said)
{
    return look_at(ALERT_FILE_SYSTEM, level, NULL, "/", NULL, NULL, said);
}

START_TEST(test_file_systems)
{
    ck_assert_int_eq(fs(ALERT_WARNING, FS("/", 89, 11, 100, false)), SIGN_FINE);
    ck_assert_int_eq(fs(ALERT_WARNING, FS("/", 90, 10, 100, false)), SIGN_BAD);
    ck_assert_int_eq(fs(ALERT_CRITICAL, FS("/", 90, 10, 100, false)), SIGN_FINE);
    ck_assert_int_eq(fs(ALERT_CRITICAL, FS("/", 95, 5, 100, false)), SIGN_BAD);
    ck_assert_int_eq(fs(ALERT_WARNING, FS("/", 1, 99, 9, false)), SIGN_BAD); /* no files are left */
    ck_assert_int_eq(fs(ALERT_WARNING, FS("/", 100, 0, 0, true)), SIGN_UNKNOWN); /* an image is always full */
    ck_assert(!seen.there);
    ck_assert_int_eq(fs(ALERT_WARNING, "[{\"target\": \"/\", \"size_bytes\": null, \"why\": \"EIO\"}]"), SIGN_UNKNOWN);
    ck_assert(seen.there);
    host.full = 0;
    ck_assert_int_eq(fs(ALERT_WARNING, FS("/", 100, 0, 100, false)), SIGN_FINE);
}
END_TEST

START_TEST(test_read_only)
{
    ck_assert_int_eq(look_at(ALERT_READ_ONLY, ALERT_CRITICAL, NULL, "/iso", NULL, NULL, FS("/iso", 1, 0, 1, true)), SIGN_UNKNOWN);
    ck_assert_int_eq(look_at(ALERT_READ_ONLY, ALERT_CRITICAL, NULL, "/srv", NULL, NULL, FS("/srv", 1, 9, 1, false)), SIGN_FINE);
    ck_assert_int_eq(look_at(ALERT_READ_ONLY, ALERT_CRITICAL, NULL, "/srv", NULL, NULL, FS("/srv", 1, 9, 1, true)), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_READ_ONLY, ALERT_CRITICAL, NULL, "/srv", NULL, NULL, FS("/srv", 1, 9, 1, false)), SIGN_FINE);
}
END_TEST

START_TEST(test_paths)
{
    static const char look[] = "{\"paths\": [{\"path\": \"/a\", \"used_bytes\": 50, \"available_bytes\": 50, \"grown\": 9}, {\"path\": \"/b\"}]}";
    struct spec_path paths[] = {{"/a", 50, 8}, {"/b", 50, 8}};

    host.paths = paths;
    host.n_paths = 2;
    ck_assert_int_eq(look_at(ALERT_FILE_SYSTEM, ALERT_WARNING, NULL, "path /a", look, NULL, NULL), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, NULL, "path /a", look, NULL, NULL), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_FILE_SYSTEM, ALERT_WARNING, NULL, "path /b", look, NULL, NULL), SIGN_UNKNOWN);
    paths[0] = (struct spec_path){"/a", 51, 9};
    ck_assert_int_eq(look_at(ALERT_FILE_SYSTEM, ALERT_WARNING, NULL, "path /a", look, NULL, NULL), SIGN_FINE);
    ck_assert_int_eq(look_at(ALERT_GROWTH, ALERT_WARNING, NULL, "path /a", look, NULL, NULL), SIGN_FINE);
}
END_TEST

START_TEST(test_arrays_and_drives)
{
    static const char said[] = "{\"md\": [{\"name\": \"md0\", \"state\": \"active\", \"degraded\": true}], \"btrfs\": null,"
        "\"zfs\": [{\"name\": \"tank\", \"state\": \"ONLINE\", \"degraded\": false}],"
        "\"smart\": [{\"device\": \"/dev/sda\", \"model\": \"X\", \"healthy\": false}, {\"device\": \"/dev/sdb\", \"healthy\": true},"
        "{\"device\": \"/dev/sdc\", \"healthy\": null}]}";

    ck_assert_int_eq(look_at(ALERT_ARRAY, ALERT_CRITICAL, NULL, "md md0", NULL, said, NULL), SIGN_BAD);
    ck_assert_str_eq(seen.text, "md md0: degraded (active)");
    ck_assert_int_eq(look_at(ALERT_ARRAY, ALERT_CRITICAL, NULL, "zfs tank", NULL, said, NULL), SIGN_FINE);
    ck_assert_int_eq(look_at(ALERT_DRIVE, ALERT_CRITICAL, NULL, "/dev/sda", NULL, said, NULL), SIGN_BAD);
    ck_assert_int_eq(look_at(ALERT_DRIVE, ALERT_CRITICAL, NULL, "/dev/sdb", NULL, said, NULL), SIGN_FINE);
    ck_assert_int_eq(look_at(ALERT_DRIVE, ALERT_CRITICAL, NULL, "/dev/sdc", NULL, said, NULL), SIGN_UNKNOWN);
}
END_TEST

/* ---- channels ---- */

START_TEST(test_A4_a_channel_shows_no_secret)
{
    static const struct { const char *url, *shown; } all[] = {
        {"https://hooks.example.org/T0/B0/secret", "notify[0]: webhook https://hooks.example.org"},
        {"https://user:secret@hooks.example.org:8443/x", "notify[0]: webhook https://hooks.example.org:8443"},
        {"http://hooks.example.org?token=secret@host", "notify[0]: webhook http://hooks.example.org"},
        {"http://a@secret@h#x", "notify[0]: webhook http://h"},
    };

    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        OWN(str) char *shown = alert_channel(0, &(struct spec_notify){.kind = NOTIFY_WEBHOOK, .webhook = all[i].url});

        ck_assert_str_eq(shown, all[i].shown);
    }
}
END_TEST

static char *const starter[] = {STARTER_PROGRAM, NULL};

/* A mail as a program in sendmail's place gets it. */
START_TEST(test_P1_a_mail_has_its_own_headers_alone)
{
    static char path[] = "/tmp/vmsd-mail-XXXXXX";
    const struct store_notice n = {.what = (char *)"firing", .alert = {.id = 3, .kind = "drive", .level = "critical",
        .subject = "/dev/sd\nBcc: evil@example.org\xc3\xa4", .text = "failing", .began_at = 1000}};
    const struct spec_notify to = {.kind = NOTIFY_MAIL, .mail = "ops@example.org", .sendmail = path, .timeout_ms = 10000};
    struct vm_err e = {0};
    char out[80], text[2000] = "";
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");

    starter_place((struct starter_place){.argv = starter});
    snprintf(out, sizeof out, "%s.out", path);
    fprintf(f, "#!/bin/sh\n[ \"$*\" = '-t -i' ] && exec cat >%s\n", out);
    ck_assert_int_eq(fchmod(fd, 0755), 0);
    fclose(f);
    ck_assert_msg(alert_send(&to, &n, &world, &e) == 0, "%s", e.text);
    ck_assert_ptr_nonnull((f = fopen(out, "r")));
    ck_assert_uint_gt(fread(text, 1, sizeof text - 1, f), 0);
    fclose(f);
    ck_assert_msg(!strncmp(text, "To: ops@example.org\nSubject: [vmsd] ", 36), "%s", text);
    ck_assert_ptr_nonnull(strstr(text, ": firing: /dev/sd?Bcc: evil@example.org?? drive\nAuto-Submitted: auto-generated\n"));
    ck_assert_ptr_null(strstr(text, "\nBcc"));
    ck_assert_ptr_nonnull(strstr(text, "\n\nfailing\n"));
    f = fopen(path, "w");
    fprintf(f, "#!/bin/sh\necho secret; exit 75\n");
    fclose(f);
    ck_assert_int_eq(alert_send(&to, &n, &world, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "ends with status 75"));
    ck_assert_ptr_null(strstr(e.text, "secret"));
    unlink(path);
    unlink(out);
}
END_TEST

START_TEST(test_webhooks_that_are_none)
{
    static char path[] = "/tmp/vmsd-hook-XXXXXX";
    static const char *const all[] = {"", "ftp://h/", "hello\nhttp://h/\n", "http://h/\x1b[2J\n"};
    const struct store_notice n = {.what = (char *)"firing", .alert = {.kind = "disk", .level = "warning", .subject = "", .text = ""}};
    struct spec_notify to = {.kind = NOTIFY_WEBHOOK_FILE, .webhook_file = path, .timeout_ms = 1000};
    struct vm_err e = {0};

    close(mkstemp(path));
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        FILE *f = fopen(path, "w");

        fputs(all[i], f);
        fclose(f);
        ck_assert_int_eq(alert_send(&to, &n, &world, &e), -1);
        ck_assert_msg(strstr(e.text, "no http or https URL"), "%s", e.text);
    }
    unlink(path);
    ck_assert_int_eq(alert_send(&to, &n, &world, &e), -1);
    ck_assert_msg(strstr(e.text, "No such file"), "%s", e.text);
    to = (struct spec_notify){.kind = NOTIFY_WEBHOOK, .webhook = "http://127.0.0.1:1/secret", .timeout_ms = 1000};
    ck_assert_int_eq(alert_send(&to, &n, &world, &e), -1);
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
    ck_assert_ptr_null(strstr(e.text, "secret"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("alert");
    TCase *t = tcase_create("alert");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, test_begins_when_it_lasts);
    tcase_add_test(t, test_is_over_when_all_is_well_for_a_while);
    tcase_add_test(t, test_reminds);
    tcase_add_test(t, test_at_once_without_times);
    tcase_add_test(t, test_unhealthy);
    tcase_add_test(t, test_crash_loop);
    tcase_add_test(t, test_memory);
    tcase_add_test(t, test_disk_and_growth);
    tcase_add_test(t, test_age);
    tcase_add_test(t, test_file_systems);
    tcase_add_test(t, test_read_only);
    tcase_add_test(t, test_paths);
    tcase_add_test(t, test_arrays_and_drives);
    tcase_add_test(t, test_A4_a_channel_shows_no_secret);
    tcase_add_test(t, test_P1_a_mail_has_its_own_headers_alone);
    tcase_add_test(t, test_webhooks_that_are_none);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
