/* J1: drivers: what each is told of a guest, plans of keepers, notes, access lists. */
#include "drivers/acl.h"
#include "drivers/ch.h"
#include "drivers/agent_programs.h"
#include "drivers/keeper_plan.h"
#include "drivers/libvirt.h"
#include "drivers/nspawn.h"
#include "drivers/vm.h"
#include "nth.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { GUEST = 6553600 };

static char top[] = "/var/tmp/vmsd-nth-XXXXXX", run_dir[40], file[64], disk[64], root[64], tree[64];
static const char *const capabilities[] = {"CAP_NET_RAW", "-CAP_MKNOD"};
static const struct guest_spec box = {
    .kind = KIND_CONTAINER, .name = "web", .cpus = 0.5, .memory = 256 << 20,
    .security = {.read_only_root = true, .no_new_privileges = true, .capabilities = {(const char **)capabilities, 2}}};
static const struct guest_spec vm = {.kind = KIND_MICROVM, .name = "db", .cpus = 2, .memory = 512 << 20,
                                     .limits = {.io_read = 50 << 20, .io_write = 10 << 20, .pids = 100, .cpu_weight = 50}};
static struct drv_mount mounts[] = {
    {.disk = true, .source = disk, .target = "/srv/a", .mapped = true},
    {.source = tree, .target = "/srv/b", .read_only = true, .mapped = true},
};
static const struct drv_tap taps[] = {{-1, "vms7-0", "02:00:00:00:00:01"}};
static struct drv_guest g = {.id = 7, .uid_base = GUEST, .image = run_dir, .root = root, .kernel = file, .initramfs = file,
                             .modules = file, .cmdline = "quiet panic=-1", .run_dir = run_dir, .log_dir = run_dir,
                             .mounts = mounts, .n_mounts = 2, .taps = taps, .n_taps = 1};

static const struct drv_guest *of(const struct guest_spec *s)
{
    g.spec = s;
    return &g;
}

static int said(char *taken, struct vm_err *e)
{
    OWN(str) char *text = taken;

    nth_over();
    if (!text)
        return vm_no_memory(e);
    nth_say("%s", text);
    return 0;
}

static int words(int rc, const struct strv *v)
{
    nth_over();
    for (size_t i = 0; !rc && i < v->n; i++)
        nth_say("%s ", v->v[i]);
    return rc;
}

/* As vms-starter has it ready. */
static int agent(struct vm_err *e)
{
    struct sock_fprog filter = {0};
    OWN(fd) int fd = agent_copy("/bin/true", e);
    int rc = fd < 0 || agent_filter_make(&filter, e) < 0 ? -1 : 0;

    nth_over();
    free(filter.filter);
    return rc;
}

static int nspawn(struct vm_err *e)
{
    OWN(strv) struct strv v = {0};
    int rc = nspawn_args(of(&box), &v, e);

    return words(rc, &v);
}

static int ch_words(struct vm_err *e)
{
    OWN(strv) struct strv v = {0};
    int rc = ch_args(&v, e);

    return words(rc, &v);
}

static int ch(struct vm_err *e)
{
    static const struct ch_host host = {.cpus = 8, .memory = UINT64_C(1) << 40, .landlock = true, .direct = true};
    OWN(json) json_t *j = NULL;

    return ch_config(of(&vm), &host, &j, e) < 0 ? -1 : said(json_to_text(j), e);
}

static int ch_net(struct vm_err *e)
{
    OWN(json) json_t *j = ch_config_net(taps, 0);

    return said(json_to_text(j), e);
}

static int ch_resize(struct vm_err *e)
{
    OWN(json) json_t *j = ch_config_resize(4, 1 << 30);

    return said(json_to_text(j), e);
}

static int domain(struct vm_err *e)
{
    OWN(str) char *xml = NULL;

    return virt_xml(of(&vm), &(struct virt_machine){.kvm = true, .gid = GUEST}, &xml, e) < 0 ? -1 : said(TAKE(xml), e);
}

static int note(struct vm_err *e)
{
    OWN(virt_note) struct virt_note in = {.booted = true, .uid = GUEST, .log_dir = strdup(top)};
    OWN(virt_note) struct virt_note out = {0};
    int rc;

    strv_add(&in.opened, file);
    rc = proc_id_of(getpid(), &in.qemu, e) < 0 ? -1
         : !in.log_dir || in.opened.failed ? vm_no_memory(e)
         : virt_note_write(run_dir, &in, e) < 0 || virt_note_read(run_dir, &out, e) < 0 ? -1 : 0;
    nth_over();
    virt_note_remove(run_dir);
    if (!rc)
        nth_say("%d %s %zu %s", out.qemu.pid == getpid(), out.log_dir, out.opened.n, out.opened.v[0]);
    return rc;
}

