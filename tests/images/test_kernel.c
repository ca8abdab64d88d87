/* The kernel of microVMs and its initramfs, with a quick double in the place of mmdebstrap. */
#include "newc.h"
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

#define SETUP "hostname=db\ntoken=00112233445566778899aabbccddeeff\n"
OWN_DEFINE(newc, struct newc *, newc_free)

enum { CROWD = 8 };

static const struct image_progress quiet;
static char builder[128];

/* What the real recipe leaves behind; the file `spoil` is a shell line that makes it something else. */
static const char double_text[] =
    "#!/bin/sh\n"
    "echo run >>%s/runs\n"
    "printf '%%s\\n' \"$@\" >%s/args\n"
    "sleep 0.2\n"
    "mkdir -p tree/boot/modules/6.1 tree/boot/initramfs tree/usr/share\n"
    "echo kernel >tree/boot/vmlinuz; echo 'a.ko:' >tree/boot/modules/6.1/modules.dep\n"
    "printf first >tree/boot/initramfs/10-first.ko; printf b >tree/boot/initramfs/11-b.ko\n"
    ": >tree/boot/initramfs/12-a.ko; chmod 600 tree/boot/vmlinuz\n"
    ". %s/spoil\n";

static void make_double(void)
{
    room_make();
    OWN(str) char *text = text_format(double_text, room_path, room_path, room_path);
    room_write("double", text, 0755);
    room_write("spoil", "", 0644);
    room_write("vms-init", "the init", 0755);
    room_write("vms-agent", "the agent!", 0755);
    snprintf(builder, sizeof builder, "%s/double", room_path);
    room_recipe("kernel", "{\"suite\": \"bookworm\", \"variant\": \"extract\", \"packages\": [\"linux-${arch}\"]}",
                "#!/bin/sh\n");
}

static struct image_store *store_with_boot(void)
{
    struct image_store *s = room_store_with(builder);
    OWN(str) char *init = text_format("%s/vms-init", room_path);
    OWN(str) char *agent = text_format("%s/vms-agent", room_path);

    ck_works(image_store_set_boot(s, init, agent, &e_));
    return s;
}

static int ensure(struct image_store *s, struct image_kernel *k, struct vm_err *e)
{
    return kernel_ensure(s, quiet, deadline_in(30000), k, e);
}

static unsigned runs(void)
{
    OWN(str) char *text = NULL;
    size_t n = 0;

    return path_read(room_dir, "runs", 4096, &text, &n, NULL) < 0 ? 0 : (unsigned)n / 4;
}

START_TEST(test_kernel_is_made_once)
{
    OWN(store) struct image_store *s = store_with_boot();
    OWN(json) json_t *rows = NULL;
    struct image_kernel k, again;
    char id[IMAGE_ID];
    struct stat st;

    ck_works(kernel_id(s, id, &e_));
    ck_works(ensure(s, &k, &e_));
    ck_works(ensure(s, &again, &e_));
    ck_assert_uint_eq(runs(), 1);
    ck_assert_str_eq(k.id, id);
    ck_assert_str_eq(k.kernel, again.kernel);
    ck_assert_str_eq(k.initramfs, again.initramfs);
    ck_assert_int_eq(room_sh("[ \"$(cat %s)\" = kernel ]", k.kernel), 0);
    ck_assert(stat(k.kernel, &st) == 0 && (st.st_mode & 07777) == 0644); /* who boots it is not root */
    ck_assert(stat(k.modules, &st) == 0 && (st.st_mode & 07777) == 0644);
    ck_assert_int_eq(room_sh("dump.erofs --path=/6.1/modules.dep %s | grep -q 'Size: 6 '", k.modules), 0);
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 1); /* no scratch, no lock */
    OWN(str) char *dir = text_format("state/images/%s", id);
    ck_assert_uint_eq(count_entries(room_dir, dir), 5); /* kernel, modules, what an initramfs is of, the initramfs, note */
    ck_works(image_list(s, &rows, &e_));
    ck_assert_uint_eq(json_array_size(rows), 1);
    ck_assert_str_eq(json_str(json_array_get(rows, 0), "kind", ""), "kernel");
    ck_assert_int_gt(json_int(json_array_get(rows, 0), "bytes", 0), 8192);
}
END_TEST

