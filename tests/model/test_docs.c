/* docs/reference.md and docs/vms.schema.json are what the table says now. */
#include "model/help.h"

#include <check.h>
#include <string.h>
#include <vmsd/json.h>

START_TEST(test_reference)
{
    OWN(str) char *now = spec_reference();
    OWN(str) char *kept = help_read("../docs/reference.md", NULL);

    ck_assert_ptr_nonnull(now);
    ck_assert_msg(kept && !strcmp(now, kept), "docs/reference.md is out of date; run the build target docs");
}
END_TEST

START_TEST(test_schema)
{
    OWN(json) json_t *schema = spec_schema();
    OWN(str) char *now = json_dumps(schema, JSON_INDENT(2) | JSON_SORT_KEYS);
    OWN(str) char *kept = help_read("../docs/vms.schema.json", NULL);
    size_t n = strlen(now);

    ck_assert_msg(kept && !strncmp(now, kept, n) && !strcmp(kept + n, "\n"),
                  "docs/vms.schema.json is out of date; run the build target docs");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("docs");
    TCase *t = tcase_create("docs");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, test_reference);
    tcase_add_test(t, test_schema);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
