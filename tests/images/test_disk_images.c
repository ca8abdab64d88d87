/* The disks that microVMs boot from: made of trees, and brought by users. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/hash.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

enum { CROWD = 8 };

static const struct image_progress quiet;
static char disk[IMAGE_PATH], mkfs[128];

/* An image of a directory with all that an image can hold. */
static void make_image(struct image_store *s, struct image_ref *ref)
{
    OWN(str) char *source = text_format("%s/source", room_path);
    struct spec_image want = {.kind = IMAGE_DIRECTORY, .name = source};

    ck_assert_int_eq(
        room_sh("mkdir -p source/etc source/sbin source/home/u && echo ID=x >source/etc/os-release && "
                "cp /bin/true source/sbin/init && ln source/sbin/init source/sbin/twin && ln -s init source/sbin/link && "
                "seq 100000 >source/home/u/numbers && truncate -s 3M source/home/u/hole && "
                "chown -R 1000:65534 source/home/u && chmod 2750 source/home/u && chmod 4755 source/sbin/init && "
                "setcap cap_net_raw+ep source/sbin/init && touch -d '2001-02-03 04:05:06.789' source/etc/os-release"),
        0);
    ck_works(image_ensure(s, &want, quiet, deadline_in(30000), ref, &e_));
}

static int make_disk(struct image_store *s, const struct image_ref *ref, struct vm_err *e)
{
    return image_disk(s, ref, quiet, deadline_in(30000), disk, e);
}

/* In front of the real mkfs.erofs: counts its runs, then does what the file `spoil` says. */
static void count_mkfs(struct image_store *s, const char *spoil)
{
    OWN(str) char *text = text_format("#!/bin/sh\necho run >>%s/runs\n%s\nexec mkfs.erofs \"$@\"\n", room_path, spoil);

    room_write("mkfs", text, 0755);
    snprintf(mkfs, sizeof mkfs, "%s/mkfs", room_path);
    s->mkfs = mkfs;
}

static unsigned runs(void)
{
    OWN(str) char *text = NULL;
    size_t n = 0;

    return path_read(room_dir, "runs", 4096, &text, &n, NULL) < 0 ? 0 : (unsigned)n / 4;
}

static void check_no_trace(const struct image_ref *ref, unsigned files)
{
    OWN(str) char *dir = text_format("state/images/%s", ref->id);

    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 1);
    ck_assert_uint_eq(count_entries(room_dir, dir), files);
}

/* ---- of trees ---- */

START_TEST(test_disk_is_the_tree)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;
    struct stat st;

    make_image(s, &ref);
    ck_works(make_disk(s, &ref, &e_));
    check_no_trace(&ref, 3); /* tree, disk, note */
    ck_assert(stat(disk, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == 0644);
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(room_sh("mount --make-rprivate / && mkdir m && mount -t erofs -o ro,loop %s m", disk), 0);
    ck_assert_int_eq(room_sh("(cd %s && find . -type f -exec sha256sum {} + | sort && getcap -r . | sort) >tree.sums && "
                             "(cd m && find . -type f -exec sha256sum {} + | sort && getcap -r . | sort) >disk.sums && "
                             "grep -q cap_net_raw disk.sums && cmp tree.sums disk.sums",
                             ref.tree),
                     0);
    /* Of a directory the size is the file system's affair; so is its number of links. */
    ck_assert_int_eq(room_sh("(cd %s && find . -printf '%%P %%y %%m %%U:%%G %%l %%T@\\n' | sort) >tree.list && "
                             "(cd m && find . -printf '%%P %%y %%m %%U:%%G %%l %%T@\\n' | sort) >disk.list && "
                             "grep -q 2750 disk.list && cmp tree.list disk.list && [ m/sbin/init -ef m/sbin/twin ]",
                             ref.tree),
                     0);
    ck_assert_int_eq(room_sh("umount m"), 0);
}
END_TEST