/* Nothing is configured, so the script can only run when all is unpacked; packages are those of this machine. */
START_TEST(test_arguments_of_the_builder)
{
    OWN(store) struct image_store *s = store_with_boot();
    struct image_kernel k;

    ck_works(ensure(s, &k, &e_));
    ck_assert_int_eq(room_sh("grep -qx -- --variant=extract args && grep -q -- '^--extract-hook=' args && "
                             "! grep -q -- --customize-hook args && "
                             "grep -qx -- \"--include=linux-$(dpkg --print-architecture)\" args"),
                     0);
}
END_TEST

static void *ensure_thread(void *arg)
{
    struct image_kernel k;

    return ensure(arg, &k, NULL) < 0 ? arg : NULL;
}

START_TEST(test_crowd_makes_one)
{
    OWN(store) struct image_store *s = store_with_boot();
    pthread_t crowd[CROWD];
    void *failed;

    for (size_t i = 0; i < CROWD; i++)
        ck_assert_int_eq(pthread_create(&crowd[i], NULL, ensure_thread, s), 0);
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(crowd[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_uint_eq(runs(), 1);
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 1);
}
END_TEST

START_TEST(test_broken_recipes)
{
    static const struct { const char *spoil, *part; } cases[] = {
        {"rm tree/boot/vmlinuz", "made no file /boot/vmlinuz"},
        {"ln -sf /etc/passwd tree/boot/vmlinuz", "made no file /boot/vmlinuz"},
        {"rm tree/boot/vmlinuz; mkfifo tree/boot/vmlinuz", "made no file /boot/vmlinuz"},
        {"rm -r tree/boot/modules; ln -s /etc tree/boot/modules", "made no directory /boot/modules"},
        {"rm -r tree/boot/initramfs", "made no directory /boot/initramfs"},
        {"rm -r tree/boot", "made no directory /boot"},
        {"ln -s /etc/passwd tree/boot/initramfs/13-link.ko", "is no module"},
        {"mkfifo tree/boot/initramfs/13-fifo.ko", "is no module"},
        {"mkdir tree/boot/initramfs/13-dir.ko", "is no module"},
        {"touch tree/boot/initramfs/$(printf '%0100d' 7).ko", "is no module"},
    };
    OWN(store) struct image_store *s = store_with_boot();
    struct image_kernel k;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWN(str) char *spoil = text_format("%s\n", cases[i].spoil);
        room_write("spoil", spoil, 0644);
        ck_fails(ensure(s, &k, &e_), INVALID, cases[i].part);
        ck_assert_msg(count_entries(room_dir, "state/images") == 0, "%s", cases[i].spoil);
    }
    room_write("spoil", "echo 'E: Unable to locate package linux-image'; exit 25\n", 0644);
    ck_fails(ensure(s, &k, &e_), BACKEND, "recipe 'kernel': mmdebstrap: Unable to locate package");
}
END_TEST

START_TEST(test_what_is_missing_is_told)
{
    OWN(store) struct image_store *bare = room_store();
    OWN(store) struct image_store *s = store_with_boot();
    struct spec_image want = {.kind = IMAGE_RECIPE, .name = "kernel"};
    struct image_kernel k;
    struct image_ref ref;
    struct vm_err e;

    ck_fails(ensure(bare, &k, &e_), UNAVAILABLE, "vms-init");
    ck_assert_uint_eq(runs(), 0);
    ck_fails(image_ensure(s, &want, quiet, deadline_in(1000), &ref, &e_), INVALID, "no image");
    ck_assert_int_eq(room_sh("rm vms-agent"), 0);
    ck_assert_int_eq(ensure(s, &k, &e), -1);
    ck_assert_msg(strstr(e.text, "vms-agent"), "%s", e.text);
    ck_assert_int_eq(room_sh("mkfifo vms-agent"), 0); /* nobody waits for a writer */
    ck_assert_int_eq(ensure(s, &k, &e), -1);
    ck_assert_int_eq(room_sh("rm -r recipes/kernel"), 0);
    ck_fails(ensure(s, &k, &e_), ABSENT, "no recipe 'kernel'");
}
END_TEST

