/* Specs from an enemy: every bound, at it and one past it; and mutations of good specs, of which none may crash. */
#include "model/help.h"
#include "supervisor/model/node.h"

#include <check.h>
#include <glob.h>
#include <string.h>
#include <time.h>

#define DOC "kind: container\n---\n"
#define HEAD "kind: container\nname: a\nimage: debian-12\n"

static void repeat(struct text *t, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        text_add(t, s);
}

/* Is there a complaint with these words? */
static void check_says(const struct spec_set *s, const char *words)
{
    OWN(str) char *issues = help_issues(s);

    if (words)
        ck_assert_msg(s->n_errors && strstr(issues, words), "\"%s\" is not in: %.500s", words, issues);
    else
        ck_assert_msg(!s->n_errors, "%.500s", issues);
}

static void check_text(struct text *t, const char *words)
{
    OWN(spec_set) struct spec_set *s = help_set(t->s);

    check_says(s, words);
    text_done(*t);
    *t = (struct text){0};
}

START_TEST(test_C8_bounds)
{
    struct text t = {0};

    for (size_t past = 0; past < 2; past++) {
        text_add(&t, HEAD "env: {A: ");
        repeat(&t, "x", STRING_MAX + past);
        text_add(&t, "}\n");
        check_text(&t, past ? "a string of 4097 bytes; expected at most 4096" : NULL);

        text_add(&t, HEAD "tags:\n");
        repeat(&t, "  - x\n", 64 + past);
        check_text(&t, past ? "65 items; expected at most 64" : NULL);

        text_add(&t, HEAD "env:\n");
        for (unsigned i = 0; i < 256 + past; i++)
            text_addf(&t, "  V%u: x\n", i);
        check_text(&t, past ? "257 variables; expected at most 256" : NULL);

        text_add(&t, HEAD "# ");
        repeat(&t, "x", SPEC_FILE_MAX - t.len - 1 + past);
        text_add(&t, "\n");
        check_text(&t, past ? "1048577 bytes; expected at most 1048576" : NULL);

        text_add(&t, HEAD "name_of_nothing: ");
        repeat(&t, "[", SPEC_DEPTH_MAX - 1 + past);
        repeat(&t, "]", SPEC_DEPTH_MAX - 1 + past);
        check_text(&t, past ? "nested deeper than 16 levels" : "unknown field");
    }
    text_add(&t, HEAD "x: [");
    repeat(&t, "1,", NODES_MAX);
    text_add(&t, "1]\n");
    check_text(&t, "more than 32768 values");
    text_add(&t, HEAD "x: {");
    for (unsigned i = 0; i <= ANCHORS_MAX; i++)
        text_addf(&t, "k%u: &a%u 1,", i, i);
    text_add(&t, "}\n");
    check_text(&t, "more than 64 anchors");
    text_add(&t, HEAD);
    for (unsigned i = 0; i < 2000; i++)
        text_addf(&t, "zzzzzz%u: 1\n", i);
    check_text(&t, "1500 more complaints are left out");
}
END_TEST

/* A megabyte takes some 10 ms; what grows with the square of it would take minutes. Wide, for busy machines and
 * sanitizers. */
enum { TOO_LONG = 2 * CLOCKS_PER_SEC };

START_TEST(test_C8_takes_no_time)
{
    static const char *const repeated[] = {"[", "{a: ", "- ", "a: &a [*a]\n", "? ", "*x ", "&x ", "---\n", DOC,
                                           "\"", "a,", "[]", "{}", "!x ", "%YAML 1.2\n", ": ", "\t", "\n", "'", "|\n ", "#"};

    for (size_t i = 0; i < 2 * ARRAY_LEN(repeated); i++) {
        const char *one = repeated[i / 2];
        struct text t = {0};
        clock_t start;

        repeat(&t, one, 1000000 / strlen(one));
        text_add(&t, i % 2 ? "\xe4" : ""); /* what is wrong may be the last byte */
        start = clock();
        spec_set_free(help_set(t.s));
        ck_assert_msg(clock() - start < TOO_LONG, "\"%s\" many times takes %ld ms", one,
                      (long)((clock() - start) * 1000 / CLOCKS_PER_SEC));
        text_done(t);
    }
}
END_TEST