START_TEST(test_disk_is_made_once_counted_and_removed)
{
    OWN(store) struct image_store *s = room_store();
    OWN(json) json_t *before = NULL, *after = NULL;
    struct image_ref ref;
    struct stat st;

    make_image(s, &ref);
    count_mkfs(s, "");
    ck_works(image_list(s, &before, &e_));
    ck_works(make_disk(s, &ref, &e_));
    ck_works(make_disk(s, &ref, &e_));
    ck_assert_uint_eq(runs(), 1);
    ck_works(image_list(s, &after, &e_));
    ck_assert_int_eq(stat(disk, &st), 0);
    ck_assert_int_eq(json_int(json_array_get(after, 0), "bytes", 0) - json_int(json_array_get(before, 0), "bytes", 0),
                     st.st_blocks * 512);
    ck_works(image_remove(s, ref.id, &e_));
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
    ck_fails(make_disk(s, &ref, &e_), ABSENT, "removed meanwhile");
}
END_TEST

struct asker {
    struct image_store *s;
    const struct image_ref *ref;
};

static void *ask(void *arg)
{
    const struct asker *a = arg;
    char out[IMAGE_PATH];

    return image_disk(a->s, a->ref, quiet, deadline_in(30000), out, NULL) < 0 ? arg : NULL;
}

START_TEST(test_crowd_makes_one)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;
    struct asker a = {.s = s, .ref = &ref};
    pthread_t crowd[CROWD];
    pid_t pids[CROWD];
    void *failed;
    int status;

    make_image(s, &ref);
    count_mkfs(s, "sleep 0.3");
    for (size_t i = 0; i < CROWD; i++)
        if ((pids[i] = fork()) == 0) {
            struct image_store *own = room_store();
            own->mkfs = mkfs;
            _exit(ask(&(struct asker){.s = own, .ref = &ref}) != NULL);
        }
    for (size_t i = 0; i < CROWD; i++)
        ck_assert_int_eq(pthread_create(&crowd[i], NULL, ask, &a), 0);
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(crowd[i], &failed);
        ck_assert_ptr_null(failed);
        ck_assert(waitpid(pids[i], &status, 0) == pids[i] && status == 0);
    }
    ck_assert_uint_eq(runs(), 1);
    check_no_trace(&ref, 3);
}
END_TEST

START_TEST(test_failures_are_told)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    make_image(s, &ref);
    s->mkfs = "no-such-mkfs";
    ck_fails(make_disk(s, &ref, &e_), UNAVAILABLE, "apt install erofs-utils");
    count_mkfs(s, "echo half >\"$3\"; echo '<E> erofs: it is Tuesday' >&2; exit 1");
    ck_fails(make_disk(s, &ref, &e_), BACKEND, "<E> erofs: it is Tuesday");
    check_no_trace(&ref, 2);
    count_mkfs(s, "echo half >\"$3\"; kill -9 $$");
    ck_fails(make_disk(s, &ref, &e_), BACKEND, "killed by signal 9");
    check_no_trace(&ref, 2);
    count_mkfs(s, "echo half >\"$3\"; sleep 60");
    ck_fails(image_disk(s, &ref, quiet, deadline_in(300), disk, &e_), TIMEOUT, "took too long");
    check_no_trace(&ref, 2);
    count_mkfs(s, "");
    ck_works(make_disk(s, &ref, &e_));
}
END_TEST

START_TEST(test_H7_killed_while_making)
{
    OWN(store) struct image_store *s = room_store();
    OWN(strv) struct strv used = {0};
    struct image_ref ref;
    pid_t pid;

    make_image(s, &ref);
    count_mkfs(s, "echo half >\"$3\"; touch started; sleep 60");
    if ((pid = fork()) == 0) {
        ask(&(struct asker){.s = s, .ref = &ref});
        _exit(0);
    }
    for (int i = 0; i < 500 && !path_exists(room_dir, "state/images/started"); i++)
        sleep_ms(10);
    strv_add(&used, ref.id);
    ck_works(image_gc(s, &used, NULL, &e_));
    ck_assert_uint_gt(count_entries(room_dir, "state/images"), 2); /* nothing is swept from under it */
    ck_fails(image_remove(s, ref.id, &e_), TIMEOUT, "another process");
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    ck_assert_int_eq(room_sh("rm state/images/started"), 0);
    ck_works(image_gc(s, &used, NULL, &e_));
    check_no_trace(&ref, 2);
    count_mkfs(s, "");
    ck_works(make_disk(s, &ref, &e_));
    check_no_trace(&ref, 3);
}
END_TEST

