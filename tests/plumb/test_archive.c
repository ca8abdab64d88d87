#include <archive.h>
#include <archive_entry.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <vmsd/bundle.h>
#include <vmsd/text.h>

static struct vm_err e;

/* ---- a tar written byte by byte, so that it can be wrong in any way ---- */

static void put_octal(char *field, size_t n, uint64_t v)
{
    field[--n] = '\0';
    for (; n > 0; v >>= 3)
        field[--n] = (char)('0' + (v & 7));
}

static void tar_seal(char *h)
{
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += (unsigned char)h[i];
    snprintf(h + 148, 8, "%06o", sum);
}

static void tar_header(struct text *t, const char *name, char type, uint64_t size, const char *link)
{
    char h[512] = {0};
    memcpy(h, name, strnlen(name, 100));
    put_octal(h + 100, 8, 0644);
    put_octal(h + 108, 8, 0);
    put_octal(h + 116, 8, 0);
    put_octal(h + 124, 12, size);
    put_octal(h + 136, 12, 0);
    h[156] = type;
    if (link)
        memcpy(h + 157, link, strnlen(link, 100));
    memcpy(h + 257, "ustar\0" "00", 8);
    tar_seal(h);
    text_add_bytes(t, h, sizeof h);
}

static void tar_data(struct text *t, const char *data, size_t n)
{
    static const char zeros[512];
    text_add_bytes(t, data, n);
    text_add_bytes(t, zeros, (512 - n % 512) % 512);
}

static void tar_file(struct text *t, const char *name, const char *data)
{
    tar_header(t, name, '0', strlen(data), NULL);
    tar_data(t, data, strlen(data));
}

static void tar_end(struct text *t)
{
    static const char zeros[1024];
    text_add_bytes(t, zeros, sizeof zeros);
}

/* The head of an extended header (pax 'x', GNU 'L') with its data. */
static void tar_extended(struct text *t, char type, const char *data, size_t n)
{
    tar_header(t, type == 'L' ? "././@LongLink" : "pax", type, n, NULL);
    tar_data(t, data, n);
}

static struct bundle *accept_tar(const struct text *t)
{
    struct bundle *b = NULL;
    ck_assert_msg(bundle_from_tar(t->s, t->len, NULL, &b, &e) == 0, "%s", e.text);
    return b;
}

static void refuse_tar(struct text *t, const char *why)
{
    struct bundle *b = NULL;
    tar_end(t);
    ck_assert_int_eq(bundle_from_tar(t->s, t->len, NULL, &b, &e), -1);
    ck_assert_ptr_null(b);
    ck_assert_msg(strstr(e.text, why) != NULL, "'%s' instead of '%s'", e.text, why);
    ck_assert(text_is_clean(e.text, strlen(e.text)));
    text_done(*t);
    *t = (struct text){0};
}

static void expect_file(const struct bundle *b, const char *path, const char *data, mode_t mode)
{
    const struct bundle_file *f = bundle_find(b, path);
    ck_assert_msg(f != NULL, "no '%s'", path);
    ck_assert_str_eq(f->data, data);
    ck_assert_uint_eq(f->len, strlen(data));
    ck_assert_uint_eq(f->mode, mode);
}

/* ---- a directory ---- */

static char dir[64];

