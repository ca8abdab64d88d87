/* The table is walked whole: every row is documented, its default and example are valid, the schema has it. And the
 * view: what stands in the struct is what was written, or the default. */
#include "model/help.h"
#include "supervisor/model/read.h"

#include <check.h>
#include <string.h>

static void each_table(void (*fn)(const struct table *t, const char *path), const struct table *t, const char *path)
{
    fn(t, path);
    for (size_t i = 0; i < t->n; i++) {
        char below[200];

        snprintf(below, sizeof below, "%s.%s", path, t->rows[i].key);
        if (t->rows[i].sub)
            each_table(fn, t->rows[i].sub, below);
    }
}

static void check_documented(const struct table *t, const char *path)
{
    ck_assert_ptr_nonnull(t->title);
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->rows[i];

        ck_assert_msg(f->key && f->doc && f->doc[strlen(f->doc) - 1] == '.', "%s.%s: doc", path, f->key);
        ck_assert_msg(!f->word != !f->sub, "%s.%s: a word or a table", path, f->key);
        ck_assert_msg((f->flags & F_DERIVED) || f->example, "%s.%s: example", path, f->key);
        ck_assert_msg(!f->word || f->word->expected || f->choices, "%s.%s: expected", path, f->key);
        ck_assert_msg(!((f->flags & F_NEED) && f->otherwise), "%s.%s: needed with a default", path, f->key);
        if (f->at != NO_MEMBER && t->size)
            ck_assert_msg(f->at + f->size <= t->size, "%s.%s: member outside of its struct", path, f->key);
        for (size_t k = 0; k < i; k++)
            ck_assert_msg(strcmp(t->rows[k].key, f->key) || !(t->rows[k].kinds & f->kinds), "%s.%s: twice", path, f->key);
    }
}

START_TEST(test_documented)
{
    each_table(check_documented, &guest_table, "guest");
    each_table(check_documented, &network_table, "network");
    each_table(check_documented, &host_table, "host");
}
END_TEST

static void check_default(const struct table *t, const char *path)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct field *f = &t->rows[i];
        bool failed = false;
        OWN(json) json_t *v = field_default(f, &failed);

        ck_assert_msg(!failed && !v == !f->otherwise, "%s.%s: its default \"%s\" is none", path, f->key, f->otherwise);
    }
}

START_TEST(test_defaults_are_valid)
{
    each_table(check_default, &guest_table, "guest");
    each_table(check_default, &network_table, "network");
    each_table(check_default, &host_table, "host");
}
END_TEST

/* Every example reads without fault, under its key, in the simplest document that may carry it. */
static void check_example(const struct table *t, const struct field *f, unsigned kind)
{
    OWN(str) char *text = text_format("{%s: %s}\n", f->key, f->example);
    struct issues issues = {0};
    struct arena *a = arena_new();
    struct docs docs = {0};
    struct reader r = {.issues = &issues, .base = "/srv/vms.d", .kind = kind};

    ck_assert_int_eq(yaml_read("example", text, strlen(text), a, &docs, &issues), 0);
    ck_assert_msg(docs.n == 1, "%s", text);
    const struct node *v = node_get(docs.v[0]->root, f->key, NULL);
    struct table only = {.title = t->title, .rows = f, .n = 1, .kind_at = NO_MEMBER};
    r.own = docs.v[0];
    json_decref(read_table(&r, &only, docs.v[0]->root));
    ck_assert_msg(v && !issues.n, "%s gives %s", text, issues.n ? issues.v[0].what : "nothing");
    issues_done(issues);
    free(docs.v);
    arena_free(a);
}

static void check_examples(const struct table *t, const char *path)
{
    (void)path;
    for (size_t i = 0; i < t->n; i++)
        if (!(t->rows[i].flags & F_DERIVED))
            check_example(t, &t->rows[i], t->rows[i].kinds ? t->rows[i].kinds : (unsigned)K_CONTAINER);
}

START_TEST(test_examples_are_valid)
{
    each_table(check_examples, &guest_table, "guest");
    each_table(check_examples, &network_table, "network");
    each_table(check_examples, &host_table, "host");
}
END_TEST