/* A directory of ten thousand files, a thousand times. */
START_TEST(test_C8_inputs_for_all)
{
    for (unsigned past = 0; past < 2; past++) {
        OWN(help_bundle) struct bundle *b = help_bundle(NULL);
        OWN(spec_set) struct spec_set *s = NULL;
        OWN(text) struct text t = {0};
        struct vm_err e = {0};
        char path[32];

        for (unsigned i = 0; i < 10000; i++) {
            snprintf(path, sizeof path, "lib/%04u", i);
            help_text(b, path, "");
        }
        text_add(&t, HEAD "install:\n");
        for (unsigned i = 0; i < 4; i++) {
            text_add(&t, "  - script: scripts/base.sh\n    inputs: [");
            repeat(&t, "lib,", 250 + (i == 3 ? past : 0));
            text_add(&t, "]\n");
        }
        help_text(b, "a.yaml", t.s);
        help_usual_files(b);
        help_seal(b);
        ck_assert_int_eq(spec_set_read(b, NULL, &s, &e), 0);
        check_says(s, past ? "install[3].inputs[250]: the scripts of all guests have more than 10000000 files as inputs" : NULL);
    }
}
END_TEST

/* A template of four megabytes, for five thousand files. */
START_TEST(test_C8_templates_for_all)
{
    OWN(help_bundle) struct bundle *b = help_bundle(NULL);
    OWN(spec_set) struct spec_set *s = NULL;
    OWN(text) struct text t = {0}, dollars = {0};
    struct vm_err e = {0};
    clock_t start;

    repeat(&dollars, "$$", 2000000);
    for (unsigned i = 0; i < 20; i++) {
        text_addf(&t, "---\nkind: container\nname: g%u\nimage: i\nfiles:\n", i);
        for (unsigned k = 0; k < 256; k++)
            text_addf(&t, "  - {source: big, target: /f%u, template: true}\n", k);
    }
    help_file(b, "big", 0644, dollars.s, dollars.len);
    help_text(b, "a.yaml", t.s);
    help_seal(b);
    start = clock();
    ck_assert_int_eq(spec_set_read(b, NULL, &s, &e), 0);
    check_says(s, NULL);
    ck_assert_int_lt(clock() - start, TOO_LONG);
}
END_TEST

/* Thirty thousand names that are not there, and three hundred that each of them may be meant for. */
START_TEST(test_C8_hints_for_all)
{
    struct text t = {0};
    clock_t start;

    for (unsigned i = 0; i < 300; i++) {
        text_addf(&t, "---\nkind: container\nname: a%03uyyyyyyyyyyyyyyyyyyyyyyyyyyyy\nimage: i\ndepends_on: [", i);
        for (unsigned k = 0; k < 100; k++)
            text_addf(&t, "b%03uxxxxxxxxxxxxxxxxxxxxxxxxxxx,", k);
        text_add(&t, "]\n");
    }
    start = clock();
    check_text(&t, "29500 more complaints are left out");
    ck_assert_int_lt(clock() - start, TOO_LONG);
}
END_TEST

/* Each is merged with each guest: what both of them are many of would take all memory of the host. */
START_TEST(test_C8_defaults_for_all)
{
    for (unsigned n = 1000; n <= 3000; n += 2000) {
        OWN(help_bundle) struct bundle *b = help_bundle(NULL);
        OWN(spec_set) struct spec_set *s = NULL;
        OWN(text) struct text t = {0};
        struct vm_err e = {0};

        repeat(&t, "kind: defaults\n---\n", n);
        for (unsigned i = 0; i < n; i++)
            text_addf(&t, "kind: container\nname: g%u\nimage: i\n---\n", i);
        help_text(b, "a.yaml", t.s);
        help_seal(b);
        if (n == 1000)
            ck_assert_int_eq(spec_set_read(b, NULL, &s, &e), 0);
        else
            ck_assert_int_eq(spec_set_read(b, NULL, &s, &e), -1);
        ck_assert_int_eq(e.code, n == 1000 ? VM_E_OK : VM_E_TOO_LARGE);
    }
}
END_TEST

