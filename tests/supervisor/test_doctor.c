#include "../../supervisor/doctor.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/clock.h>

/* ---- a host as the test says ---- */

static const struct vm_driver *const none[] = {NULL};
const struct vm_driver *const *drivers(void)
{
    return none;
}

void drv_host_probe(struct drv_host *out)
{
    *out = (struct drv_host){.systemd = true};
}

int net_probe(struct net_facts *out, struct vm_err *e)
{
    *out = (struct net_facts){0};
    return vm_fail(e, VM_E_SYSTEM, "no /proc");
}

int net_links(struct strv *out, struct vm_err *e)
{
    (void)e;
    strv_add(out, "vms1-0");
    strv_add(out, "vms9-0");
    strv_add(out, "services");
    strv_add(out, "old-bridge");
    return 0;
}

struct guest *world_guest(struct world *w, const char *name)
{
    (void)w, (void)name;
    return NULL;
}

bool net_ifname_parse(const char *name, uint32_t *guest_id, unsigned *nic)
{
    return sscanf(name, "vms%u-%u", guest_id, nic) == 2;
}

int root_list(struct image_store *s, uint32_t **ids, size_t *n, struct vm_err *e)
{
    (void)s, (void)e;
    *ids = calloc(2, sizeof **ids);
    (*ids)[0] = 1;
    (*ids)[1] = 8;
    *n = 2;
    return 0;
}

/* ---- findings ---- */

static struct doctor_facts sound(void)
{
    return (struct doctor_facts){
        .host = {true, true, "/sys/fs/cgroup", true, true, true, true, true, true, true, true, ""},
        .drivers = {{"nspawn", KIND_CONTAINER, {.usable = true, .version = "252"}},
                    {"cloud-hypervisor", KIND_MICROVM, {.usable = true, .version = "v53"}},
                    {"libvirt", KIND_MICROVM, {.usable = true, .version = "9.0"}}},
        .n_drivers = 3,
        .net = {true, true, true, true, true},
        .run_dir = "/run/vmsd",
        .state_dir = "/var/lib/vmsd",
        .run_tmpfs = true,
        .grows = true,
        .mmdebstrap = true,
        .erofs = true,
        .init = true,
        .group = true,
        .clock_known = true,
        .clock_synced = true,
        .disk_total = 100ull << 30,
        .disk_free = 50ull << 30,
        .files_total = 1000,
        .files_free = 900,
        .host_memory = 8ull << 30,
        .guest_memory = 8ull << 30,
        .open_files = 65536,
        .n_guests = 10,
        .n_microvms = 1,
        .wall = 1800000000000,
    };
}

static const json_t *finding(const json_t *list, const char *what)
{
    const json_t *f;
    size_t i;

    json_array_foreach (list, i, f)
        if (!strcmp(json_str(f, "what", ""), what))
            return f;
    ck_abort_msg("nothing is said about %s", what);
    return NULL;
}

START_TEST(test_sound_host)
{
    struct doctor_facts f = sound();
    OWN(json) json_t *list = doctor_judge(&f);
    const json_t *x;
    size_t i;

    json_array_foreach (list, i, x) {
        ck_assert_msg(!strcmp(json_str(x, "level", ""), "ok"), "%s", json_str(x, "what", ""));
        ck_assert(strlen(json_str(x, "why", "")) > 0);
        ck_assert(json_is_null(json_object_get(x, "mend")));
    }
    ck_assert_uint_gt(json_array_size(list), 20);
}
END_TEST