/* In a mount namespace of its own, the state directory on a small file system. */
START_TEST(test_H5_no_space)
{
    struct image_ref ref;

    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(room_sh("mount --make-rprivate / && mkdir state && mount -t tmpfs -o mode=700 none state"), 0);
    fd_drop(room_dir); /* as it is in here */
    ck_assert_int_ge(room_dir = path_open_host(room_path, O_RDONLY | O_DIRECTORY, NULL), 0);
    OWN(store) struct image_store *s = room_store();
    make_image(s, &ref);
    ck_assert_int_eq(room_sh("mount -o remount,size=$(du -sk state | cut -f1)k state"), 0);
    ck_fails(make_disk(s, &ref, &e_), SYSTEM, "no space left in");
    check_no_trace(&ref, 2);
    ck_assert_int_eq(room_sh("mount -o remount,size=16M state"), 0);
    ck_works(make_disk(s, &ref, &e_));
    ck_assert_int_eq(room_sh("umount -l state"), 0);
}
END_TEST

/* ---- of users ---- */

static int import(struct image_store *s, const char *file, const char *sha256, struct image_ref *ref, struct vm_err *e)
{
    OWN(str) char *path = *file == '/' ? strdup(file) : text_format("%s/%s", room_path, file);
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char sum[HASH_HEX] = "0000000000000000000000000000000000000000000000000000000000000000";
    struct stat st;

    if (!sha256 && strncmp(file, "/sys/", 5) && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0 && st.st_size < 1 << 30)
        room_sum(fd, sum);
    struct spec_image want = {.kind = IMAGE_DISK, .name = path, .sha256 = sha256 ? sha256 : sum};
    return image_ensure(s, &want, quiet, deadline_in(30000), ref, e);
}

