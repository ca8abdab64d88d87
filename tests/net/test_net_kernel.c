/* The net room against a real kernel, in namespaces of its own. */
#include "netlab.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/own.h>
#include <vmsd/text.h>

START_TEST(test_allowed_passes_denied_fails)
{
    struct lab *l = lab_open(3);
    lab_allow(l, 0, "g1", 5432, 5432);
    lab_rules(l);
    OWN(fd) int db = lab_listen(l->ns[0], "10.20.0.10", 5432);
    OWN(fd) int other = lab_listen(l->ns[0], "10.20.0.10", 80);
    OWN(fd) int db6 = lab_listen(l->ns[0], "fd20::10", 5432);
    OWN(fd) int c = lab_connect(l->ns[1], "10.20.0.10", 5432, 2000);
    ck_assert_msg(c >= 0, "%s", strerror(errno));
    ck_assert(lab_echo(c, db));
    OWN(fd) int c6 = lab_connect(l->ns[1], "fd20::10", 5432, 2000);
    ck_assert_msg(c6 >= 0, "%s", strerror(errno));
    ck_assert(lab_echo(c6, db6));
    ck_assert(!lab_reaches(l->ns[1], "10.20.0.10", 80)); /* another port */
    ck_assert_int_eq(errno, EHOSTUNREACH);               /* told at once */
    ck_assert(!lab_reaches(l->ns[2], "10.20.0.10", 5432)); /* another guest */
    ck_assert(!lab_reaches(l->ns[2], "fd20::10", 5432));
    ck_assert(!lab_reaches(l->outside, "10.20.0.10", 5432));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("net_kernel");
    TCase *t = tcase_create("kernel");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, test_allowed_passes_denied_fails);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