static void set_up(void)
{
    strcpy(dir, "/tmp/test_archive.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void tear_down(void)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char *at(const char *rel)
{
    static char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, rel);
    return path;
}

static void put(const char *rel, const char *data, mode_t mode)
{
    FILE *f = fopen(at(rel), "w");
    ck_assert_ptr_nonnull(f);
    fputs(data, f);
    fclose(f);
    ck_assert_int_eq(chmod(at(rel), mode), 0);
}

static void put_dir(const char *rel)
{
    ck_assert_int_eq(mkdir(at(rel), 0755), 0);
}

static struct bundle *accept_dir(void)
{
    struct bundle *b = NULL;
    ck_assert_msg(bundle_from_dir(dir, &b, &e) == 0, "%s", e.text);
    return b;
}

static void refuse_dir(const char *why)
{
    struct bundle *b = NULL;
    ck_assert_int_eq(bundle_from_dir(dir, &b, &e), -1);
    ck_assert_ptr_null(b);
    ck_assert_msg(strstr(e.text, why) != NULL, "'%s' instead of '%s'", e.text, why);
}

static void fill_example(void)
{
    put("b.yaml", "name: b\n", 0600);
    put("a.yaml", "", 0644);
    put_dir("scripts");
    put("scripts/base.sh", "#!/bin/sh\n", 0700);
    put("a-b.yaml", "x", 0644);
    put_dir("files");
    put("files/\xc3\xa9t\xc3\xa9", "summer", 0644);
}

START_TEST(test_directory_is_read_sorted)
{
    fill_example();
    OWN(bundle) struct bundle *b = accept_dir();
    static const char *const paths[] = {"a-b.yaml", "a.yaml", "b.yaml", "files/\xc3\xa9t\xc3\xa9", "scripts/base.sh"};
    ck_assert_uint_eq(b->n, ARRAY_LEN(paths));
    for (size_t i = 0; i < b->n; i++)
        ck_assert_str_eq(b->files[i].path, paths[i]);
    expect_file(b, "b.yaml", "name: b\n", 0644);
    expect_file(b, "scripts/base.sh", "#!/bin/sh\n", 0755);
    ck_assert_str_eq(b->base, dir);
    ck_assert_ptr_null(bundle_find(b, "scripts"));
    ck_assert_uint_eq(strlen(b->sha256), 64);
}
END_TEST

START_TEST(test_directories_as_one)
{
    static const struct { const char *dir, *name; } made[] = {
        {"under", "a.yaml"}, {"under", "scripts/base.sh"}, {"over", "b.yaml"}, {"over", "scripts/own.sh"},
        {"one", "a.yaml"}, {"one", "b.yaml"}, {"one", "scripts/base.sh"}, {"one", "scripts/own.sh"}};
    OWN(strv) struct strv dirs = {0};
    OWN(bundle) struct bundle *both = NULL, *one = NULL, *none = NULL;

    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        OWN(str) char *path = text_format("%s/%s", made[i].dir, made[i].name), *scripts = text_format("%s/scripts", made[i].dir);

        if (i == 0 || strcmp(made[i].dir, made[i - 1].dir) != 0) {
            put_dir(made[i].dir);
            put_dir(scripts);
        }
        put(path, made[i].name, 0644);
    }
    strv_addf(&dirs, "%s/under", dir);
    strv_addf(&dirs, "%s/over", dir);
    strv_addf(&dirs, "%s/one", dir);
    ck_assert_int_eq(bundle_from_dirs(dirs.v, 2, &both, NULL), 0);
    ck_assert_int_eq(bundle_from_dirs(dirs.v + 2, 1, &one, NULL), 0);
    ck_assert_str_eq(both->sha256, one->sha256);
    ck_assert_str_eq(both->base, dirs.v[1]);
    ck_assert_int_eq(bundle_from_dirs(dirs.v + 1, 2, &none, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "one: 'b.yaml': is in the bundle twice"));
}
END_TEST

START_TEST(test_dot_files_and_leftovers_are_passed_over)
{
    put("a.yaml", "a", 0644);
    put(".hidden", "h", 0644);
    put("a.yaml~", "h", 0644);
    put("#a.yaml#", "h", 0644);
    put("a.yaml.swp", "h", 0644);
    put_dir(".git");
    put(".git/config", "h", 0644);
    put_dir("scripts");
    put("scripts/.x", "h", 0644);
    ck_assert_int_eq(mkfifo(at(".fifo"), 0644), 0);
    ck_assert_int_eq(symlink("/etc/shadow", at(".link")), 0);
    OWN(bundle) struct bundle *b = accept_dir();
    ck_assert_uint_eq(b->n, 1);
    ck_assert_str_eq(b->files[0].path, "a.yaml");
}
END_TEST

START_TEST(test_links_inside_are_read_through)
{
    put_dir("shared");
    put("shared/lib.sh", "lib", 0644);
    put_dir("scripts");
    ck_assert_int_eq(symlink("../shared/lib.sh", at("scripts/lib.sh")), 0);
    ck_assert_int_eq(symlink("shared", at("common")), 0);
    OWN(bundle) struct bundle *b = accept_dir();
    ck_assert_uint_eq(b->n, 3);
    expect_file(b, "scripts/lib.sh", "lib", 0644);
    expect_file(b, "common/lib.sh", "lib", 0644);
}
END_TEST

