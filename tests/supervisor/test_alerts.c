/* Alerts from the first sign to those who are told: with a real loop and a real store, and a test that says how things are. */
#include "../../supervisor/alert.h"
#include "../../supervisor/measures.h"
#include "stubs.h"

#include <check.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

enum { POLL_MS = 20, REST_MS = 1000, PATIENCE_MS = 30000 };

static const char two_ways[] = "{\"alerts\":{\"drives\":false,\"recover\":0},\"kind\":\"host\",\"notify\":[{\"mail\":\"a@b\"},{\"mail\":\"c@d\"}]}";
static const char one_way[] = "{\"alerts\":{\"drives\":false,\"recover\":0,\"remind\":1},\"kind\":\"host\",\"notify\":[{\"mail\":\"c@d\"}]}";

static char dir[64], name[] = "db";
static struct guest guest = {.name = name}, *guests[] = {&guest};
static struct world world;
static struct loop_timer *poll, *quit;
static size_t awaited;             /* so many things shall have been told … */
static int64_t patience;           /* … by then */
static struct vm_err e;
static enum alert_sign sign;       /* of the one thing that there is */
static bool refuses;               /* those who are told */
static const char *looked_at;      /* what a worker sees; NULL: nobody can be asked */
static unsigned asked;             /* times that drives were to be */
static struct strv told;           /* on workers: read between turns of the loop */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void alert_rules(struct alerts *a, struct world *w, const struct alert_facts *f)
{
    (void)w, (void)f;
    if (sign != SIGN_UNKNOWN)
        alert_see(a, &(struct alert_sight){.kind = ALERT_DISK, .guest = name, .subject = "", .sign = sign}, "full\n\x1b[2J");
}

static struct looking {
    void (*done)(json_t *look, json_t *arrays, bool cancelled, void *arg);
    void *arg;
} looking;

static void look_done(void *arg)
{
    (void)arg;
    looking.done(json_loads(looked_at, 0, NULL), NULL, false, looking.arg);
}

int alert_look(struct world *w, bool arrays, void (*done)(json_t *look, json_t *arrays, bool cancelled, void *arg), void *arg)
{
    asked += arrays;
    if (!looked_at)
        return -1;
    looking = (struct looking){done, arg};
    loop_post(w->loop, look_done, NULL);
    return 0;
}

int alert_send(const struct spec_notify *to, const struct store_notice *n, const struct world *w, struct vm_err *err)
{
    (void)w;
    pthread_mutex_lock(&lock);
    strv_addf(&told, "%s %s %s", to->mail, n->what, n->alert.text);
    pthread_mutex_unlock(&lock);
    return refuses ? vm_fail(err, VM_E_BACKEND, "no") : 0;
}

char *alert_channel(size_t i, const struct spec_notify *to)
{
    return text_format("%zu %s", i, to->mail);
}

const json_t *measures_last(const struct world *w)
{
    static json_t *last;

    (void)w;
    if (!last)
        last = json_pack("{s[]}", "file_systems");
    return looked_at ? last : NULL;
}

struct guest *world_guest(struct world *w, const char *of)
{
    (void)w;
    return strcmp(of, name) ? NULL : &guest;
}

static void end_turn(void *arg)
{
    loop_quit(arg);
}

static size_t told_yet(void)
{
    size_t n;

    pthread_mutex_lock(&lock);
    n = told.n;
    pthread_mutex_unlock(&lock);
    return n;
}

static void look_again(void *arg)
{
    (void)arg;
    if (told_yet() >= awaited || now_ms() > patience)
        loop_timer_set(quit, REST_MS, 0); /* is there more? */
    else
        loop_timer_set(poll, POLL_MS, 0);
}

/* The host's spec is that, and things are so until n things have been told in all, and a while longer. */
static void turn(const char *spec, enum alert_sign as, size_t n)
{
    host_spec_free(world.host_spec);
    world.host_spec = NULL;
    ck_assert_msg(host_spec_load(spec, &world.host_spec, &e) == 0, "%s", e.text);
    world.host_text = (char *)spec;
    sign = as;
    alerts_changed(&world);
    awaited = n;
    patience = now_ms() + PATIENCE_MS;
    loop_timer_set(poll, 0, 0);
    ck_assert_int_eq(loop_run(world.loop, &e), 0);
}

static void begin(void)
{
    ck_assert_int_eq(loop_open(4, &world.loop, &e), 0);
    ck_assert_int_eq(loop_timer_new(world.loop, end_turn, world.loop, &quit, &e), 0);
    ck_assert_int_eq(loop_timer_new(world.loop, look_again, NULL, &poll, &e), 0);
    ck_assert_msg(store_open(dir, &world.store, &e) == 0, "%s", e.text);
    ck_assert_int_eq(host_spec_load(two_ways, &world.host_spec, &e), 0);
    world.host_text = (char *)two_ways;
    ck_assert_msg(alerts_open(&world, &e) == 0, "%s", e.text);
}

static void end(void)
{
    loop_drain(world.loop);
    alerts_close(&world);
    loop_timer_free(quit);
    loop_timer_free(poll);
    loop_close(world.loop);
    store_close(world.store);
    host_spec_free(world.host_spec);
}

