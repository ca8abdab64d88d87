/* What a guest that boots a kernel is told, and which files it may be booted from. */
#include "../../supervisor/boot.h"
#include "../../supervisor/steps.h"

#include <check.h>
#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- what boot.c needs of the rest ---- */

static char written[4096]; /* "base: setup" of the initramfs */
static bool remove_fails;

int initramfs_write(int dir, const char *name, const char *base, const char *setup, struct vm_err *e)
{
    OWN(fd) int fd = openat(dir, name, O_WRONLY | O_CREAT, 0600);

    (void)e;
    snprintf(written, sizeof written, "%s: %s", base, setup);
    return 0;
}

int kernel_ensure(struct image_store *s, struct image_progress p, struct deadline d, struct image_kernel *out,
                  struct vm_err *e)
{
    (void)s, (void)p, (void)d, (void)e;
    strcpy(out->kernel, "/images/k/vmlinuz");
    strcpy(out->initramfs, "/images/k/initramfs");
    return 0;
}

void job_output(const char *text, void *arg)
{
    (void)text, (void)arg;
}

void drv_mount_tag(const struct drv_guest *g, size_t mount, char out[static DRV_TAG])
{
    snprintf(out, DRV_TAG, "%s%zu", g->mounts[mount].disk ? "vol" : "share", mount);
}

void job_borrow(const struct job *j, struct drv_guest *out)
{
    *out = (struct drv_guest){.mounts = j->mounts, .n_mounts = j->n_mounts};
}

static unsigned opened, removed, fail_at; /* taps; the fail_at'th cannot be opened */
static int tap_fds[8];

int net_tap_open(const struct net_nic *nic, const struct network_spec *n, int *out_fd, struct vm_err *e)
{
    (void)n;
    if (++opened == fail_at)
        return vm_fail(e, VM_E_CONFLICT, "tap %s is taken", nic->ifname);
    *out_fd = tap_fds[opened] = open("/dev/null", O_RDWR | O_CLOEXEC);
    return 0;
}

int net_rate_limit(const char *ifname, uint64_t rx, uint64_t tx, struct vm_err *e)
{
    (void)ifname, (void)rx, (void)tx, (void)e;
    return 0;
}

int net_link_remove(const char *ifname, struct vm_err *e)
{
    ck_assert_str_eq(ifname, removed ? "vms3-1" : "vms3-0");
    removed++;
    return remove_fails ? vm_fail(e, VM_E_SYSTEM, "no netlink") : 0;
}

int net_setup(const struct net_nic *nic, unsigned index, const struct network_spec *n, struct strv *out, struct vm_err *e)
{
    if (!n)
        return vm_fail(e, VM_E_INVALID, "no network");
    strv_addf(out, "nic=%s host%u", nic->mac, index);
    return 0;
}

/* ---- a job ---- */

static char dir[] = "/tmp/test_boot.XXXXXX";
static struct guest_spec spec;
static struct net_nic nics[] = {{.ifname = "vms3-0", .mac = "06:00:00:00:00:03"}, {.ifname = "vms3-1", .mac = "06:01:00:00:00:03"}};
static struct network_spec lan = {.name = "lan"}, *networks[] = {&lan, &lan};
static struct drv_mount mounts[] = {{.disk = true, .target = "/srv/my data"}, {.target = "/srv/share", .read_only = true}};
static const struct vm_driver driver = {.name = "fake", .can = DRV_BOOTS_KERNEL | DRV_TAKES_TAPS};
static struct world world;
static struct job job;