START_TEST(test_C1_links_out_of_the_directory_are_refused)
{
    static const char *const targets[] = {"/etc/passwd", "../../etc/passwd", "/", "..", "/proc/self/root/etc/passwd"};
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        ck_assert_int_eq(symlink(targets[i], at("link")), 0);
        refuse_dir("'link': a symbolic link out of the directory; put a copy there instead");
        unlink(at("link"));
    }
    ck_assert_int_eq(symlink("link", at("link")), 0);
    refuse_dir("'link': Too many levels of symbolic links");
    unlink(at("link"));
    ck_assert_int_eq(symlink(".", at("link")), 0);
    refuse_dir("more than 16 levels deep; a symbolic link that leads back up?");
}
END_TEST

START_TEST(test_E3_special_files_are_refused_and_never_block)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    ck_assert_int_eq(mkfifo(at("pipe"), 0644), 0);
    refuse_dir("'pipe': a fifo can't be in a bundle");
    unlink(at("pipe"));
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    strcpy(sun.sun_path, at("sock"));
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof sun), 0);
    refuse_dir("'sock': a socket can't be in a bundle");
}
END_TEST

START_TEST(test_bad_names_in_a_directory)
{
    put("a\nb.yaml", "x", 0644);
    refuse_dir("'a\\x0Ab.yaml': a name must be UTF-8 without control characters");
    unlink(at("a\nb.yaml"));
    put("a\xff.yaml", "x", 0644);
    refuse_dir("'a\\xFF.yaml': a name must be UTF-8");
    unlink(at("a\xff.yaml"));
    struct bundle *b = NULL;
    put("file", "", 0644);
    ck_assert_int_eq(bundle_from_dir(at("file"), &b, &e), -1);
    ck_assert_int_eq(bundle_from_dir(at("nowhere"), &b, &e), -1);
    ck_assert_ptr_null(b);
}
END_TEST

START_TEST(test_depth_at_the_bound_and_past_it)
{
    char path[64] = "d";
    for (int depth = 1; depth < BUNDLE_DEPTH_MAX; depth++) {
        put_dir(path);
        strcat(path, depth == BUNDLE_DEPTH_MAX - 1 ? "/f" : "/d");
    }
    put(path, "deep", 0644);
    bundle_free(accept_dir());
    unlink(at(path));
    put_dir(path);
    strcat(path, "/f");
    put(path, "deep", 0644);
    refuse_dir("more than 16 levels deep");
}
END_TEST

/* ---- there and back ---- */

START_TEST(test_round_trip_is_exact_and_deterministic)
{
    fill_example();
    OWN(bundle) struct bundle *b = accept_dir(), *c = NULL;
    OWN(str) char *tar = NULL, *again = NULL;
    size_t n = 0, m = 0;
    ck_assert_int_eq(bundle_to_tar(b, &tar, &n, &e), 0);
    ck_assert_int_eq(bundle_from_tar(tar, n, "/srv/vms.d", &c, &e), 0);
    ck_assert_str_eq(b->sha256, c->sha256);
    ck_assert_str_eq(c->base, "/srv/vms.d");
    expect_file(c, "scripts/base.sh", "#!/bin/sh\n", 0755);
    expect_file(c, "files/\xc3\xa9t\xc3\xa9", "summer", 0644);
    ck_assert_int_eq(bundle_to_tar(c, &again, &m, &e), 0);
    ck_assert_uint_eq(n, m);
    ck_assert_int_eq(memcmp(tar, again, n), 0);
}
END_TEST

START_TEST(test_round_trip_of_a_single_directory_keeps_it)
{
    put_dir("prod");
    put("prod/a.yaml", "a", 0644);
    OWN(bundle) struct bundle *b = accept_dir(), *c = NULL;
    OWN(str) char *tar = NULL;
    size_t n = 0;
    ck_assert_int_eq(bundle_to_tar(b, &tar, &n, &e), 0);
    ck_assert_int_eq(bundle_from_tar(tar, n, NULL, &c, &e), 0);
    ck_assert_str_eq(c->files[0].path, "prod/a.yaml");
    ck_assert_str_eq(b->sha256, c->sha256);
}
END_TEST

