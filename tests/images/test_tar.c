/* Tarballs, honest and hostile: hostile.py makes them. */
#include "room.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>

static char made[] = "/var/tmp/vmsd-images-tar.XXXXXX";

static void make_tars(void)
{
    OWN(str) char *command = NULL;

    ck_assert_ptr_nonnull(mkdtemp(made));
    command = text_format("python3 %s/tests/images/hostile.py %s", SOURCE_DIR, made);
    ck_assert_int_eq(system(command), 0);
}

static void remove_tars(void)
{
    OWN(fd) int tmp = path_open_host("/var/tmp", O_RDONLY | O_DIRECTORY, NULL);

    path_remove(tmp, strrchr(made, '/') + 1, NULL);
}

static void sum_of(const char *path, char sum[static HASH_HEX])
{
    OWN(fd) int fd = path_open_host(path, O_RDONLY, NULL);

    room_sum(fd, sum);
}

/* With the right digest, so that nothing but the content decides. */
static int import_path(struct image_store *s, const char *path, struct image_ref *ref, struct vm_err *e)
{
    char sum[HASH_HEX];
    struct spec_image want = {.kind = IMAGE_TAR, .name = path, .sha256 = sum};

    sum_of(path, sum);
    return image_ensure(s, &want, (struct image_progress){0}, deadline_in(60000), ref, e);
}

static int import(struct image_store *s, const char *name, struct image_ref *ref, struct vm_err *e)
{
    OWN(str) char *path = text_format("%s/%s", made, name);

    return import_path(s, path, ref, e);
}

struct row { const char *name, *complaint; };

/* Each fails with its complaint, and nothing of it stays. */
static void refused(const struct row *rows, size_t n)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref = {.id = "untouched"};

    for (size_t i = 0; i < n; i++) {
        struct vm_err e = {0};
        ck_assert_msg(import(s, rows[i].name, &ref, &e) < 0, "%s was taken", rows[i].name);
        ck_assert_msg(strstr(e.text, rows[i].complaint) != NULL, "%s: %s", rows[i].name, e.text);
        ck_assert_msg(e.code == VM_E_INVALID, "%s: %s", rows[i].name, vm_err_name(e.code));
        ck_assert_str_eq(ref.id, "untouched");
        ck_assert_msg(count_entries(room_dir, "state/images") == 0, "%s left something", rows[i].name);
    }
}

START_TEST(test_honest_tarballs)
{
    static const char *const names[] = {"good", "good-xz", "good-gnu"};
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        ck_works(import(s, names[i], &ref, &e_));
        ck_assert_int_eq(room_sh("[ \"$(cat %s/etc/os-release)\" = ID=x ] && [ -x %s/sbin/init ] && [ -d %s/proc ]",
                                 ref.tree, ref.tree, ref.tree),
                         0);
    }
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 3);
}
END_TEST

START_TEST(test_owners_and_modes_are_those_of_the_archive)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    ck_works(import(s, "owned", &ref, &e_));
    ck_assert_int_eq(
        room_sh("cd %s && [ \"$(stat -c '%%a %%u:%%g %%h' home home/f sbin/su sbin/wall | tr '\\n' ,)\" = "
                "'750 1000:1001 2,640 65535:65534 1,4755 0:0 2,2755 0:5 1,' ] && "
                "[ sbin/su -ef sbin/twin ] && [ \"$(readlink lib)\" = /usr/lib ] && [ -e 'n\303\244me\342\230\203' ]",
                ref.tree),
        0);
}
END_TEST

START_TEST(test_E3_devices_are_passed_over_and_attributes_filtered)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    ck_works(import(s, "devices", &ref, &e_));
    ck_assert_int_eq(room_sh("[ -z \"$(find %s ! -type f ! -type d ! -type l)\" ]", ref.tree), 0);
    ck_works(import(s, "capable", &ref, &e_));
    ck_assert_int_eq(room_sh("cd %s && getcap sbin/ping | grep -q 'cap_net_raw=ep' && "
                             "python3 -c 'import os; exit(os.listxattr(\"sbin/ping\") != [\"security.capability\"])'",
                             ref.tree),
                     0);
}
END_TEST

