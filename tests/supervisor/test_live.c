/* What is changed while a guest runs: from outside, and what a guest with a kernel of its own must do itself. */
#include "../../supervisor/steps.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

/* ---- what step_live.c needs of the rest; what it did is told, a word each ---- */

static struct text told;
static struct strv ports;      /* on their bridges */
static const char *gone;       /* tap that is there no more */
static bool limits_fail, grow_fails;

bool job_boots(const struct job *j) { return j->driver->can & DRV_BOOTS_KERNEL; }
int step_network(struct job *j, struct vm_err *e) { (void)j, (void)e; text_add(&told, "network "); return 0; }
int job_setup(struct job *j, struct vm_err *e) { (void)j, (void)e; text_add(&told, "setup "); return 0; }
int boot_kernel(struct job *j, struct deadline d, struct vm_err *e) { (void)j, (void)d, (void)e; text_add(&told, "kernel "); return 0; }
int run_note(struct job *j, struct vm_err *e) { (void)j, (void)e; text_add(&told, "note "); return 0; }

int job_ask(struct job *j, const struct strv *request, const void *input, size_t n, int64_t ms, struct vm_err *e)
{
    (void)j, (void)input, (void)n, (void)ms, (void)e;
    ck_assert_str_eq(request->v[0], "op=grow");
    text_addf(&told, "%s ", request->v[1]);
    return 0;
}

void job_borrow(const struct job *j, struct drv_guest *out)
{
    *out = (struct drv_guest){.spec = j->spec, .root = j->root, .mounts = j->mounts, .n_mounts = j->n_mounts};
}

void drv_mount_tag(const struct drv_guest *g, size_t mount, char out[static DRV_TAG])
{
    snprintf(out, DRV_TAG, "%s%zu", g->mounts[mount].disk ? "vol" : "share", mount);
}

int root_ensure(struct image_store *s, uint32_t guest_id, uint64_t size, char out[static IMAGE_PATH], struct vm_err *e)
{
    (void)s, (void)guest_id, (void)e;
    snprintf(out, IMAGE_PATH, "root.img");
    text_addf(&told, "root=%d ", (int)size);
    return 0;
}

int net_ports(struct strv *out, struct vm_err *e)
{
    (void)e;
    for (size_t i = 0; i < ports.n; i++)
        strv_add(out, ports.v[i]);
    return 0;
}

int net_tap_rejoin(const struct net_nic *nic, const struct network_spec *n, struct vm_err *e)
{
    (void)n;
    if (gone && !strcmp(gone, nic->ifname))
        return vm_fail(e, VM_E_ABSENT, "no such interface");
    text_addf(&told, "rejoin=%s ", nic->ifname);
    return 0;
}

int net_veth_attach(const struct net_nic *nic, unsigned index, const struct network_spec *n, int netns_fd, struct vm_err *e)
{
    (void)index, (void)n, (void)netns_fd, (void)e;
    text_addf(&told, "veth=%s ", nic->ifname);
    return 0;
}

int net_rate_limit(const char *ifname, uint64_t rx, uint64_t tx, struct vm_err *e)
{
    (void)ifname, (void)rx, (void)tx, (void)e;
    return 0;
}

static int drv_limits(const struct drv_guest *g, const struct drv_proc *p, struct vm_err *e)
{
    (void)p;
    text_addf(&told, "limits=%g ", g->spec->cpus);
    return limits_fail ? vm_fail(e, VM_E_UNAVAILABLE, "no memory slot is free") : 0;
}

static int drv_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e)
{
    (void)g, (void)p;
    text_addf(&told, "grow=%s ", source);
    return grow_fails ? vm_fail(e, VM_E_BACKEND, "the VMM says no") : 0;
}

static int drv_netns(const struct drv_proc *p, int *fd, struct vm_err *e)
{
    (void)p, (void)e;
    *fd = -1;
    return 0;
}

/* ---- a job on a guest that runs ---- */

static const struct vm_driver vm = {.name = "vm", .can = DRV_BOOTS_KERNEL | DRV_TAKES_TAPS | DRV_RESIZES, .limits = drv_limits, .grow = drv_grow};
static const struct vm_driver container = {.name = "container", .limits = drv_limits, .grow = drv_grow, .netns = drv_netns};
static struct spec_volume volumes[] = {{.name = "a", .size = 10}, {.name = "d", .directory = true}, {.name = "b", .size = 10}};
static struct spec_volume volumes_then[3];
static struct drv_mount mounts[] = {{.disk = true}, {.disk = false}, {.disk = true}};
static char paths[3][IMAGE_PATH] = {"a.img", "d", "b.img"};
static struct net_nic nics[] = {{.ifname = "vms3-0"}, {.ifname = "vms3-1"}};
static struct network_spec lan, *networks[] = {&lan, &lan};
static struct guest_spec spec, was;
static struct world world;
static struct job job;