/* In which definition of the schema does a table stand? */
static void check_in_schema(const struct table *t, const char *path)
{
    OWN(json) json_t *schema = spec_schema();
    OWN(str) char *text = json_to_text(json_object_get(schema, "$defs"));

    for (size_t i = 0; i < t->n; i++) {
        OWN(str) char *doc = text_format("%s", t->rows[i].doc);
        OWN(json) json_t *quoted = json_string(doc);
        OWN(str) char *needle = json_dumps(quoted, JSON_ENCODE_ANY);

        if (t->rows[i].flags & F_DERIVED)
            ck_assert_msg(!strstr(text, needle), "%s.%s is in the schema", path, t->rows[i].key);
        else
            ck_assert_msg(strstr(text, needle), "%s.%s is not in the schema", path, t->rows[i].key);
    }
}

START_TEST(test_all_in_schema)
{
    each_table(check_in_schema, &guest_table, "guest");
    each_table(check_in_schema, &network_table, "network");
    each_table(check_in_schema, &host_table, "host");
}
END_TEST

/* Alerts are on without a word; what is told of the host, and by which ways, is as written. */
START_TEST(test_view_of_alerts)
{
    static const char text[] = "{\"kind\":\"host\",\"notify\":[{\"mail\":\"a@b\"},{\"command\":[\"/bin/x\",\"y\"]},{\"webhook_file\":\"/h\"}],"
                               "\"alerts\":{\"full\":80,\"paths\":[{\"path\":\"/srv\",\"growth\":4096}]}}";
    OWN(host_spec) struct host_spec *none = NULL, *h = NULL;
    struct vm_err e = {0};

    ck_assert_int_eq(host_spec_load(NULL, &none, &e), 0);
    ck_assert_uint_eq(none->n_notify, 0);
    ck_assert_uint_eq(none->full, 90);
    ck_assert_uint_eq(none->critical, 95);
    ck_assert(none->drives);
    ck_assert_int_eq(none->recover_ms, 120000);
    ck_assert_msg(host_spec_load(text, &h, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(h->n_notify, 3);
    ck_assert_int_eq(h->notify[0].kind, NOTIFY_MAIL);
    ck_assert_str_eq(h->notify[0].mail, "a@b");
    ck_assert_str_eq(h->notify[0].sendmail, "/usr/sbin/sendmail");
    ck_assert_int_eq(h->notify[1].kind, NOTIFY_COMMAND);
    ck_assert_str_eq(h->notify[1].command.v[1], "y");
    ck_assert_int_eq(h->notify[2].kind, NOTIFY_WEBHOOK_FILE);
    ck_assert_int_eq(h->notify[2].timeout_ms, 30000);
    ck_assert_uint_eq(h->full, 80);
    ck_assert_uint_eq(h->paths[0].growth, 4096);
    ck_assert_uint_eq(h->paths[0].full, 0);
    ck_assert_int_eq(host_spec_load("{\"kind\":\"network\"}", &h, &e), -1);
}
END_TEST

START_TEST(test_view_of_defaults)
{
    OWN(guest_spec) struct guest_spec *g = help_guest("kind: microvm\nname: a\nimage: debian-12\n");

    ck_assert_int_eq(g->kind, KIND_MICROVM);
    ck_assert_int_eq(g->image.kind, IMAGE_RECIPE);
    ck_assert_str_eq(g->image.name, "debian-12");
    ck_assert(g->cpus == 1);
    ck_assert_uint_eq(g->memory, 512ull << 20);
    ck_assert_uint_eq(g->disk, 8ull << 30);
    ck_assert_uint_eq(g->n_nics + g->n_allow + g->n_ports + g->n_volumes + g->n_binds + g->n_files + g->n_health, 0);
    ck_assert_uint_eq(g->env.n, 0);
    ck_assert_ptr_null(g->env.v[0]);
    ck_assert_int_eq(g->restart.policy, RESTART_ALWAYS);
    ck_assert_int_eq(g->restart.backoff_min_ms, 1000);
    ck_assert_int_eq(g->restart.backoff_max_ms, 60000);
    ck_assert_uint_eq(g->restart.give_up, 10);
    ck_assert_int_eq(g->restart.give_up_window_ms, 600000);
    ck_assert_uint_eq(g->limits.pids, 0);
    ck_assert(!g->security.no_new_privileges && !g->security.read_only_root && !g->security.capabilities.n);
    ck_assert(g->autostart);
    ck_assert_int_eq(g->stop_timeout_ms, 30000);
    ck_assert_int_eq(g->boot_timeout_ms, 90000);
    ck_assert_str_eq(g->hypervisor, "auto");
    ck_assert_ptr_null(g->kernel);
}
END_TEST

/* Unless its spec says otherwise; and what is said of something else says nothing of that. */
START_TEST(test_C7_a_container_may_the_least)
{
    static const char *const said[] = {"", "security: {}\n", "security: {capabilities: []}\n", "security: {read_only_root: true}\n"};

    for (size_t i = 0; i < ARRAY_LEN(said); i++) {
        OWN(str) char *text = text_format("kind: container\nname: a\nimage: debian-12\n%s", said[i]);
        OWN(guest_spec) struct guest_spec *g = help_guest(text);

        ck_assert_msg(g->security.no_new_privileges && !g->security.capabilities.n, "'%s'", said[i]);
        ck_assert_uint_eq(g->n_allow + g->n_ports + g->n_binds, 0);
    }
}
END_TEST

START_TEST(test_view_of_lists)
{
    OWN(guest_spec) struct guest_spec *g = help_guest(
        "kind: container\nname: a\nimage: {tar: x.tar, sha256: "
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}\ncpus: 0.25\n"
        "allow: {from: [any, host], tcp: [80, 8000-8010], icmp: true}\n"
        "ports: [{host: \"[::1]:53\", guest: 53, proto: udp}, {host: 80, guest: 8080}]\n"
        "volumes: [{name: a, target: /a}, {name: b, target: /b, type: directory}]\n"
        "binds: {source: x, target: /x, ids: none}\nenv: {B: 2, A: x=y}\n"
        "files: {source: files/site.conf, target: /y, mode: 0755}\n"
        "secrets: {name: s, command: [op, read]}\n"
        "install: [scripts/base.sh, {script: scripts/plain.sh, args: -v, env: {K: v}}]\n"
        "health: [{tcp: 1}, {http: {}}, {http: {port: 8, status: 204}}, {exec: [a, b], numbers: [q, r_*]}, {units: true}]\n");

    ck_assert_int_eq(g->image.kind, IMAGE_TAR);
    ck_assert_str_eq(g->image.name, "/srv/vms.d/x.tar");
    ck_assert(g->cpus == 0.25);
    ck_assert_uint_eq(g->allow[0].from.n, 2);
    ck_assert_uint_eq(g->allow[0].tcp.n, 2);
    ck_assert_uint_eq(g->allow[0].tcp.v[0].hi, 80);
    ck_assert_uint_eq(g->allow[0].tcp.v[1].lo, 8000);
    ck_assert_uint_eq(g->allow[0].tcp.v[1].hi, 8010);
    ck_assert(g->allow[0].icmp);
    ck_assert_str_eq(g->ports[0].address, "::1");
    ck_assert(g->ports[0].host == 53 && g->ports[0].udp && !g->ports[1].udp && !g->ports[1].address);
    ck_assert(!g->volumes[0].directory && g->volumes[1].directory && g->volumes[0].size == 10ull << 30);
    ck_assert_str_eq(g->binds[0].source, "/srv/vms.d/x");
    ck_assert(!g->binds[0].mapped && !g->binds[0].read_only);
    ck_assert_str_eq(g->env.v[0], "A=x=y");
    ck_assert_str_eq(g->env.v[1], "B=2");
    ck_assert_ptr_null(g->env.v[2]);
    ck_assert_uint_eq(g->files[0].mode, 0755);
    ck_assert_str_eq(g->files[0].owner, "root:root");
    ck_assert_str_eq(g->secrets[0].command.v[1], "read");
    ck_assert(!g->secrets[0].file && !g->secrets[0].env);
    ck_assert_uint_eq(g->n_install, 2);
    ck_assert_int_eq(g->install[0].timeout_ms, 1800000);
    ck_assert_str_eq(g->install[1].args.v[0], "-v");
    ck_assert_str_eq(g->install[1].env.v[0], "K=v");
    ck_assert_uint_eq(strlen(g->install[1].digest), 64);
    ck_assert_int_eq(g->health[0].kind, CHECK_TCP);
    ck_assert_uint_eq(g->health[0].port, 1);
    ck_assert_int_eq(g->health[0].every_ms, 10000);
    ck_assert_int_eq(g->health[1].kind, CHECK_HTTP);
    ck_assert(g->health[1].port == 80 && g->health[1].status == 0);
    ck_assert_str_eq(g->health[1].path, "/");
    ck_assert(g->health[2].port == 8 && g->health[2].status == 204);
    ck_assert_int_eq(g->health[3].kind, CHECK_EXEC);
    ck_assert_str_eq(g->health[3].exec.v[1], "b");
    ck_assert_uint_eq(g->health[0].numbers.n, 0);
    ck_assert_uint_eq(g->health[3].numbers.n, 2);
    ck_assert_str_eq(g->health[3].numbers.v[1], "r_*");
    ck_assert_int_eq(g->health[4].kind, CHECK_UNITS);
}
END_TEST

START_TEST(test_bridge_names)
{
    OWN(spec_set) struct spec_set *s = help_set("kind: network\nname: lan\nsubnet: 10.1.0.0/24\n---\n"
                                                "kind: network\nname: elevenchars\nsubnet: 10.2.0.0/24\n---\n"
                                                "kind: network\nname: twelve-chars\nsubnet: 10.3.0.0/24\n");

    ck_assert_uint_eq(s->n_networks, 3);
    ck_assert_str_eq(s->networks[0]->bridge, "vms-elevenchars");
    ck_assert_str_eq(s->networks[1]->bridge, "vms-lan");
    ck_assert_uint_eq(strlen(s->networks[2]->bridge), 15);
    ck_assert_str_ne(s->networks[2]->bridge, "vms-twelve-char");
    ck_assert_str_eq(s->networks[1]->domain, "lan.internal");
    ck_assert(s->networks[1]->nat);
}
END_TEST

/* A record of the store that is damaged, or of another version, is an error and not a crash. */
START_TEST(test_G9_damaged_records)
{
    static const char *const records[] = {
        "", "[]", "{", "{}", "null", "{\"kind\":\"network\",\"name\":\"a\"}", "{\"kind\":\"container\"}",
        "{\"kind\":\"container\",\"name\":1,\"image\":{\"recipe\":\"x\"}}",
        "{\"kind\":\"container\",\"name\":\"a\"}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"memory\":\"1G\"}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"memory\":-5}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"tags\":[1]}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"env\":{\"A\":1}}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"ports\":[{\"host\":70000,\"guest\":1}]}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"volumes\":[{\"name\":\"a\"}]}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"restart\":{\"policy\":\"maybe\"}}",
        "{\"kind\":\"container\",\"name\":\"a\",\"image\":{\"recipe\":\"x\"},\"allow\":[{\"from\":[\"a\"],\"tcp\":[\"5-1\"]}]}",
    };

    for (size_t i = 0; i < ARRAY_LEN(records); i++) {
        OWN(guest_spec) struct guest_spec *g = NULL;
        OWN(network_spec) struct network_spec *n = NULL;
        struct vm_err e = {0};

        ck_assert_msg(guest_spec_load(records[i], &g, &e) < 0 && *e.text, "loads: %s", records[i]);
        ck_assert_msg(network_spec_load(records[i], &n, &e) < 0 && *e.text, "loads: %s", records[i]);
    }
    static const char *const hosts[] = {
        "", "{}", "{\"kind\":\"container\"}", "{\"kind\":\"host\",\"notify\":[{\"mail\":7}]}",
        "{\"kind\":\"host\",\"notify\":[{\"command\":[1]}]}", "{\"kind\":\"host\",\"alerts\":{\"full\":101}}",
        "{\"kind\":\"host\",\"alerts\":{\"full\":\"1%\"}}", "{\"kind\":\"host\",\"alerts\":{\"paths\":[{\"full\":1}]}}",
    };

    for (size_t i = 0; i < ARRAY_LEN(hosts); i++) {
        OWN(host_spec) struct host_spec *h = NULL;
        struct vm_err e = {0};

        ck_assert_msg(host_spec_load(hosts[i], &h, &e) < 0 && *e.text, "loads: %s", hosts[i]);
    }
}
END_TEST

static const char *lookup(const char *name, void *arg)
{
    (void)arg;
    return !strcmp(name, "PORT") ? "80" : NULL;
}

START_TEST(test_template)
{
    static const struct { const char *in, *out; } cases[] = {
        {"", ""}, {"plain", "plain"}, {"a ${PORT} b${PORT}", "a 80 b80"}, {"$$", "$"}, {"$${PORT}", "${PORT}"},
        {"$host $", "$host $"}, {"${PORT", NULL}, {"${}", NULL}, {"${a b}", NULL}, {"x\ny ${NOPE}", NULL},
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        OWN(str) char *out = NULL;
        struct vm_err e = {0};
        int rc = spec_template(cases[i].in, strlen(cases[i].in), lookup, NULL, &out, &e);

        ck_assert_int_eq(rc, cases[i].out ? 0 : -1);
        if (cases[i].out)
            ck_assert_str_eq(out, cases[i].out);
        else
            ck_assert_msg(strstr(e.text, "line "), "%s", e.text);
        if (strstr(cases[i].in, "NOPE"))
            ck_assert_str_eq(e.text, "line 2, column 3: ${NOPE} has no value; write $${ for ${ itself");
    }
}
END_TEST

/* What is written for people can be read again, and means the same. */
START_TEST(test_written_values_read_again)
{
    OWN(guest_spec) struct guest_spec *g = help_guest(
        "kind: container\nname: a\nimage: {tar: /srv/a.tar, sha256: "
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855}\nmemory: 1536M\ncpus: 0.5\ntags: [x, y-1]\n"
        "ports: [{host: \"[::1]:80\", guest: 80}, {host: 8080, guest: 81, proto: udp}]\n"
        "allow: {from: [\"tag:x\", host], tcp: [80, 90-91], icmp: true}\n"
        "env: {A: 'two words, and \"more\": {}', B: '', C: '-', D: 'a: b', E: 'true', F: 12}\n"
        "install: [scripts/base.sh, {script: scripts/base.sh, args: [--x, '#'], timeout: 90s, inputs: files/web}]\n"
        "health: [{exec: [a b], every: 1500ms, start_period: 0s}, {http: {body: 'x, y'}}, {units: true}]\n"
        "volumes: {name: v, target: /v, size: 20G}\nfiles: {source: files/site.conf, target: /etc/s, mode: \"0600\"}\n"
        "restart: {backoff: 250ms..1h, give_up: never}\nlimits: {net: {rx: 1M}}\nstop_timeout: 90s\n");
    OWN(text) struct text again = {0};
    OWN(guest_spec) struct guest_spec *back = NULL;
    const char *key;
    json_t *v;

    json_object_foreach(g->json, key, v) {
        OWN(str) char *said = spec_value_text(key, v);

        text_addf(&again, "%s: %s\n", key, said);
    }
    back = help_guest(again.s);
    ck_assert_msg(json_equal(g->json, back->json), "%s", again.s);
}
END_TEST

