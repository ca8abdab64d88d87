/* Root disks and volumes. */
#include "room.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

#define GIB (1ull << 30)

static char out[IMAGE_PATH];

static struct spec_volume disk(uint64_t size)
{
    return (struct spec_volume){.name = "pgdata", .target = "/data", .size = size};
}

static uint64_t size_of(const char *path)
{
    struct stat st;

    ck_assert_msg(stat(path, &st) == 0, "%s", path);
    return (uint64_t)st.st_size;
}

START_TEST(test_root_is_a_clean_file_system)
{
    OWN(store) struct image_store *s = room_store();
    struct stat st;
    uint64_t used;

    ck_works(root_ensure(s, 7, GIB, out, &e_));
    ck_assert_int_eq(room_sh("e2fsck -fn %s >/dev/null 2>&1", out), 0);
    ck_assert_int_eq(
        room_sh("debugfs -R 'ls -p /' %s 2>/dev/null | cut -d/ -f6 | sort | tr -d '\\n' | grep -qx '...upperwork'",
                out),
        0);
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_works(root_usage(s, 7, &used));
    ck_assert_uint_lt(used, 1 << 20);
    ck_assert(root_exists(s, 7));
    ck_assert(!root_exists(s, 8));
}
END_TEST

/* What it costs must not depend on how large it is. */
START_TEST(test_clone_of_any_size_is_quick)
{
    static const uint64_t sizes[] = {GIB, 8 * GIB, 100 * GIB};
    OWN(store) struct image_store *s = room_store();

    for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
        struct timespec from, to;
        double best = 1e9;
        uint64_t used;
        ck_works(root_ensure(s, 1000, sizes[i], out, &e_)); /* makes the template */
        ck_works(root_remove(s, 1000, &e_));
        for (uint32_t id = 0; id < 10; id++) {
            clock_gettime(CLOCK_MONOTONIC, &from);
            ck_works(root_ensure(s, (uint32_t)i * 100 + id, sizes[i], out, &e_));
            clock_gettime(CLOCK_MONOTONIC, &to);
            double ms = (double)(to.tv_sec - from.tv_sec) * 1e3 + (double)(to.tv_nsec - from.tv_nsec) / 1e6;
            best = ms < best ? ms : best;
        }
        printf("root disk of %llu GiB: %.2f ms\n", (unsigned long long)(sizes[i] / GIB), best);
        ck_works(root_usage(s, (uint32_t)i * 100, &used));
        ck_assert_uint_lt(used, 4 << 20);
        ck_assert_msg(best < 100, "%f ms", best); /* on a busy machine; a quiet one takes 1 to 4 */
    }
}
END_TEST

START_TEST(test_root_grows_and_never_shrinks)
{
    OWN(store) struct image_store *s = room_store();

    ck_works(root_ensure(s, 1, GIB, out, &e_));
    ck_works(root_ensure(s, 1, GIB, out, &e_));
    ck_works(root_ensure(s, 1, 2 * GIB, out, &e_));
    ck_assert_uint_eq(size_of(out), 2 * GIB);
    ck_fails(root_ensure(s, 1, GIB, out, &e_), CONFLICT, "can't shrink");
    ck_assert_uint_eq(size_of(out), 2 * GIB);
    ck_assert_int_eq(room_sh("resize2fs -f %s >/dev/null 2>&1 && e2fsck -fn %s >/dev/null 2>&1", out, out), 0);
}
END_TEST

/* A microVM's disks belong to the user that its hypervisor runs as, and are open while they grow; what is in them is the
 * guest's, who hears of it later. */