static void set_up(void)
{
    snprintf(dir, sizeof dir, "/tmp/vmsd-alerts-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    memset(&heard, 0, sizeof heard);
    world = (struct world){.guests = guests, .n_guests = 1};
    guest.silent_until = 0;
    refuses = false;
    looked_at = NULL;
    asked = 0;
    begin();
}

static void tear_down(void)
{
    char command[100];

    end();
    strv_done(told);
    told = (struct strv){0};
    snprintf(command, sizeof command, "rm -rf %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static size_t count(const char *line)
{
    size_t n = 0;

    for (size_t i = 0; i < told.n; i++)
        n += !strcmp(told.v[i], line);
    return n;
}

START_TEST(test_told_once_by_each_way_and_when_it_is_over)
{
    turn(two_ways, SIGN_BAD, 2);
    ck_assert_uint_eq(told.n, 2);
    ck_assert_uint_eq(count("a@b firing full\\x0A\\x1B[2J"), 1);
    ck_assert_uint_eq(count("c@d firing full\\x0A\\x1B[2J"), 1);
    ck_assert_uint_eq(alerts_firing(&world, ALERT_DISK), 1);
    ck_assert_uint_eq(alerts_firing(&world, ALERT_MEMORY), 0);
    ck_assert_uint_eq(heard.events, 1);
    turn(two_ways, SIGN_BAD, 2);
    ck_assert_uint_eq(told.n, 2);
    end();
    begin(); /* another vmsd */
    ck_assert_uint_eq(alerts_firing(&world, ALERT_DISK), 1);
    turn(two_ways, SIGN_UNKNOWN, 2);
    turn(two_ways, SIGN_BAD, 2);
    ck_assert_uint_eq(told.n, 2);
    turn(two_ways, SIGN_FINE, 4);
    ck_assert_uint_eq(told.n, 4);
    ck_assert_uint_eq(count("a@b recovered full\\x0A\\x1B[2J"), 1);
    ck_assert_uint_eq(alerts_firing(&world, ALERT_DISK), 0);
    ck_assert_str_eq(heard.event, "disk: well again");
    end();
    begin();
    ck_assert_uint_eq(alerts_firing(&world, ALERT_DISK), 0);
}
END_TEST

START_TEST(test_tried_again)
{
    refuses = true;
    turn(one_way, SIGN_BAD, 1);
    ck_assert_uint_ge(told.n, 1);
    ck_assert_str_eq(heard.event, "0 c@d: no, trying again");
    refuses = false;
    turn(one_way, SIGN_BAD, 3);
    ck_assert_uint_ge(told.n, 3);
    ck_assert_uint_eq(count("c@d firing full\\x0A\\x1B[2J"), 2);
    ck_assert_uint_ge(count("c@d reminder full\\x0A\\x1B[2J"), 1); /* behind it, not before */
    ck_assert_str_eq(told.v[1], "c@d firing full\\x0A\\x1B[2J");
}
END_TEST

/* Whoever is not in the spec any more gets nothing of what was kept for them. */
START_TEST(test_a_way_that_goes)
{
    refuses = true;
    turn(two_ways, SIGN_BAD, 2);
    refuses = false;
    turn(one_way, SIGN_UNKNOWN, 2);
    ck_assert_uint_eq(count("a@b firing full\\x0A\\x1B[2J"), 1); /* the try that failed */
    OWN(json) json_t *all = store_alerts(world.store, true, 10, &e);
    json_t *notices = json_object_get(json_array_get(all, 0), "notices"), *n;
    size_t i;

    ck_assert_uint_eq(json_array_size(notices), 2);
    json_array_foreach(notices, i, n)
        ck_assert_str_eq(json_str(n, "error", ""), "this way is not in the spec any more");
}
END_TEST

START_TEST(test_silenced)
{
    guest.silent_until = wall_ms() + 1000000;
    turn(two_ways, SIGN_BAD, 0);
    ck_assert_uint_eq(told.n, 0);
    guest.silent_until = wall_ms() - 1;
    turn(two_ways, SIGN_BAD, 2);
    ck_assert_uint_eq(told.n, 2);
}
END_TEST

START_TEST(test_what_is_not_known_is_not_well)
{
    turn(two_ways, SIGN_BAD, 2);
    looked_at = "{\"volumes\": null}"; /* they could not be listed */
    turn(two_ways, SIGN_UNKNOWN, 2);
    ck_assert_uint_eq(told.n, 2);
    looked_at = "{\"volumes\": []}"; /* it is gone */
    turn(two_ways, SIGN_UNKNOWN, 4);
    ck_assert_uint_eq(told.n, 4);
}
END_TEST

START_TEST(test_drives_are_asked_once_an_hour_or_until_somebody_could)
{
    static const char drives[] = "{\"alerts\":{\"recover\":0},\"kind\":\"host\"}";

    turn(drives, SIGN_FINE, 0);
    turn(drives, SIGN_FINE, 0);
    ck_assert_uint_eq(asked, 2);
    looked_at = "{}";
    turn(drives, SIGN_FINE, 0);
    turn(drives, SIGN_FINE, 0);
    ck_assert_uint_eq(asked, 3);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("alerts");
    TCase *t = tcase_create("alerts");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_told_once_by_each_way_and_when_it_is_over);
    tcase_add_test(t, test_tried_again);
    tcase_add_test(t, test_a_way_that_goes);
    tcase_add_test(t, test_silenced);
    tcase_add_test(t, test_what_is_not_known_is_not_well);
    tcase_add_test(t, test_drives_are_asked_once_an_hour_or_until_somebody_could);
    suite_add_tcase(s, t);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