START_TEST(test_E1_nothing_leaves_the_tree)
{
    static const struct row rows[] = {
        {"dotdot", ".."}, {"dotdot-inside", ".."}, {"absolute", "absolute"}, {"through-link", "symlink"},
        {"through-relative-link", "symlink"}, {"dir-over-link", "twice"}, {"hardlink-out", ".."},
        {"hardlink-absolute", "absolute"}, {"hardlink-to-link", "symlink"}, {"hardlink-with-data", "twice"},
        {"link-over-etc", "twice"}, {"dir-over-file", "twice"}};
    struct stat before, after;

    ck_assert_int_eq(stat("/etc/passwd", &before), 0);
    refused(rows, ARRAY_LEN(rows));
    ck_assert_int_eq(room_sh("[ -z \"$(find / -xdev -maxdepth 3 -name escaped 2>/dev/null)\" ]"), 0);
    ck_assert_int_eq(stat("/etc/passwd", &after), 0);
    ck_assert_int_eq(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
    ck_assert_uint_eq(before.st_nlink, after.st_nlink);
}
END_TEST

START_TEST(test_E4_bounds)
{
    static const struct row rows[] = {
        {"sparse-8E", "more than"}, {"huge", "overflow"}, {"deep", "nested deeper than 128"},
        {"long-name", "longer than 255"}, {"long-path", "longer than 4000"}, {"name-64k", "longer than 4000"}};

    refused(rows, ARRAY_LEN(rows));
}
END_TEST

/* On a file system so small that half of it is soon reached. */
START_TEST(test_E4_bombs_stop_at_half_of_what_is_free)
{
    static const struct row rows[] = {{"bomb", "half of the free space"}, {"many", "half of the free inodes"}};

    ck_assert_int_eq(
        room_sh("truncate -s 64M small && mke2fs -qF -t ext4 small && mkdir state && mount -o loop small state"), 0);
    refused(rows, ARRAY_LEN(rows));
    ck_assert_int_eq(room_sh("umount state"), 0);
}
END_TEST

START_TEST(test_E5_damage)
{
    static const struct row rows[] = {{"truncated", "runcated"}, {"garbage", "archive"}, {"zip", "archive"},
                                      {"empty", "no tar archive"}, {"no-init", "nothing to boot"},
                                      {"no-os-release", "no /etc/os-release"}};

    refused(rows, ARRAY_LEN(rows));
}
END_TEST

/* Every length, and a flipped bit at many places: it works or fails, but never leaves anything or hangs. */
START_TEST(test_E5_cut_and_flipped)
{
    OWN(store) struct image_store *s = room_store();
    OWN(str) char *good = NULL;
    OWN(fd) int dir = path_open_host(made, O_RDONLY | O_DIRECTORY, NULL);
    OWN(str) char *path = text_format("%s/damaged", room_path);
    struct image_ref ref;
    size_t n, taken = 0;

    ck_works(path_read(dir, "owned", 1 << 20, &good, &n, &e_));
    for (size_t i = 0; i < 120; i++) {
        size_t len = i < n / 512 ? i * 512 : n;
        size_t at = len == n ? (i * 7919) % n : 0;
        if (len == n)
            good[at] ^= (char)(1 << i % 8);
        ck_works(path_write(room_dir, "damaged", good, len, 0600, &e_));
        if (len == n)
            good[at] ^= (char)(1 << i % 8);
        struct vm_err e = {0};
        if (import_path(s, path, &ref, &e) == 0) {
            taken++;
            ck_works(image_remove(s, ref.id, &e_));
        } else {
            ck_assert_msg(e.code == VM_E_INVALID, "%s", e.text);
        }
        ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
    }
    ck_assert_uint_gt(taken, 0); /* a bit in a file's content harms nobody */
}
END_TEST

START_TEST(test_E6_contradictions)
{
    static const struct row rows[] = {
        {"twice", "is in it twice"}, {"foreign-owner", "outside 0..65535"}, {"negative-owner", ""},
        {"size-negative", ""}, {"size-octal-overflow", ""}, {"pax-size-conflict", ""}, {"longlink-chain", ""}};

    refused(rows, ARRAY_LEN(rows));
}
END_TEST

START_TEST(test_P1_names_are_shown_without_harm)
{
    static const struct row rows[] = {{"newline", "'a?\\x1B]52;c;x\\x07' is in it twice"}};

    refused(rows, ARRAY_LEN(rows));
}
END_TEST

START_TEST(test_E8_digests)
{
    static const char *const bad[] = {
        NULL, "", "../../../etc", "../../guests/1", "0123",
        "ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789ABCDEF0123456789",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde/",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0"};
    OWN(store) struct image_store *s = room_store();
    OWN(str) char *path = text_format("%s/good", made);
    struct spec_image want = {.kind = IMAGE_TAR, .name = path};
    struct image_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        want.sha256 = bad[i];
        ck_fails(image_ensure(s, &want, (struct image_progress){0}, deadline_in(9000), &ref, &e_), INVALID, "'sha256'");
        ck_assert(!image_have(s, &want));
    }
    want.sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    ck_fails(image_ensure(s, &want, (struct image_progress){0}, deadline_in(9000), &ref, &e_), INVALID,
             "has the SHA-256");
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

START_TEST(test_E8_twenty_imports_one_killed)
{
    struct image_ref ref;
    pid_t crowd[20];
    int status;

    for (size_t i = 0; i < ARRAY_LEN(crowd); i++)
        if ((crowd[i] = fork()) == 0)
            _exit(import(room_store(), "owned", &ref, NULL) < 0);
    kill(crowd[0], SIGKILL);
    for (size_t i = 0; i < ARRAY_LEN(crowd); i++) {
        ck_assert_int_eq(waitpid(crowd[i], &status, 0), crowd[i]);
        if (i)
            ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 1);
}
END_TEST

START_TEST(test_C10_tarball_that_is_no_file)
{
    static const char *const bad[] = {"/dev/zero", "/proc/self/fd/0", "/var/tmp", "relative", "/nowhere/x.tar"};
    OWN(store) struct image_store *s = room_store();
    struct spec_image want = {
        .kind = IMAGE_TAR, .sha256 = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"};
    OWN(str) char *fifo = text_format("%s/fifo", room_path);
    struct image_ref ref;

    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    for (size_t i = 0; i <= ARRAY_LEN(bad); i++) {
        want.name = i < ARRAY_LEN(bad) ? bad[i] : fifo;
        ck_assert_int_eq(image_ensure(s, &want, (struct image_progress){0}, deadline_in(9000), &ref, NULL), -1);
    }
}
END_TEST

/* The unpacker, held up by a pipe that gives it half an archive, is looked at from outside. */
START_TEST(test_E10_unpacker_is_nobody_and_nowhere)
{
    char path[64], line[256], own[64], its[64];
    int feed[2], status;
    pid_t pid;

    ck_assert_int_eq(mkdirat(room_dir, "tree", 0755), 0);
    ck_assert_int_eq(pipe2(feed, O_CLOEXEC), 0);
    if ((pid = fork()) == 0) {
        dup2(feed[0], 0);
        execl("/bin/sh", "sh", "-c", "cd \"$0/tree\" && exec " VMS_UNPACK " 2>/dev/null", room_path, NULL);
        _exit(127);
    }
    ck_assert_int_eq(write(feed[1], "x", 1), 1);
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    bool filtered = false;
    for (int i = 0; i < 300 && !filtered; i++, sleep_ms(10)) {
        FILE *f = fopen(path, "re");
        while (f && fgets(line, sizeof line, f))
            filtered = filtered || !strcmp(line, "Seccomp:\t2\n");
        file_drop(f);
    }
    ck_assert(filtered);
    FILE *f = fopen(path, "re");
    unsigned seen = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned ids[4];
        if (sscanf(line, "Uid: %u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]) == 4 ||
            sscanf(line, "Gid: %u %u %u %u", &ids[0], &ids[1], &ids[2], &ids[3]) == 4)
            for (size_t i = 0; i < 4; i++, seen++)
                ck_assert_uint_eq(ids[i], 0x7ffe0000);
        seen += !strcmp(line, "NoNewPrivs:\t1\n");
    }
    fclose(f);
    ck_assert_uint_eq(seen, 9);
    static const char *const spaces[] = {"user", "mnt", "net", "ipc", "uts"};
    for (size_t i = 0; i < ARRAY_LEN(spaces); i++) {
        snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)pid, spaces[i]);
        ssize_t n = readlink(path, its, sizeof its - 1);
        its[n < 0 ? 0 : n] = '\0';
        snprintf(path, sizeof path, "/proc/self/ns/%s", spaces[i]);
        n = readlink(path, own, sizeof own - 1);
        own[n < 0 ? 0 : n] = '\0';
        ck_assert_str_ne(own, its);
    }
    /* One mount: the tree. No file open but the three that it was given. */
    ck_assert_int_eq(room_sh("[ $(wc -l </proc/%d/mountinfo) = 1 ] && [ $(ls /proc/%d/fd | wc -l) = 3 ] && "
                             "[ -z \"$(ls -A /proc/%d/root/)\" ]", (int)pid, (int)pid, (int)pid), 0);
    close(feed[1]);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
}
END_TEST