START_TEST(test_initramfs_as_the_kernel_reads_it)
{
    static const struct { const char *name; mode_t mode; } expected[] = {
        {"dev", S_IFDIR | 0755},  {"proc", S_IFDIR | 0755},      {"sys", S_IFDIR | 0755},
        {"new", S_IFDIR | 0755},  {"modules", S_IFDIR | 0755},   {"init", S_IFREG | 0755},
        {"vms-agent", S_IFREG | 0755},                           {"modules/10-first.ko", S_IFREG | 0644},
        {"modules/11-b.ko", S_IFREG | 0644},                     {"modules/12-a.ko", S_IFREG | 0644},
        {"vmsd", S_IFDIR | 0700}, {"vmsd/setup", S_IFREG | 0600},
    };
    OWN(store) struct image_store *s = store_with_boot();
    OWN(str) char *path = text_format("%s/mine", room_path);
    OWN(newc) struct newc *base = NULL;
    OWN(newc) struct newc *mine = NULL;
    struct image_kernel k;
    struct stat st;

    ck_works(ensure(s, &k, &e_));
    ck_works(initramfs_write(room_dir, "mine", k.initramfs, SETUP, &e_));
    base = newc_read(k.initramfs);
    mine = newc_read(path);
    ck_assert_uint_eq(base->n_archives, 1);
    ck_assert_uint_eq(mine->n_archives, 2);
    ck_assert_uint_eq(mine->n_files, ARRAY_LEN(expected));
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        const struct newc_file *f = &mine->files[i];
        ck_assert_str_eq(f->name, expected[i].name);
        ck_assert_msg(f->mode == expected[i].mode, "%s: %o", f->name, f->mode);
        ck_assert_msg(f->uid == 0 && f->gid == 0 && f->nlink == 1 && f->mtime == 0, "%s", f->name);
    }
    ck_assert(newc_holds(mine, "init", "the init"));
    ck_assert(newc_holds(mine, "vms-agent", "the agent!"));
    ck_assert(newc_holds(mine, "modules/10-first.ko", "first"));
    ck_assert(newc_holds(mine, "modules/12-a.ko", ""));
    ck_assert(newc_holds(mine, "vmsd/setup", SETUP));
    ck_assert(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600); /* a token is in it */
}
END_TEST

/* Of a user's own initramfs nothing is known, not even a length that 4 divides. */
START_TEST(test_setup_behind_anything)
{
    OWN(str) char *path = text_format("%s/mine", room_path);
    OWN(str) char *base = text_format("%s/base", room_path);

    for (size_t n = 0; n < 9; n++) {
        OWN(text) struct text setup = {0};
        room_write("base", "", 0644);
        ck_assert_int_eq(room_sh("head -c %zu /dev/zero >base", n), 0); /* as good as any to the reader */
        for (size_t i = 0; i < n; i++)
            text_add(&setup, "x");
        ck_works(initramfs_write(room_dir, "mine", n == 8 ? NULL : base, setup.s ? setup.s : "", &e_));
        OWN(newc) struct newc *c = newc_read(path);
        ck_assert_uint_eq(c->n_archives, 1);
        ck_assert(newc_holds(c, "vmsd/setup", setup.s ? setup.s : ""));
        ck_assert_uint_eq(c->n % 4, 0);
    }
}
END_TEST

