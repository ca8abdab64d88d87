/* Recipes, builds and who waits for whom, with a quick double in the place of mmdebstrap. */
#include "room.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

enum { CROWD = 10 };

static const struct spec_image tiny = {.kind = IMAGE_RECIPE, .name = "tiny"};
static const struct image_progress quiet;

/* Counts its runs; the suite says what it shall do. It is called in the scratch directory, with the suite and the
 * target as the last words before an optional "-". */
static const char double_text[] =
    "#!/bin/sh\n"
    "echo run >>%s/runs\n"
    "{ printf '%%s\\n' \"$@\"; umask; } >%s/args\n"
    "for word; do case $word in slow|first|broken|full|odd|quick|noisy) suite=$word;; esac; done\n"
    "mkdir -p tree/etc tree/sbin tree/dev\n"
    "echo I: at work\n"
    "case $suite in\n"
    "slow) touch %s/started; sleep 300;;\n"
    "first) mkdir %s/started && sleep 300;;\n"
    "broken) echo 'E: Failed to fetch http://mirror.invalid/x  Could not resolve'; echo 'E: mmdebstrap failed'; exit "
    "25;;\n"
    "full) echo 'cp: error writing: No space left on device'; exit 25;;\n"
    "noisy) printf 'E: evil \\033]52;c;x\\007 \\233m\\n'; exit 1;;\n"
    "esac\n"
    "[ $suite = odd ] || echo ID=tiny >tree/etc/os-release\n"
    "cp /bin/true tree/sbin/init; mknod tree/dev/null c 1 3; sleep 0.3\n";

static void recipe_of(const char *suite)
{
    OWN(str) char *json = text_format("{\"suite\": \"%s\", \"packages\": [\"init\"]}", suite);

    room_recipe("tiny", json, NULL);
}

static char builder[128];

static void make_double(void)
{
    room_make();
    OWN(str) char *text = text_format(double_text, room_path, room_path, room_path, room_path);
    room_write("double", text, 0755);
    snprintf(builder, sizeof builder, "%s/double", room_path);
}

static struct image_store *store_with_double(void)
{
    return room_store_with(builder);
}

static int ensure(struct image_store *s, const struct spec_image *want, struct image_ref *ref, struct vm_err *e)
{
    return image_ensure(s, want, quiet, deadline_in(30000), ref, e);
}

static unsigned runs(void)
{
    OWN(str) char *text = NULL;
    size_t n = 0;

    return path_read(room_dir, "runs", 4096, &text, &n, NULL) < 0 ? 0 : (unsigned)n / 4;
}

/* One image and nothing else: no scratch, no lock. */
static void check_one_image(struct image_store *s, const char *id)
{
    OWN(json) json_t *rows = NULL;

    ck_works(image_list(s, &rows, &e_));
    ck_assert_uint_eq(json_array_size(rows), 1);
    ck_assert_str_eq(json_str(json_array_get(rows, 0), "id", ""), id);
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 1);
}

START_TEST(test_recipe_is_built_once)
{
    OWN(store) struct image_store *s = store_with_double();
    OWN(json) json_t *rows = NULL;
    struct image_ref ref, again;
    struct stat st;
    char file[IMAGE_PATH + 32];

    recipe_of("quick");
    ck_assert(!image_have(s, &tiny));
    ck_works(ensure(s, &tiny, &ref, &e_));
    ck_works(ensure(s, &tiny, &again, &e_));
    ck_assert(image_have(s, &tiny));
    ck_assert_str_eq(ref.id, again.id);
    ck_assert_str_eq(ref.tree, again.tree);
    ck_works(image_find(s, ref.id, &again, &e_));
    ck_assert_str_eq(ref.tree, again.tree);
    ck_assert_uint_eq(runs(), 1);
    check_one_image(s, ref.id);
    snprintf(file, sizeof file, "%s/dev/null", ref.tree);
    ck_assert_int_eq(lstat(file, &st), -1); /* the builder's, not the guest's */
    snprintf(file, sizeof file, "%s/tmp", ref.tree);
    ck_assert(lstat(file, &st) == 0 && (st.st_mode & 07777) == 01777);
    ck_works(image_list(s, &rows, &e_));
    ck_assert_str_eq(json_str(json_array_get(rows, 0), "name", ""), "tiny");
    ck_assert_str_eq(json_str(json_array_get(rows, 0), "kind", ""), "recipe");
    ck_assert_int_gt(json_int(json_array_get(rows, 0), "bytes", 0), 4096);
}
END_TEST