START_TEST(test_disk_of_a_running_microvm_grows)
{
    enum { OWNER = 200000 };
    OWN(store) struct image_store *s = room_store();
    struct spec_volume v = disk(GIB);
    char volume[IMAGE_PATH];
    bool grown;
    struct stat st;

    ck_works(root_ensure(s, 9, GIB, out, &e_));
    ck_works(volume_ensure(s, &v, "db", volume, &grown, &e_));
    ck_assert_int_eq(room_sh("chown %d:%d %s %s && head -c 1G %s | sha256sum >before", OWNER, OWNER, out, volume, out), 0);
    OWN(fd) int vmm = open(out, O_RDWR | O_CLOEXEC);
    struct flock all = {.l_type = F_WRLCK};
    ck_assert_int_eq(fcntl(vmm, F_OFD_SETLK, &all), 0);
    ck_assert_int_eq(flock(vmm, LOCK_EX), 0);
    v.size = 2 * GIB;
    ck_works(root_ensure(s, 9, 2 * GIB, out, &e_));
    ck_works(volume_ensure(s, &v, "db", volume, &grown, &e_));
    ck_assert(grown);
    ck_assert_int_eq(fstat(vmm, &st), 0); /* the very file that is open */
    ck_assert_int_eq(st.st_size, 2 * GIB);
    ck_assert(st.st_uid == OWNER && st.st_gid == OWNER && (st.st_mode & 07777) == 0600);
    ck_assert_int_eq(room_sh("head -c 1G %s | sha256sum | cmp - before", out), 0);
    ck_fails(root_ensure(s, 9, GIB, out, &e_), CONFLICT, "can't shrink");
    ck_works(volume_ensure(s, &v, "db", volume, &grown, &e_));
    ck_assert(stat(volume, &st) == 0 && st.st_uid == OWNER && (st.st_mode & 07777) == 0600);
}
END_TEST

START_TEST(test_size_bounds)
{
    OWN(store) struct image_store *s = room_store();

    ck_works(root_ensure(s, 1, 64ull << 20, out, &e_));
    ck_fails(root_ensure(s, 2, (64ull << 20) - 1, out, &e_), INVALID, "outside 64M..8T");
    ck_fails(root_ensure(s, 2, (8ull << 40) + 1, out, &e_), INVALID, "outside 64M..8T");
    ck_fails(root_ensure(s, 2, UINT64_MAX, out, &e_), INVALID, "outside 64M..8T");
    ck_works(root_ensure(s, 3, (64ull << 20) + 1, out, &e_));
    ck_assert_uint_eq(size_of(out), 65ull << 20); /* whole MiB, and no less than was asked for */
    ck_works(root_ensure(s, 3, (64ull << 20) + 1, out, &e_));
}
END_TEST

START_TEST(test_volume_outlives_the_root)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_volume v = disk(GIB);
    bool grown;
    char volume[IMAGE_PATH];

    ck_works(root_ensure(s, 5, GIB, out, &e_));
    ck_works(volume_ensure(s, &v, "db", volume, &grown, &e_));
    ck_assert(!grown);
    /* Empty to programs that insist on it. */
    ck_assert_int_eq(room_sh("[ \"$(debugfs -R 'ls -p /' %s 2>/dev/null | wc -w)\" = 2 ]", volume), 0);
    ck_assert_int_eq(room_sh("e2fsck -fn %s >/dev/null 2>&1", volume), 0);
    ck_works(root_remove(s, 5, &e_));
    ck_works(root_remove(s, 5, &e_)); /* absent is success */
    ck_assert(!root_exists(s, 5));
    ck_assert_uint_eq(size_of(volume), GIB);
    ck_works(volume_remove(s, "pgdata", &e_));
    ck_works(volume_remove(s, "pgdata", &e_));
    ck_assert(access(volume, F_OK) < 0 && errno == ENOENT);
}
END_TEST

