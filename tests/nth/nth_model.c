/* J1, floor 1: bundles, specs, plans. */
#include "model/help.h"
#include "nth.h"

#include <string.h>
#include <vmsd/bundle.h>
#include <vmsd/hosts.h>
#include <vmsd/json.h>
#include <vmsd/life.h>
#include <vmsd/plan.h>
#include <vmsd/spec.h>

#define GUEST(name) "kind: container\nname: " name "\nimage: debian-12\n"
#define RICH GUEST("rich") \
    "cpus: 0.5\nmemory: 1G\ntags: [a, b]\ndomains: [www.example.org]\ndepends_on: [plain]\n" \
    "network: {name: lab, address: 10.9.0.9}\nallow:\n  - {from: [plain, tag:a], tcp: [80, 90-99], udp: 53, icmp: true}\n" \
    "ports: [{host: 8080, guest: 80}]\nvolumes:\n  - {name: data, target: /srv/data, size: 64M}\n" \
    "binds: [{source: /srv, target: /srv/b, read_only: true}]\nenv: {A: b}\n" \
    "files: [{source: files/motd, target: /etc/motd, template: true}]\n" \
    "secrets: [{name: key, file: /etc/key}, {name: op, command: [op, read]}]\n" \
    "install:\n  - scripts/one.sh\n  - {script: scripts/two.sh, args: [x], env: {V: \"1\"}, inputs: [files]}\n" \
    "health: [{tcp: 80}, {http: {port: 80, path: /}}, {exec: [\"true\"]}]\n" \
    "restart: {policy: always}\nlimits: {pids: 100, io: {read: 1M}}\n"
#define NETWORK "kind: network\nname: lab\nsubnet: 10.9.0.0/24\nsubnet6: fd00::/64\nhost_services: {tcp: [53]}\n"
#define DEFAULTS "kind: defaults\nmemory: 256M\nfor: {tags: [a]}\n"

/* What the operations below start from; made before the first allocation is denied. */
static struct bundle *good, *bad;
static char *tar, *guest_text, *network_text;
static size_t n_tar;
static struct spec_set *set;

static struct bundle *bundle_of(const char *guests)
{
    struct bundle *b = help_bundle("/srv/vms.d");

    help_text(b, "plain.yaml", GUEST("plain"));
    help_text(b, "rich.yaml", guests);
    help_text(b, "lab.yaml", NETWORK);
    help_text(b, "defaults.yaml", DEFAULTS);
    help_text(b, "files/motd", "${NAME}\n");
    help_file(b, "scripts/one.sh", 0755, "#!/bin/sh\n", 10);
    help_file(b, "scripts/two.sh", 0755, "#!/bin/sh\n", 10);
    help_seal(b);
    return b;
}

static void prepare(void)
{
    struct vm_err e;

    good = bundle_of(RICH);
    bad = bundle_of(GUEST("rich") "memori: 12\nmemory: x\ndepends_on: [nobody]\nnetwork: none\n");
    if (bundle_to_tar(good, &tar, &n_tar, &e) < 0 || spec_set_read(good, NULL, &set, &e) < 0 || set->n_guests != 2)
        abort();
    guest_text = json_to_text(set->guests[1]->json);
    network_text = json_to_text(set->networks[0]->json);
}

static int bundle_read(struct vm_err *e)
{
    OWN(bundle) struct bundle *b = NULL;
    int rc = bundle_from_tar(tar, n_tar, "/srv/vms.d", &b, e);

    nth_over();
    if (!rc)
        nth_say("%zu %s %s", b->n, b->base, b->sha256);
    return rc;
}

static int bundle_write(struct vm_err *e)
{
    OWN(str) char *out = NULL;
    size_t n = 0;
    int rc = bundle_to_tar(good, &out, &n, e);

    nth_over();
    if (!rc)
        nth_say("%zu %d", n, n == n_tar && !memcmp(out, tar, n));
    return rc;
}

