#include "contract.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/starter.h>

/* What microVMs boot from lies in the cache of the tests: built once, by whoever comes first. */
static struct prepared {
    const struct vm_driver *drv;
    uint32_t first;
    char image[IMAGE_PATH];
    struct image_kernel kernel;
} prepared;

static void progress(const char *text, void *arg)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static int boot_files(struct image_store *store, struct vm_err *e)
{
    struct spec_image want = {.kind = IMAGE_RECIPE, .name = "debian-12"};
    struct image_progress p = {.line = progress};
    struct deadline d = deadline_in(900000);
    struct image_ref ref;

    if (image_store_set_boot(store, BOOT_PROGRAM, AGENT_PROGRAM, e) < 0 || image_ensure(store, &want, p, d, &ref, e) < 0 ||
        image_disk(store, &ref, p, d, prepared.image, e) < 0)
        return -1;
    return kernel_ensure(store, p, d, &prepared.kernel, e);
}

static const char *prepare_boot(void)
{
    OWN(strv) struct strv recipes = {0};
    struct image_store *store;
    const char *cache = getenv("VMSD_CACHE");
    static struct vm_err e;

    strv_add(&recipes, RECIPES);
    if (image_store_open(cache ? cache : "/var/tmp/vmsd-test", &recipes, &store, &e) < 0)
        return e.text;
    int rc = boot_files(store, &e);
    image_store_close(store);
    return rc < 0 ? e.text : NULL;
}

static char *const starter[] = {STARTER_PROGRAM, "--keeper", KEEPER_PROGRAM, "--agent", AGENT_PROGRAM, NULL};

const char *subjects_prepare(const char *driver)
{
    static struct drv_report report;
    static struct vm_err e;

    if (geteuid() != 0)
        return "not root";
    if (drivers_init(KEEPER_PROGRAM, &e) < 0)
        return e.text;
    starter_place((struct starter_place){.argv = starter});
    for (uint32_t i = 0; drivers()[i] && !prepared.drv; i++)
        if (!strcmp(drivers()[i]->name, driver))
            prepared = (struct prepared){.drv = drivers()[i], .first = 5000 + 1000 * i};
    if (!prepared.drv)
        return "there is no such driver";
    /* In a process of its own: what a library starts here would be lost to the tests, which are forked. */
    int result[2];
    if (pipe(result) < 0)
        return "no pipe";
    pid_t pid = fork();
    if (pid == 0) {
        prepared.drv->probe(&report);
        _exit(write(result[1], &report, sizeof report) != sizeof report);
    }
    close(result[1]);
    bool told = read(result[0], &report, sizeof report) == sizeof report;
    close(result[0]);
    waitpid(pid, NULL, 0);
    if (!told)
        return "the probe ended without an answer";
    if (!report.usable)
        return report.why;
    return prepared.drv->can & DRV_BOOTS_KERNEL ? prepare_boot() : trial_missing();
}

uint32_t subjects_first(void)
{
    return prepared.first;
}

void subject_describe(struct subject *s, unsigned n)
{
    struct trial *t = &s->t;

    *s = (struct subject){0};
    snprintf(s->name, sizeof s->name, "contract-%u", n);
    trial_describe(t, prepared.drv->name, s->name, prepared.first + n);
    snprintf(s->tap_name, sizeof s->tap_name, "contract%u", n);
    snprintf(s->disk, sizeof s->disk, "%s/disk.img", t->dir);
    s->mounts[0] = (struct drv_mount){.disk = true, .source = s->disk, .target = "/srv/data", .mapped = true};
    s->mounts[1] = (struct drv_mount){.source = t->source, .target = "/srv/share", .mapped = true};
    s->mounts[2] = (struct drv_mount){.source = t->source, .target = "/srv/ro", .mapped = true, .read_only = true};
    t->g.mounts = s->mounts;
    t->g.n_mounts = SUBJECT_MOUNTS;
    if (!(t->drv->can & DRV_BOOTS_KERNEL))
        return;
    snprintf(s->initramfs, sizeof s->initramfs, "%s/" TRIAL_INITRAMFS, t->run);
    t->spec.kind = KIND_MICROVM;
    t->spec.memory = 384 << 20;
    t->spec.hypervisor = "auto";
    t->g.image = prepared.image;
    t->g.kernel = prepared.kernel.kernel;
    t->g.modules = prepared.kernel.modules;
    t->g.initramfs = s->initramfs;
    t->g.cmdline = "quiet panic=-1 net.ifnames=0";
}

static void token_path(const struct subject *s, char *out, size_t size)
{
    snprintf(out, size, "%s/token", s->t.dir);
}