START_TEST(test_volume_tells_that_it_grew_until_its_file_system_did)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_volume v = disk(GIB);
    bool grown;

    ck_works(volume_ensure(s, &v, "db", out, &grown, &e_));
    v = disk(3 * GIB);
    ck_works(volume_ensure(s, &v, "db", out, &grown, &e_));
    ck_assert(grown);
    ck_works(volume_ensure(s, &v, "db", out, &grown, &e_)); /* as after a crash in between */
    ck_assert(grown);
    ck_assert_int_eq(room_sh("resize2fs -f %s >/dev/null 2>&1", out), 0);
    ck_works(volume_ensure(s, &v, "db", out, &grown, &e_));
    ck_assert(!grown);
    v = disk(GIB);
    ck_fails(volume_ensure(s, &v, "db", out, &grown, &e_), CONFLICT, "can't shrink");
}
END_TEST

START_TEST(test_volume_type_stays)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_volume d = disk(GIB), t = {.name = "pgdata", .directory = true};
    bool grown;
    struct stat st;

    umask(077);
    ck_works(volume_ensure(s, &t, "db", out, &grown, &e_));
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert(S_ISDIR(st.st_mode) && (st.st_mode & 07777) == 0755 && st.st_uid == 0);
    ck_fails(volume_ensure(s, &d, "db", out, &grown, &e_), CONFLICT, "can't become a disk");
    ck_assert_int_eq(chmod(out, 0700), 0); /* by the guest */
    ck_works(volume_ensure(s, &t, "db", out, &grown, &e_));
    ck_assert_int_eq(stat(out, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0700);
    ck_works(volume_remove(s, "pgdata", &e_));
    ck_works(volume_ensure(s, &d, "db", out, &grown, &e_));
    ck_fails(volume_ensure(s, &t, "db", out, &grown, &e_), CONFLICT, "can't become a directory");
}
END_TEST

START_TEST(test_volume_names_are_checked_here_too)
{
    static const char *const bad[] = {"", ".", "..", "../x", "a/b", ".hidden", "UP", "a b", "-x", "x\n",
                                      "a123456789012345678901234567890123"};
    OWN(store) struct image_store *s = room_store();
    bool grown;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct spec_volume v = {.name = bad[i], .size = GIB};
        ck_fails(volume_ensure(s, &v, "db", out, &grown, &e_), INVALID, "volume name");
        ck_fails(volume_remove(s, bad[i], &e_), INVALID, "volume name");
    }
    ck_fails(volume_remove(s, NULL, &e_), INVALID, "volume name");
    ck_assert_uint_eq(count_entries(room_dir, "state/volumes"), 0);
}
END_TEST

START_TEST(test_H8_disk_swapped_for_something_else)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_volume v = disk(GIB);
    bool grown;

    room_write("victim", "precious", 0600);
    ck_works(volume_ensure(s, &v, "db", out, &grown, &e_));
    ck_assert_int_eq(room_sh("ln -sf ../../../victim %s", out), 0);
    ck_fails(volume_ensure(s, &v, "db", out, &grown, &e_), SYSTEM, "pgdata");
    ck_assert_int_eq(room_sh("rm %s; mkfifo %s", out, out), 0);
    ck_fails(volume_ensure(s, &v, "db", out, &grown, &e_), CONFLICT, "no regular file");
    ck_assert_int_eq(room_sh("[ \"$(cat victim)\" = precious ]"), 0);
}
END_TEST

START_TEST(test_lists)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_volume d = disk(GIB), t = {.name = "files", .directory = true};
    OWN(json) json_t *rows = NULL;
    OWN(mem) void *ids = NULL;
    size_t n;
    bool grown;

    ck_works(volume_ensure(s, &d, "db", out, &grown, &e_));
    ck_works(volume_ensure(s, &t, NULL, out, &grown, &e_));
    ck_works(volume_list(s, NULL, &rows, &e_));
    ck_assert_uint_eq(json_array_size(rows), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *row = json_array_get(rows, i);
        bool is_disk = !strcmp(json_str(row, "type", ""), "disk");
        ck_assert_str_eq(json_str(row, "name", ""), is_disk ? "pgdata" : "files");
        ck_assert_str_eq(json_str(row, "guest", "none"), is_disk ? "db" : "none");
        ck_assert_int_eq(json_int(row, "size", -1), is_disk ? (int64_t)GIB : -1);
        ck_assert_int_gt(json_int(row, "bytes", -1), 0);
    }
    ck_works(root_ensure(s, 4294967295u, GIB, out, &e_));
    ck_works(root_ensure(s, 2, GIB, out, &e_));
    room_write("state/guests/stray", "", 0600);
    ck_works(root_list(s, (uint32_t **)&ids, &n, &e_));
    ck_assert_uint_eq(n, 2);
}
END_TEST

