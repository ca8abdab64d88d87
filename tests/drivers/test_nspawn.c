/* Containers as they are: started, stopped, killed, adopted. Needs root and a tree (trial.h). */
#include "trial.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

START_TEST(test_life)
{
    struct trial trial, *t = &trial;
    char out[200];

    trial_init(t, "trial-life", 4001);
    trial_start(t);
    ck_assert_int_eq(trial_sh(t, "echo $(id -u) $(id -g); exit 7", out, sizeof out), 7);
    ck_assert_msg(!strncmp(out, "0 0", 3), "%s", out);
    trial_stop(t);
    struct drv_exit x = trial_reap(t);
    ck_assert_int_eq(x.kind, EXIT_POWEROFF);
    trial_done(t);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("nspawn");
    TCase *c = tcase_create("life");

    tcase_set_timeout(c, 60);
    tcase_add_test(c, test_life);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    const char *why = trial_missing();

    if (why) {
        printf("skipped: %s\n", why);
        return 77;
    }
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
