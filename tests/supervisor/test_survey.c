/* What drivers say of themselves: asked once at the start, kept, and guests of theirs are shown anew when it changes. */
#include "stubs.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

static void probe_container(struct drv_report *r) { *r = (struct drv_report){.usable = true, .version = "252"}; }
static void probe_microvm(struct drv_report *r)
{
    usleep(50000); /* takes its time */
    *r = (struct drv_report){.usable = true, .version = "9.0", .warning = "emulated"};
}
static const struct vm_driver box = {.name = "box", .kind = KIND_CONTAINER, .probe = probe_container};
static const struct vm_driver vm = {.name = "vm", .kind = KIND_MICROVM, .probe = probe_microvm};

const struct vm_driver *const *drivers(void)
{
    static const struct vm_driver *const all[] = {&box, &vm, NULL};

    return all;
}

static struct guest of_box = {.driver = &box}, of_vm = {.driver = &vm}, never_ran;
static struct guest *guests[] = {&of_box, &of_vm, &never_ran};
static struct world world = {.guests = guests, .n_guests = 3};

static void quit(void *loop)
{
    loop_quit(loop);
}

static const char *said(size_t i, const char *key)
{
    return json_str(json_array_get(world.drivers, i), key, NULL);
}

START_TEST(test_survey)
{
    struct drv_report r = {.usable = true, .version = "9.0", .warning = "emulated"};
    struct loop_timer *t;

    ck_assert_int_eq(loop_open(1, &world.loop, NULL), 0);
    survey_open(&world);
    ck_assert_uint_eq(json_array_size(world.drivers), 2);
    ck_assert_str_eq(said(0, "version"), "252");
    ck_assert_str_eq(said(1, "why"), "it was not asked yet"); /* vmsd's start does not wait for it */
    ck_assert_ptr_null(survey_warning(&world, &vm));
    ck_assert_int_eq(loop_timer_new(world.loop, quit, world.loop, &t, NULL), 0);
    loop_timer_set(t, 1000, 0);
    ck_assert_int_eq(loop_run(world.loop, NULL), 0);
    ck_assert_uint_eq(json_array_size(world.drivers), 2);
    ck_assert_str_eq(said(1, "version"), "9.0");
    ck_assert_ptr_null(said(1, "why"));
    ck_assert_str_eq(survey_warning(&world, &vm), "emulated");
    ck_assert_ptr_null(survey_warning(&world, &box));
    ck_assert_ptr_null(survey_warning(&world, NULL));

    heard.dirty = 0;
    survey_put(&world, &vm, &r);
    ck_assert_uint_eq(heard.dirty, 0); /* nothing new */
    r = (struct drv_report){.why = "no libvirtd listens", .version = "9.0", .warning = "emulated"};
    survey_put(&world, &vm, &r);
    ck_assert_uint_eq(heard.dirty, 1); /* of_vm alone */
    ck_assert_str_eq(said(1, "why"), "no libvirtd listens");
    ck_assert_ptr_null(survey_warning(&world, &vm)); /* what cannot be used needs no warning */
    loop_timer_free(t);
    loop_close(world.loop);
    json_decref(world.drivers);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("survey");
    TCase *t = tcase_create("survey");
    tcase_add_test(t, test_survey);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