/* Of the one volume that there is; NULL: of all of them. */
static int64_t bytes_listed(struct image_store *s, const char *counted)
{
    OWN(json) json_t *guests = counted ? json_pack("{sb}", counted, 1) : NULL, *rows = NULL;

    ck_works(volume_list(s, guests, &rows, &e_));
    ck_assert_uint_eq(json_array_size(rows), 1);
    return json_int(json_array_get(rows, 0), "bytes", -1);
}

/* A guest that fills its directory hides it from nobody, and does not keep busy who does not want to know. */
START_TEST(test_directories_are_counted_for_who_asks)
{
    OWN(store) struct image_store *s = room_store();
    struct spec_volume t = {.name = "files", .directory = true};
    bool grown;

    ck_works(volume_ensure(s, &t, "db", out, &grown, &e_));
    ck_assert_int_eq(room_sh("dd if=/dev/zero of=%s/file bs=4096 count=4 2>/dev/null; sync %s/file", out, out), 0);
    ck_assert_int_ge(bytes_listed(s, "db"), 16384);
    ck_assert_int_eq(bytes_listed(s, NULL), bytes_listed(s, "db"));
    ck_assert_int_eq(bytes_listed(s, "forge"), -1);
    ck_assert_int_eq(room_sh("cd %s; for i in $(seq 300); do mkdir d && cd d || exit 1; done", out), 0);
    ck_assert_int_eq(bytes_listed(s, NULL), -1);
}
END_TEST

/* In a mount namespace of its own, the state directory on a small file system that is full. */
START_TEST(test_H5_no_space)
{
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(room_sh("mount --make-rprivate / && mkdir state && mount -t tmpfs -o size=4M,mode=700 none state"),
                     0);
    OWN(store) struct image_store *s = room_store();
    struct spec_volume v = disk(GIB);
    bool grown;

    room_sh("dd if=/dev/zero of=state/filler bs=4k 2>/dev/null");
    ck_fails(root_ensure(s, 1, GIB, out, &e_), SYSTEM, "no space left in");
    ck_fails(volume_ensure(s, &v, "db", out, &grown, &e_), SYSTEM, "no space left in");
    ck_assert(!root_exists(s, 1));
    ck_works(root_remove(s, 1, &e_)); /* works on a full disk */
    ck_assert_int_eq(room_sh("[ -z \"$(ls -A state/templates)\" ]"), 0);
    room_sh("rm state/filler");
    ck_works(root_ensure(s, 1, GIB, out, &e_)); /* heals by itself */
    ck_assert_int_eq(room_sh("umount -l state"), 0);
}
END_TEST

int main(void)
{
    if (geteuid() != 0)
        return room_skip("needs root");
    return room_run("disks", NULL, room_make, room_remove,
                    (const TTest *const[]){
                        test_root_is_a_clean_file_system, test_clone_of_any_size_is_quick,
                        test_root_grows_and_never_shrinks, test_disk_of_a_running_microvm_grows, test_size_bounds, test_volume_outlives_the_root,
                        test_volume_tells_that_it_grew_until_its_file_system_did, test_volume_type_stays,
                        test_volume_names_are_checked_here_too, test_H8_disk_swapped_for_something_else, test_lists, test_directories_are_counted_for_who_asks,
                        test_H5_no_space, NULL});
}