START_TEST(test_changed_recipe_is_another_image)
{
    OWN(store) struct image_store *s = store_with_double();
    struct image_ref a, b, c;

    recipe_of("quick");
    ck_works(ensure(s, &tiny, &a, &e_));
    room_recipe("tiny", "{\"suite\": \"quick\", \"packages\": [\"init\"]}", "#!/bin/sh\n");
    ck_works(ensure(s, &tiny, &b, &e_));
    room_recipe("tiny", "{\"suite\": \"quick\", \"packages\": [\"init\"]}", "#!/bin/sh\n#\n");
    ck_works(ensure(s, &tiny, &c, &e_));
    ck_assert_str_ne(a.id, b.id);
    ck_assert_str_ne(b.id, c.id);
    ck_assert_uint_eq(runs(), 3);
}
END_TEST

START_TEST(test_arguments_of_the_builder)
{
    OWN(store) struct image_store *s = store_with_double();
    struct image_ref ref;

    umask(077);
    room_recipe("tiny",
                "{\"suite\": \"quick\", \"variant\": \"essential\", \"components\": [\"main\", \"contrib\"],"
                " \"packages\": [\"init\", \"libstdc++6\"], \"exclude\": [\"/usr/share/man/*\"],"
                " \"include\": [\"/usr/share/doc/*/copyright\"]}",
                NULL);
    ck_works(ensure(s, &tiny, &ref, &e_));
    ck_assert_int_eq(room_sh("printf '%%s\\n' --mode=root --format=directory --variant=essential "
                             "--components=main,contrib --include=init,libstdc++6 "
                             "'--dpkgopt=path-exclude=/usr/share/man/*' "
                             "'--dpkgopt=path-include=/usr/share/doc/*/copyright' quick tree 0022 | cmp - args"),
                     0);
}
END_TEST

static void *ensure_thread(void *arg)
{
    struct image_ref ref;

    return ensure(arg, &tiny, &ref, NULL) < 0 ? arg : NULL;
}

START_TEST(test_crowd_of_threads_builds_once)
{
    OWN(store) struct image_store *s = store_with_double();
    pthread_t crowd[CROWD];
    struct image_ref ref;
    void *failed;

    recipe_of("quick");
    for (size_t i = 0; i < CROWD; i++)
        ck_assert_int_eq(pthread_create(&crowd[i], NULL, ensure_thread, s), 0);
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(crowd[i], &failed);
        ck_assert_ptr_null(failed);
    }
    ck_assert_uint_eq(runs(), 1);
    ck_works(ensure(s, &tiny, &ref, &e_));
    check_one_image(s, ref.id);
    ck_assert_ptr_null(s->under_way);
}
END_TEST

struct patient {
    struct image_store *s;
    atomic_bool cut;
};

static void *ensure_until_cut(void *arg)
{
    struct patient *p = arg;
    struct deadline d = {.at = deadline_in(60000).at, .cut = &p->cut};
    struct image_ref ref;

    return image_ensure(p->s, &tiny, quiet, d, &ref, NULL) < 0 ? NULL : arg;
}

static void start_patients(struct patient *builder_of_it, struct patient *waits, pthread_t threads[static 2])
{
    ck_assert_int_eq(pthread_create(&threads[0], NULL, ensure_until_cut, builder_of_it), 0);
    for (int i = 0; i < 1000 && !path_exists(room_dir, "started"); i++)
        sleep_ms(10);
    ck_assert_int_eq(pthread_create(&threads[1], NULL, ensure_until_cut, waits), 0);
    sleep_ms(100);
}

/* Whose guest is removed meanwhile need not wait for somebody else's build. */
START_TEST(test_who_waits_can_be_called_off)
{
    OWN(store) struct image_store *s = store_with_double();
    struct patient builder_of_it = {.s = s}, waits = {.s = s};
    pthread_t threads[2];
    void *done;

    recipe_of("slow");
    start_patients(&builder_of_it, &waits, threads);
    int64_t from = now_ms();
    waits.cut = true;
    pthread_join(threads[1], &done);
    ck_assert_ptr_null(done);
    ck_assert_int_lt(now_ms() - from, 5000);
    ck_assert_ptr_nonnull(s->under_way); /* it goes on for others */
    builder_of_it.cut = true;
    pthread_join(threads[0], &done);
    ck_assert_ptr_null(done);
    ck_assert_uint_eq(runs(), 1);
}
END_TEST