static int directory_read(struct vm_err *e)
{
    OWN(bundle) struct bundle *b = NULL;
    int rc = bundle_from_dir("model/golden", &b, e);

    nth_over();
    if (!rc)
        nth_say("%zu %s", b->n, b->sha256);
    return rc;
}

static void say_json(const json_t *j)
{
    OWN(str) char *s = json_to_text(j);

    nth_say("%s\n", s);
}

static void say_set(const struct spec_set *s)
{
    for (size_t i = 0; i < s->n_guests; i++)
        say_json(s->guests[i]->json);
    for (size_t i = 0; i < s->n_networks; i++)
        say_json(s->networks[i]->json);
    for (size_t i = 0; i < s->n_issues; i++) {
        OWN(str) char *text = spec_issue_text(&s->issues[i]);

        nth_say("%s\n", text);
    }
}

static int set_of(const struct bundle *b, struct vm_err *e)
{
    OWN(spec_set) struct spec_set *s = NULL;
    int rc = spec_set_read(b, NULL, &s, e);

    nth_over();
    if (!rc)
        say_set(s);
    return rc;
}

static int specs(struct vm_err *e)
{
    return set_of(good, e);
}

static int wrong_specs(struct vm_err *e)
{
    return set_of(bad, e);
}

static int issue_text(struct vm_err *e)
{
    struct spec_issue issue = {.file = (char *)"a.yaml", .line = 3, .column = 1, .what = (char *)"no; yes"};
    OWN(str) char *text = spec_issue_text(&issue);

    nth_over();
    if (!text)
        return vm_no_memory(e);
    nth_say("%s", text);
    return 0;
}

static int guest_load(struct vm_err *e)
{
    OWN(guest_spec) struct guest_spec *g = NULL;
    int rc = guest_spec_load(guest_text, &g, e);

    nth_over();
    if (!rc) {
        say_json(g->json);
        nth_say("%zu %zu %s %zu", g->n_nics, g->n_install, g->install[1].env.v[0], g->n_health);
    }
    return rc;
}

static int network_load(struct vm_err *e)
{
    OWN(network_spec) struct network_spec *n = NULL;
    int rc = network_spec_load(network_text, &n, e);

    nth_over();
    if (!rc)
        say_json(n->json);
    return rc;
}

static int host_load(struct vm_err *e)
{
    OWN(host_spec) struct host_spec *h = NULL;
    int rc = host_spec_load("{\"alerts\":{\"full\":80},\"kind\":\"host\",\"notify\":[{\"mail\":\"a@b\"},{\"command\":[\"/x\"]}]}", &h, e);

    nth_over();
    if (!rc) {
        say_json(h->json);
        nth_say("%zu %u", h->n_notify, h->full);
    }
    return rc;
}

static int plan_say(int rc, const struct plan_change *c)
{
    nth_over();
    if (rc)
        return rc;
    nth_say("%s %zu %d:", plan_class_name(c->class), c->first_script, c->destroys_data);
    for (size_t i = 0; i < c->n_fields; i++)
        nth_say(" %s %s>%s", c->fields[i].field, c->fields[i].from, c->fields[i].to);
    for (size_t i = 0; i < c->scripts.n; i++)
        nth_say(" %s", c->scripts.v[i]);
    return 0;
}

static int plan_of(const char *applied, const struct guest_spec *want, struct vm_err *e)
{
    struct plan_actual have = {.name = "rich", .applied = applied, .scripts_done = 1};
    OWN(plan_change) struct plan_change *c = NULL;
    int rc = plan_guest(&have, want, &c, e);

    return plan_say(rc, c);
}

static int plan_create(struct vm_err *e)
{
    return plan_of(NULL, set->guests[1], e);
}

static int plan_update(struct vm_err *e)
{
    return plan_of("{\"name\":\"rich\",\"kind\":\"container\",\"image\":\"debian-11\",\"memory\":5}", set->guests[1], e);
}

static int plan_remove(struct vm_err *e)
{
    return plan_of(guest_text, NULL, e);
}