START_TEST(test_write_replaces_and_follows_nothing)
{
    OWN(str) char *big = malloc((1 << 20) + 2);
    OWN(str) char *fifo = text_format("%s/fifo", room_path);

    room_write("victim", "precious", 0644);
    ck_assert_int_eq(room_sh("ln -s victim mine; mkfifo fifo"), 0);
    ck_works(initramfs_write(room_dir, "mine", NULL, SETUP, &e_));
    ck_works(initramfs_write(room_dir, "mine", NULL, SETUP, &e_));
    ck_assert(path_is("mine", S_IFREG));
    ck_assert_int_eq(room_sh("[ \"$(cat victim)\" = precious ]"), 0);
    memset(big, 'x', (1 << 20) + 1);
    big[(1 << 20) + 1] = '\0';
    ck_fails(initramfs_write(room_dir, "mine", NULL, big, &e_), TOO_LARGE, "1048577");
    ck_assert(!path_exists(room_dir, "mine"));
    big[1 << 20] = '\0';
    ck_works(initramfs_write(room_dir, "mine", NULL, big, &e_));
    ck_fails(initramfs_write(room_dir, "mine", "/no/such/file", SETUP, &e_), SYSTEM, "/no/such/file");
    ck_fails(initramfs_write(room_dir, "mine", fifo, SETUP, &e_), INVALID, "is no regular file");
}
END_TEST

START_TEST(test_new_agent_is_another_initramfs)
{
    OWN(store) struct image_store *s = store_with_boot();
    OWN(strv) struct strv used = {0};
    struct image_kernel a, b;

    ck_works(ensure(s, &a, &e_));
    room_write("vms-agent", "the new agent", 0755);
    ck_works(ensure(s, &b, &e_));
    ck_assert_uint_eq(runs(), 1);
    ck_assert_str_eq(a.kernel, b.kernel);
    ck_assert_str_ne(a.initramfs, b.initramfs);
    OWN(newc) struct newc *c = newc_read(b.initramfs);
    ck_assert(newc_holds(c, "vms-agent", "the new agent"));

    /* Somebody may have asked for the old one a moment ago, and copies it now. */
    strv_add(&used, a.id);
    ck_works(image_gc(s, &used, NULL, &e_));
    ck_assert_int_eq(access(a.initramfs, F_OK), 0);
    ck_assert_int_eq(room_sh("touch -d '2 hours ago' %s %s", a.initramfs, b.initramfs), 0);
    ck_works(ensure(s, &b, &e_));
    ck_works(image_gc(s, &used, NULL, &e_));
    ck_assert_int_eq(access(a.initramfs, F_OK), -1);
    ck_assert_int_eq(access(b.initramfs, F_OK), 0);
    ck_assert_int_eq(room_sh("touch -d '2 hours ago' %s", b.initramfs), 0);
    ck_works(image_gc(s, &used, NULL, &e_));
    ck_assert_int_eq(access(b.initramfs, F_OK), -1);
    ck_works(ensure(s, &b, &e_)); /* made again, without the builder */
    ck_assert_int_eq(access(b.initramfs, F_OK), 0);
    ck_assert_uint_eq(runs(), 1);

    room_write("vms-agent", "the newest agent", 0755); /* who makes one takes away what nobody asks for any more */
    ck_works(ensure(s, &a, &e_));
    ck_assert_int_eq(access(b.initramfs, F_OK), 0);
    ck_assert_int_eq(room_sh("touch -d '2 hours ago' %s", b.initramfs), 0);
    room_write("vms-agent", "the newest agent of all", 0755);
    ck_works(ensure(s, &a, &e_));
    ck_assert_int_eq(access(b.initramfs, F_OK), -1);
    ck_assert_int_eq(access(a.initramfs, F_OK), 0);
}
END_TEST