START_TEST(test_C8_a_chain_of_all_guests)
{
    struct text t = {0};
    OWN(spec_set) struct spec_set *s = NULL;

    for (unsigned i = 0; i < 3000; i++)
        text_addf(&t, "---\nkind: container\nname: g%u\nimage: i\ndepends_on: [g%u]\n", i, (i + 1) % 3000);
    s = help_set(t.s);
    check_says(s, "a circle: ");
    ck_assert_uint_eq(s->n_errors, 1);
    text_done(t);
}
END_TEST

static uint64_t seed;

static uint32_t any(uint32_t below)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(seed >> 33) % below;
}

/* Changes, takes out, doubles or brings in something, a few times. */
static void mutate(struct text *t)
{
    static const char *const words[] = {"{", "}", "[", "]", ":", ": ", ",", "\n", "- ", "&a ", "*a", "\"", "'", "---\n", "~",
                                        "null", "-1", "0", "99999999999999999999", "\xff", "\xe2\x80\xae", "\x1b", "|\n",
                                        "<<: ", "!!int ", "? ", "#", "..", "/", "tag:", "1e400", "\\u0000"};

    for (unsigned n = 1 + any(6); n && t->len; n--) {
        size_t at = any((uint32_t)t->len), length = any(12);
        const char *word = words[any(ARRAY_LEN(words))];

        if (length > t->len - at)
            length = t->len - at;
        switch (any(4)) {
        case 0: /* a byte */
            t->s[at] = (char)any(256);
            break;
        case 1: /* out */
            memmove(t->s + at, t->s + at + length, t->len - at - length);
            t->len -= length;
            break;
        case 2: /* a word in */
            text_add(t, word);
            memmove(t->s + at + strlen(word), t->s + at, t->len - at - strlen(word));
            memcpy(t->s + at, word, strlen(word));
            break;
        case 3: /* from elsewhere */
            memmove(t->s + at, t->s + any((uint32_t)(t->len - length + 1)), length);
            break;
        }
    }
}

START_TEST(test_mutations)
{
    const char *given = getenv("SEED");
    unsigned rounds = getenv("ROUNDS") ? (unsigned)atoi(getenv("ROUNDS")) : 3000;
    uint64_t first = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL);
    glob_t found;

    printf("SEED=%llu\n", (unsigned long long)first);
    fflush(stdout);
    ck_assert_int_eq(glob("model/golden/*.yaml", 0, NULL, &found), 0);
    seed = first;
    for (unsigned i = 0; i < rounds; i++) {
        OWN(help_bundle) struct bundle *b = help_bundle(any(4) ? "/srv/vms.d" : NULL);
        OWN(spec_set) struct spec_set *s = NULL;
        struct text t = {0};
        size_t n;
        OWN(str) char *text = help_read(found.gl_pathv[any((uint32_t)found.gl_pathc)], &n);

        text_add_bytes(&t, text, n);
        mutate(&t);
        help_file(b, "a.yaml", 0644, t.s ? t.s : "", t.len);
        help_usual_files(b);
        help_seal(b);
        ck_assert_int_eq(spec_set_read(b, NULL, &s, NULL), 0);
        for (size_t k = 0; k < s->n_issues; k++)
            ck_assert_msg(text_is_clean(s->issues[k].what, strlen(s->issues[k].what)), "issue %zu", k);
        text_done(t);
    }
    globfree(&found);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hostile");
    TCase *t = tcase_create("hostile");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_set_timeout(t, 100);
    tcase_add_test(t, test_C8_bounds);
    tcase_add_test(t, test_C8_takes_no_time);
    tcase_add_test(t, test_C8_inputs_for_all);
    tcase_add_test(t, test_C8_templates_for_all);
    tcase_add_test(t, test_C8_hints_for_all);
    tcase_add_test(t, test_C8_defaults_for_all);
    tcase_add_test(t, test_C8_a_chain_of_all_guests);
    tcase_add_test(t, test_mutations);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
