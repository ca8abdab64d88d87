/* The real recipe, built once and kept in /var/tmp/vmsd-test until it changes: /var/tmp/vmsd-test/tree points at the
 * tree, for tests that want to boot it. Needs root, a network and mmdebstrap; skipped without them. */
#include "room.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

#define KEPT "/var/tmp/vmsd-test"

static struct image_ref ref;

static void show(const char *line, void *arg)
{
    (void)arg;
    printf("%s\n", line);
}

static void build_once(void)
{
    OWN(strv) struct strv recipes = {0};
    OWN(store) struct image_store *s = NULL;
    struct spec_image want = {.kind = IMAGE_RECIPE, .name = "debian-12"};
    struct vm_err e = {0};

    strv_add(&recipes, SOURCE_DIR "/images");
    ck_assert_msg(image_store_open(KEPT, &recipes, &s, &e) == 0, "%s", e.text);
    ck_assert_msg(image_ensure(s, &want, (struct image_progress){.line = show}, deadline_in(500000), &ref, &e) == 0,
                  "%s", e.text);
    ck_assert(image_have(s, &want));
    unlink(KEPT "/tree.new");
    ck_assert_int_eq(symlink(ref.tree, KEPT "/tree.new"), 0);
    ck_assert_int_eq(rename(KEPT "/tree.new", KEPT "/tree"), 0);
    printf("%s/tree -> %s\n", KEPT, ref.tree);
}

START_TEST(test_tree_is_ready_to_boot)
{
    OWN(fd) int tree = path_open_host(ref.tree, O_RDONLY | O_DIRECTORY, NULL);
    struct stat st;
    static const char *const upon[] = {"dev", "proc", "run", "sys", "tmp"};

    ck_assert_int_ge(tree, 0);
    for (size_t i = 0; i < ARRAY_LEN(upon); i++) {
        ck_assert_int_eq(fstatat(tree, upon[i], &st, AT_SYMLINK_NOFOLLOW), 0);
        ck_assert_msg(S_ISDIR(st.st_mode), "%s", upon[i]);
    }
    ck_assert_int_eq(count_entries(tree, "dev"), 0);
    ck_assert(!path_exists(tree, ".customize"));
    ck_assert(path_exists(tree, "sbin/init"));
}
END_TEST

/* Every guest is to get its own. */
START_TEST(test_tree_has_no_identity)
{
    OWN(fd) int tree = path_open_host(ref.tree, O_RDONLY | O_DIRECTORY, NULL);
    struct stat st;

    ck_assert_int_eq(fstatat(tree, "etc/machine-id", &st, AT_SYMLINK_NOFOLLOW), 0);
    ck_assert_int_eq(st.st_size, 0);
    ck_assert_int_eq(fstatat(tree, "etc/resolv.conf", &st, AT_SYMLINK_NOFOLLOW), 0);
    ck_assert(S_ISREG(st.st_mode) && st.st_size == 0);
    ck_assert(!path_exists(tree, "etc/hostname"));
    ck_assert(!path_exists(tree, "var/lib/dbus/machine-id"));
}
END_TEST

START_TEST(test_H7_nothing_but_the_result_is_left)
{
    OWN(fd) int images = path_open_host(KEPT "/images", O_RDONLY | O_DIRECTORY, NULL);
    OWN(str) char *scratch = text_format(".%s.tmp", ref.id);
    OWN(str) char *lock = text_format(".%s.lock", ref.id);

    ck_assert_uint_eq(count_entries(images, ref.id), 2); /* tree, image.json */
    ck_assert(!path_exists(images, scratch));
    ck_assert(!path_exists(images, lock));
}
END_TEST

int main(void)
{
    if (geteuid() != 0 || access("/usr/bin/mmdebstrap", X_OK) < 0)
        return room_skip("needs root and mmdebstrap");
    return room_run("debian-12", build_once, NULL, NULL,
                    (const TTest *const[]){test_tree_is_ready_to_boot, test_tree_has_no_identity,
                                           test_H7_nothing_but_the_result_is_left, NULL});
}