static void set_up(void)
{
    strcpy(dir, "/tmp/test_boot.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    spec = (struct guest_spec){.kind = KIND_MICROVM};
    job = (struct job){.w = &world, .name = (char *)"db", .spec = &spec, .nics = nics, .n_nics = 2, .networks = networks, .run_dir = dir,
                       .mounts = mounts, .n_mounts = 2, .driver = &driver};
    opened = removed = fail_at = 0;
    *written = '\0';
}

static void tear_down(void)
{
    char command[80];

    free(job.initramfs);
    free(job.cmdline);
    snprintf(command, sizeof command, "rm -r %s", dir);
    ck_assert_int_eq(system(command), 0);
}

static const char told[] =
    "hostname=db\nnic=06:00:00:00:00:03 host0\nnic=06:01:00:00:00:03 host1\ntoken=0123456789abcdef0123456789abcdef\n"
    "mount=vol0 /srv/my data\nmount=share1 /srv/share ro\n";

START_TEST(test_setup_text)
{
    OWN(str) char *text = boot_setup(&job, "0123456789abcdef0123456789abcdef", NULL), *ro = NULL;
    struct drv_mount bad = {.target = "/srv/not ro"};
    struct vm_err e = {0};

    ck_assert_str_eq(text, told);
    spec.security.read_only_root = true;
    ro = boot_setup(&job, "0123456789abcdef0123456789abcdef", NULL);
    ck_assert_str_eq(ro + strlen(told), "root=ro\n");
    job.mounts = &bad;
    job.n_mounts = 1;
    ck_assert_ptr_null(boot_setup(&job, "x", &e));
    ck_assert_ptr_nonnull(strstr(e.text, "/srv/not ro"));
    job.n_mounts = 0;
    job.networks = (struct network_spec *[]){NULL, NULL};
    ck_assert_ptr_null(boot_setup(&job, "x", &e));
}
END_TEST

START_TEST(test_request)
{
    const struct network_spec *one[] = {&lan};
    OWN(strv) struct strv q = {0};
    long long seconds;

    ck_assert_int_eq(boot_request("db", nics, one, 1, &q, NULL), 0);
    ck_assert_uint_eq(q.n, 4);
    ck_assert_str_eq(q.v[0], "op=setup");
    ck_assert_str_eq(q.v[1], "hostname=db");
    ck_assert_int_eq(sscanf(q.v[2], "clock=%lld.", &seconds), 1);
    ck_assert(llabs(seconds - (long long)time(NULL)) < 60);
    ck_assert_str_eq(q.v[3], "nic=06:00:00:00:00:03 host0");
}
END_TEST

/* D18: another token for each boot, which only root can read, and which is found again. */
START_TEST(test_D18_token)
{
    char first[BOOT_TOKEN], second[BOOT_TOKEN], path[80];
    struct vm_err e = {0};
    struct stat st;

    ck_assert_int_eq(boot_token_read(dir, first, &e), 0);
    ck_assert_str_eq(first, "");
    ck_assert_int_eq(boot_prepare(&job, &e), 0);
    boot_done(&job);
    ck_assert_int_eq(boot_token_read(dir, first, &e), 0);
    for (size_t i = 0; i < PROTO_TOKEN; i++)
        ck_assert(isxdigit((unsigned char)first[i]));
    ck_assert_uint_eq(strlen(first), PROTO_TOKEN);
    snprintf(path, sizeof path, "%s/token", dir);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(boot_prepare(&job, &e), 0);
    boot_done(&job);
    ck_assert_int_eq(boot_token_read(dir, second, &e), 0);
    ck_assert_str_ne(first, second);
    ck_assert_int_eq(truncate(path, 31), 0);
    ck_assert_int_eq(boot_token_read(dir, second, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "no token"));
    ck_assert_int_eq(boot_token_read("/nowhere/at/all", second, &e), -1);
}
END_TEST

/* Ours, one of the user's, or none at all: then nothing of an earlier boot is left over either. */
START_TEST(test_initramfs)
{
    struct vm_err e = {0};
    char path[80];

    ck_assert_int_eq(boot_kernel(&job, deadline_in(1), &e), 0);
    ck_assert_int_eq(boot_prepare(&job, &e), 0);
    boot_done(&job);
    ck_assert_ptr_nonnull(strstr(written, "/images/k/initramfs: hostname=db\n"));
    snprintf(path, sizeof path, "%s/initramfs", dir);
    ck_assert_str_eq(job.initramfs, path);
    ck_assert_ptr_null(strstr(job.cmdline, "my=word"));
    spec.initramfs = "/srv/initrd.img";
    spec.cmdline = "my=word";
    ck_assert_int_eq(boot_prepare(&job, &e), 0);
    boot_done(&job);
    ck_assert_ptr_nonnull(strstr(written, "/srv/initrd.img: "));
    ck_assert_ptr_nonnull(strstr(job.cmdline, " my=word"));
    spec.initramfs = NULL;
    spec.kernel = "/srv/vmlinuz";
    ck_assert_int_eq(access(path, F_OK), 0);
    ck_assert_int_eq(boot_prepare(&job, &e), 0);
    boot_done(&job);
    ck_assert_ptr_null(job.initramfs);
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

START_TEST(test_taps_are_closed)
{
    struct vm_err e = {0};

    fail_at = 2;
    ck_assert_int_eq(boot_prepare(&job, &e), -1);
    ck_assert_ptr_nonnull(strstr(e.text, "vms3-1 is taken"));
    boot_done(&job);
    ck_assert_int_eq(fcntl(tap_fds[1], F_GETFD), -1);
    ck_assert_uint_eq(job.n_taps, 0);
    remove_fails = true; /* says nothing, and goes on with the next */
    boot_remove_links(&job);
    remove_fails = false;
    ck_assert_uint_eq(removed, 2);
}
END_TEST

/* ---- files to boot from ---- */

static const char *file(const char *name, mode_t mode, const void *content, size_t n)
{
    static char path[200];
    OWN(fd) int fd = -1;

    snprintf(path, sizeof path, "%s/%s", dir, name);
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq((int)write(fd, content, n), (int)n);
    ck_assert_int_eq(fchmod(fd, mode), 0);
    return path;
}

static void refused(enum boot_file what, const char *path, const char *why)
{
    struct vm_err e = {0};

    ck_assert_msg(boot_file_check(what, path, &e) < 0, "%s was taken", path);
    ck_assert_msg(strstr(e.text, why) != NULL, "%s", e.text);
}

START_TEST(test_C10_files_to_boot_from)
{
    char image[0x300] = "", path[80];
    struct vm_err e = {0};

    if (geteuid() != 0)
        return; /* whose files are root's? */
    memcpy(image + 0x202, "HdrS", 4);
    ck_assert_msg(!boot_file_check(BOOT_KERNEL, file("vmlinuz", 0644, image, sizeof image), &e), "%s", e.text);
    ck_assert_msg(!boot_file_check(BOOT_KERNEL, file("vmlinux", 0600, "\177ELF", 4), &e), "%s", e.text);
    ck_assert_msg(!boot_file_check(BOOT_INITRAMFS, file("initrd", 0600, "070701", 6), &e), "%s", e.text);
    ck_assert_msg(!boot_file_check(BOOT_INITRAMFS, file("initrd", 0600, "\x28\xb5\x2f\xfd", 4), &e), "%s", e.text);
    refused(BOOT_KERNEL, file("short", 0644, image, 0x205), "neither a bzImage");
    refused(BOOT_KERNEL, file("empty", 0644, "", 0), "neither a bzImage");
    refused(BOOT_INITRAMFS, file("shadow", 0644, "root:*:1::::\n", 13), "no cpio");
    refused(BOOT_KERNEL, file("group", 0664, image, sizeof image), "by others than root");
    refused(BOOT_KERNEL, file("world", 0646, image, sizeof image), "by others than root");
    file("own", 0644, image, sizeof image);
    snprintf(path, sizeof path, "%s/own", dir);
    ck_assert_int_eq(chown(path, 1, 1), 0);
    refused(BOOT_KERNEL, path, "by others than root");
    refused(BOOT_KERNEL, "/dev/null", "regular file");
    refused(BOOT_KERNEL, dir, "regular file");
    refused(BOOT_INITRAMFS, "/proc/cmdline", "regular file");
    refused(BOOT_INITRAMFS, "/proc/self/mem", "regular file");
    refused(BOOT_KERNEL, "/nowhere/vmlinuz", "/nowhere/vmlinuz");
    snprintf(path, sizeof path, "%s/fifo", dir);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    refused(BOOT_KERNEL, path, "regular file"); /* and does not wait for whoever writes to it */
    snprintf(path, sizeof path, "%s/link", dir);
    ck_assert_int_eq(symlink("/proc/kcore", path), 0);
    refused(BOOT_KERNEL, path, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("boot");
    TCase *c = tcase_create("boot");
    SRunner *r;
    int failed;

    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 20);
    tcase_add_test(c, test_setup_text);
    tcase_add_test(c, test_request);
    tcase_add_test(c, test_D18_token);
    tcase_add_test(c, test_initramfs);
    tcase_add_test(c, test_taps_are_closed);
    tcase_add_test(c, test_C10_files_to_boot_from);
    suite_add_tcase(s, c);
    r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