void subject_init(struct subject *s, unsigned n)
{
    char path[128];

    subject_describe(s, n);
    trial_make(&s->t);
    trial_image(s->disk, 32);
    snprintf(path, sizeof path, "%s/hello", s->t.source);
    trial_file(path, "from the host\n");
}

void subject_adopt(struct subject *s, unsigned n)
{
    struct trial *t = &s->t;
    char path[128];

    subject_describe(s, n);
    OK(t->drv->adopt(t->g.id, t->run, &t->p, &t->e));
    if (!(t->drv->can & DRV_BOOTS_KERNEL))
        return;
    token_path(s, path, sizeof path);
    FILE *f = fopen(path, "re");
    ck_assert(f && fgets(s->token, sizeof s->token, f));
    fclose(f);
}

static void ip(const char *line)
{
    OWN(strv) struct strv argv = {0};
    char copy[200], *rest = copy;
    struct vm_err e;

    snprintf(copy, sizeof copy, "/sbin/ip %s", line);
    for (char *word; (word = strsep(&rest, " "));)
        strv_add(&argv, word);
    ck_assert_msg(child_must(argv.v, deadline_in(10000), NULL, &e) == 0, "%s", e.text);
}

/* The link to the host: SUBJECT_HOST here, SUBJECT_GUEST there. */
static void open_tap(struct subject *s)
{
    struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
    char line[128];

    snprintf(r.ifr_name, sizeof r.ifr_name, "%s", s->tap_name);
    s->tap = (struct drv_tap){.fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC), .ifname = s->tap_name, .mac = SUBJECT_MAC};
    ck_assert_msg(s->tap.fd >= 0 && ioctl(s->tap.fd, TUNSETIFF, &r) == 0, "%s: %s", s->tap_name, strerror(errno));
    snprintf(line, sizeof line, "address add " SUBJECT_HOST "/24 dev %s", s->tap_name);
    ip(line);
    snprintf(line, sizeof line, "link set %s up", s->tap_name);
    ip(line);
    s->t.g.taps = &s->tap;
    s->t.g.n_taps = 1;
}

/* A driver may have made it persistent. */
static void remove_tap(struct subject *s)
{
    char line[64];

    snprintf(line, sizeof line, "link delete %s", s->tap_name);
    if (if_nametoindex(s->tap_name))
        ip(line);
}

/* As the supervisor does it at each start. */
static void write_initramfs(struct subject *s)
{
    static const char hex[] = "0123456789abcdef";
    struct trial *t = &s->t;
    OWN(text) struct text setup = {0};
    OWN(fd) int dir = open(t->run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    unsigned char random[PROTO_TOKEN / 2];
    char path[128];

    ck_assert(getrandom(random, sizeof random, 0) == sizeof random);
    for (size_t i = 0; i < sizeof random; i++) {
        s->token[2 * i] = hex[random[i] >> 4];
        s->token[2 * i + 1] = hex[random[i] & 15];
    }
    token_path(s, path, sizeof path);
    trial_file(path, s->token);
    text_addf(&setup, "hostname=%s\ntoken=%s\nnic=" SUBJECT_MAC " host0\naddress=host0 " SUBJECT_GUEST "/24\n",
              t->spec.name, s->token);
    for (size_t i = 0; i < t->g.n_mounts; i++) {
        char tag[DRV_TAG];

        drv_mount_tag(&t->g, i, tag);
        text_addf(&setup, "mount=%s %s%s\n", tag, s->mounts[i].target, s->mounts[i].read_only ? " ro" : "");
    }
    if (s->fault)
        text_addf(&setup, "%s\n", s->fault);
    OK(initramfs_write(dir, TRIAL_INITRAMFS, prepared.kernel.initramfs, setup.s, &t->e));
}

int subject_start(struct subject *s, struct deadline d)
{
    struct trial *t = &s->t;

    if (t->drv->can & DRV_BOOTS_KERNEL)
        write_initramfs(s);
    if (!(t->drv->can & DRV_TAKES_TAPS))
        return t->drv->start(&t->g, d, &t->p, &t->e);
    remove_tap(s);
    open_tap(s);
    int rc = t->drv->start(&t->g, d, &t->p, &t->e);
    close(s->tap.fd);
    t->g.n_taps = 0;
    return rc;
}

void subject_done(struct subject *s)
{
    remove_tap(s);
    trial_done(&s->t);
}

void subject_boot(struct subject *s)
{
    struct trial *t = &s->t;

    OK(subject_start(s, deadline_in(START_MS)));
    OK(t->drv->wait_booted(&t->g, &t->p, deadline_in(BOOT_MS), &t->e));
    ck_assert_int_eq(t->p.phase, DRV_BOOTED);
}
