#include "keeper_root.h"

#include "keeper_fs.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A file may be wanted in both roots, and a mount can be attached but once. */
struct clones { int vmm[KEEPER_FILES_MAX], server[KEEPER_FILES_MAX]; };

static int clone_of(size_t n, const char *what)
{
    return tree_clone(fcntl(KEEPER_FD_FILES + (int)n, F_DUPFD_CLOEXEC, 0), what);
}

static void clones_take(const struct plan *p, struct clones *c)
{
    for (size_t i = 0; i < p->n_files; i++) {
        c->vmm[i] = p->files[i].vmm ? clone_of(i, p->files[i].path) : -1;
        c->server[i] = p->files[i].server ? clone_of(i, p->files[i].path) : -1;
    }
}

/* Makes the parents of path, and itself as what is going to be mounted there. */
static void point_make(const char *root, const char *path, bool dir, char out[static PATH_MAX])
{
    size_t base = strlen(root);
    int fd;

    if ((size_t)snprintf(out, PATH_MAX, "%s%s", root, path) >= PATH_MAX)
        keeper_fail("%s: the path is too long", path);
    for (char *at = out + base + 1; (at = strchr(at, '/')); at++) {
        *at = '\0';
        if (mkdir(out, 0755) < 0 && errno != EEXIST)
            keeper_fail("make %s: %s", out, strerror(errno));
        *at = '/';
    }
    if (dir ? mkdir(out, 0755) < 0 && errno != EEXIST
            : (fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)) < 0 || close(fd) < 0)
        keeper_fail("make %s: %s", out, strerror(errno));
}

static void file_put(const char *root, const struct plan_file *f, int mnt)
{
    char path[PATH_MAX];
    struct stat st;

    if (fstat(mnt, &st) < 0)
        keeper_fail("%s: %s", f->path, strerror(errno));
    point_make(root, f->path, S_ISDIR(st.st_mode), path);
    mount_change(mnt, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (f->read_only ? MOUNT_ATTR_RDONLY : 0), -1, f->path);
    mount_take(mnt, path);
}

/* Nodes of our own, so that it plays no part who may open the host's. */
static void device_make(const char *name, dev_t dev, mode_t mode, uint32_t owner)
{
    char path[64];

    snprintf(path, sizeof path, KEEPER_VMM "/dev/%s", name);
    if (mknod(path, S_IFCHR | mode, dev) < 0 || chmod(path, mode) < 0 || chown(path, owner, owner) < 0)
        keeper_fail("make /dev/%s for the VMM: %s", name, strerror(errno));
}

static void dir_make(const char *path, mode_t mode, uint32_t owner)
{
    if (mkdir(path, mode) < 0 || chown(path, owner, owner) < 0)
        keeper_fail("make %s: %s", path, strerror(errno));
}

static void vmm_root_make(const struct plan *p)
{
    struct stat kvm;

    mount_take(scratch_mount("1m", "0755", 0), KEEPER_VMM);
    dir_make(KEEPER_VMM "/dev", 0755, 0);
    dir_make(KEEPER_VMM_RUN, 0700, p->uid_base);
    device_make("null", makedev(1, 3), 0666, 0);
    device_make("urandom", makedev(1, 9), 0444, 0);
    if (stat("/dev/kvm", &kvm) == 0 && S_ISCHR(kvm.st_mode))
        device_make("kvm", kvm.st_rdev, 0600, p->uid_base);
}

static void server_root_make(void)
{
    mount_take(scratch_mount("1m", "0755", MOUNT_ATTR_NODEV), KEEPER_SERVER);
    dir_make(KEEPER_SERVER "/proc", 0755, 0);
    dir_make(KEEPER_SERVER "/share", 0755, 0);
}

void roots_make(const struct plan *p, struct roots *r)
{
    static struct clones c;

    clones_take(p, &c);
    for (size_t i = 0; i < p->n_mounts; i++)
        r->shares[i] = tree_clone(KEEPER_FD_FILES + (int)(p->n_files + i), p->mounts[i].target);
    r->idmap = p->n_mounts ? idmap_open(p->uid_base) : -1;
    mounts_private();
    mkdir("/run/systemd", 0755);
    mount_take(scratch_mount("64k", "0755", MOUNT_ATTR_NODEV), KEEPER_DIR);
    if (p->n_args)
        vmm_root_make(p);
    if (p->n_mounts)
        server_root_make();
    for (size_t i = 0; i < p->n_files; i++) {
        if (c.vmm[i] >= 0)
            file_put(KEEPER_VMM, &p->files[i], c.vmm[i]);
        if (c.server[i] >= 0)
            file_put(KEEPER_SERVER, &p->files[i], c.server[i]);
    }
    for (size_t i = 0; i < p->n_mounts; i++) {
        const struct plan_mount *m = &p->mounts[i];

        mount_change(r->shares[i], MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (m->read_only ? MOUNT_ATTR_RDONLY : 0),
                     m->mapped ? r->idmap : -1, m->target);
    }
}

/* The old root comes to lie on the new one, and is taken off. */
void root_enter(const char *root)
{
    if (chdir(root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        child_fail(root);
}
