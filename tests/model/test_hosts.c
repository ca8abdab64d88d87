/* hosts.yaml: what it says, and what is wrong with it. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/hosts.h>

static struct hosts_file *read_text(const char *text)
{
    struct hosts_file *f = NULL;

    ck_assert_int_eq(hosts_file_read("hosts.yaml", text, strlen(text), &f, NULL), 0);
    return f;
}

/* "name ssh|socket specs tags;…", or the first complaint. */
static char *told(const char *text)
{
    OWN(hosts_file) struct hosts_file *f = read_text(text);
    struct text t = {0};

    text_add(&t, "");
    for (size_t i = 0; i < f->n && !f->n_issues; i++) {
        const struct hosts_entry *h = &f->v[i];

        text_addf(&t, "%s%s %s ", i ? "; " : "", h->name, h->ssh ? h->ssh : h->socket);
        for (size_t k = 0; k < h->specs.n; k++)
            text_addf(&t, "%s%s", k ? "+" : "", h->specs.v[k]);
        text_add(&t, h->specs.n ? "" : "-");
        for (size_t k = 0; k < h->tags.n; k++)
            text_addf(&t, " %s", h->tags.v[k]);
    }
    if (f->n_issues) {
        text_done(t);
        return spec_issue_text(&f->issues[0]);
    }
    return text_take(&t);
}

START_TEST(test_reads)
{
    static const struct { const char *text, *want; } cases[] = {
        {"left: root@left.example\nright: ssh://r:2222/x.sock\n", "left root@left.example -; right r:2222/x.sock -"},
        {"left:\nright: {}\nb.example: ~\n", "left left -; right right -; b.example b.example -"},
        {"a: {ssh: u@h, specs: a.d, tags: [edge, web]}\nb: {specs: /srv/b, tags: core}\n", "a u@h a.d edge web; b b /srv/b core"},
        {"{\"here\": {\"socket\": \"/run/vmsd/vmsd.sock\"}}", "here /run/vmsd/vmsd.sock -"},
        {"a: {specs: [common, a.d]}\nb: {specs: []}\n", "a a common+a.d; b b -"},
        {"a: &x {tags: [t]}\nb: *x\n", "a a - t; b b - t"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWN(str) char *got = told(cases[i].text);

        ck_assert_str_eq(got, cases[i].want);
    }
}
END_TEST

START_TEST(test_complains)
{
    static const struct { const char *text, *want; } cases[] = {
        {"", "hosts.yaml: names no host; expected a line for each, as in 'left: root@left.example'"},
        {"- left\n", "hosts.yaml:1:1: the document is a list; expected a map with a name for each host"},
        {"left: h\nleft: i\n", "hosts.yaml:2:1: left: given twice, first in line 1; keep one of them"},
        {"left: h\n---\nright: h\n", "hosts.yaml:3:1: a second document; expected one, with all hosts"},
        {"all: h\n", "hosts.yaml:1:1: all: no name for a host; expected one like 'left' or 'left.example', and not 'all'"},
        {"le*t: h\n", "hosts.yaml:1:1: le*t: no name for a host; expected one like 'left' or 'left.example', and not 'all'"},
        {"left: [h]\n", "hosts.yaml:1:7: left: a list; expected what ssh reaches it by, or a map with it"},
        {"left: 7\n", "hosts.yaml:1:7: ssh: a number; expected a text"},
        {"left: {ssh: ''}\n", "hosts.yaml:1:14: ssh: nothing; expected a text"},
        {"left: {shh: h}\n", "hosts.yaml:1:8: shh: unknown; did you mean 'ssh'?"},
        {"left: {password: h}\n", "hosts.yaml:1:8: password: unknown; expected ssh, socket, specs or tags"},
        {"left: {ssh: h, socket: /s}\n", "hosts.yaml:1:1: left: both ssh and socket; keep one of them"},
        {"left: {socket: s}\n", "hosts.yaml:1:16: socket: s; expected an absolute path on this host"},
        {"left: {tags: [a, [b]]}\n", "hosts.yaml:1:18: tags: a list; expected a text"},
        {"left: {\n", "hosts.yaml:2:1: not YAML: did not find expected node content"},
        {"left: \"a\x1b\"\n",
         "hosts.yaml:1:9: the byte 0x1B: a control character, a direction mark or no UTF-8; expected plain text"},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWN(str) char *got = told(cases[i].text);

        ck_assert_str_eq(got, cases[i].want);
    }
}
END_TEST

static size_t issues_of(size_t n_hosts)
{
    OWN(text) struct text t = {0};
    OWN(hosts_file) struct hosts_file *f = NULL;

    for (size_t i = 0; i < n_hosts; i++)
        text_addf(&t, "h%zu: x\n", i);
    f = read_text(t.s);
    ck_assert_uint_eq(f->n, f->n_issues ? 0 : n_hosts);
    return f->n_issues;
}

START_TEST(test_bound)
{
    ck_assert_uint_eq(issues_of(HOSTS_MAX), 0);
    ck_assert_uint_eq(issues_of(HOSTS_MAX + 1), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hosts");
    TCase *c = tcase_create("hosts.yaml");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(c, test_reads);
    tcase_add_test(c, test_complains);
    tcase_add_test(c, test_bound);
    suite_add_tcase(s, c);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