START_TEST(test_values_of_fields_by_name)
{
    static const struct {
        const char *field, *json, *text;
    } rows[] = {
        {"memory", "536870912", "512M"},
        {"health[3].every", "90000", "90s"},
        {"health[3].start_period", "0", "0s"},
        {"volumes[a.b].size", "1073741824", "1G"},
        {"files[/etc/x.conf].mode", "\"0600\"", "0600"},
        {"env.MEMORY", "\"two words\"", "two words"},
        {"install[0].env.timeout", "\"5\"", "5"},
        {"restart.backoff", "[1000, 60000]", "1s..1m"},
        {"restart.give_up", "[10, 600000]", "10/10m"},
        {"network", "[{\"name\": \"lab\"}]", "lab"},
        {"network", "[{\"name\": \"a\", \"address\": \"10.0.0.1\"}, {\"name\": \"b\"}]", "[{name: a, address: 10.0.0.1}, b]"},
        {"tags", "[]", "[]"},
        {"secrets[pw]", "{\"digest\": \"00\", \"file\": \"/pw\", \"name\": \"pw\"}", "{name: pw, file: /pw}"},
        {"subnet", "\"10.0.0.0/24\"", "10.0.0.0/24"},
        {"of.another.version", "{\"a\": [1, \"b c\", null]}", "{a: [1, \"b c\", null]}"},
        {"memory", "\"not what it should be\"", "not what it should be"},
        {"health[", "5", "5"},
        {"", "true", "true"},
    };

    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        OWN(json) json_t *v = json_loads(rows[i].json, JSON_DECODE_ANY, NULL);
        OWN(str) char *said = spec_value_text(rows[i].field, v);

        ck_assert_str_eq(said, rows[i].text);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("fields");
    TCase *t = tcase_create("fields");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, test_written_values_read_again);
    tcase_add_test(t, test_values_of_fields_by_name);
    tcase_add_test(t, test_documented);
    tcase_add_test(t, test_defaults_are_valid);
    tcase_add_test(t, test_examples_are_valid);
    tcase_add_test(t, test_all_in_schema);
    tcase_add_test(t, test_view_of_alerts);
    tcase_add_test(t, test_view_of_defaults);
    tcase_add_test(t, test_C7_a_container_may_the_least);
    tcase_add_test(t, test_view_of_lists);
    tcase_add_test(t, test_bridge_names);
    tcase_add_test(t, test_G9_damaged_records);
    tcase_add_test(t, test_template);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
