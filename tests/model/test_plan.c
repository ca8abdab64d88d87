/* What a change costs: each class, the scripts that run again, what is refused. */
#include "model/help.h"

#include <check.h>
#include <string.h>
#include <vmsd/json.h>

#define HEAD "kind: container\nname: a\nimage: debian-12\n"
#define VM "kind: microvm\nname: a\nimage: debian-12\n"
#define RO "security: {read_only_root: true}\n"
#define FILES "files: {source: files/site.conf, target: /f}\n"

/* From what one text says, with so many scripts done (-1: all), to what another says. */
static struct plan_change *plan(const char *from, int done, const char *to)
{
    OWN(guest_spec) struct guest_spec *was = from ? help_guest(from) : NULL;
    OWN(guest_spec) struct guest_spec *want = to ? help_guest(to) : NULL;
    OWN(str) char *applied = was ? json_to_text(was->json) : NULL;
    struct plan_actual have = {.name = "a", .applied = applied};
    struct plan_change *c = NULL;
    struct vm_err e = {0};

    have.scripts_done = was ? (done < 0 ? was->n_install : (size_t)done) : 0;
    ck_assert_msg(!plan_guest(&have, want, &c, &e), "%s", e.text);
    return c;
}

/* "live: memory 268435456 -> 536870912; …", then the scripts that will run. */
static char *told(const struct plan_change *c)
{
    struct text t = {0};

    text_addf(&t, "%s:", plan_class_name(c->class));
    for (size_t i = 0; i < c->n_fields; i++)
        text_addf(&t, " %s %s -> %s (%s);", c->fields[i].field, c->fields[i].from ? c->fields[i].from : "-",
                  c->fields[i].to ? c->fields[i].to : "-", plan_class_name(c->fields[i].class));
    for (size_t i = c->first_script; i < c->scripts.n; i++)
        text_addf(&t, " run %s;", c->scripts.v[i]);
    if (c->error)
        text_addf(&t, " error %s;", c->error);
    return text_take(&t);
}

static void check_plan(const char *from, int done, const char *to, const char *expected)
{
    OWN(plan_change) struct plan_change *c = plan(from, done, to);
    OWN(str) char *is = told(c);

    ck_assert_str_eq(is, expected);
    ck_assert(c->downtime == (c->class == PLAN_RESTART || c->class == PLAN_REBUILD || c->class == PLAN_REMOVE));
    ck_assert(c->destroys_data == (c->class == PLAN_REBUILD || c->class == PLAN_REMOVE));
}

START_TEST(test_classes)
{
    check_plan(HEAD, -1, HEAD, "none:");
    check_plan(NULL, 0, HEAD, "create:");
    check_plan(HEAD, -1, NULL, "remove:");
    check_plan(HEAD, -1, HEAD "memory: 512M\nautostart: true\n", "none:");
    check_plan(HEAD, -1, HEAD "memory: 1G\n", "live: memory 536870912 -> 1073741824 (live);");
    check_plan(VM, -1, VM "memory: 1G\n", "restart: memory 536870912 -> 1073741824 (restart);");
    check_plan(HEAD, -1, HEAD "cpus: 0.5\n", "live: cpus 1 -> 0.5 (live);");
    check_plan(VM, -1, VM "cpus: 2\n", "restart: cpus 1 -> 2 (restart);");
    check_plan(HEAD, -1, HEAD "disk: 9G\n", "restart: disk 8589934592 -> 9663676416 (restart);");
    check_plan(HEAD, -1, HEAD "tags: [x]\nlimits: {pids: 99}\n",
               "live: tags - -> [\"x\"] (live); limits.pids - -> 99 (live);");
    check_plan(HEAD "restart: {policy: no}\n", -1, HEAD, "live: restart.policy \"no\" -> \"always\" (live);");
    check_plan(HEAD "env: {A: 1, B: 2}\n", -1, HEAD "env: {A: 1, B: 3, C: 4}\n",
               "live: env.B \"2\" -> \"3\" (live); env.C - -> \"4\" (live);");
    check_plan(HEAD "security: {read_only_root: true}\n", -1, HEAD,
               "restart: security.read_only_root true -> false (restart);");
    check_plan(HEAD RO, -1, HEAD RO "env: {A: 1}\n", "live: env.A - -> \"1\" (live);");
    check_plan(HEAD RO "tags: [x]\n" FILES, -1, HEAD RO FILES, "live: tags [\"x\"] -> - (live);");
    check_plan(HEAD RO FILES, -1, HEAD RO FILES "env: {A: 1}\n", "restart: env.A - -> \"1\" (live);");
    check_plan(HEAD, -1, "kind: container\nname: a\nimage: debian-13\n",
               "rebuild: image {\"recipe\":\"debian-12\"} -> {\"recipe\":\"debian-13\"} (rebuild);");
    check_plan(HEAD, -1, VM, "rebuild: kind \"container\" -> \"microvm\" (rebuild);");
    check_plan(VM, -1, VM "hypervisor: qemu\n", "rebuild: hypervisor \"auto\" -> \"qemu\" (rebuild);");
    check_plan(VM, -1, VM "cmdline: quiet\n", "restart: cmdline - -> \"quiet\" (restart);");
}
END_TEST

