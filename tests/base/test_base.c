/* Floor 0: words, text, JSON bounds, hashes, and the one place that opens files. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/clock.h>
#include <vmsd/hash.h>
#include <vmsd/json.h>
#include <vmsd/lazy.h>
#include <vmsd/log.h>
#include <vmsd/path.h>
#include <vmsd/text.h>

START_TEST(errors_say_thing_and_cause)
{
    struct vm_err e = {0};

    ck_assert_int_eq(vm_fail(&e, VM_E_ABSENT, "no guest '%s'", "db"), -1);
    ck_assert_int_eq(vm_context(&e, "start"), -1);
    ck_assert_str_eq(e.text, "start: no guest 'db'");
    ck_assert_int_eq(e.code, VM_E_ABSENT);
    ck_assert_int_eq(vm_err_http(e.code), 404);
    ck_assert_int_eq(vm_fail(NULL, VM_E_SYSTEM, "nobody listens"), -1);
    for (int i = 0; i < 100; i++)
        vm_context(&e, "%0200d", i); /* never longer than its room */
    ck_assert_uint_lt(strlen(e.text), sizeof e.text);
}
END_TEST

START_TEST(errors_are_cut_between_characters)
{
    struct vm_err e;
    char name[sizeof e.text + 1];

    for (size_t shift = 0; shift < 3; shift++) { /* the cut falls on each byte of a character */
        for (size_t i = 0; i < sizeof name - 1; i++)
            name[i] = i < shift ? 'x' : "\xe2\x82\xac"[(i - shift) % 3];
        name[sizeof name - 1] = '\0';
        vm_fail(&e, VM_E_INVALID, "%s", name);
        ck_assert(text_is_clean(e.text, strlen(e.text)));
        vm_context(&e, "%.*s", (int)(100 + shift), name);
        ck_assert(text_is_clean(e.text, strlen(e.text)));
    }
}
END_TEST

