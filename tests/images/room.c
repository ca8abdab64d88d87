#include "room.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>

char room_path[64];
int room_dir = -1;

int room_run(const char *name, void (*once)(void), void (*each)(void), void (*after)(void), const TTest *const *tests)
{
    Suite *suite = suite_create(name);
    TCase *group = tcase_create(name);

    if (once)
        tcase_add_unchecked_fixture(group, once, NULL);
    if (each)
        tcase_add_checked_fixture(group, each, after);
    tcase_set_timeout(group, 120);
    for (; *tests; tests++)
        tcase_add_test(group, *tests);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int room_skip(const char *why)
{
    printf("skipped: %s\n", why);
    return 77;
}

void room_make(void)
{
    snprintf(room_path, sizeof room_path, "/var/tmp/vmsd-images.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(room_path));
    room_dir = path_open_host(room_path, O_RDONLY | O_DIRECTORY, NULL);
    ck_assert_int_ge(room_dir, 0);
    ck_assert_int_eq(mkdirat(room_dir, "recipes", 0755), 0);
}

void room_remove(void)
{
    OWN(fd) int tmp = path_open_host("/var/tmp", O_RDONLY | O_DIRECTORY, NULL);

    ck_works(path_remove(tmp, strrchr(room_path, '/') + 1, &e_));
    room_dir = fd_drop(room_dir);
}

static char *const starter[] = {VMS_STARTER, "--unpack", VMS_UNPACK, NULL};

struct image_store *room_store(void)
{
    OWN(strv) struct strv recipes = {0};
    OWN(str) char *state = text_format("%s/state", room_path);
    struct image_store *s = NULL;

    strv_addf(&recipes, "%s/recipes", room_path);
    ck_works(image_store_open(state, &recipes, &s, &e_));
    ck_works(image_store_set_unpacker(s, VMS_UNPACK, &e_));
    starter_place((struct starter_place){.argv = starter});
    return s;
}

struct image_store *room_store_with(char *builder)
{
    static char *with[] = {VMS_STARTER, "--unpack", VMS_UNPACK, "--builder", NULL, NULL};
    struct image_store *s = room_store();

    s->builder = with[4] = builder;
    starter_place((struct starter_place){.argv = with});
    return s;
}

void room_write(const char *rel, const char *content, mode_t mode)
{
    OWN(str) char *parent = strdup(rel);
    char *slash = strrchr(parent, '/');

    if (slash) {
        *slash = '\0';
        OWN(fd) int dir = path_mkdirs(room_dir, parent, 0755, NULL);
        ck_assert_int_ge(dir, 0);
    }
    ck_works(path_write(room_dir, rel, content, strlen(content), mode, &e_));
}

void room_recipe(const char *name, const char *json, const char *customize)
{
    OWN(str) char *file = text_format("recipes/%s/recipe.json", name);
    OWN(str) char *hook = text_format("recipes/%s/customize", name);

    room_write(file, json, 0644);
    if (customize)
        room_write(hook, customize, 0755);
}

int room_sh(const char *fmt, ...)
{
    char command[4096];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(command, sizeof command, fmt, ap);
    va_end(ap);
    OWN(str) char *whole = text_format("cd %s && { %s\n}", room_path, command);
    int status = system(whole);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void room_sum(int fd, char sum[static HASH_HEX])
{
    struct hash *h = hash_new();
    char block[16384];
    ssize_t n;

    while ((n = read(fd, block, sizeof block)) > 0)
        hash_add(h, block, (size_t)n);
    ck_assert_int_eq(n, 0);
    hash_end(h, sum);
}

unsigned count_entries(int dir, const char *rel)
{
    int fd = path_open(dir, rel, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, NULL);
    DIR *list = fdopendir(fd);
    struct dirent *d;
    unsigned n = 0;

    ck_assert_msg(list != NULL, "%s", rel);
    while ((d = readdir(list)))
        n += strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
    closedir(list);
    return n;
}

bool path_is(const char *rel, mode_t type)
{
    struct stat st;

    return fstatat(room_dir, rel, &st, AT_SYMLINK_NOFOLLOW) == 0 && (st.st_mode & S_IFMT) == type;
}