static void no_systemd(struct doctor_facts *f) { f->host.systemd = false; }
static void stiff(struct doctor_facts *f) { f->grows = false; }
static void no_tmpfs(struct doctor_facts *f) { f->run_tmpfs = false; }
static void v1(struct doctor_facts *f) { f->host.cgroup2 = false; }
static void no_memory_limit(struct doctor_facts *f) { f->host.cgroup_memory = false; }
static void no_idmap(struct doctor_facts *f) { f->host.idmap = false; }
static void no_loop(struct doctor_facts *f) { f->host.loop = false; }
static void lose(struct doctor_facts *f, size_t i) { f->drivers[i].report = (struct drv_report){.why = "too old", .hint = "upgrade"}; }
static void no_nspawn(struct doctor_facts *f) { lose(f, 0); }
static void no_hypervisor(struct doctor_facts *f) { lose(f, 1), lose(f, 2); }
static void no_hypervisor_needed(struct doctor_facts *f) { no_hypervisor(f), f->n_microvms = 0; }
static void no_driver(struct doctor_facts *f) { lose(f, 0), no_hypervisor(f); }
static void no_cloud_hypervisor(struct doctor_facts *f) { lose(f, 1); }
static void emulated(struct doctor_facts *f) { strcpy(f->drivers[2].report.warning, "emulated: slow"); }
static void no_erofs(struct doctor_facts *f) { f->erofs = false; }
static void no_init(struct doctor_facts *f) { f->init = false; }
static void circle(struct doctor_facts *f) { strv_add(&f->circles, "dns starts after db, which asks dns for names"); }
static void no_kvm(struct doctor_facts *f) { f->host.kvm = false; }
static void no_nft(struct doctor_facts *f) { f->net.nft = false; }
static void no_bridge(struct doctor_facts *f) { f->net.bridge_family = false; }
static void no_net(struct doctor_facts *f) { vm_fail(&f->net_error, VM_E_SYSTEM, "no /proc"); }
static void docker(struct doctor_facts *f) { strv_add(&f->dropping, "ip filter FORWARD"); }
static void dns(struct doctor_facts *f) { strv_add(&f->dns_guests, "dns (10.20.0.53)"); }
static void orphan(struct doctor_facts *f) { strv_add(&f->orphans, "network interface vms7-0"); }
static void five_gib(struct doctor_facts *f) { f->disk_total = 8ull << 30; f->disk_free = (5ull << 30) - 1; }
static void a_tenth(struct doctor_facts *f) { f->disk_free = f->disk_total / 10 - 1; }
static void no_disk(struct doctor_facts *f) { f->disk_total = 0; }
static void few_inodes(struct doctor_facts *f) { f->files_free = 49; }
static void much_memory(struct doctor_facts *f) { f->guest_memory++; }
static void year_1970(struct doctor_facts *f) { f->wall = 1; }
static void not_synced(struct doctor_facts *f) { f->clock_synced = false; }
static void no_mmdebstrap(struct doctor_facts *f) { f->mmdebstrap = false; }
static void few_files(struct doctor_facts *f) { f->open_files = 335; }
static void no_group(struct doctor_facts *f) { f->group = false; }

static const struct { void (*ail)(struct doctor_facts *f); const char *what, *level, *why; } ills[] = {
    {no_systemd, "init", "info", "vms-keeper"},
    {no_tmpfs, "runtime directory", "info", "/run/vmsd is on a disk"},
    {v1, "control groups", "info", "version 1"},
    {no_memory_limit, "memory limits", "warning", "cannot enforce memory"},
    {no_idmap, "idmapped mounts", "error", "missing"},
    {no_loop, "loop devices", "error", "missing"},
    {no_nspawn, "nspawn", "warning", "not usable: too old"},
    {no_hypervisor, "libvirt", "warning", "not usable: too old"},
    {no_hypervisor, "microVMs", "error", "cannot be started"},
    {no_hypervisor_needed, "libvirt", "info", "not usable: too old"},
    {no_hypervisor_needed, "microVMs", "info", "no hypervisor"},
    {no_cloud_hypervisor, "cloud-hypervisor", "info", "not usable: too old"},
    {emulated, "libvirt", "warning", "usable: 9.0, but emulated: slow"},
    {no_erofs, "erofs-utils", "error", "missing"},
    {no_init, "vms-init", "error", "missing"},
    {circle, "circle", "warning", "dns starts after db"},
    {no_driver, "drivers", "error", "no guest can be started"},
    {no_kvm, "KVM", "info", "not to be had"},
    {no_nft, "nftables", "error", "missing"},
    {no_bridge, "nftables for bridges", "error", "missing"},
    {no_net, "network", "error", "no /proc"},
    {docker, "other firewalls", "warning", "ip filter FORWARD"},
    {dns, "names for the host", "warning", "dns (10.20.0.53)"},
    {orphan, "leftovers", "warning", "vms7-0"},
    {five_gib, "disk space", "warning", "free in /var/lib/vmsd"},
    {a_tenth, "disk space", "warning", "free in /var/lib/vmsd"},
    {no_disk, "disk space", "warning", "cannot be asked"},
    {stiff, "disks that grow", "warning", "CAP_SYS_RESOURCE"},
    {few_inodes, "inodes", "warning", "one in twenty"},
    {much_memory, "memory", "warning", "together"},
    {year_1970, "clock", "error", "years behind"},
    {not_synced, "clock", "info", "nothing keeps it"},
    {no_mmdebstrap, "mmdebstrap", "warning", "missing"},
    {few_files, "open files", "warning", "may open 335"},
    {no_group, "group vmsd", "info", "only root"},
};