START_TEST(sizes_and_durations)
{
    uint64_t v = 7;
    int64_t ms = 7;

    ck_assert(text_to_size("512M", &v) && v == 512ull << 20);
    ck_assert(text_to_size("4096", &v) && v == 4096);
    ck_assert(text_to_size("8T", &v) && v == 8ull << 40);
    ck_assert(text_to_duration("250ms", &ms) && ms == 250);
    ck_assert(text_to_duration("2h", &ms) && ms == 7200000);
    v = 7;
    static const char *const bad[] = {"", "-1", "1.5G", "1 G", "G", "1GB", "99999999999999999999", "9999999T", "0x10"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(!text_to_size(bad[i], &v), "'%s' is no size", bad[i]);
    ck_assert_uint_eq(v, 7);
}
END_TEST

START_TEST(names)
{
    char long_label[65];

    memset(long_label, 'a', 64);
    long_label[64] = '\0';
    ck_assert(text_is_label("db-1", 32));
    ck_assert(!text_is_label("-db", 32) && !text_is_label("db-", 32) && !text_is_label("Db", 32));
    ck_assert(!text_is_label("", 32) && !text_is_label("a.b", 32));
    ck_assert(!text_is_label(long_label, 63) && text_is_label(long_label + 1, 63));
    ck_assert(text_is_domain("git.example.org") && !text_is_domain("a..b") && !text_is_domain(".a") && !text_is_domain("a."));
}
END_TEST

START_TEST(test_P1_nothing_acts_on_a_terminal)
{
    OWN(text) struct text t = {0};
    const char evil[] = "a\x1b[31m\r\n\x9b\xe2\x80\xae\xff" "b";

    text_add_visible(&t, evil, sizeof evil - 1, "\n");
    ck_assert_str_eq(t.s, "a\\x1B[31m\\x0D\n\\x9B\\xE2\\x80\\xAE\\xFF" "b");
    ck_assert(text_is_clean("pl\xc3\xa4tzchen", 10));
    ck_assert(!text_is_clean("a\xe2\x80\xae", 4) && !text_is_clean("a\0b", 3) && !text_is_clean("\xc0\xaf", 2));
}
END_TEST

START_TEST(nearest_word)
{
    static const char *const keys[] = {"memory", "network", "name"};

    ck_assert_str_eq(text_nearest("memroy", keys, 3), "memory");
    ck_assert_str_eq(text_nearest("netwrok", keys, 3), "network");
    ck_assert_ptr_null(text_nearest("xyzzy", keys, 3));
}
END_TEST

START_TEST(json_bounds)
{
    char deep[200];
    struct vm_err e = {0};
    json_t *j;

    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    ck_assert_ptr_null(json_from_text(deep, 200, &e));
    ck_assert_ptr_null(json_from_text("{\"a\":1,\"a\":2}", 13, &e));
    ck_assert_ptr_null(json_from_text("[\v\x1b]", 4, &e)); /* told without harm */
    ck_assert(text_is_clean(e.text, strlen(e.text)));
    j = json_from_text("{\"b\":[0.1,\"]\"],\"a\":true}", 24, &e);
    ck_assert_ptr_nonnull(j);
    char *text = json_to_text(j);
    ck_assert_str_eq(text, "{\"a\":true,\"b\":[0.1,\"]\"]}");
    free(text);
    json_put_str(j, "bad", "\xff");
    ck_assert_str_eq(json_str(j, "bad", ""), "\\xFF");
    json_decref(j);
}
END_TEST

START_TEST(hashes)
{
    char sum[HASH_HEX];
    struct hash *h = hash_new();

    hash_bytes("abc", 3, sum);
    ck_assert_str_eq(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_add(h, "ab", 2);
    hash_add(h, "c", 1);
    hash_end(h, sum);
    ck_assert_str_eq(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    hash_keyed("Jefe", 4, "what do ya want for nothing?", 28, sum); /* RFC 4231, case 2 */
    ck_assert_str_eq(sum, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}
END_TEST

START_TEST(times)
{
    char text[CLOCK_TEXT];

    ck_assert_str_eq(wall_text(0, text), "1970-01-01T00:00:00.000Z");
    ck_assert_str_eq(wall_text(1795162260123, text), "2026-11-20T08:11:00.123Z");
    ck_assert_str_eq(wall_text(-1, text), "1969-12-31T23:59:59.999Z");
    ck_assert_int_eq(deadline_left((struct deadline){.at = now_ms() - 5}), 0);
}
END_TEST

static char scratch[] = "/tmp/vmsd-test-XXXXXX";
static int dir;

static void set_up(void)
{
    strcpy(scratch + strlen(scratch) - 6, "XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(scratch));
    dir = open(scratch, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert_int_ge(dir, 0);
}

static void tear_down(void)
{
    char command[64];

    close(dir);
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    ck_assert_int_eq(system(command), 0);
}

static struct { int (*version_number)(void); const char *(*version_string)(void); } library;
static int begun;

static bool begin(void)
{
    return ++begun > 1;
}

START_TEST(libraries_that_are_missing_or_too_old)
{
    static const char *const good[] = {"archive_version_number", "archive_version_string"},
                      *const newer[] = {"archive_version_number", "archive_fold"};
    struct lazy l = {.so = "libnothing.so.1", .package = "libnothing1", .names = newer, .table = &library, .n = 2,
                     .begin = begin, .lock = PTHREAD_MUTEX_INITIALIZER};
    struct vm_err e = {0};

    ck_assert_int_eq(lazy_need(&l, &e), -1);
    ck_assert_int_eq(e.code, VM_E_UNAVAILABLE);
    ck_assert_str_eq(e.text, "libnothing.so.1 cannot be loaded: libnothing.so.1: cannot open shared object file: No such file "
                             "or directory; is the package libnothing1 there?");
    l.so = "libarchive.so.13";
    l.package = "libarchive13";
    ck_assert_int_eq(lazy_need(&l, &e), -1);
    ck_assert_str_eq(e.text, "libarchive.so.13 has no archive_fold: it is too old; upgrade the package libarchive13");
    l.names = good;
    ck_assert_int_eq(lazy_need(&l, &e), -1); /* begin, for the first time */
    ck_assert_int_eq(e.code, VM_E_SYSTEM);
    ck_assert_int_eq(lazy_need(&l, &e), 0);
    ck_assert_int_eq(lazy_need(&l, &e), 0); /* and not once more */
    ck_assert_int_eq(begun, 2);
    ck_assert_int_ge(library.version_number(), 3006000);
}
END_TEST

START_TEST(test_C1_no_way_out_of_a_directory)
{
    struct vm_err e = {0};

    ck_assert_int_eq(symlinkat("/etc", dir, "out"), 0);
    ck_assert_int_eq(symlinkat("../../../etc", dir, "up"), 0);
    ck_assert_int_eq(mkdirat(dir, "in", 0700), 0);
    ck_assert_int_eq(symlinkat("in", dir, "inside"), 0);
    static const char *const bad[] = {"out/passwd", "up/passwd", "../etc/passwd", "/etc/passwd", "in/../../etc"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        ck_assert_msg(path_open(dir, bad[i], PATH_BENEATH, O_RDONLY, 0, &e) == -1, "%s", bad[i]);
    int fd = path_open(dir, "inside", PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, &e);
    ck_assert_int_ge(fd, 0);
    close(fd);
    /* In a guest's tree "/etc" is the tree's own, which is not there. */
    ck_assert_int_eq(path_open(dir, "out/passwd", PATH_IN_ROOT, O_RDONLY, 0, &e), -1);
    ck_assert_int_eq(e.sys, ENOENT);
    ck_assert_int_eq(path_open_host("/proc/self/fd/0", O_RDONLY, &e), -1); /* a magic link */
}
END_TEST

enum { SWAPS = 100000 };
static atomic_bool swapping;

/* "in" and "trap" change places as fast as they can: now it is a directory, now a link out. */
static void *swap_run(void *arg)
{
    while (atomic_load(&swapping))
        ck_assert_int_eq(renameat2(*(int *)arg, "in", *(int *)arg, "trap", RENAME_EXCHANGE), 0);
    return NULL;
}

/* Whatever comes between: what is opened is ours, and outside nothing is made, changed or removed. */
START_TEST(test_C1_swapped_all_the_time)
{
    OWN(str) char *text = NULL;
    struct stat mine, now;
    pthread_t swapper;
    unsigned got = 0, denied = 0;

    ck_assert(mkdirat(dir, "outside", 0700) == 0 && mkdirat(dir, "root", 0700) == 0);
    ck_assert_int_eq(path_write(dir, "outside/file", "theirs", 6, 0600, NULL), 0);
    OWN(fd) int root = openat(dir, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ck_assert(mkdirat(root, "in", 0700) == 0 && symlinkat("../outside", root, "trap") == 0);
    ck_assert_int_eq(path_write(root, "in/file", "mine", 4, 0600, NULL), 0);
    ck_assert_int_eq(fstatat(root, "in/file", &mine, 0), 0);
    atomic_store(&swapping, true);
    ck_assert_int_eq(pthread_create(&swapper, NULL, swap_run, &root), 0);
    for (int i = 0; i < SWAPS; i++) {
        OWN(fd) int fd = path_open(root, "in/file", i % 2 ? PATH_BENEATH : PATH_IN_ROOT, O_RDONLY, 0, NULL);

        if (fd >= 0)
            ck_assert(fstat(fd, &now) == 0 && now.st_ino == mine.st_ino);
        fd >= 0 ? got++ : denied++;
    }
    for (int i = 0; i < SWAPS / 100; i++) {
        path_write(root, "in/made", "x", 1, 0600, NULL);
        fd_drop(path_mkdirs(root, "in/a/b", 0700, NULL));
        path_remove(root, "in/a", NULL);
    }
    atomic_store(&swapping, false);
    pthread_join(swapper, NULL);
    ck_assert_msg(got > 100 && denied > 100, "the test is none: %u opened, %u refused", got, denied);
    ck_assert_int_eq(path_read(dir, "outside/file", 100, &text, NULL, NULL), 0);
    ck_assert_str_eq(text, "theirs");
    ck_assert_int_eq(unlinkat(dir, "outside/file", 0), 0);
    ck_assert_int_eq(unlinkat(dir, "outside", AT_REMOVEDIR), 0); /* nothing else is in it */
}
END_TEST

/* All that waits in the socket or pipe. */
static unsigned lines_of(int fd, char *last, size_t size)
{
    unsigned n = 0;
    char c;

    for (size_t at = 0; read(fd, &c, 1) == 1;) {
        last[at] = c == '\n' ? '\0' : c;
        at = c == '\n' ? 0 : at + 1;
        n += c == '\n';
        ck_assert_uint_lt(at, size);
    }
    return n;
}

/* A journal, or what a pipe leads to. */
START_TEST(who_does_not_read_holds_up_nobody)
{
    enum { LINES = 5000 };
    char last[200], want[200];
    unsigned kept;
    int s[2];

    ck_assert_int_eq(_i ? pipe2(s, O_CLOEXEC) : socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
    ck_assert_int_eq(fcntl(s[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(dup2(s[1], STDERR_FILENO), STDERR_FILENO);
    unsetenv("JOURNAL_STREAM");
    for (unsigned i = 0; i < LINES; i++)
        log_warn("db", "line %u", i);
    kept = lines_of(s[0], last, sizeof last);
    ck_assert_uint_lt(kept, LINES);
    snprintf(want, sizeof want, "db: line %u", kept - 1); /* whole, and the first ones */
    ck_assert_str_eq(last, want);
    log_warn(NULL, "it reads again");
    snprintf(want, sizeof want, "%u lines are missing here: nobody took them\nit reads again\n", LINES - kept);
    ck_assert_int_eq(read(s[0], last, sizeof last), (ssize_t)strlen(want));
    ck_assert_int_eq(memcmp(last, want, strlen(want)), 0);
}
END_TEST

START_TEST(write_is_whole_or_not)
{
    OWN(str) char *text = NULL;
    struct vm_err e = {0};
    struct stat st;
    size_t n;

    ck_assert_int_eq(path_write(dir, "a", "one", 3, 0640, &e), 0);
    ck_assert_int_eq(path_write(dir, "a", "second", 6, 0600, &e), 0);
    ck_assert_int_eq(path_read(dir, "a", 100, &text, &n, &e), 0);
    ck_assert_uint_eq(n, 6);
    ck_assert_str_eq(text, "second");
    ck_assert_int_eq(fstatat(dir, "a", &st, 0), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    /* What a crash left of a write goes with the next one. */
    ck_assert_int_eq(symlinkat("/etc/passwd", dir, ".a.new"), 0);
    ck_assert_int_eq(path_write(dir, "a", "third", 5, 0600, &e), 0);
    ck_assert(!path_exists(dir, ".a.new"));
    ck_assert_int_eq(path_write(dir, "a", "second", 6, 0600, &e), 0);
    ck_assert_int_eq(path_write(dir, "none/a", "x", 1, 0600, &e), -1);
    ck_assert_int_eq(mkdirat(dir, "taken", 0700), 0);
    ck_assert_int_eq(path_write(dir, "taken", "x", 1, 0600, &e), -1); /* whole, but it cannot have its name */
    ck_assert(!path_exists(dir, ".taken.new"));
    ck_assert_int_eq(path_write(dir, "..", "x", 1, 0600, &e), -1);
    ck_assert_int_eq(path_read(dir, "a", 5, &text, &n, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TOO_LARGE);
    ck_assert_int_eq(mkfifoat(dir, "fifo", 0600), 0);
    ck_assert_int_eq(path_read(dir, "fifo", 5, &text, &n, &e), -1); /* and does not hang */
}
END_TEST

START_TEST(remove_stays_inside)
{
    struct vm_err e = {0};
    int fd;

    ck_assert_int_eq(path_write(dir, "keep", "x", 1, 0600, &e), 0);
    fd = path_mkdirs(dir, "tree/a/b/c", 0700, &e);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(symlinkat("../../../../keep", fd, "link"), 0);
    ck_assert_int_eq(symlinkat("/", fd, "root"), 0);
    close(fd);
    ck_assert_int_eq(path_remove(dir, "tree", &e), 0);
    ck_assert(!path_exists(dir, "tree"));
    ck_assert(path_exists(dir, "keep"));
    ck_assert_int_eq(path_remove(dir, "tree", &e), 0);
    ck_assert_int_eq(path_remove(dir, "none/at/all", &e), 0);
    ck_assert_int_eq(path_remove(dir, ".", &e), -1);
}
END_TEST

static void *remove_deep(void *arg)
{
    struct vm_err *e = arg;

    return path_remove(dir, "deep", e) < 0 ? e : NULL;
}

/* By a worker, whose stack is small, and with few descriptors: a guest may have made the tree. */
START_TEST(remove_stands_any_depth)
{
    enum { DEPTH = 1000 };
    struct rlimit files = {200, 200};
    struct vm_err e = {0};
    pthread_attr_t attr;
    pthread_t worker;
    void *failed;
    OWN(fd) int at = path_mkdirs(dir, "deep/.deep.0/x", 0700, &e); /* a name that it would take */

    ck_assert_int_ge(at, 0);
    at = fd_drop(at);
    at = path_mkdirs(dir, "deep", 0700, &e);
    ck_assert_int_eq(path_write(at, ".deep.1", "x", 1, 0600, &e), 0);
    for (unsigned i = 0; i < DEPTH; i++) {
        ck_assert(mkdirat(at, "d", 0700) == 0 && symlinkat("../../..", at, "up") == 0);
        int next = openat(at, "d", O_PATH | O_DIRECTORY | O_CLOEXEC);
        fd_drop(at);
        at = next;
    }
    at = fd_drop(at);
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
    pthread_attr_init(&attr);
    ck_assert_int_eq(pthread_attr_setstacksize(&attr, 256 << 10), 0);
    ck_assert_int_eq(pthread_create(&worker, &attr, remove_deep, &e), 0);
    pthread_join(worker, &failed);
    ck_assert_msg(!failed, "%s", e.text);
    ck_assert(!path_exists(dir, "deep"));
}
END_TEST

START_TEST(hidden_by_systemd)
{
    struct vm_err e;

    ck_assert_int_eq(path_open_host("/tmp/vmsd-absent", O_RDONLY, &e), -1);
    ck_assert_ptr_null(strstr(e.text, "elsewhere"));
    setenv("INVOCATION_ID", "1", 1);
    ck_assert_int_eq(path_open_host("/tmp/vmsd-absent", O_RDONLY, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "systemd hides from vmsd, as all of /tmp and /var/tmp; put it elsewhere"));
    ck_assert_int_eq(e.sys, ENOENT);
    ck_assert_int_eq(path_open_host("/vmsd-absent", O_RDONLY, &e), -1);
    ck_assert_ptr_null(strstr(e.text, "elsewhere"));
    unsetenv("INVOCATION_ID");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *words = tcase_create("words"), *files = tcase_create("files");
    SRunner *r;
    int failed;

    tcase_set_timeout(files, 60);
    tcase_add_test(words, errors_say_thing_and_cause);
    tcase_add_test(words, errors_are_cut_between_characters);
    tcase_add_test(words, sizes_and_durations);
    tcase_add_test(words, names);
    tcase_add_test(words, test_P1_nothing_acts_on_a_terminal);
    tcase_add_test(words, nearest_word);
    tcase_add_test(words, json_bounds);
    tcase_add_test(words, hashes);
    tcase_add_test(words, times);
    tcase_add_test(words, libraries_that_are_missing_or_too_old);
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_test(files, test_C1_no_way_out_of_a_directory);
    tcase_add_test(files, test_C1_swapped_all_the_time);
    tcase_add_loop_test(files, who_does_not_read_holds_up_nobody, 0, 2);
    tcase_add_test(files, write_is_whole_or_not);
    tcase_add_test(files, remove_stays_inside);
    tcase_add_test(files, remove_stands_any_depth);
    tcase_add_test(files, hidden_by_systemd);
    suite_add_tcase(s, words);
    suite_add_tcase(s, files);
    r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