START_TEST(test_gc_takes_a_kernel_that_none_uses)
{
    OWN(store) struct image_store *s = store_with_boot();
    OWN(strv) struct strv used = {0}, removed = {0};
    struct image_kernel k, newer;

    ck_works(ensure(s, &k, &e_));
    room_recipe("kernel", "{\"suite\": \"trixie\", \"variant\": \"extract\"}", NULL);
    ck_works(ensure(s, &newer, &e_));
    ck_assert_str_ne(k.id, newer.id);
    strv_add(&used, newer.id);
    ck_works(image_gc(s, &used, &removed, &e_));
    ck_assert_uint_eq(removed.n, 1);
    ck_assert_str_eq(removed.v[0], k.id);
    ck_assert_int_eq(access(newer.kernel, F_OK), 0);
    ck_works(image_remove(s, newer.id, &e_));
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

/* In a mount namespace of its own, on a file system that is full at one moment after the other. */
START_TEST(test_H5_no_space)
{
    struct image_kernel k;
    struct vm_err e;
    int kib = 0, failed = 0;

    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(room_sh("mount --make-rprivate / && mkdir state && mount -t tmpfs -o mode=700 none state"), 0);
    fd_drop(room_dir); /* as it is in here */
    ck_assert_int_ge(room_dir = path_open_host(room_path, O_RDONLY | O_DIRECTORY, NULL), 0);
    OWN(store) struct image_store *s = store_with_boot();
    room_write("spoil", "head -c 300000 /dev/urandom >tree/boot/initramfs/13-big.ko\n"
                        "head -c 200000 /dev/urandom >tree/boot/modules/6.1/big\n", 0644);
    for (kib = 16; kib <= 2048; kib += 128) {
        ck_assert_int_eq(room_sh("mount -o remount,size=%dk state", kib), 0);
        e = (struct vm_err){0};
        if (ensure(s, &k, &e) == 0)
            break;
        failed++;
        ck_assert_msg(e.code == VM_E_SYSTEM || e.code == VM_E_BACKEND, "%d: %s: %s", kib, vm_err_name(e.code), e.text);
        if (e.code == VM_E_SYSTEM)
            ck_assert_msg(strstr(e.text, "no space left in"), "%d: %s", kib, e.text);
        /* All or nothing; a kernel that is whole may wait for its initramfs. */
        ck_assert_uint_le(count_entries(room_dir, "state/images"), 1);
    }
    printf("kernel: %d times too little space, then %d KiB\n", failed, kib);
    ck_assert_int_gt(failed, 3);
    ck_assert_int_eq(room_sh("mkdir state/run && dd if=/dev/zero of=state/filler bs=4k 2>/dev/null; true"), 0);
    OWN(fd) int run = path_open(room_dir, "state/run", PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, NULL);
    ck_assert_int_eq(initramfs_write(run, "mine", k.initramfs, SETUP, &e), -1);
    ck_assert_int_eq(e.sys, ENOSPC);
    ck_assert_uint_eq(count_entries(run, "."), 0);
    ck_assert_int_eq(room_sh("mount -o remount,size=%dk state", 2 * kib), 0);
    ck_works(initramfs_write(run, "mine", k.initramfs, SETUP, &e_));
    ck_assert_int_eq(room_sh("umount -l state"), 0);
}
END_TEST

int main(void)
{
    if (geteuid() != 0 || access("/usr/bin/mkfs.erofs", X_OK) < 0)
        return room_skip("needs root and mkfs.erofs");
    return room_run("kernel", NULL, make_double, room_remove,
                    (const TTest *const[]){
                        test_kernel_is_made_once, test_arguments_of_the_builder, test_crowd_makes_one,
                        test_broken_recipes, test_what_is_missing_is_told, test_initramfs_as_the_kernel_reads_it,
                        test_setup_behind_anything, test_write_replaces_and_follows_nothing,
                        test_new_agent_is_another_initramfs, test_gc_takes_a_kernel_that_none_uses, test_H5_no_space,
                        NULL});
}