/* A microVM's disks grow while it runs; its cpus and memory change so where what runs it can do that. */
START_TEST(test_microvm)
{
    OWN(guest_spec) struct guest_spec *was = help_guest(VM), *want = help_guest(VM "cpus: 2\nmemory: 1G\n");
    OWN(str) char *applied = json_to_text(was->json);
    OWN(plan_change) struct plan_change *c = NULL;
    OWN(str) char *is = NULL;
    struct plan_actual have = {.name = "a", .applied = applied, .resizes = true};

    check_plan(VM, -1, VM "disk: 9G\n", "live: disk 8589934592 -> 9663676416 (live);");
    check_plan(VM, -1, VM "disk: 1G\n",
               "live: disk 8589934592 -> 1073741824 (live); error disk: cannot shrink from 8.0G to 1.0G; write 8.0G or more;");
    check_plan(VM "volumes: [{name: v, target: /v}]\n", -1, VM "volumes: [{name: v, target: /v, size: 20G}]\n",
               "live: volumes[v].size 10737418240 -> 21474836480 (live);");
    ck_assert_int_eq(plan_guest(&have, want, &c, NULL), 0);
    is = told(c);
    ck_assert_str_eq(is, "live: cpus 1 -> 2 (live); memory 536870912 -> 1073741824 (live);");
}
END_TEST

START_TEST(test_lists)
{
    check_plan(HEAD "health: [{tcp: 1}, {tcp: 2, every: 5s}]\n", -1, HEAD "health: [{tcp: 1}, {tcp: 2}, {units: true}]\n",
               "live: health[1].every 5000 -> 10000 (live); health[2] - -> {\"units\":true} (live);");
    check_plan(HEAD "volumes: [{name: x, target: /x}]\n", -1,
               HEAD "volumes: [{name: y, target: /y}, {name: x, target: /x, size: 20G}]\n",
               "restart: volumes[x].size 10737418240 -> 21474836480 (live); "
               "volumes[y] - -> {\"name\":\"y\",\"target\":\"/y\"} (restart);");
    check_plan(HEAD "volumes: [{name: x, target: /x}]\n", -1, HEAD "volumes: [{name: x, target: /x, size: 20G}]\n",
               "live: volumes[x].size 10737418240 -> 21474836480 (live);");
    check_plan(HEAD "volumes: [{name: x, target: /x}, {name: y, target: /y}]\n", -1,
               HEAD "volumes: [{name: y, target: /y}, {name: x, target: /x}]\n", "none:");
    check_plan(HEAD "binds: {source: /srv/a, target: /x}\n", -1, HEAD "binds: {source: /srv/b, target: /x}\n",
               "restart: binds[/x].source \"/srv/a\" -> \"/srv/b\" (restart);");
}
END_TEST

START_TEST(test_refused)
{
    check_plan(HEAD "disk: 9G\n", -1, HEAD,
               "restart: disk 9663676416 -> 8589934592 (restart); error disk: cannot shrink from 9.0G to 8.0G; write 9.0G or "
               "more;");
    check_plan(HEAD "volumes: [{name: x, target: /x}]\n", -1, HEAD "volumes: [{name: x, target: /x, size: 1G}]\n",
               "live: volumes[x].size 10737418240 -> 1073741824 (live); error volumes[x].size: cannot shrink from 10G to "
               "1.0G; write 10G or more;");
    check_plan(HEAD "volumes: [{name: x, target: /x}]\n", -1, HEAD "volumes: [{name: x, target: /x, type: directory}]\n",
               "restart: volumes[x].type \"disk\" -> \"directory\" (restart); error volumes[x].type: cannot change from disk "
               "to directory while it holds data; give it another name;");
    check_plan(HEAD "disk: 9G\n", -1, "kind: container\nname: a\nimage: other\n", /* a new root may be smaller */
               "rebuild: image {\"recipe\":\"debian-12\"} -> {\"recipe\":\"other\"} (rebuild); disk 9663676416 -> 8589934592 "
               "(restart);");
}
END_TEST

