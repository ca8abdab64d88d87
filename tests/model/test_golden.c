/* golden/pass-*.yaml give exactly the .json beside them, golden/fail-*.yaml exactly the .err.
 * UPDATE=1 in the environment writes them anew: read the difference before you commit it. */
#include "model/help.h"

#include <check.h>
#include <glob.h>
#include <string.h>
#include <vmsd/json.h>

static char *result(const struct spec_set *s, bool pass)
{
    OWN(json) json_t *guests = json_array();
    OWN(json) json_t *networks = json_array();
    OWN(str) char *issues = help_issues(s), *text = NULL;

    if (!pass)
        return TAKE(issues);
    for (size_t i = 0; i < s->n_guests; i++)
        json_array_append(guests, s->guests[i]->json);
    for (size_t i = 0; i < s->n_networks; i++)
        json_array_append(networks, s->networks[i]->json);
    OWN(json) json_t *all = json_pack("{s: O, s: O, s: s}", "guests", guests, "networks", networks, "issues", issues);
    if (s->host)
        json_object_set(all, "host", s->host->json);
    text = json_dumps(all, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
    return text_format("%s\n", text);
}

/* What the store keeps gives the same view again. */
static void check_loads(const struct spec_set *s)
{
    struct vm_err e = {0};

    for (size_t i = 0; i < s->n_guests; i++) {
        OWN(str) char *text = json_to_text(s->guests[i]->json), *again = NULL;
        OWN(guest_spec) struct guest_spec *g = NULL;

        ck_assert_msg(!guest_spec_load(text, &g, &e), "%s", e.text);
        again = json_to_text(g->json);
        ck_assert_str_eq(text, again);
        ck_assert_str_eq(g->name, s->guests[i]->name);
        ck_assert_uint_eq(g->memory, s->guests[i]->memory);
        ck_assert_uint_eq(g->n_install, s->guests[i]->n_install);
        ck_assert_uint_eq(g->env.n, s->guests[i]->env.n);
    }
    for (size_t i = 0; i < s->n_networks; i++) {
        OWN(str) char *text = json_to_text(s->networks[i]->json);
        OWN(network_spec) struct network_spec *n = NULL;

        ck_assert_msg(!network_spec_load(text, &n, &e), "%s", e.text);
        ck_assert_str_eq(n->bridge, s->networks[i]->bridge);
        ck_assert_str_eq(n->domain, s->networks[i]->domain);
    }
    if (s->host) {
        OWN(str) char *text = json_to_text(s->host->json), *again = NULL;
        OWN(host_spec) struct host_spec *h = NULL;

        ck_assert_msg(!host_spec_load(text, &h, &e), "%s", e.text);
        again = json_to_text(h->json);
        ck_assert_str_eq(text, again);
        ck_assert_uint_eq(h->n_notify, s->host->n_notify);
    }
}

static void check_one(const char *path)
{
    const char *name = strrchr(path, '/') + 1;
    bool pass = !strncmp(name, "pass-", 5), no_base = strstr(name, "-no-base") != NULL;
    OWN(help_bundle) struct bundle *b = help_bundle(no_base ? NULL : "/srv/vms.d");
    OWN(spec_set) struct spec_set *s = NULL;
    OWN(str) char *expected_path = text_format("%.*s.%s", (int)(strrchr(path, '.') - path), path, pass ? "json" : "err");
    OWN(str) char *is = NULL, *expected = NULL, *data = NULL;
    struct spec_host host = {.memory = 64ull << 30};
    size_t n = 0;

    data = help_read(path, &n);
    help_file(b, name, 0644, data, n);
    help_usual_files(b);
    help_seal(b);
    ck_assert_int_eq(spec_set_read(b, &host, &s, NULL), 0);
    is = result(s, pass);
    if (getenv("UPDATE")) {
        OWN(file) FILE *f = fopen(expected_path, "we");

        fputs(is, f);
    }
    expected = help_read(expected_path, NULL);
    ck_assert_msg(expected && !strcmp(is, expected), "%s gives\n%sexpected\n%s", name, is, expected ? expected : "");
    ck_assert_msg(pass ? !s->n_errors : s->n_issues > 0, "%s: %zu errors", name, s->n_errors);
    if (pass)
        check_loads(s);
}

static void check_all(const char *pattern, size_t at_least)
{
    glob_t found;

    ck_assert_int_eq(glob(pattern, 0, NULL, &found), 0);
    ck_assert_uint_ge(found.gl_pathc, at_least);
    for (size_t i = 0; i < found.gl_pathc; i++)
        check_one(found.gl_pathv[i]);
    globfree(&found);
}

START_TEST(test_pass)
{
    check_all("model/golden/pass-*.yaml", 8);
}
END_TEST

START_TEST(test_fail)
{
    check_all("model/golden/fail-*.yaml", 40);
}
END_TEST

/* The repository's own example is without fault. */
START_TEST(test_example)
{
    OWN(help_bundle) struct bundle *b = help_bundle("/srv/vms.d");
    OWN(spec_set) struct spec_set *s = NULL;
    OWN(str) char *issues = NULL;

    help_tree(b, "../vms.d");
    ck_assert_uint_gt(b->n, 0);
    ck_assert_int_eq(spec_set_read(b, &(struct spec_host){0}, &s, NULL), 0);
    issues = help_issues(s);
    ck_assert_str_eq(issues, "");
    ck_assert_uint_ge(s->n_guests, 3);
    ck_assert_uint_ge(s->n_networks, 1);
    check_loads(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("golden");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, test_pass);
    tcase_add_test(t, test_fail);
    tcase_add_test(t, test_example);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
