#include "model/help.h"

#include <check.h>
#include <string.h>
#include <time.h>

static bool match(const char *pattern, const char *name)
{
    static const char *tags_v[] = {"web", "core", NULL};
    static const struct spec_list tags = {tags_v, 2};
    OWN(strv) struct strv patterns = {0};

    if (pattern)
        strv_add(&patterns, pattern);
    return select_match(&patterns, name, &tags);
}

START_TEST(test_match)
{
    static const struct { const char *pattern, *name; bool yes; } cases[] = {
        {NULL, "db", true}, {"db", "db", true}, {"db", "db2", false}, {"db*", "db2", true}, {"db*", "db", true},
        {"*b*", "abc", true}, {"?b", "db", true}, {"?b", "b", false}, {"*", "", true}, {"", "db", false},
        {"tag:web", "db", true}, {"tag:co*", "db", true}, {"tag:mail", "db", false}, {"*a*b", "xaxxb", true},
        {"*a*b", "xaxxbc", false}, {"[d]b", "db", false}, {"a**b", "ab", true},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++)
        ck_assert_msg(match(cases[i].pattern, cases[i].name) == cases[i].yes, "%s against %s", cases[i].pattern,
                      cases[i].name);
    ck_assert(!select_match(&(struct strv){.v = (char *[]){"tag:x"}, .n = 1}, "a", NULL));
}
END_TEST

START_TEST(test_B7_no_pattern_takes_long)
{
    char pattern[4096], name[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    clock_t start = clock();

    for (size_t i = 0; i < sizeof pattern - 2; i++)
        pattern[i] = i % 2 ? 'a' : '*';
    strcpy(pattern + sizeof pattern - 2, "b");
    ck_assert(!match(pattern, name));
    strcpy(pattern + 40, "b");
    ck_assert(!match(pattern, name));
    ck_assert_int_lt(clock() - start, CLOCKS_PER_SEC / 100);
}
END_TEST

static void check_order(const char *text, const char *expected)
{
    OWN(spec_set) struct spec_set *s = help_set(text);
    OWN(text) struct text is = {0};
    size_t order[16];

    ck_assert_int_eq(plan_order(s->guests, s->n_guests, order), 0);
    for (size_t i = 0; i < s->n_guests; i++)
        text_addf(&is, "%s%s", i ? " " : "", s->guests[order[i]]->name);
    ck_assert_str_eq(is.s, expected);
}

#define GUEST(name, deps) "---\nkind: container\nname: " name "\nimage: i\ndepends_on: [" deps "]\n"

START_TEST(test_order)
{
    check_order(GUEST("a", "") GUEST("b", "") GUEST("c", ""), "a b c");
    check_order(GUEST("a", "c") GUEST("b", "") GUEST("c", ""), "c a b");
    check_order(GUEST("a", "b") GUEST("b", "c") GUEST("c", "d") GUEST("d", ""), "d c b a");
    check_order(GUEST("a", "d,c") GUEST("b", "d") GUEST("c", "d") GUEST("d", ""), "d c a b");
}
END_TEST

/* A circle is an error of the specs; the order still has each guest once. */
START_TEST(test_order_of_a_circle)
{
    OWN(spec_set) struct spec_set *s = help_set(GUEST("a", "b") GUEST("b", "a") GUEST("c", "a"));
    size_t order[3], seen = 0;

    ck_assert_uint_eq(s->n_errors, 1);
    ck_assert_int_eq(plan_order(s->guests, s->n_guests, order), 0);
    for (size_t i = 0; i < 3; i++)
        seen |= 1u << order[i];
    ck_assert_uint_eq(seen, 7);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("select");
    TCase *t = tcase_create("select");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, test_match);
    tcase_add_test(t, test_B7_no_pattern_takes_long);
    tcase_add_test(t, test_order);
    tcase_add_test(t, test_order_of_a_circle);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