START_TEST(test_each_ill_is_told_with_its_remedy)
{
    struct doctor_facts f = sound();
    OWN(json) json_t *list = NULL;
    const json_t *x;

    ills[_i].ail(&f);
    list = doctor_judge(&f);
    x = finding(list, ills[_i].what);
    ck_assert_str_eq(json_str(x, "level", ""), ills[_i].level);
    ck_assert_msg(strstr(json_str(x, "why", ""), ills[_i].why) != NULL, "%s", json_str(x, "why", ""));
    ck_assert(strlen(json_str(x, "mend", "")) > 5);
    doctor_facts_done(&f);
}
END_TEST

/* ---- facts ---- */

#define CHAIN(family, table, name, hook, policy) \
    "{\"chain\":{\"family\":\"" family "\",\"table\":\"" table "\",\"name\":\"" name "\",\"handle\":1,\"type\":\"filter\"," \
    "\"hook\":\"" hook "\",\"prio\":0,\"policy\":\"" policy "\"}}"

START_TEST(test_chains_that_drop)
{
    static const char chains[] = "{\"nftables\":[{\"metainfo\":{\"json_schema_version\":1}},"
        CHAIN("ip", "filter", "INPUT", "input", "drop") "," CHAIN("ip", "filter", "FORWARD", "forward", "drop") ","
        CHAIN("ip6", "filter", "FORWARD", "forward", "accept") "," CHAIN("inet", "vmsd", "forward", "forward", "drop") ","
        CHAIN("inet", "firewalld", "filter_FORWARD", "forward", "accept") ","
        "{\"chain\":{\"family\":\"ip\",\"table\":\"filter\",\"name\":\"DOCKER\",\"handle\":2}},{\"chain\":7},7]}";
    OWN(strv) struct strv out = {0};

    doctor_dropping(chains, strlen(chains), &out);
    ck_assert_uint_eq(out.n, 2);
    ck_assert_str_eq(out.v[0], "ip filter FORWARD");
    ck_assert_str_eq(out.v[1], "inet firewalld filter_FORWARD");
    doctor_dropping("{", 1, &out);
    doctor_dropping("[]", 2, &out);
    doctor_dropping("", 0, &out);
    ck_assert_uint_eq(out.n, 2);
}
END_TEST

START_TEST(test_name_servers)
{
    static const char text[] = "# nameserver 10.0.0.1\nsearch x\n  nameserver\t10.20.0.53 # dns\nnameserver 10.0.0.22";

    ck_assert(doctor_asks(text, "10.20.0.53"));
    ck_assert(doctor_asks(text, "10.0.0.22"));
    ck_assert(!doctor_asks(text, "10.0.0.2"));
    ck_assert(!doctor_asks(text, "10.0.0.1"));
    ck_assert(!doctor_asks("nameserver10.0.0.1", "10.0.0.1"));
    ck_assert(!doctor_asks("nameserver", "10.0.0.1"));
    ck_assert(!doctor_asks("", "10.0.0.1"));
}
END_TEST