static void set_up(void)
{
    memcpy(volumes_then, volumes, sizeof volumes);
    spec = (struct guest_spec){.cpus = 1, .memory = 100, .disk = 8, .volumes = volumes, .n_volumes = 3};
    was = spec;
    was.volumes = volumes_then;
    job = (struct job){.w = &world, .name = (char *)"db", .spec = &spec, .was = &was, .driver = &vm, .mounts = mounts,
                       .n_mounts = 3, .mount_paths = paths, .nics = nics, .n_nics = 2, .networks = networks};
    gone = NULL;
    limits_fail = grow_fails = false;
    strv_add(&ports, "vms3-0");
    strv_add(&ports, "vms3-1");
}

static void tear_down(void)
{
    text_done(told);
    told = (struct text){0};
    strv_done(ports);
    ports = (struct strv){0};
}

static void heard(const char *what)
{
    ck_assert_str_eq(told.s ? told.s : "", what);
    text_done(told);
    told = (struct text){0};
}

START_TEST(test_nothing_to_do_inside)
{
    ck_assert(!changes_inside(&job));
    job.was = NULL; /* a container, or nobody knows */
    ck_assert(!changes_inside(&job));
    job.was = &was;
    volumes[1].size = 1; /* a directory has no bound */
    ck_assert(!changes_inside(&job));
    was.disk = 4;
    volumes[0].size = 11;
    ck_assert_int_eq(step_inside(&job, NULL), 0);
    heard("kernel root=8 grow=root.img disk=root grow=a.img disk=vol0 note ");
    volumes[0].size = 10;
    volumes[1].size = 0;
}
END_TEST

START_TEST(test_disks_grow)
{
    was.disk = 4;
    volumes_then[2].size = 5;
    ck_assert(changes_inside(&job));
    ck_assert_int_eq(step_inside(&job, NULL), 0);
    heard("kernel root=8 grow=root.img disk=root grow=b.img disk=vol2 note ");
}
END_TEST

/* What did not grow is not noted, so that the next job tries again. */
START_TEST(test_a_disk_that_does_not_grow)
{
    struct vm_err e = {0};

    was.disk = 4;
    grow_fails = true;
    ck_assert_int_eq(step_inside(&job, &e), -1);
    ck_assert_str_eq(e.text, "grow disk 'root': the VMM says no");
    heard("kernel root=8 grow=root.img ");
}
END_TEST

START_TEST(test_volumes_in_another_order)
{
    struct spec_volume swap = volumes_then[0];
    struct vm_err e = {0};

    volumes_then[0] = volumes_then[2];
    volumes_then[2] = swap;
    ck_assert(changes_inside(&job));
    ck_assert_int_eq(step_inside(&job, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "vmctl restart db"));
    heard("kernel ");
}
END_TEST

START_TEST(test_resize)
{
    struct vm_err e = {0};

    spec.cpus = 2;
    ck_assert_int_eq(step_live(&job, &e), 0);
    ck_assert(changes_inside(&job));
    ck_assert_int_eq(step_inside(&job, &e), 0);
    heard("limits=2 kernel setup note ");
    limits_fail = true;
    ck_assert_int_eq(step_live(&job, &e), -1);
    ck_assert_str_eq(e.text, "cpus and memory stay as they are (vmctl restart db changes them): no memory slot is free");
    spec.cpus = 1; /* the same failure, where nothing was to be resized: limits of a host that has none */
    ck_assert_int_eq(step_live(&job, &e), 0);
}
END_TEST

START_TEST(test_links)
{
    bool lost = false;

    ck_assert_int_eq(mend_nics(&job, &lost, NULL), 0);
    heard("");
    strv_done(ports);
    ports = (struct strv){0};
    strv_add(&ports, "vms3-0");
    ck_assert_int_eq(mend_nics(&job, &lost, NULL), 0);
    ck_assert(!lost);
    heard("network rejoin=vms3-1 ");
    job.driver = &container;
    ck_assert_int_eq(mend_nics(&job, &lost, NULL), 0);
    heard("network veth=vms3-0 veth=vms3-1 ");
    job.driver = &vm;
    gone = "vms3-1";
    ck_assert_int_eq(mend_nics(&job, &lost, &(struct vm_err){0}), 0);
    ck_assert(lost);
    heard("network ");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("live");
    TCase *c = tcase_create("live");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_add_test(c, test_nothing_to_do_inside);
    tcase_add_test(c, test_disks_grow);
    tcase_add_test(c, test_a_disk_that_does_not_grow);
    tcase_add_test(c, test_volumes_in_another_order);
    tcase_add_test(c, test_resize);
    tcase_add_test(c, test_links);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
