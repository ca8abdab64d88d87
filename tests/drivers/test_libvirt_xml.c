/* The XML of domains: pure. What is expected lies in domain-*.out; VMS_WRITE=1 writes them anew. */
#include "../../drivers/libvirt.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/path.h>

#define VALIDATE "/usr/bin/virt-xml-validate"
/* C5: all that means something to XML, to QEMU's options, to a shell or a printf. */
#define NASTY "a b,c=d&e<f>g'h\"i;j$(k)%n%s]]>--u\xc3\xbc"

static struct vm_err e;
static struct guest_spec spec;
static struct drv_guest g;
static struct virt_machine machine;

static void plain(void)
{
    spec = (struct guest_spec){.kind = KIND_MICROVM, .name = "db", .cpus = 1, .memory = 512 << 20};
    g = (struct drv_guest){.id = 7, .uid_base = 6553600, .spec = &spec, .image = "/var/lib/vmsd/images/0/disk.img",
                           .root = "/var/lib/vmsd/guests/7/root.img", .kernel = "/boot/vmlinuz", .run_dir = "/run/vmsd/guests/7",
                           .log_dir = "/var/lib/vmsd/guests/7"};
    machine = (struct virt_machine){.gid = 6553600};
}

static void everything(void)
{
    static const struct drv_mount mounts[] = {
        {.disk = true, .source = "/var/lib/vmsd/volumes/data/disk.img", .target = "/srv/data", .mapped = true},
        {.source = "/srv/share", .target = "/srv/share", .mapped = true},
        {.disk = true, .source = "/var/lib/vmsd/volumes/old/disk.img", .target = "/srv/old", .read_only = true},
        {.source = "/srv/files", .target = "/srv/files", .read_only = true},
    };
    static const struct drv_tap taps[] = {{-1, "vms7-0", "02:00:00:00:00:01"}, {-1, "vms7-1", "02:00:00:00:00:02"}};

    plain();
    spec.cpus = 2.5;
    spec.limits.io_read = 10 << 20;
    spec.limits.io_write = 5 << 20;
    g.initramfs = "/run/vmsd/guests/7/initramfs";
    g.modules = "/var/lib/vmsd/images/1/modules.erofs";
    g.cmdline = "quiet panic=-1";
    g.mounts = mounts, g.n_mounts = ARRAY_LEN(mounts);
    g.taps = taps, g.n_taps = ARRAY_LEN(taps);
    machine.kvm = true;
    machine.gid = 109;
}

static void nasty(void)
{
    plain();
    spec.name = g.cmdline = NASTY;
    g.root = g.image = g.kernel = g.initramfs = g.run_dir = "/run/" NASTY;
}

static const struct { const char *file; void (*make)(void); } golden[] = {
    {"drivers/domain-plain.out", plain}, {"drivers/domain-all.out", everything}, {"drivers/domain-nasty.out", nasty}};

static char *slurp(const char *path)
{
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    char *text = NULL;

    ck_assert_msg(fd >= 0 && path_read_fd(fd, path, 1 << 20, &text, NULL, &e) == 0, "%s", path);
    return text;
}

static void write_file(const char *path, const char *text)
{
    OWN(fd) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    ck_assert(fd >= 0 && path_write_all(fd, text, strlen(text), NULL) == 0);
}

START_TEST(test_golden)
{
    OWN(str) char *xml = NULL;

    golden[_i].make();
    ck_assert_msg(virt_xml(&g, &machine, &xml, &e) == 0, "%s", e.text);
    if (getenv("VMS_WRITE"))
        write_file(golden[_i].file, xml);
    OWN(str) char *want = slurp(golden[_i].file);
    ck_assert_msg(!strcmp(xml, want), "not as in %s; VMS_WRITE=1 writes what it is now", golden[_i].file);
}
END_TEST

START_TEST(test_C5_valid)
{
    char path[] = "/tmp/vmsd-domain-XXXXXX", *argv[] = {VALIDATE, path, "domain", NULL};
    OWN(str) char *xml = NULL;
    OWN(fd) int fd = mkstemp(path);

    golden[_i].make();
    ck_assert(virt_xml(&g, &machine, &xml, &e) == 0 && fd >= 0 && path_write_all(fd, xml, strlen(xml), NULL) == 0);
    int rc = access(VALIDATE, X_OK) < 0 ? 0 : child_must(argv, deadline_in(20000), NULL, &e);
    unlink(path);
    ck_assert_msg(rc == 0, "%s", e.text);
}
END_TEST

static const struct { const char **where, *text; } unfit[] = {
    {&g.cmdline, "quiet\ninit=/bin/sh"}, {&g.cmdline, "\x1b]52;c;eA==\x07"}, {&g.kernel, "/boot/\xff\xfe"},
    {&g.root, "/var/\x01"},              {&spec.name, "\xe2\x80\xae" "bd"},
};

