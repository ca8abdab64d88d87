/* What a guest that boots a kernel is given each time that it starts, and how it is told what it is. */
#include "boot.h"
#include "steps.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/path.h>
#include <vmsd/proto.h>

#define TOKEN "token"
#define INITRAMFS "initramfs"
enum { FILE_HEAD = 0x206 };

/* Quiet, for the console is kept and shown; a panic ends the guest at once; interfaces keep the names that they are
 * given; systemd asks nobody anything. */
#define CMDLINE "quiet loglevel=4 panic=-1 net.ifnames=0 8250.nr_uarts=1 systemd.firstboot=off"

/* ---- the token of a boot ---- */

static int token_make(int run, char out[static BOOT_TOKEN], struct vm_err *e)
{
    unsigned char bytes[PROTO_TOKEN / 2];

    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return vm_fail_sys(e, "take random bytes");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    return path_write(run, TOKEN, out, PROTO_TOKEN, 0600, e);
}

int boot_token_read(const char *run_dir, char out[static BOOT_TOKEN], struct vm_err *e)
{
    OWN(fd) int run = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(str) char *text = NULL;
    size_t n = 0;

    out[0] = '\0';
    if (run < 0)
        return -1;
    if (!path_exists(run, TOKEN))
        return 0;
    if (path_read(run, TOKEN, PROTO_TOKEN, &text, &n, e) < 0)
        return -1;
    if (n != PROTO_TOKEN)
        return vm_fail(e, VM_E_BACKEND, "%s/" TOKEN " holds no token; restart the guest", run_dir);
    memcpy(out, text, BOOT_TOKEN);
    return 0;
}

/* ---- what it is told ---- */

int boot_request(const char *name, const struct net_nic *nics, const struct network_spec *const *networks, size_t n,
                 struct strv *out, struct vm_err *e)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    strv_add(out, "op=setup");
    strv_addf(out, "hostname=%s", name);
    strv_addf(out, "clock=%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    for (size_t i = 0; i < n; i++)
        if (net_setup(&nics[i], (unsigned)i, networks[i], out, e) < 0)
            return -1;
    return out->failed ? vm_no_memory(e) : 0;
}

static int setup_mounts(const struct job *j, struct text *t, struct vm_err *e)
{
    struct drv_guest view;
    char tag[DRV_TAG];

    job_borrow(j, &view);
    for (size_t i = 0; i < view.n_mounts; i++) {
        const struct drv_mount *m = &view.mounts[i];
        size_t n = strlen(m->target);

        if (n > 3 && !strcmp(m->target + n - 3, " ro")) /* it would read as a word of its own */
            return vm_fail(e, VM_E_INVALID, "target '%s': its name must not end in \" ro\"", m->target);
        drv_mount_tag(&view, i, tag);
        text_addf(t, "mount=%s %s%s\n", tag, m->target, m->read_only ? " ro" : "");
    }
    return 0;
}

char *boot_setup(const struct job *j, const char *token, struct vm_err *e)
{
    OWN(text) struct text t = {0};
    OWN(strv) struct strv pairs = {0};

    text_addf(&t, "hostname=%s\n", j->name);
    for (size_t i = 0; i < j->n_nics; i++)
        if (net_setup(&j->nics[i], (unsigned)i, j->networks[i], &pairs, e) < 0)
            return NULL;
    for (size_t i = 0; i < pairs.n; i++)
        text_addf(&t, "%s\n", pairs.v[i]);
    text_addf(&t, "token=%s\n", token);
    if (setup_mounts(j, &t, e) < 0)
        return NULL;
    if (j->spec->security.read_only_root)
        text_add(&t, "root=ro\n");
    if (t.failed) {
        vm_no_memory(e);
        return NULL;
    }
    return text_take(&t);
}

/* ---- kernel and initramfs ---- */

static bool begins(const unsigned char *p, size_t n, size_t at, const char *magic, size_t len)
{
    return n >= at + len && !memcmp(p + at, magic, len);
}

static bool is_kernel(const unsigned char *p, size_t n)
{
    return begins(p, n, 0x202, "HdrS", 4) || begins(p, n, 0, "\177ELF", 4);
}

static bool is_initramfs(const unsigned char *p, size_t n)
{
    static const struct { const char *magic; size_t len; } known[] = {
        {"070701", 6}, {"070702", 6}, {"\x1f\x8b", 2}, {"\xfd" "7zXZ", 5}, {"\x28\xb5\x2f\xfd", 4},
        {"\x02\x21\x4c\x18", 4}, {"BZh", 3}, {"\x5d\0\0", 3}, {"\x89LZO", 4},
    };

    for (size_t i = 0; i < ARRAY_LEN(known); i++)
        if (begins(p, n, 0, known[i].magic, known[i].len))
            return true;
    return false;
}

