/* The real recipes, built once and kept in /var/tmp/vmsd-test until they change: /var/tmp/vmsd-test/tree points at the
 * tree, for tests that want to boot it. Needs root, a network, mmdebstrap and mkfs.erofs; skipped without them. */
#include "newc.h"
#include "room.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

#define KEPT "/var/tmp/vmsd-test"

OWN_DEFINE(newc, struct newc *, newc_free)

enum { INITRAMFS_BYTES_MAX = 3 << 20, BUILD_MS = 250000 };

static struct image_ref ref;
static struct image_kernel kernel;
static char disk[IMAGE_PATH];

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
    struct image_progress told = {.line = show};
    struct vm_err e = {0};

    strv_add(&recipes, SOURCE_DIR "/images");
    ck_assert_msg(image_store_open(KEPT, &recipes, &s, &e) == 0, "%s", e.text);
    ck_assert_msg(image_store_set_boot(s, VMS_INIT, VMS_AGENT, &e) == 0, "%s", e.text);
    ck_assert_msg(image_ensure(s, &want, told, deadline_in(BUILD_MS), &ref, &e) == 0, "%s", e.text);
    ck_assert_msg(image_disk(s, &ref, told, deadline_in(BUILD_MS), disk, &e) == 0, "%s", e.text);
    ck_assert_msg(kernel_ensure(s, told, deadline_in(BUILD_MS), &kernel, &e) == 0, "%s", e.text);
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

    ck_assert_uint_eq(count_entries(images, ref.id), 3); /* tree, disk.img, image.json */
    ck_assert(!path_exists(images, scratch));
    ck_assert(!path_exists(images, lock));
}
END_TEST

/* A guest whose kernel is ours can load what it needs. */
START_TEST(test_tree_can_load_modules)
{
    OWN(fd) int tree = path_open_host(ref.tree, O_RDONLY | O_DIRECTORY, NULL);

    ck_assert(path_exists(tree, "usr/sbin/modprobe"));
}
END_TEST

START_TEST(test_initramfs_is_small_and_in_order)
{
    static const char *const needed[] = {"virtio_pci",     "virtio_blk", "erofs", "overlay", "virtiofs", "virtio_net",
                                         "virtio_console", "vmw_vsock_virtio_transport", "virtio-rng", "pvpanic-pci"};
    static const char key[] = "depends=";
    OWN(newc) struct newc *c = newc_read(kernel.initramfs);
    char loaded[4096] = " ";

    printf("initramfs of %zu bytes\n", c->n);
    ck_assert_uint_le(c->n, INITRAMFS_BYTES_MAX);
    for (unsigned i = 0; i < c->n_files; i++) {
        const struct newc_file *f = &c->files[i];
        const char *ko = (const char *)c->bytes + f->at, *on;
        char name[80], *dot, *word, *rest;
        if (strncmp(f->name, "modules/", 8))
            continue;
        ck_assert_msg(!memcmp(ko, "\177ELF", 4), "%s", f->name); /* the kernel need not unpack it */
        ck_assert_ptr_nonnull(on = memmem(ko, f->n, key, strlen(key))); /* "depends=a,b", NUL */
        if (on[strlen(key)]) {
            OWN(str) char *list = strdup(on + strlen(key));
            for (rest = list; (word = strsep(&rest, ","));) {
                snprintf(name, sizeof name, " %s ", word);
                ck_assert_msg(strstr(loaded, name), "%s needs%sfirst; loaded:%s", f->name, name, loaded);
            }
        }
        snprintf(name, sizeof name, "%s", f->name + strlen("modules/NN-"));
        ck_assert_ptr_nonnull(dot = strrchr(name, '.'));
        *dot = '\0';
        strncat(loaded, name, sizeof loaded - strlen(loaded) - 1);
        strncat(loaded, " ", sizeof loaded - strlen(loaded) - 1);
    }
    for (size_t i = 0; i < ARRAY_LEN(needed); i++)
        ck_assert_msg(strstr(loaded, needed[i]), "%s is not in:%s", needed[i], loaded);
}
END_TEST

/* The signature of a bzImage, and of an EROFS. */
START_TEST(test_kernel_and_disks_are_what_they_are_called)
{
    static const struct { const char *path; off_t at; const char *magic; } files[] = {
        {kernel.kernel, 0x202, "HdrS"}, {kernel.modules, 1024, "\xe2\xe1\xf5\xe0"}, {disk, 1024, "\xe2\xe1\xf5\xe0"}};

    for (size_t i = 0; i < ARRAY_LEN(files); i++) {
        OWN(fd) int fd = path_open_host(files[i].path, O_RDONLY, NULL);
        char magic[4];
        struct stat st;
        ck_assert_int_eq(pread(fd, magic, sizeof magic, files[i].at), sizeof magic);
        ck_assert_msg(!memcmp(magic, files[i].magic, sizeof magic), "%s", files[i].path);
        ck_assert(fstat(fd, &st) == 0 && (st.st_mode & 07777) == 0644);
        printf("%s: %lld MiB\n", files[i].path, (long long)st.st_size >> 20);
    }
}
END_TEST

int main(void)
{
    if (geteuid() != 0 || access("/usr/bin/mmdebstrap", X_OK) < 0 || access("/usr/bin/mkfs.erofs", X_OK) < 0)
        return room_skip("needs root, mmdebstrap and mkfs.erofs");
    return room_run("debian-12", build_once, NULL, NULL,
                    (const TTest *const[]){test_tree_is_ready_to_boot, test_tree_has_no_identity,
                                           test_H7_nothing_but_the_result_is_left, test_tree_can_load_modules,
                                           test_initramfs_is_small_and_in_order,
                                           test_kernel_and_disks_are_what_they_are_called, NULL});
}