/* And when it is he who builds, whoever waits for it builds it. */
START_TEST(test_who_builds_can_be_called_off)
{
    OWN(store) struct image_store *s = store_with_double();
    struct patient builder_of_it = {.s = s}, waits = {.s = s};
    pthread_t threads[2];
    void *done;

    recipe_of("first");
    start_patients(&builder_of_it, &waits, threads);
    builder_of_it.cut = true;
    pthread_join(threads[0], &done);
    ck_assert_ptr_null(done);
    pthread_join(threads[1], &done);
    ck_assert_ptr_nonnull(done);
    ck_assert_uint_eq(runs(), 2);
    ck_assert_ptr_null(s->under_way);
}
END_TEST

START_TEST(test_crowd_shares_a_failure)
{
    OWN(store) struct image_store *s = store_with_double();
    pthread_t crowd[CROWD];
    unsigned n_failed = 0;
    void *failed;

    recipe_of("odd"); /* takes 0.3 s, and then has no os-release */
    for (size_t i = 0; i < CROWD; i++)
        ck_assert_int_eq(pthread_create(&crowd[i], NULL, ensure_thread, s), 0);
    for (size_t i = 0; i < CROWD; i++) {
        pthread_join(crowd[i], &failed);
        n_failed += failed != NULL;
    }
    ck_assert_uint_eq(n_failed, CROWD);
    ck_assert_uint_lt(runs(), 3); /* those who came while it was under way did not try again */
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

/* One who waited for a free place all the while has asked as early as those who saw it fail. */
START_TEST(test_late_comers_of_a_failed_batch_share_it)
{
    OWN(store) struct image_store *s = store_with_double();
    struct image_progress batch = {.asked_at = now_ms()};
    struct image_ref ref;

    recipe_of("broken");
    ck_fails(image_ensure(s, &tiny, batch, deadline_in(30000), &ref, &e_), BACKEND, "image 'tiny': mmdebstrap: Failed to fetch");
    ck_fails(image_ensure(s, &tiny, batch, deadline_in(30000), &ref, &e_), BACKEND, "image 'tiny': mmdebstrap: Failed to fetch");
    ck_assert_uint_eq(runs(), 1);
    recipe_of("odd"); /* another recipe is another image */
    ck_fails(image_ensure(s, &tiny, batch, deadline_in(30000), &ref, &e_), INVALID, "no /etc/os-release");
    ck_assert_uint_eq(runs(), 2);

    recipe_of("broken");
    sleep_ms(2);
    batch.asked_at = now_ms();
    ck_fails(image_ensure(s, &tiny, batch, deadline_in(30000), &ref, &e_), BACKEND, "image 'tiny': mmdebstrap: Failed to fetch");
    ck_assert_uint_eq(runs(), 3); /* asked anew, tried anew */
    ck_fails(ensure(s, &tiny, &ref, &e_), BACKEND, "image 'tiny': mmdebstrap: Failed to fetch");
    ck_assert_uint_eq(runs(), 4);

    unsigned failures = s->n_failed;
    recipe_of("slow");
    ck_fails(image_ensure(s, &tiny, batch, deadline_in(300), &ref, &e_), TIMEOUT, "build with mmdebstrap");
    ck_assert_uint_eq(s->n_failed, failures); /* whose time was over is no news for others */
}
END_TEST

START_TEST(test_E8_crowd_of_processes_builds_once)
{
    struct image_ref ref;
    pid_t crowd[CROWD];
    int status;

    recipe_of("quick");
    for (size_t i = 0; i < CROWD; i++)
        if ((crowd[i] = fork()) == 0) {
            struct image_store *own = store_with_double();
            _exit(ensure(own, &tiny, &ref, NULL) < 0);
        }
    for (size_t i = 0; i < CROWD; i++) {
        ck_assert_int_eq(waitpid(crowd[i], &status, 0), crowd[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_assert_uint_eq(runs(), 1);
    OWN(store) struct image_store *s = store_with_double();
    ck_works(ensure(s, &tiny, &ref, &e_));
    check_one_image(s, ref.id);
}
END_TEST

/* A process that works on an image until it is told to stop in the middle. */
static pid_t start_slow_build(void)
{
    pid_t pid;

    recipe_of("slow");
    if ((pid = fork()) == 0) {
        struct image_ref ref;
        _exit(ensure(store_with_double(), &tiny, &ref, NULL) < 0);
    }
    for (int i = 0; i < 500 && !path_exists(room_dir, "started"); i++)
        sleep_ms(10);
    ck_assert(path_exists(room_dir, "started"));
    return pid;
}

static unsigned builders_alive(void)
{
    DIR *proc = opendir("/proc");
    struct dirent *d;
    unsigned n = 0;

    while ((d = readdir(proc))) {
        char path[300], line[512] = "";
        snprintf(path, sizeof path, "/proc/%s/cmdline", d->d_name);
        FILE *f = fopen(path, "re");
        size_t got = f ? fread(line, 1, sizeof line - 1, f) : 0;
        /* vms-starter is told of it, and goes on */
        n += memmem(line, got, builder, strlen(builder)) && !memmem(line, got, "--builder", strlen("--builder"));
        file_drop(f);
    }
    closedir(proc);
    return n;
}

START_TEST(test_H7_killed_build_leaves_no_trace)
{
    OWN(store) struct image_store *s = store_with_double();
    struct strv none = {0};
    struct image_ref ref;
    pid_t pid = start_slow_build();

    ck_assert_uint_gt(builders_alive(), 0);
    ck_works(image_gc(s, &none, NULL, &e_)); /* it is held, so nothing is swept from under it */
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 2);
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 200 && builders_alive(); i++)
        sleep_ms(10);
    ck_assert_uint_eq(builders_alive(), 0);
    ck_assert(!image_have(s, &tiny)); /* half an image is none */

    /* The next build of it sweeps up; so does image_gc. */
    room_write("double",
               "#!/bin/sh\nmkdir -p tree/etc tree/sbin; : >tree/etc/os-release; cp /bin/true tree/sbin/init\n", 0755);
    ck_works(ensure(s, &tiny, &ref, &e_));
    check_one_image(s, ref.id);
}
END_TEST

START_TEST(test_H7_gc_sweeps_up_after_a_killed_build)
{
    OWN(store) struct image_store *s = store_with_double();
    struct strv none = {0};
    pid_t pid = start_slow_build();

    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    for (int i = 0; i < 200 && builders_alive(); i++)
        sleep_ms(10);
    ck_works(image_gc(s, &none, NULL, &e_));
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

START_TEST(test_deadline_ends_a_build)
{
    OWN(store) struct image_store *s = store_with_double();
    struct image_ref ref = {.id = "untouched"};

    recipe_of("slow");
    ck_fails(image_ensure(s, &tiny, quiet, deadline_in(500), &ref, &e_), TIMEOUT,
             "image 'tiny': build with mmdebstrap");
    ck_assert_str_eq(ref.id, "untouched");
    ck_assert_uint_eq(builders_alive(), 0);
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

START_TEST(test_failures_are_told)
{
    OWN(store) struct image_store *s = store_with_double();
    struct image_ref ref;

    recipe_of("broken");
    ck_fails(ensure(s, &tiny, &ref, &e_), BACKEND, "image 'tiny': mmdebstrap: Failed to fetch http://mirror.invalid/x");
    recipe_of("full");
    ck_fails(ensure(s, &tiny, &ref, &e_), SYSTEM, "no space left in");
    recipe_of("odd");
    ck_fails(ensure(s, &tiny, &ref, &e_), INVALID, "no /etc/os-release");
    recipe_of("noisy");
    ck_fails(ensure(s, &tiny, &ref, &e_), BACKEND, "evil \\x1B]52;c;x\\x07 ");
    unlink(builder);
    recipe_of("quick");
    ck_fails(ensure(s, &tiny, &ref, &e_), UNAVAILABLE, "install the packages mmdebstrap");
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

static void remember(const char *line, void *arg)
{
    text_addf(arg, "%s|", line);
}

START_TEST(test_progress_is_shown_without_harm)
{
    OWN(store) struct image_store *s = store_with_double();
    OWN(text) struct text seen = {0};
    struct image_ref ref;

    recipe_of("noisy");
    ck_assert_int_eq(image_ensure(s, &tiny, (struct image_progress){.line = remember, .arg = &seen}, deadline_in(30000),
                                  &ref, NULL), -1);
    ck_assert_str_eq(seen.s, "I: at work|E: evil \\x1B]52;c;x\\x07 \\x9Bm|");
}
END_TEST

START_TEST(test_recipes_are_checked)
{
    static const struct { const char *json, *complaint; } bad[] = {
        {"[]", "is no object"},
        {"{", "not JSON"},
        {"{}", "'suite' must be one word"},
        {"{\"suite\": \"-x\"}", "'suite' must be one word"},
        {"{\"suite\": 5}", "'suite' must be one word"},
        {"{\"suite\": \"a b\"}", "'suite' must be one word"},
        {"{\"suite\": \"a\", \"suite\": \"b\"}", "not JSON"},
        {"{\"suite\": \"a\", \"package\": []}", "unknown key 'package'"},
        {"{\"suite\": \"a\", \"packages\": \"x\"}", "'packages' must be a list"},
        {"{\"suite\": \"a\", \"packages\": [\"x,y\"]}", "'packages': entry 1"},
        {"{\"suite\": \"a\", \"packages\": [\"x\", \"$(id)\"]}", "'packages': entry 2"},
        {"{\"suite\": \"a\", \"packages\": [\"./x.deb\"]}", "'packages': entry 1"},
        {"{\"suite\": \"a\", \"exclude\": [\"a\\nb\"]}", "'exclude': entry 1"},
    };
    OWN(store) struct image_store *s = store_with_double();
    struct image_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        room_recipe("tiny", bad[i].json, NULL);
        ck_fails(ensure(s, &tiny, &ref, &e_), INVALID, bad[i].complaint);
        ck_assert(!image_have(s, &tiny));
    }
    ck_assert_uint_eq(runs(), 0);
}
END_TEST

START_TEST(test_recipe_names)
{
    static const char *const bad[] = {"..", "../tiny", "/etc", "a/b", "", ".hidden", "Tiny"};
    OWN(store) struct image_store *s = store_with_double();
    struct spec_image want = {.kind = IMAGE_RECIPE};
    struct image_ref ref;

    recipe_of("quick");
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        want.name = bad[i];
        ck_fails(ensure(s, &want, &ref, &e_), INVALID, "recipe name");
    }
    want.name = "ubuntu-24.04";
    ck_fails(ensure(s, &want, &ref, &e_), ABSENT, "no recipe 'ubuntu-24.04' in");
    want.name = "tniy";
    ck_fails(ensure(s, &want, &ref, &e_), ABSENT, "did you mean 'tiny'?");
    ck_fails(image_find(s, "../guests", &ref, &e_), ABSENT, "no image");
}
END_TEST

START_TEST(test_gc_keeps_what_is_used)
{
    OWN(store) struct image_store *s = store_with_double();
    OWN(strv) struct strv used = {0}, removed = {0};
    struct image_ref a, b;

    recipe_of("quick");
    ck_works(ensure(s, &tiny, &a, &e_));
    room_recipe("tiny", "{\"suite\": \"quick\"}", NULL);
    ck_works(ensure(s, &tiny, &b, &e_));
    strv_add(&used, b.id);
    ck_works(image_gc(s, &used, &removed, &e_));
    ck_assert_uint_eq(removed.n, 1);
    ck_assert_str_eq(removed.v[0], a.id);
    check_one_image(s, b.id);
    ck_fails(image_remove(s, a.id, &e_), ABSENT, "no image");
    ck_fails(image_remove(s, "../guests", &e_), ABSENT, "no image");
    ck_works(image_remove(s, b.id, &e_));
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

/* In a mount namespace of its own; the double fills the file system for real. */
START_TEST(test_H5_no_space_for_a_build)
{
    ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
    ck_assert_int_eq(room_sh("mount --make-rprivate / && mkdir state && mount -t tmpfs -o size=4M,mode=700 none state"),
                     0);
    OWN(store) struct image_store *s = store_with_double();
    struct image_ref ref;

    room_write("double", "#!/bin/sh\nmkdir tree; exec dd if=/dev/zero of=tree/big bs=1M\n", 0755);
    recipe_of("quick");
    ck_fails(ensure(s, &tiny, &ref, &e_), SYSTEM, "no space left in");
    ck_assert_int_eq(room_sh("[ -z \"$(ls -A state/images)\" ] && umount -l state"), 0);
}
END_TEST

START_TEST(test_directory_is_copied)
{
    OWN(store) struct image_store *s = room_store();
    OWN(str) char *source = text_format("%s/source", room_path);
    struct spec_image want = {.kind = IMAGE_DIRECTORY, .name = source};
    struct image_ref a, b;

    ck_assert_int_eq(
        room_sh("mkdir -p source/etc source/sbin source/dev source/home/u && cd source && "
                "echo ID=x >etc/os-release && cp /bin/true sbin/init && ln sbin/init sbin/twin && "
                "ln -s /etc/passwd sbin/link && chmod 4755 sbin/init && setcap cap_net_raw+ep sbin/init && "
                "mknod dev/sda b 8 0 && mkfifo home/fifo && truncate -s 1G home/sparse && "
                "chown -R 1000:1001 home/u && chmod 750 home/u && touch -d 2001-01-01 home/u"),
        0);
    ck_fails(image_ensure(s, &want, quiet, deadline_in(0), &a, &e_), TIMEOUT, "too large to be copied in time");
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
    ck_works(ensure(s, &want, &a, &e_));
    ck_works(ensure(s, &want, &b, &e_));
    ck_assert_str_eq(a.id, b.id);
    ck_assert_int_eq(
        room_sh(
            "cd %s && [ \"$(stat -c '%%a %%u:%%g %%Y' home/u)\" = \"750 1000:1001 $(date -d 2001-01-01 +%%s)\" ] && "
            "[ sbin/init -ef sbin/twin ] && [ \"$(readlink sbin/link)\" = /etc/passwd ] && "
            "[ \"$(stat -c %%a sbin/init)\" = 4755 ] && getcap sbin/init | grep -q cap_net_raw && "
            "[ ! -e home/fifo ] && [ ! -e dev/sda ] && [ \"$(stat -c '%%s %%b' home/sparse)\" = '1073741824 0' ]",
            a.tree),
        0);
    ck_assert_int_eq(room_sh("echo more >>source/etc/os-release"), 0);
    ck_assert(!image_have(s, &want));
    ck_works(ensure(s, &want, &b, &e_));
    ck_assert_str_ne(a.id, b.id);
    ck_assert_int_eq(room_sh("chown 100000 source/etc/os-release"), 0);
    ck_fails(ensure(s, &want, &b, &e_), INVALID, "outside 0..65535");
}
END_TEST

/* What a host mounts upon, and what it reads, must be the tree's own. */
START_TEST(test_E2_links_in_the_place_of_directories)
{
    static const char *const names[] = {"dev", "etc", "proc", "run", "sys", "tmp", "var"};
    OWN(store) struct image_store *s = room_store();
    OWN(str) char *source = text_format("%s/source", room_path);
    struct spec_image want = {.kind = IMAGE_DIRECTORY, .name = source};
    struct image_ref ref;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        ck_assert_int_eq(
            room_sh("rm -rf source victim; mkdir -p source/usr/lib source/sbin victim && touch victim/precious && "
                    "echo ID=x >source/usr/lib/os-release && cp /bin/true source/sbin/init && "
                    "ln -s %s/victim source/%s",
                    room_path, names[i]),
            0);
        ck_fails(ensure(s, &want, &ref, &e_), INVALID, "is no directory");
        ck_assert(path_is("victim/precious", S_IFREG));
    }
    ck_assert_uint_eq(count_entries(room_dir, "state/images"), 0);
}
END_TEST

int main(void)
{
    if (geteuid() != 0)
        return room_skip("needs root");
    return room_run("ensure", NULL, make_double, room_remove,
                    (const TTest *const[]){
                        test_recipe_is_built_once, test_changed_recipe_is_another_image, test_arguments_of_the_builder,
                        test_crowd_of_threads_builds_once, test_who_waits_can_be_called_off, test_who_builds_can_be_called_off,
                        test_crowd_shares_a_failure, test_late_comers_of_a_failed_batch_share_it,
                        test_E8_crowd_of_processes_builds_once, test_H7_killed_build_leaves_no_trace,
                        test_H7_gc_sweeps_up_after_a_killed_build, test_deadline_ends_a_build, test_failures_are_told,
                        test_progress_is_shown_without_harm, test_recipes_are_checked, test_recipe_names,
                        test_gc_keeps_what_is_used, test_H5_no_space_for_a_build, test_directory_is_copied,
                        test_E2_links_in_the_place_of_directories, NULL});
}