START_TEST(test_C4_unfit_text)
{
    char *xml = NULL;

    plain();
    *unfit[_i].where = unfit[_i].text;
    ck_assert_int_eq(virt_xml(&g, &machine, &xml, &e), -1);
    ck_assert_msg(e.code == VM_E_INVALID && !strchr(e.text, '\n'), "%s", e.text);
}
END_TEST

START_TEST(test_socket_too_long)
{
    char dir[120] = "/run/", *xml = NULL;

    plain();
    g.run_dir = dir;
    memset(dir + 5, 'x', 107 - strlen("/console.sock") - 5);
    ck_assert_msg(virt_xml(&g, &machine, &xml, &e) == 0, "%s", e.text);
    free(xml);
    dir[strlen(dir)] = 'x';
    ck_assert_int_eq(virt_xml(&g, &machine, &xml, &e), -1);
    ck_assert(strstr(e.text, "too long") != NULL);
}
END_TEST

START_TEST(test_disk_names)
{
    static const struct { size_t index; const char *name; } want[] = {
        {0, "vda"}, {1, "vdb"}, {25, "vdz"}, {26, "vdaa"}, {51, "vdaz"}, {52, "vdba"}, {701, "vdzz"}, {702, "vdaaa"}};
    char name[8];

    for (size_t i = 0; i < ARRAY_LEN(want); i++) {
        virt_disk_name(want[i].index, name);
        ck_assert_str_eq(name, want[i].name);
    }
}
END_TEST

START_TEST(test_connected)
{
    ck_assert(virt_xml_connected("<target type='virtio' name='vmsd.agent' state='connected'/>"));
    ck_assert(!virt_xml_connected("<target type='virtio' name='vmsd.agent' state='disconnected'/>"));
    ck_assert(!virt_xml_connected("<target type='virtio' name='vmsd.agent'/> <target name='x' state='connected'/>"));
    ck_assert(!virt_xml_connected("<title> name=&apos;vmsd.agent&apos; state=&apos;connected&apos;</title>"));
    ck_assert(!virt_xml_connected(""));
}
END_TEST

/* ---- the note ---- */

START_TEST(test_note)
{
    char dir[] = "/tmp/vmsd-note-XXXXXX", path[64];
    struct virt_note n = {.uid = 6553600, .booted = true, .console_from = 77, .console_inode = 5,
                          .log_dir = strdup("/var/log/x y"), .qemu = {42, 1234567890123, "0123456789-0123456789-0123456789-012"}};
    OWN(virt_note) struct virt_note back = {0};

    ck_assert(mkdtemp(dir) != NULL);
    strv_add(&n.opened, "/var/lib/vmsd");
    strv_add(&n.opened, "/a=b");
    ck_assert_msg(virt_note_write(dir, &n, &e) == 0 && virt_note_read(dir, &back, &e) == 0, "%s", e.text);
    ck_assert(back.qemu.pid == 42 && back.qemu.start == n.qemu.start && !strcmp(back.qemu.boot, n.qemu.boot));
    ck_assert(back.booted && !back.killed && !back.console.pid && back.uid == n.uid && back.console_from == 77 &&
              back.console_inode == 5 && !strcmp(back.log_dir, n.log_dir));
    ck_assert(back.opened.n == 2 && !strcmp(back.opened.v[1], "/a=b"));
    virt_note_done(n);
    virt_note_remove(dir);
    ck_assert(virt_note_read(dir, &n, &e) < 0 && e.code == VM_E_ABSENT);
    snprintf(path, sizeof path, "%s/libvirt", dir);
    static const char *const broken[] = {"", "uid", "uid=x\n", "uid=1\nqemu=7\n", "uid=1\nqemu=-7 1 x\n", "booted=1\n"};
    for (size_t i = 0; i < ARRAY_LEN(broken); i++) {
        write_file(path, broken[i]);
        ck_assert_msg(virt_note_read(dir, &n, &e) < 0 && e.code == VM_E_SYSTEM, "%s", broken[i]);
    }
    virt_note_remove(dir);
    ck_assert(rmdir(dir) == 0);
}
END_TEST

/* ---- the console's last words ---- */

