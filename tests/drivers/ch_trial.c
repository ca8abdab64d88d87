#include "ch_trial.h"

#include <drivers/shares.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { FIRST_ID = 8000 };

struct trial trial, *const t = &trial;
struct drv_mount mounts[3];
struct drv_tap tap;
char paths[PATH_COUNT][160];

void guest_init(unsigned n, const char *script)
{
    static const char *const names[] = {"image", "kernel", "modules", "vol.img", ("run/" TRIAL_INITRAMFS)};
    static char name[16];

    snprintf(name, sizeof name, "trial-ch%u", n);
    trial_describe(t, "cloud-hypervisor", name, FIRST_ID + n);
    trial_make(t);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        snprintf(paths[i], sizeof paths[i], "%s/%s", t->dir, names[i]);
        trial_file(paths[i], i == PATH_KERNEL ? script : names[i]);
    }
    t->spec.kind = KIND_MICROVM;
    t->spec.memory = 256 << 20;
    t->spec.hypervisor = "cloud-hypervisor";
    t->g.image = paths[PATH_IMAGE];
    t->g.kernel = paths[PATH_KERNEL];
    t->g.modules = paths[PATH_MODULES];
    t->g.initramfs = paths[PATH_INITRAMFS];
    t->g.cmdline = "quiet";
    mounts[0] = (struct drv_mount){.disk = true, .source = paths[PATH_VOLUME], .target = "/srv/vol", .mapped = true};
    t->g.mounts = mounts;
    t->g.n_mounts = 1;
}

/* Any open file will do: the double only looks whether one came. */
void guest_tap(void)
{
    tap = (struct drv_tap){.fd = open("/dev/null", O_RDWR | O_CLOEXEC), .ifname = "tap0", .mac = "02:00:00:00:00:01"};
    t->g.taps = &tap;
    t->g.n_taps = 1;
}

void guest_share(size_t i, const char *target, bool read_only)
{
    mounts[i] = (struct drv_mount){.source = t->source, .target = target, .mapped = true, .read_only = read_only};
    t->g.n_mounts = i + 1;
}

char *console(void)
{
    static char *text;
    char path[128];
    int fd;

    free(text);
    text = NULL;
    snprintf(path, sizeof path, "%s/console.log", t->log);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert(fd >= 0 && path_read_fd(fd, path, 8 << 20, &text, NULL, NULL) == 0);
    close(fd);
    return text;
}

bool console_says(const char *words)
{
    for (int i = 0; i < 100; i++) {
        if (strstr(console(), words))
            return true;
        sleep_ms(20);
    }
    return false;
}

void traffic_keep(void)
{
    const char *path = getenv("VMS_CH_TRAFFIC");
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    const char *text = console();

    if (fd >= 0)
        ck_assert(path_write_all(fd, text, strlen(text), NULL) == 0);
    fd_drop(fd);
}

void guest_start_fails(enum vm_errc code, const char *words)
{
    ck_assert_int_eq(t->drv->start(&t->g, deadline_in(3000), &t->p, &t->e), -1);
    ck_assert_msg(t->e.code == code && strstr(t->e.text, words) && !strchr(t->e.text, '\n'), "%d: %s", t->e.code, t->e.text);
    trial_gone(t);
}

void guest_over(void)
{
    struct drv_exit x;

    t->drv->stop(t->g.id, t->run, &t->p, deadline_in(5000), &t->e);
    OK(t->drv->reap(t->g.id, t->run, &x, &t->e));
    trial_done(t);
}

int suite_run(Suite *s, TCase *shares)
{
    if (geteuid() != 0) {
        printf("skipped: not root\n");
        return 77;
    }
    if (shares && shares_program(NULL))
        suite_add_tcase(s, shares);
    else if (shares)
        printf("without a virtiofsd: the tests of shares are left out\n");
    setenv("VMS_CLOUD_HYPERVISOR", DOUBLE_PROGRAM, 1);
    if (getenv("VMS_CH_TRAFFIC"))
        unlink(getenv("VMS_CH_TRAFFIC"));
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    trial_sweep(FIRST_ID);
    return failed != 0;
}