/* a depends on b and c, b on d; the rest on nobody. */
START_TEST(test_circles_through_names)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    struct doctor_need waits[] = {{0, 1}, {0, 2}, {1, 3}};
    const struct { struct doctor_need asks[3]; size_t n; const char *said; } cases[] = {
        {{{0, 1}}, 1, NULL},                       /* who starts later may ask */
        {{{4, 0}, {2, 4}}, 2, NULL},
        {{{0, 0}}, 1, NULL},                       /* itself */
        {{{1, 0}}, 1, "a starts after b, which asks a for names"},
        {{{4, 0}, {3, 0}, {1, 0}}, 3, "a starts after b, which starts after d, which asks a for names"},
        {{{3, 1}, {2, 4}}, 2, "b starts after d, which asks b for names"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct doctor_need asks[3];
        OWN(strv) struct strv out = {0};

        memcpy(asks, cases[i].asks, sizeof asks);
        doctor_circles(names, 5, &(struct doctor_needs){waits, 3}, &(struct doctor_needs){asks, cases[i].n}, &out);
        ck_assert_uint_eq(out.n, cases[i].said != NULL);
        if (cases[i].said)
            ck_assert_str_eq(out.v[0], cases[i].said);
    }
}
END_TEST

static json_t *findings;
static void look(void *arg)
{
    findings = doctor_findings(arg);
}
static void looked(void *arg, bool cancelled)
{
    ck_assert(!cancelled);
    loop_quit(((struct world *)arg)->loop);
}

START_TEST(test_looks_from_a_worker)
{
    char dir[] = "/tmp/test_doctor.XXXXXX", path[64];
    struct options o = {.run_dir = mkdtemp(dir), .state_dir = dir, .init = "/nowhere"};
    struct guest_spec spec = {.memory = 1 << 30};
    struct net_nic nic = {.address = "203.0.113.7", .network = "services"};
    struct guest g = {.id = 1, .name = (char *)"db", .spec = &spec, .up = true, .nics = &nic, .n_nics = 1}, *guests[] = {&g};
    struct network_spec n = {.name = "services", .bridge = "services"}, *networks[] = {&n};
    struct world w = {.options = &o, .guests = guests, .n_guests = 1, .networks = networks, .n_networks = 1};
    const char *why;

    snprintf(path, sizeof path, "%s/guests", dir);
    mkdir(path, 0700);
    strcat(path, "/7");
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/guests/1", dir);
    mkdir(path, 0700);
    ck_assert_int_eq(loop_open(1, &w.loop, NULL), 0);
    ck_assert_int_eq(loop_work(w.loop, (struct loop_job){look, looked, &w}, NULL), 0);
    ck_assert_int_eq(loop_run(w.loop, NULL), 0);
    loop_close(w.loop);
    rmdir(path);
    snprintf(path, sizeof path, "%s/guests/7", dir);
    rmdir(path);
    *strrchr(path, '/') = '\0';
    rmdir(path);
    rmdir(dir);

    ck_assert_ptr_nonnull(findings);
    why = json_str(finding(findings, "leftovers"), "why", "");
    ck_assert_ptr_nonnull(strstr(why, "network interface vms9-0, network interface old-bridge, runtime directory /tmp"));
    ck_assert_ptr_nonnull(strstr(why, "/guests/7, disk /tmp"));
    ck_assert_ptr_nonnull(strstr(why, "/guests/8"));
    ck_assert_ptr_null(strstr(why, "vms1-0"));
    ck_assert_ptr_null(strstr(why, "/guests/1"));
    ck_assert_str_eq(json_str(finding(findings, "network"), "level", ""), "error");
    ck_assert_ptr_nonnull(strstr(json_str(finding(findings, "open files"), "why", ""), "1 guests need about 264"));
    json_decref(findings);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("doctor");
    TCase *c = tcase_create("doctor");
    SRunner *r;
    int failed;

    tcase_set_timeout(c, 30);
    tcase_add_test(c, test_sound_host);
    tcase_add_loop_test(c, test_each_ill_is_told_with_its_remedy, 0, sizeof ills / sizeof ills[0]);
    tcase_add_test(c, test_chains_that_drop);
    tcase_add_test(c, test_name_servers);
    tcase_add_test(c, test_circles_through_names);
    tcase_add_test(c, test_looks_from_a_worker);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