static const struct { const char *log; enum drv_exit_kind kind; const char *text; } words[] = {
    {"[    1.83] ACPI: PM: S5\r\n[    1.84] reboot: Power down\r\n", EXIT_POWEROFF, "reboot: Power down"},
    {"[    1.8] reboot: Restarting system\r\n[    1.9] reboot: machine restart\r\n", EXIT_REBOOT, "reboot: Restarting system"},
    {"[  9.1] Kernel panic - not syncing: sysrq triggered crash\n[ 9.2] reboot: Restarting system\n", EXIT_PANIC,
     "Kernel panic - not syncing: sysrq triggered crash"},
    {"vms-init: cannot find the disk 'vol7'\r\n[ 2.1] Kernel panic - not syncing: Attempted to kill init! exitcode=0x0\r\n",
     EXIT_PANIC, "vms-init: cannot find the disk 'vol7'; Kernel panic - not syncing: Attempted to kill init! exitcode=0x0"},
    {"Debian GNU/Linux 12 db ttyS0\r\n\r\n", EXIT_UNKNOWN, "Debian GNU/Linux 12 db ttyS0"},
    {"evil \x1b]52;c;x\x07\n", EXIT_UNKNOWN, "evil \\x1B]52;c;x\\x07"},
    {"", EXIT_UNKNOWN, ""},
};

START_TEST(test_P1_last_words)
{
    char dir[] = "/tmp/vmsd-words-XXXXXX", path[64];
    struct virt_note n = {.log_dir = dir, .console_from = 0};
    struct drv_exit x;
    static const char before[] = "[ 1.0] reboot: Power down\n";
    struct text t = {0};

    ck_assert(mkdtemp(dir) != NULL);
    snprintf(path, sizeof path, "%s/console.log", dir);
    write_file(path, words[_i].log);
    virt_console_tell(&n, &x);
    ck_assert_msg(x.kind == words[_i].kind && !strcmp(x.text, words[_i].text), "%d '%s'", x.kind, x.text);
    /* What an earlier boot said is not this one's. */
    text_add(&t, before);
    text_add(&t, words[_i].log);
    write_file(path, t.s);
    struct stat st;
    ck_assert(stat(path, &st) == 0);
    n.console_inode = st.st_ino;
    n.console_from = (off_t)strlen(before);
    virt_console_tell(&n, &x);
    ck_assert_msg(x.kind == words[_i].kind && !strcmp(x.text, words[_i].text), "%d '%s'", x.kind, x.text);
    text_done(t);
    unlink(path);
    rmdir(dir);
}
END_TEST

START_TEST(test_group)
{
    static const struct { const char *text, *group; } cases[] = {
        {"0::/machine.slice/machine-qemu\\x2d1\\x2dvmsd\\x2d7.scope/libvirt/emulator\n",
         "/machine.slice/machine-qemu\\x2d1\\x2dvmsd\\x2d7.scope"},
        {"0::/machine/qemu-12-vmsd-7.libvirt-qemu/emulator\n", "/machine/qemu-12-vmsd-7.libvirt-qemu"},
        {"2:cpu:/machine/qemu-1-vmsd-7.libvirt-qemu\n0::/machine/qemu-1-vmsd-7.libvirt-qemu\n", "/machine/qemu-1-vmsd-7.libvirt-qemu"},
        {"2:cpu:/machine/qemu-1-vmsd-7.libvirt-qemu\n0::/\n", NULL},
        {"0::/machine/qemu-1-vmsd-77.libvirt-qemu\n", NULL},
        {"0::/machine/qemu-1-vmsd-7.libvirt-qemu-not\n", NULL},
        {"0::/machine/qemu-1-othervmsd-7.libvirt-qemu\n", NULL},
        {"0::/machine.slice/machine-qemu\\x2d1\\x2dvmsd\\x2d17.scope\n", NULL},
        {"0::/system.slice/libvirtd.service\n", NULL}, {"0::/vmsd/7/guest\n", NULL}, {"0::\n", NULL}, {"", NULL},
    };
    char group[PATH_MAX];

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        ck_assert_msg(virt_group_of(cases[i].text, 7, group) == (cases[i].group != NULL), "%s", cases[i].text);
        if (cases[i].group)
            ck_assert_str_eq(group, cases[i].group);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("libvirt_xml");
    TCase *c = tcase_create("pure");

    tcase_add_loop_test(c, test_golden, 0, ARRAY_LEN(golden));
    tcase_add_loop_test(c, test_C5_valid, 0, ARRAY_LEN(golden));
    tcase_add_loop_test(c, test_C4_unfit_text, 0, ARRAY_LEN(unfit));
    tcase_add_test(c, test_socket_too_long);
    tcase_add_test(c, test_disk_names);
    tcase_add_test(c, test_connected);
    tcase_add_test(c, test_note);
    tcase_add_test(c, test_group);
    tcase_add_loop_test(c, test_P1_last_words, 0, ARRAY_LEN(words));
    tcase_set_timeout(c, 30);
    suite_add_tcase(s, c);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