int boot_file_check(enum boot_file what, const char *path, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, e);
    unsigned char head[FILE_HEAD];
    struct stat st;
    ssize_t n;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "%s", path);
    if (!S_ISREG(st.st_mode) || path_is_kernels(fd))
        return vm_fail(e, VM_E_INVALID, "%s is no file that could be booted; name a regular file", path);
    if (st.st_uid != 0 || (st.st_mode & (S_IWGRP | S_IWOTH)))
        return vm_fail(e, VM_E_DENIED, "%s can be changed by others than root; chown root and chmod go-w it", path);
    if ((n = pread(fd, head, sizeof head, 0)) < 0)
        return vm_fail_sys(e, "%s", path);
    if (what == BOOT_KERNEL && !is_kernel(head, (size_t)n))
        return vm_fail(e, VM_E_INVALID, "%s is neither a bzImage nor an ELF file; name a vmlinuz or vmlinux", path);
    if (what == BOOT_INITRAMFS && !is_initramfs(head, (size_t)n))
        return vm_fail(e, VM_E_INVALID, "%s is no cpio archive, packed or not; name an initrd.img", path);
    return 0;
}

int boot_kernel(struct job *j, struct deadline d, struct vm_err *e)
{
    const struct guest_spec *s = j->spec;

    if (s->kernel && boot_file_check(BOOT_KERNEL, s->kernel, e) < 0)
        return vm_context(e, "kernel");
    if (s->initramfs && boot_file_check(BOOT_INITRAMFS, s->initramfs, e) < 0)
        return vm_context(e, "initramfs");
    if (s->kernel)
        return 0;
    return kernel_ensure(j->w->images, (struct image_progress){job_output, j, j->asked_at}, d, &j->kernel, e) < 0
               ? vm_context(e, "the kernel for microVMs")
               : 0;
}

/* Of a user's kernel the initramfs is the user's as well; without any, the guest hears all from op=setup. */
static const char *initramfs_base(const struct job *j)
{
    return j->spec->initramfs ? j->spec->initramfs : j->spec->kernel ? NULL : j->kernel.initramfs;
}

static int write_initramfs(struct job *j, int run, const char *token, struct vm_err *e)
{
    const char *base = initramfs_base(j);
    OWN(str) char *setup = base ? boot_setup(j, token, e) : NULL;

    if (base && !setup)
        return -1;
    free(j->initramfs);
    j->initramfs = base ? text_format("%s/" INITRAMFS, j->run_dir) : NULL;
    if (!base)
        return path_remove(run, INITRAMFS, e);
    return j->initramfs ? initramfs_write(run, INITRAMFS, base, setup, e) : vm_no_memory(e);
}

/* ---- taps ---- */

static int open_taps(struct job *j, struct vm_err *e)
{
    const struct spec_limits *l = &j->spec->limits;

    if (!(j->taps = calloc(j->n_nics + 1, sizeof *j->taps)))
        return vm_no_memory(e);
    for (size_t i = 0; i < j->n_nics; i++) {
        struct drv_tap *t = &j->taps[i];

        *t = (struct drv_tap){.fd = -1, .ifname = j->nics[i].ifname, .mac = j->nics[i].mac};
        if (net_tap_open(&j->nics[i], j->networks[i], &t->fd, e) < 0)
            return vm_context(e, "attach to network '%s'", j->networks[i]->name);
        j->n_taps++;
        if ((l->net_rx || l->net_tx) && net_rate_limit(t->ifname, l->net_rx, l->net_tx, e) < 0)
            return vm_context(e, "limits.net");
    }
    return 0;
}

int boot_prepare(struct job *j, struct vm_err *e)
{
    OWN(fd) int run = path_open_host(j->run_dir, O_RDONLY | O_DIRECTORY, e);
    char token[BOOT_TOKEN];

    if (run < 0 || token_make(run, token, e) < 0 || write_initramfs(j, run, token, e) < 0)
        return -1;
    free(j->cmdline);
    j->cmdline = text_format(CMDLINE "%s%s", j->spec->cmdline ? " " : "", j->spec->cmdline ? j->spec->cmdline : "");
    if (!j->cmdline)
        return vm_no_memory(e);
    return j->driver->can & DRV_TAKES_TAPS ? open_taps(j, e) : 0;
}

void boot_done(struct job *j)
{
    for (size_t i = 0; i < j->n_taps; i++)
        fd_drop(j->taps[i].fd);
    free(j->taps);
    j->taps = NULL;
    j->n_taps = 0;
}

void boot_remove_links(struct job *j)
{
    struct vm_err e;

    for (size_t i = 0; i < j->n_nics && (j->driver->can & DRV_TAKES_TAPS); i++)
        net_link_remove(j->nics[i].ifname, &e);
}