static int plan_lab(struct vm_err *e)
{
    struct plan_actual have = {.name = "lab", .applied = "{\"kind\":\"network\",\"name\":\"lab\",\"subnet\":\"10.8.0.0/24\"}",
                               .network = true};
    OWN(plan_change) struct plan_change *c = NULL;
    int rc = plan_network(&have, set->networks[0], &c, e);

    return plan_say(rc, c);
}

static int change_json(struct vm_err *e)
{
    struct plan_field fields[] = {{(char *)"memory", (char *)"1", (char *)"2", PLAN_LIVE}};
    struct plan_change c = {.guest = (char *)"rich", .class = PLAN_LIVE, .fields = fields, .n_fields = 1};
    OWN(json) json_t *j = plan_change_json(&c);
    OWN(str) char *text = json_to_text(j); /* whoever prints it learns that something is missing */

    nth_over();
    if (!text)
        return vm_no_memory(e);
    nth_say("%s", text);
    return 0;
}

static int order(struct vm_err *e)
{
    size_t at[2];
    int rc = plan_order(set->guests, set->n_guests, at);

    nth_over();
    if (rc)
        return vm_no_memory(e);
    nth_say("%zu %zu", at[0], at[1]);
    return 0;
}

static const char *lookup(const char *name, void *arg)
{
    (void)arg;
    return !strcmp(name, "NAME") ? "rich" : NULL;
}

static int template(struct vm_err *e)
{
    static const char text[] = "a ${NAME} costs $$5\n";
    OWN(str) char *out = NULL;
    int rc = spec_template(text, strlen(text), lookup, NULL, &out, e);

    nth_over();
    if (!rc)
        nth_say("%s", out);
    return rc;
}

static int told(char *text, struct vm_err *e)
{
    OWN(str) char *own = text;

    nth_over();
    if (!own)
        return vm_no_memory(e);
    nth_say("%s", own);
    return 0;
}

static int value(struct vm_err *e)
{
    return told(spec_value_text("install[1]", json_array_get(json_object_get(set->guests[1]->json, "install"), 1)), e);
}

static int schema(struct vm_err *e)
{
    OWN(json) json_t *j = spec_schema();

    return told(json_to_text(j), e);
}

static int reference(struct vm_err *e)
{
    return told(spec_reference(), e);
}

static int hosts(struct vm_err *e)
{
    static const char text[] = "left: root@left.example\nright: {specs: [common, right.d], tags: [a, b]}\nall: {shh: x}\n";
    OWN(hosts_file) struct hosts_file *f = NULL;
    int rc = hosts_file_read("hosts.yaml", text, strlen(text), &f, e);

    nth_over();
    for (size_t i = 0; !rc && i < f->n; i++)
        nth_say("%s %s %zu %zu\n", f->v[i].name, f->v[i].ssh, f->v[i].specs.n, f->v[i].tags.n);
    for (size_t i = 0; !rc && i < f->n_issues; i++) {
        OWN(str) char *said = spec_issue_text(&f->issues[i]);

        nth_say("%s\n", said);
    }
    return rc;
}

static const struct nth_case cases[] = {
    {"bundle of a tar", bundle_read},
    {"bundle of a directory", directory_read},
    {"tar of a bundle", bundle_write},
    {"specs", specs},
    {"specs with mistakes", wrong_specs},
    {"complaint", issue_text},
    {"guest as stored", guest_load},
    {"network as stored", network_load},
    {"host as stored", host_load},
    {"hosts", hosts},
    {"plan: create", plan_create},
    {"plan: update", plan_update},
    {"plan: remove", plan_remove},
    {"plan: network", plan_lab},
    {"plan as JSON", change_json},
    {"order", order},
    {"template", template},
    {"value", value},
    {"schema", schema},
    {"reference", reference},
};

int main(int argc, char **argv)
{
    int rc;

    prepare();
    rc = test_J1_each_allocation_fails(argc, argv, cases, ARRAY_LEN(cases));
    spec_set_free(set);
    help_bundle_free(good);
    help_bundle_free(bad);
    free(tar);
    free(guest_text);
    free(network_text);
    return rc;
}