START_TEST(test_round_trip_of_nothing_and_of_long_names)
{
    OWN(bundle) struct bundle *none = accept_dir(), *back = NULL;
    OWN(str) char *tar = NULL;
    size_t n = 0;
    ck_assert_uint_eq(none->n, 0);
    ck_assert_int_eq(bundle_to_tar(none, &tar, &n, &e), 0);
    ck_assert_int_eq(bundle_from_tar(tar, n, NULL, &back, &e), 0);
    ck_assert_str_eq(back->sha256, none->sha256);

    char *data = strdup("x");
    struct bundle_file file = {.path = NULL, .mode = 0644, .data = data, .len = 1};
    struct bundle one = {.files = &file, .n = 1};
    static const size_t lengths[] = {99, 100, 101, 155, 255, 256, BUNDLE_PATH_MAX};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        OWN(str) char *path = malloc(lengths[i] + 1), *t = NULL;
        OWN(bundle) struct bundle *got = NULL;
        memset(path, 'a', lengths[i]);
        path[lengths[i]] = '\0';
        for (size_t k = 50; k + 1 < lengths[i]; k += 51)
            path[k] = '/';
        file.path = path;
        ck_assert_int_eq(bundle_to_tar(&one, &t, &n, &e), 0);
        ck_assert_msg(bundle_from_tar(t, n, NULL, &got, &e) == 0, "%zu: %s", lengths[i], e.text);
        ck_assert_str_eq(got->files[0].path, path);
    }
    free(data);
}
END_TEST

START_TEST(test_hash_knows_path_mode_and_content)
{
    char seen[5][65];
    static const struct { const char *path; mode_t mode; const char *data; } cases[] = {
        {"a", 0644, "bc"}, {"ab", 0644, "c"}, {"a", 0755, "bc"}, {"a", 0644, "bd"}, {"a", 0644, ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        put(cases[i].path, cases[i].data, cases[i].mode);
        OWN(bundle) struct bundle *b = accept_dir();
        strcpy(seen[i], b->sha256);
        unlink(at(cases[i].path));
        for (size_t k = 0; k < i; k++)
            ck_assert_str_ne(seen[i], seen[k]);
    }
}
END_TEST

/* What git archive makes: a pax global header, a top directory, modes 0664 and 0775, mtime of the commit. */
START_TEST(test_git_archive_shape_gives_the_same_hash)
{
    static const char comment[] = "52 comment=0123456789012345678901234567890123456789\n";
    fill_example();
    OWN(bundle) struct bundle *ours = accept_dir();
    OWN(text) struct text t = {0};
    tar_header(&t, "pax_global_header", 'g', sizeof comment - 1, NULL);
    tar_data(&t, comment, sizeof comment - 1);
    tar_header(&t, "vms.d/", '5', 0, NULL);
    tar_file(&t, "vms.d/.gitignore", "*.o\n");
    tar_file(&t, "vms.d/a.yaml", "");
    tar_file(&t, "vms.d/a-b.yaml", "x");
    tar_file(&t, "vms.d/b.yaml", "name: b\n");
    tar_header(&t, "vms.d/files/", '5', 0, NULL);
    tar_file(&t, "vms.d/files/\xc3\xa9t\xc3\xa9", "summer");
    tar_header(&t, "vms.d/scripts/", '5', 0, NULL);
    size_t script = t.len;
    tar_file(&t, "vms.d/scripts/base.sh", "#!/bin/sh\n");
    put_octal(t.s + script + 100, 8, 0775);
    tar_seal(t.s + script);
    tar_end(&t);
    OWN(bundle) struct bundle *git = accept_tar(&t);
    ck_assert_str_eq(git->sha256, ours->sha256);
    ck_assert_ptr_null(git->base);
}
END_TEST

static int run_archive(struct text *out, const char *command)
{
    char chunk[4096];
    FILE *p = popen(command, "r");
    for (size_t n; (n = fread(chunk, 1, sizeof chunk, p)) > 0;)
        text_add_bytes(out, chunk, n);
    return pclose(p);
}

START_TEST(test_tars_of_real_programs_give_the_same_hash)
{
    static const char *const commands[] = {
        ("cd $d && git init -q . >&2 && git add . && git -c user.name=a -c user.email=b commit -qm x && "
         "git archive HEAD"),
        "cd $d && git archive --prefix=vms.d/ HEAD",
        "cd $d && git archive --prefix=vms.d/ --format=tar.gz HEAD",
        "cd $d && tar c --exclude=.git .",
        "cd $d && tar c --format=pax --exclude=.git *",
        "cd $d && tar cz --format=ustar --exclude=.git .",
        "cd $d/.. && tar c --exclude=.git $(basename $d)",
        "cd $d/.. && tar c --exclude=.git ./$(basename $d)",
    };
    fill_example();
    OWN(bundle) struct bundle *ours = accept_dir();
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        OWN(text) struct text t = {0};
        char command[512];
        snprintf(command, sizeof command, "exec 2>/dev/null; d=%s; %s", dir, commands[i]);
        ck_assert_msg(run_archive(&t, command) == 0, "%s", command);
        OWN(bundle) struct bundle *b = accept_tar(&t);
        ck_assert_msg(strcmp(b->sha256, ours->sha256) == 0, "%s", command);
    }
}
END_TEST