static char *const starter_without[] = {VMS_STARTER, "--unpack", "/bin/false", NULL};

START_TEST(test_without_unpacker)
{
    OWN(store) struct image_store *s = room_store();
    struct image_ref ref;

    free(s->unpacker);
    s->unpacker = NULL;
    ck_fails(import(s, "good", &ref, &e_), UNAVAILABLE, "vms-unpack is not installed");
    ck_works(image_store_set_unpacker(s, "/bin/false", &e_));
    ck_fails(import(s, "good", &ref, &e_), DENIED, "vms-starter runs no such program");
    starter_place((struct starter_place){.argv = starter_without});
    ck_fails(import(s, "good", &ref, &e_), INVALID, "");
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

int main(void)
{
    if (geteuid() != 0)
        return room_skip("needs root");
    int rc = room_run("tar", make_tars, room_make, room_remove,
                      (const TTest *const[]){
                          test_honest_tarballs, test_owners_and_modes_are_those_of_the_archive,
                          test_E3_devices_are_passed_over_and_attributes_filtered, test_E1_nothing_leaves_the_tree,
                          test_E4_bounds, test_E4_bombs_stop_at_half_of_what_is_free, test_E5_damage,
                          test_E5_cut_and_flipped, test_E6_contradictions, test_P1_names_are_shown_without_harm,
                          test_E8_digests, test_E8_twenty_imports_one_killed, test_C10_tarball_that_is_no_file,
                          test_E10_unpacker_is_nobody_and_nowhere, test_without_unpacker, NULL});
    remove_tars();
    return rc;
}