/* The scripts of a plan alone: which run. */
static void check_scripts(const char *from, int done, const char *to, enum plan_class class, const char *expected)
{
    OWN(plan_change) struct plan_change *c = plan(from, done, to);
    OWN(text) struct text is = {0};

    text_add(&is, "");
    for (size_t i = c->first_script; i < c->scripts.n; i++)
        text_addf(&is, "%s%s", i > c->first_script ? " " : "", c->scripts.v[i]);
    ck_assert_msg(!strcmp(is.s, expected), "runs \"%s\", not \"%s\"", is.s, expected);
    ck_assert_msg(c->class == class, "%s", plan_class_name(c->class));
}

#define B "scripts/base.sh"
#define P "scripts/plain.sh"
#define INSTALL(list) HEAD "install: " list "\n"

START_TEST(test_scripts)
{
    const char *both = INSTALL("[" B ", " P "]");

    check_scripts(NULL, 0, both, PLAN_CREATE, B " " P);
    check_scripts(both, 2, both, PLAN_NONE, "");
    check_scripts(both, 1, both, PLAN_SCRIPTS, P); /* the second one failed */
    check_scripts(both, 0, both, PLAN_SCRIPTS, B " " P);
    check_scripts(both, 2, INSTALL("[" B ", {script: " P ", args: x}]"), PLAN_SCRIPTS, P);
    check_scripts(both, 2, INSTALL("[{script: " B ", env: {A: b}}, " P "]"), PLAN_SCRIPTS, B " " P);
    check_scripts(both, 2, INSTALL("[" B ", {script: " P ", user: git}]"), PLAN_SCRIPTS, P);
    check_scripts(both, 2, INSTALL("[" B ", {script: " P ", inputs: files/web}]"), PLAN_SCRIPTS, P);
    check_scripts(both, 2, INSTALL("[" B ", {script: " P ", timeout: 1m}]"), PLAN_LIVE, "");
    check_scripts(both, 2, INSTALL("[" P ", " B "]"), PLAN_SCRIPTS, P " " B);
    check_scripts(both, 2, INSTALL("[" B "]"), PLAN_LIVE, "");
    check_scripts(both, 1, INSTALL("[" B "]"), PLAN_LIVE, "");
    check_scripts(both, 2, INSTALL("[" P "]"), PLAN_SCRIPTS, P);
    check_scripts(INSTALL("[" B "]"), 1, both, PLAN_SCRIPTS, P);
    check_scripts(INSTALL("[" B "]"), 1, INSTALL("[" B "]\nenv: {A: b}"), PLAN_SCRIPTS, B); /* scripts see it */
    check_scripts(both, 2, "kind: container\nname: a\nimage: other\ninstall: [" B ", " P "]\n", PLAN_REBUILD, B " " P);
}
END_TEST

/* Digests of a chain change from the changed script on; that is told once. */
START_TEST(test_digest_is_told_once)
{
    OWN(plan_change) struct plan_change *c =
        plan(INSTALL("[" B ", " P ", " P "]"), -1, INSTALL("[{script: " B ", args: x}, " P ", " P "]"));

    ck_assert_uint_eq(c->n_fields, 2);
    ck_assert_str_eq(c->fields[0].field, "install[0].args");
    ck_assert_str_eq(c->fields[1].field, "install[0].digest");
}
END_TEST

static char *digests_with(const char *script, const char *input, mode_t mode)
{
    OWN(help_bundle) struct bundle *b = help_bundle(NULL);
    OWN(spec_set) struct spec_set *s = NULL;

    help_text(b, "a.yaml", HEAD "install: {script: s.sh, inputs: in}\nfiles: {source: f, target: /f}\n");
    help_file(b, "s.sh", mode, script, strlen(script));
    help_text(b, "in/put", input);
    help_text(b, "f", input);
    help_seal(b);
    ck_assert_int_eq(spec_set_read(b, NULL, &s, NULL), 0);
    ck_assert_uint_eq(s->n_errors, 0);
    return json_to_text(s->guests[0]->json);
}

START_TEST(test_content_counts)
{
    OWN(str) char *one = digests_with("#!a", "x", 0755), *same = digests_with("#!a", "x", 0644);
    OWN(str) char *script = digests_with("#!b", "x", 0755), *input = digests_with("#!a", "y", 0755);

    ck_assert_str_eq(one, same); /* the mode does not */
    ck_assert_str_ne(one, script);
    ck_assert_str_ne(one, input);
    ck_assert_str_ne(script, input);
}
END_TEST