/* ---- hostile tars ---- */

START_TEST(test_E1_paths_out_of_the_bundle)
{
    struct text t = {0};
    tar_file(&t, "../x", "x");
    refuse_tar(&t, "'../x': not a plain relative path");
    tar_file(&t, "a/../../x", "x");
    refuse_tar(&t, "not a plain relative path");
    tar_file(&t, "/etc/passwd", "x");
    refuse_tar(&t, "an absolute path can't be in a bundle");
    tar_file(&t, ".//etc/passwd", "x");
    refuse_tar(&t, "an absolute path can't be in a bundle");
    tar_file(&t, "a//b", "x");
    refuse_tar(&t, "not a plain relative path");
    tar_file(&t, "a/./b", "x");
    refuse_tar(&t, "not a plain relative path");
    tar_file(&t, "..", "x");
    refuse_tar(&t, "not a plain relative path");
    tar_header(&t, "a/../", '5', 0, NULL);
    refuse_tar(&t, "not a plain relative path");
    tar_file(&t, "", "x");
    refuse_tar(&t, "an entry of the tar has no name");
}
END_TEST

START_TEST(test_E1_links)
{
    struct text t = {0};
    tar_header(&t, "a", '2', 0, "/etc");
    tar_file(&t, "a/passwd", "x");
    refuse_tar(&t, "'a': a symbolic link can't be in a bundle");
    tar_header(&t, "a", '1', 0, "/etc/shadow");
    refuse_tar(&t, "'a': a hard link can't be in a bundle");
    tar_file(&t, "b", "x");
    tar_header(&t, "a", '1', 0, "b");
    refuse_tar(&t, "'a': a hard link can't be in a bundle");
}
END_TEST

START_TEST(test_E3_devices_and_fifos)
{
    struct text t = {0};
    tar_header(&t, "null", '3', 0, NULL);
    refuse_tar(&t, "'null': a device can't be in a bundle");
    tar_header(&t, "sda", '4', 0, NULL);
    refuse_tar(&t, "'sda': a device can't be in a bundle");
    tar_header(&t, "pipe", '6', 0, NULL);
    refuse_tar(&t, "'pipe': a fifo can't be in a bundle");
}
END_TEST

START_TEST(test_P1_names_with_control_characters)
{
    struct text t = {0};
    tar_file(&t, "a\033[2Jb", "x");
    refuse_tar(&t, "'a\\x1B[2Jb': a name must be UTF-8 without control characters");
    tar_file(&t, "a\nb", "x");
    refuse_tar(&t, "'a\\x0Ab': a name must be");
    tar_file(&t, "a\xe2\x80\xae" "b", "x"); /* bidi */
    refuse_tar(&t, "a name must be");
    tar_file(&t, "a\xff", "x");
    refuse_tar(&t, "'a\\xFF': a name must be");
}
END_TEST

START_TEST(test_E6_duplicates)
{
    struct text t = {0};
    tar_file(&t, "a", "x");
    tar_file(&t, "a", "y");
    refuse_tar(&t, "'a': is in the bundle twice");
    tar_file(&t, "a", "x");
    tar_file(&t, "./a", "y");
    refuse_tar(&t, "'a': is in the bundle twice");
    tar_file(&t, "a", "x");
    tar_file(&t, "a-b", "x"); /* sorts between the two */
    tar_file(&t, "a/b", "y");
    refuse_tar(&t, "'a': is in the bundle as a file and as a directory");
}
END_TEST