START_TEST(test_disk_of_a_user)
{
    OWN(store) struct image_store *s = room_store();
    OWN(json) json_t *rows = NULL;
    struct image_ref ref, again;
    struct stat st;

    ck_assert_int_eq(room_sh("truncate -s 64M user.img && mke2fs -q -F -t ext4 user.img && ln -s user.img link.img"), 0);
    ck_works(import(s, "user.img", NULL, &ref, &e_));
    ck_works(import(s, "link.img", NULL, &again, &e_)); /* the same content: the same image */
    ck_assert_str_eq(ref.id, again.id);
    ck_assert_str_eq(ref.tree, "");
    ck_works(image_find(s, ref.id, &again, &e_));
    ck_assert_str_eq(again.tree, "");
    s->mkfs = "no-such-mkfs"; /* nothing is to be made */
    ck_works(make_disk(s, &ref, &e_));
    ck_assert_int_eq(room_sh("cmp user.img %s && [ ! user.img -ef %s ]", disk, disk), 0);
    ck_assert_int_eq(stat(disk, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0644);
    ck_assert_int_lt(st.st_blocks * 512, 16 << 20); /* holes are still holes */
    check_no_trace(&ref, 2);
    ck_works(image_list(s, &rows, &e_));
    ck_assert_str_eq(json_str(json_array_get(rows, 0), "kind", ""), "disk");
    ck_assert_int_ge(json_int(json_array_get(rows, 0), "bytes", 0), st.st_blocks * 512);
    ck_works(image_remove(s, ref.id, &e_));
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

START_TEST(test_C11_what_is_no_raw_disk)
{
    static const struct { const char *make, *part; } cases[] = {
        {"qemu-img create -q -f qcow2 x 1M || printf 'QFI\\373' | dd of=x conv=notrunc,sync 2>/dev/null", "qcow2 disk, not a "
                                                                                                      "raw disk; convert"},
        {"printf 'KDMV' | dd of=x bs=512 conv=sync 2>/dev/null", "a VMDK disk"},
        {"printf '# Disk DescriptorFile\\nversion=1\\n' | dd of=x bs=512 conv=sync 2>/dev/null", "a VMDK descriptor"},
        {"printf 'vhdxfile' | dd of=x bs=512 conv=sync 2>/dev/null", "a VHDX disk"},
        {"printf 'conectix' | dd of=x bs=512 conv=sync 2>/dev/null", "a VHD disk"},
        {"{ head -c 64 /dev/zero; printf '\\177\\020\\332\\276'; } | dd of=x bs=512 iflag=fullblock conv=sync 2>/dev/null", "a VDI disk"},
        {"printf 'QED\\0' | dd of=x bs=512 conv=sync 2>/dev/null", "a QED disk"},
        {"head -c 4096 /dev/urandom | gzip | dd of=x bs=512 conv=sync 2>/dev/null", "compressed by gzip"},
        {"head -c 4096 /dev/urandom | xz | dd of=x bs=512 conv=sync 2>/dev/null", "compressed by xz"},
        {"head -c 4096 /dev/urandom | zstd -q | dd of=x bs=512 conv=sync 2>/dev/null", "compressed by zstd"},
        {"head -c 4096 /dev/urandom | bzip2 | dd of=x bs=512 conv=sync 2>/dev/null", "compressed by bzip2"},
        {": >x", "no multiple of 512"},
        {"head -c 511 /dev/zero >x", "no multiple of 512"},
        {"head -c 513 /dev/zero >x", "no multiple of 512"},
        {"mkfifo x", "no regular file"},
        {"mkdir x", "no regular file"},
        {"mknod x b 7 0", "no regular file"},
        {"ln -s /dev/zero x", "no regular file"},
    };
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_msg(room_sh("rm -rf x; %s", cases[i].make) == 0, "%s", cases[i].make);
        ck_fails(import(s, "x", NULL, &ref, &e_), INVALID, cases[i].part);
        ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
    }
    ck_assert_int_eq(room_sh("rm -rf x; head -c 512 /dev/zero >x"), 0);
    ck_works(import(s, "x", NULL, &ref, &e_)); /* at the bound */
}
END_TEST

/* C10: what the kernel makes up looks like a file, and some of it has no end. */
START_TEST(test_C10_files_of_the_kernel)
{
    static const char *const files[] = {"/proc/kcore", "/proc/version", "/proc/self/mem", "/sys/kernel/uevent_seqnum"};
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(files); i++)
        if (access(files[i], R_OK) == 0)
            ck_fails(import(s, files[i], NULL, &ref, &e_), INVALID, "no regular file");
    ck_fails(import(s, "missing", NULL, &ref, &e_), SYSTEM, "No such file");
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

START_TEST(test_E8_sum_decides)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_image want = {.kind = IMAGE_DISK, .name = "/x", .sha256 = "../../etc"};
    struct image_ref ref;

    ck_assert_int_eq(room_sh("head -c 4M /dev/urandom >x"), 0);
    ck_fails(import(s, "x", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", &ref, &e_), INVALID,
             "correct the spec");
    ck_fails(image_ensure(s, &want, quiet, deadline_in(1000), &ref, &e_), INVALID, "needs its 'sha256'");
    want.sha256 = NULL;
    ck_fails(image_ensure(s, &want, quiet, deadline_in(1000), &ref, &e_), INVALID, "needs its 'sha256'");
    OWN(str) char *path = text_format("%s/x", room_path);
    char sum[HASH_HEX];
    OWN(fd) int fd = path_open(room_dir, "x", PATH_BENEATH, O_RDONLY, 0, NULL);
    room_sum(fd, sum);
    want = (struct spec_image){.kind = IMAGE_DISK, .name = path, .sha256 = sum};
    ck_fails(image_ensure(s, &want, quiet, deadline_in(0), &ref, &e_), TIMEOUT, "in time");
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
    ck_works(image_ensure(s, &want, quiet, deadline_in(30000), &ref, &e_));
}
END_TEST

int main(void)
{
    if (geteuid() != 0 || access("/usr/bin/mkfs.erofs", X_OK) < 0)
        return room_skip("needs root and mkfs.erofs");
    return room_run("disk-images", NULL, room_make, room_remove,
                    (const TTest *const[]){
                        test_disk_is_the_tree, test_disk_is_made_once_counted_and_removed, test_crowd_makes_one,
                        test_failures_are_told, test_H7_killed_while_making, test_H5_no_space, test_disk_of_a_user,
                        test_C11_what_is_no_raw_disk, test_C10_files_of_the_kernel, test_E8_sum_decides, NULL});
}