static int disks(struct vm_err *e)
{
    OWN(vm_disks) struct vm_disks d = {0};
    int rc = vm_disks_of(of(&vm), &d, e);

    nth_over();
    for (size_t i = 0; !rc && i < d.n; i++)
        nth_say("%s %s;", d.v[i].serial, d.v[i].path);
    return rc;
}

static int access_lists(struct vm_err *e)
{
    OWN(strv) struct strv closed = {0}, again = {0};
    int rc = acl_closed(file, GUEST, &closed, e);

    for (size_t i = 0; !rc && i < closed.n; i++)
        rc = acl_open(closed.v[i], GUEST, e);
    if (!rc)
        rc = acl_closed(file, GUEST, &again, e);
    for (size_t i = 0; !rc && i < closed.n; i++)
        rc = acl_close(closed.v[i], GUEST, e);
    nth_over();
    for (size_t i = 0; rc && i < closed.n; i++) /* as whoever rolls back does */
        acl_close(closed.v[i], GUEST, NULL);
    if (!rc)
        nth_say("%zu %zu", closed.n, again.n);
    return rc;
}

/* The plan's text, out of its memfd. */
static void say_plan(const struct kept_plan *p)
{
    char text[16384];
    ssize_t n = pread(p->fds[0], text, sizeof text, 0);

    for (ssize_t i = 0; i < n; i++)
        nth_say("%c", text[i] ? text[i] : '\n');
    nth_say("%zu fds", p->n);
}

static int plan_of_box(struct vm_err *e)
{
    OWN(kept_plan) struct kept_plan p = {0};
    struct cgroup c = {.guest = "/sys/fs/cgroup/vmsd/7/guest"};
    int rc = nspawn_plan_make(of(&box), &c, deadline_in(5000), &p, e);

    nth_over();
    if (!rc)
        say_plan(&p);
    return rc;
}

static int plan_of_vm(struct vm_err *e)
{
    OWN(plan_draft) struct plan_draft d = {0};
    OWN(kept_plan) struct kept_plan p = {0};
    struct cgroup c = {.guest = "/sys/fs/cgroup/vmsd/7/guest"};
    int rc = plan_begin(&d, of(&vm), &c, e) < 0 || plan_program(&d, "v", "/init", "/bin/true", e) < 0 ||
             plan_libraries(&d, "v", e) < 0 || plan_end(&d, &p, e) < 0 ? -1 : 0;

    nth_over();
    if (!rc)
        say_plan(&p);
    return rc;
}

static const struct nth_case cases[] = {
    {"agent", agent},
    {"nspawn's words", nspawn},
    {"cloud-hypervisor's words", ch_words},
    {"cloud-hypervisor's machine", ch},
    {"cloud-hypervisor's nic", ch_net},
    {"cloud-hypervisor's size", ch_resize},
    {"domain", domain},
    {"note of a domain", note},
    {"disks", disks},
    {"access lists", access_lists},
    {"plan of a container", plan_of_box},
    {"plan of a microVM", plan_of_vm},
};

static int make_file(char path[static 64], const char *name)
{
    int fd;

    snprintf(path, 64, "%s/%s", run_dir, name);
    if ((fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) < 0 || ftruncate(fd, 1 << 20) < 0)
        return -1;
    return close(fd);
}

static int make(void)
{
    if (!mkdtemp(top))
        return -1;
    snprintf(run_dir, sizeof run_dir, "%s/run", top);
    if (mkdir(run_dir, 0700) < 0)
        return -1;
    snprintf(tree, sizeof tree, "%s/tree", top);
    if (mkdir(tree, 0755) < 0)
        return -1;
    return make_file(file, "file") < 0 || make_file(disk, "disk") < 0 || make_file(root, "root") < 0 ? -1 : 0;
}

int main(int argc, char **argv)
{
    int rc;

    if (geteuid() != 0) {
        puts("skipped: not root");
        return 77;
    }
    rc = make() < 0 || test_J1_each_allocation_fails(argc, argv, cases, ARRAY_LEN(cases));
    unlink(file);
    unlink(disk);
    unlink(root);
    rmdir(run_dir);
    rmdir(tree);
    rmdir(top);
    return rc;
}