START_TEST(test_E6_sizes)
{
    struct text t = {0};
    tar_header(&t, "a", '0', 077777777777, NULL); /* 8 GiB */
    refuse_tar(&t, "'a': with it the bundle has more than 268435456 bytes");
    tar_header(&t, "a", '0', (256u << 20) + 1, NULL);
    refuse_tar(&t, "'a': with it the bundle has more than");
    tar_header(&t, "a", '0', 256u << 20, NULL); /* the bound, but then it isn't there */
    refuse_tar(&t, "tar: Truncated tar archive");

    static const struct { char bytes[12]; } base256[] = {
        {"\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}, /* far more than 2^63 */
        {"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"},       /* 2^63 - 1 */
        {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"}, /* -1 */
        {"\xff\0\0\0\0\0\0\0\0\0\0\0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(base256); i++) {
        tar_header(&t, "a", '0', 1, NULL);
        memcpy(t.s + 124, base256[i].bytes, 12);
        tar_seal(t.s);
        tar_data(&t, "x", 1);
        refuse_tar(&t, i < 2 ? "size overflow" : "negative size");
    }
    tar_extended(&t, 'x', "28 size=9223372036854775807\n", 28);
    tar_file(&t, "a", "x");
    refuse_tar(&t, "overflow");
    tar_extended(&t, 'x', "11 size=-1\n", 11);
    tar_file(&t, "a", "x");
    refuse_tar(&t, "negative");
}
END_TEST

START_TEST(test_E6_pax_names)
{
    OWN(text) struct text t = {0};
    tar_extended(&t, 'x', "12 path=b/c\n", 12);
    tar_file(&t, "a", "x");
    tar_end(&t);
    OWN(bundle) struct bundle *b = accept_tar(&t);
    ck_assert_str_eq(b->files[0].path, "c"); /* b/ is the one top directory */

    struct text bad = {0};
    tar_extended(&bad, 'x', "17 path=../../etc\n", 18);
    tar_file(&bad, "a", "x");
    refuse_tar(&bad, "malformed pax");
    tar_extended(&bad, 'x', "18 path=../../etc\n", 18);
    tar_file(&bad, "a", "x");
    refuse_tar(&bad, "not a plain relative path");
    tar_extended(&bad, 'x', "99999999999 path=a\n", 19);
    tar_file(&bad, "a", "x");
    refuse_tar(&bad, "Rejecting pax");
    tar_extended(&bad, 'x', "12 path=a\xff\xfe\n", 12); /* not UTF-8 */
    tar_file(&bad, "a", "x");
    refuse_tar(&bad, "can't be converted from UTF-8");
    tar_extended(&bad, 'L', "../../../../etc/passwd", 23);
    tar_file(&bad, "a", "x");
    refuse_tar(&bad, "not a plain relative path");
}
END_TEST

START_TEST(test_E6_chain_of_long_links)
{
    struct text t = {0};
    for (int i = 0; i < 100000; i++)
        tar_extended(&t, 'L', "x", 2);
    tar_file(&t, "a", "x");
    refuse_tar(&t, "Too many special headers");
}
END_TEST

START_TEST(test_E4_sparse_files)
{
    struct text t = {0};
    static const char pax[] = "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n22 GNU.sparse.name=ab\n"
                              "43 GNU.sparse.realsize=1152921504606846976\n";
    tar_extended(&t, 'x', pax, sizeof pax - 1);
    tar_header(&t, "a", '0', 512, NULL);
    tar_data(&t, "1\n0\n1\n", 6);
    refuse_tar(&t, "a sparse file can't be in a bundle");
}
END_TEST

START_TEST(test_E4_number_of_files)
{
    OWN(text) struct text t = {0};
    char name[32];
    for (int i = 0; i < BUNDLE_FILES_MAX; i++) {
        snprintf(name, sizeof name, "%05d", i);
        tar_file(&t, name, "");
    }
    size_t full = t.len;
    tar_end(&t);
    OWN(bundle) struct bundle *b = accept_tar(&t);
    ck_assert_uint_eq(b->n, BUNDLE_FILES_MAX);
    t.len = full;
    tar_header(&t, "one-more/", '5', 0, NULL);
    tar_end(&t);
    struct bundle *none = NULL;
    ck_assert_int_eq(bundle_from_tar(t.s, t.len, NULL, &none, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TOO_LARGE);
}
END_TEST

START_TEST(test_E4_long_and_deep_paths)
{
    struct text t = {0};
    char path[65536];
    memset(path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    tar_extended(&t, 'L', path, sizeof path);
    tar_file(&t, "a", "x");
    refuse_tar(&t, "a path is at most 512 bytes long");
    tar_extended(&t, 'L', path, BUNDLE_PATH_MAX); /* one part of more than NAME_MAX */
    tar_file(&t, "a", "x");
    refuse_tar(&t, "not a plain relative path");
    for (size_t i = 1; i < sizeof path - 1; i += 2)
        path[i] = '/';
    path[33] = '\0'; /* 17 parts */
    tar_file(&t, path, "x");
    refuse_tar(&t, "more than 16 levels deep");
    path[31] = '\0'; /* 16 */
    tar_file(&t, path, "x");
    tar_file(&t, "b", "x");
    tar_end(&t);
    bundle_free(accept_tar(&t));
    text_done(t);
}
END_TEST

static la_ssize_t gzip_out(struct archive *a, void *arg, const void *p, size_t n)
{
    (void)a;
    text_add_bytes(arg, p, n);
    return (la_ssize_t)n;
}

START_TEST(test_E4_gzip_bomb)
{
    static char zeros[1 << 20];
    struct text t = {0};
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_write_add_filter_gzip(a);
    archive_write_set_format_gnutar(a);
    archive_write_open(a, &t, NULL, gzip_out, NULL);
    for (int i = 0; i < 6; i++) { /* 6 files of 64 MiB */
        char name[8] = {(char)('a' + i)};
        archive_entry_clear(entry);
        archive_entry_set_pathname(entry, name);
        archive_entry_set_mode(entry, S_IFREG | 0644);
        archive_entry_set_size(entry, 64 << 20);
        archive_write_header(a, entry);
        for (int k = 0; k < 64; k++)
            archive_write_data(a, zeros, sizeof zeros);
    }
    archive_entry_free(entry);
    archive_write_free(a);
    struct bundle *b = NULL;
    ck_assert_uint_lt(t.len, 1 << 20);
    ck_assert_int_eq(bundle_from_tar(t.s, t.len, NULL, &b, &e), -1);
    ck_assert_int_eq(e.code, VM_E_TOO_LARGE);
    text_done(t);
}
END_TEST

START_TEST(test_base_must_be_an_absolute_path)
{
    OWN(text) struct text t = {0};
    struct bundle *b = NULL;
    tar_file(&t, "a", "x");
    tar_end(&t);
    ck_assert_int_eq(bundle_from_tar(t.s, t.len, "relative", &b, &e), -1);
    ck_assert_int_eq(bundle_from_tar(t.s, t.len, "/a\nb", &b, &e), -1);
    ck_assert_int_eq(bundle_from_tar(t.s, t.len, "", &b, &e), -1);
    ck_assert_ptr_null(b);
}
END_TEST

/* ---- damaged tars ---- */

static void small_tar(struct text *t)
{
    static const char long_name[] = "scripts/0123456789012345678901234567890123456789012345678901234567890123456789"
                                    "0123456789012345678901234567890123456789";
    tar_header(t, "./", '5', 0, NULL);
    tar_extended(t, 'x', "15 path=b.yaml\n", 15);
    tar_file(t, "b", "kind: microvm\n");
    tar_extended(t, 'L', long_name, sizeof long_name);
    tar_file(t, "short", "#!/bin/sh\n");
    tar_header(t, "zeros", '0', 2048, NULL);
    static const char zeros[2048];
    tar_data(t, zeros, sizeof zeros);
    tar_file(t, "z", "end");
}

START_TEST(test_E5_truncated_at_every_block)
{
    OWN(text) struct text t = {0};
    struct bundle *b = NULL;
    small_tar(&t);
    size_t content = t.len;
    tar_end(&t);
    t.s[0x200 + 156] = 'x';
    for (size_t n = 0; n <= content; n += 512)
        ck_assert_msg(bundle_from_tar(t.s, n, NULL, &b, &e) == -1, "cut at %zu of %zu", n, content);
    for (size_t n = 0; n <= content; n += 101)
        ck_assert_msg(bundle_from_tar(t.s, n, NULL, &b, &e) == -1, "cut at %zu of %zu", n, content);
    ck_assert_ptr_null(b);
}
END_TEST

static void check_sane(const struct bundle *b)
{
    size_t bytes = 0;
    for (size_t i = 0; i < b->n; i++) {
        const struct bundle_file *f = &b->files[i];
        ck_assert(f->path[0] && f->path[0] != '/' && !strstr(f->path, "..") && !strstr(f->path, "//"));
        ck_assert(text_is_clean(f->path, strlen(f->path)));
        ck_assert(f->mode == 0644 || f->mode == 0755);
        ck_assert_int_eq(f->data[f->len], '\0');
        ck_assert(i == 0 || strcmp(b->files[i - 1].path, f->path) < 0);
        bytes += f->len;
    }
    ck_assert_uint_le(bytes, BUNDLE_BYTES_MAX);
}

START_TEST(test_E5_one_bit_flipped_at_100000_places)
{
    OWN(text) struct text t = {0};
    unsigned accepted = 0, seed = 20261120;
    small_tar(&t);
    tar_end(&t);
    bundle_free(accept_tar(&t));
    for (int i = 0; i < 100000; i++) {
        struct bundle *b = NULL;
        size_t at_byte = (size_t)rand_r(&seed) % t.len;
        char bit = (char)(1 << rand_r(&seed) % 8);
        t.s[at_byte] ^= bit;
        if (bundle_from_tar(t.s, t.len, NULL, &b, &e) == 0) {
            accepted++;
            check_sane(b);
            bundle_free(b);
        } else {
            ck_assert_ptr_null(b);
            ck_assert(e.text[0] && text_is_clean(e.text, strlen(e.text)));
        }
        t.s[at_byte] ^= bit;
    }
    ck_assert_uint_gt(accepted, 0); /* in content or padding: it is no checksum */
    ck_assert_uint_lt(accepted, 90000);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("archive");
    TCase *t = tcase_create("archive");
    tcase_set_timeout(t, 100);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, test_directory_is_read_sorted);
    tcase_add_test(t, test_directories_as_one);
    tcase_add_test(t, test_dot_files_and_leftovers_are_passed_over);
    tcase_add_test(t, test_links_inside_are_read_through);
    tcase_add_test(t, test_C1_links_out_of_the_directory_are_refused);
    tcase_add_test(t, test_E3_special_files_are_refused_and_never_block);
    tcase_add_test(t, test_bad_names_in_a_directory);
    tcase_add_test(t, test_depth_at_the_bound_and_past_it);
    tcase_add_test(t, test_round_trip_is_exact_and_deterministic);
    tcase_add_test(t, test_round_trip_of_a_single_directory_keeps_it);
    tcase_add_test(t, test_round_trip_of_nothing_and_of_long_names);
    tcase_add_test(t, test_hash_knows_path_mode_and_content);
    tcase_add_test(t, test_git_archive_shape_gives_the_same_hash);
    tcase_add_test(t, test_tars_of_real_programs_give_the_same_hash);
    tcase_add_test(t, test_E1_paths_out_of_the_bundle);
    tcase_add_test(t, test_E1_links);
    tcase_add_test(t, test_E3_devices_and_fifos);
    tcase_add_test(t, test_P1_names_with_control_characters);
    tcase_add_test(t, test_E6_duplicates);
    tcase_add_test(t, test_E6_sizes);
    tcase_add_test(t, test_E6_pax_names);
    tcase_add_test(t, test_E6_chain_of_long_links);
    tcase_add_test(t, test_E4_sparse_files);
    tcase_add_test(t, test_E4_number_of_files);
    tcase_add_test(t, test_E4_long_and_deep_paths);
    tcase_add_test(t, test_E4_gzip_bomb);
    tcase_add_test(t, test_base_must_be_an_absolute_path);
    tcase_add_test(t, test_E5_truncated_at_every_block);
    tcase_add_test(t, test_E5_one_bit_flipped_at_100000_places);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? 1 : 0;
}