/* A change of the host costs no guest anything. */
START_TEST(test_host)
{
    OWN(host_spec) struct host_spec *want = NULL;
    OWN(plan_change) struct plan_change *c = NULL, *fresh = NULL, *gone = NULL;
    OWN(str) char *shown = NULL;

    ck_assert_int_eq(host_spec_load("{\"alerts\":{\"full\":80},\"kind\":\"host\"}", &want, NULL), 0);
    ck_assert_int_eq(plan_host("{\"kind\":\"host\"}", want, &c, NULL), 0);
    ck_assert_str_eq(c->guest, "the host");
    ck_assert_int_eq(c->class, PLAN_LIVE);
    ck_assert_uint_eq(c->n_fields, 1);
    ck_assert_str_eq(c->fields[0].field, "alerts.full");
    ck_assert(!c->downtime && !c->destroys_data);
    shown = spec_value_text(c->fields[0].field, json_object_get(json_object_get(want->json, "alerts"), "full"));
    ck_assert_str_eq(shown, "80%");
    ck_assert_int_eq(plan_host(NULL, want, &fresh, NULL), 0);
    ck_assert_int_eq(fresh->class, PLAN_CREATE);
    ck_assert_int_eq(plan_host("{\"kind\":\"host\"}", NULL, &gone, NULL), 0);
    ck_assert_int_eq(gone->class, PLAN_REMOVE);
    ck_assert(!gone->downtime && !gone->destroys_data);
}
END_TEST

START_TEST(test_networks)
{
    OWN(spec_set) struct spec_set *was = help_set("kind: network\nname: lan\nsubnet: 10.1.0.0/24\n");
    OWN(spec_set) struct spec_set *want = help_set("kind: network\nname: lan\nsubnet: 10.2.0.0/24\nnat: false\n");
    OWN(str) char *applied = json_to_text(was->networks[0]->json);
    struct plan_actual have = {.name = "lan", .applied = applied, .network = true};
    OWN(plan_change) struct plan_change *c = NULL, *gone = NULL, *fresh = NULL;
    OWN(str) char *text = NULL;

    ck_assert_int_eq(plan_network(&have, want->networks[0], &c, NULL), 0);
    text = told(c);
    ck_assert_str_eq(text, "restart: subnet \"10.1.0.0/24\" -> \"10.2.0.0/24\" (restart); nat true -> false (live);");
    ck_assert_str_eq(c->guest, "network lan");
    ck_assert(c->network && c->downtime && !c->destroys_data);
    ck_assert_int_eq(plan_network(&have, NULL, &gone, NULL), 0);
    ck_assert(gone->class == PLAN_REMOVE && !gone->destroys_data);
    have.applied = NULL;
    ck_assert_int_eq(plan_network(&have, want->networks[0], &fresh, NULL), 0);
    ck_assert_int_eq(fresh->class, PLAN_CREATE);
}
END_TEST

START_TEST(test_json)
{
    OWN(plan_change) struct plan_change *c = plan(INSTALL("[" B "]"), 0, INSTALL("[" B "]\nmemory: 1G"));
    OWN(json) json_t *v = plan_change_json(c);
    OWN(str) char *text = json_to_text(v);

    ck_assert_str_eq(text, "{\"class\":\"scripts\",\"destroys_data\":false,\"downtime\":false,\"error\":null,\"fields\":[{"
                           "\"class\":\"live\",\"field\":\"memory\",\"from\":536870912,\"to\":1073741824}],\"guest\":\"a\","
                           "\"scripts\":[\"scripts/base.sh\"]}");
}
END_TEST

START_TEST(test_G9_damaged_record)
{
    OWN(guest_spec) struct guest_spec *want = help_guest(HEAD);
    struct plan_actual have = {.name = "a", .applied = "{\"kind\": 5, \"volumes\": [1, {}], \"env\": []}"};
    OWN(plan_change) struct plan_change *c = NULL, *none = NULL;
    struct vm_err e = {0};

    ck_assert_int_eq(plan_guest(&have, want, &c, &e), 0);
    ck_assert_int_eq(c->class, PLAN_REBUILD);
    have.applied = "{";
    ck_assert_int_eq(plan_guest(&have, want, &none, &e), -1);
    ck_assert_msg(strstr(e.text, "applied to a"), "%s", e.text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plan");
    TCase *t = tcase_create("plan");
    SRunner *r = srunner_create(s);
    int failed;

    tcase_add_test(t, test_classes);
    tcase_add_test(t, test_microvm);
    tcase_add_test(t, test_lists);
    tcase_add_test(t, test_refused);
    tcase_add_test(t, test_scripts);
    tcase_add_test(t, test_digest_is_told_once);
    tcase_add_test(t, test_content_counts);
    tcase_add_test(t, test_host);
    tcase_add_test(t, test_networks);
    tcase_add_test(t, test_json);
    tcase_add_test(t, test_G9_damaged_record);
    suite_add_tcase(s, t);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
