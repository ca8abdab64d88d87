/* What stands in a guest's manifest is what a store that was lost is put together from. */
#include "../../supervisor/manifest.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/path.h>

static char dir[] = "/tmp/vmsd-manifest.XXXXXX";

int root_list(struct image_store *s, uint32_t **ids, size_t *n, struct vm_err *e) { (void)s, (void)ids, (void)n, (void)e; return 0; }

/* The host goes down: the guest is stopped, and is wished to be up as before. */
START_TEST(test_wish)
{
    struct options options = {.state_dir = dir};
    struct world world = {.options = &options};
    struct guest_spec spec = {0};
    struct job j = {.w = &world, .guest_id = 7, .name = (char *)"db", .verb = JOB_STOP, .up = true, .spec = &spec, .text = (char *)"{}"};
    OWN(str) char *text = NULL;
    OWN(json) json_t *said = NULL;
    OWN(fd) int at = -1;

    ck_assert_ptr_nonnull(mkdtemp(dir));
    ck_assert_int_eq(manifest_write(&j, true, NULL), 0);
    at = path_open_host(dir, O_RDONLY | O_DIRECTORY, NULL);
    ck_assert_int_eq(path_read(at, "guests/7/manifest.json", 4096, &text, NULL, NULL), 0);
    said = json_from_text(text, strlen(text), NULL);
    ck_assert(json_flag(said, "up", false));
    ck_assert_int_eq(path_remove(at, "guests", NULL), 0);
    ck_assert_int_eq(rmdir(dir), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("manifest");
    TCase *t = tcase_create("manifest");
    tcase_add_test(t, test_wish);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
