#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define IMAGE "/image"
#define LAYER "/layer"

/* ---- the image: a file system on the disk itself, or, on a whole disk of the user's, in one of its partitions ---- */

static int partition_mount(const char *disk, struct vm_err *e)
{
    static char names[PARTITIONS_MAX][DISK_NAME];
    size_t n = disk_partitions(disk, names, PARTITIONS_MAX);
    struct vm_err why = { 0 };

    for (size_t i = 0; i < n; i++) {
        const char *type = NULL;
        if (disk_type(names[i], &type, &why) < 0 || !type)
            continue;
        OWN(fd) int mount = mount_disk(names[i], type, true, names[i], &why);
        if (mount >= 0 && find_init(mount))
            return take_fd(&mount);
    }
    return vm_fail(e, VM_E_INVALID, "mount the image: neither the disk nor one of its %zu partitions is an erofs, ext4, "
                   "squashfs, xfs or btrfs that holds a system%s%s", n, *why.text ? "; " : "", why.text);
}

static int image_mount(struct vm_err *e)
{
    char disk[DISK_NAME];
    const char *type;
    if (disk_wait("image", disk, e) < 0 || disk_type(disk, &type, e) < 0)
        return -1;
    return type ? mount_disk(disk, type, true, "the image", e) : partition_mount(disk, e);
}

/* ---- the writable layer: a disk with upper/ and work/ ---- */

static int layer_make(int layer, const char *name, mode_t mode, struct vm_err *e)
{
    if (mkdirat(layer, name, mode) < 0 && errno != EEXIST)
        return vm_fail_sys(e, "make %s/ on the disk 'root'", name);
    OWN(fd) int fd = beneath(layer, name, O_RDONLY | O_DIRECTORY);
    return fd < 0 ? vm_fail_sys(e, "open %s/ on the disk 'root'", name) : 0;
}

static int layer_mount(struct vm_err *e)
{
    char disk[DISK_NAME];
    const char *type;
    if (disk_wait("root", disk, e) < 0 || disk_type(disk, &type, e) < 0)
        return -1;
    if (!type || strcmp(type, "ext4") != 0)
        return vm_fail(e, VM_E_INVALID, "mount the disk 'root': it holds %s, not ext4", type ? type : "no file system");
    OWN(fd) int mount = mount_disk(disk, type, false, "the disk 'root'", e);
    if (mount < 0 || layer_make(mount, "upper", 0755, e) < 0 || layer_make(mount, "work", 0700, e) < 0)
        return -1;
    return take_fd(&mount);
}

/* The overlay keeps its layers; their own mounts, which it needs only while it is made, are taken away. */
static int overlay_mount(struct vm_err *e)
{
    static const struct mount_option options[] = {
        { "source", "vmsd" }, { "lowerdir", IMAGE }, { "upperdir", LAYER "/upper" }, { "workdir", LAYER "/work" }, { 0 },
    };
    OWN(fd) int image = image_mount(e);
    if (image < 0 || mount_put(image, IMAGE, e) < 0)
        return -1;
    OWN(fd) int layer = layer_mount(e);
    if (layer < 0 || mount_put(layer, LAYER, e) < 0)
        return -1;
    OWN(fd) int root = mount_make("overlay", options, 0, "image and root disk as one", e);
    if (root < 0 || mount_put(root, NEW_ROOT, e) < 0)
        return -1;
    if (umount2(IMAGE, MNT_DETACH) < 0 || umount2(LAYER, MNT_DETACH) < 0)
        return vm_fail_sys(e, "unmount the layers of the root");
    return 0;
}

/* ---- what is mounted in it ---- */

/* Only if it is for this kernel: a user's own brings its modules in the image. */
static int modules_mount(int root, struct vm_err *e)
{
    char disk[DISK_NAME];
    const char *type;
    struct utsname u;

    if (!disk_find("modules", disk))
        return 0;
    if (disk_type(disk, &type, e) < 0)
        return -1;
    if (!type)
        return vm_fail(e, VM_E_INVALID, "mount the disk 'modules': it holds no file system");
    OWN(fd) int mount = mount_disk(disk, type, true, "the disk 'modules'", e);
    if (mount < 0)
        return -1;
    uname(&u);
    if (faccessat(mount, u.release, F_OK, 0) < 0) {
        say("the disk 'modules' holds none for kernel %s, going on without it", u.release);
        return 0;
    }
    OWN(fd) int target = target_open(root, "/usr/lib/modules", e);
    return target < 0 ? -1 : mount_put_at(mount, target, "/usr/lib/modules", e);
}

static int volume_mount(const struct setup_mount *m, struct vm_err *e)
{
    char disk[DISK_NAME], what[80];
    const char *type;
    if (disk_wait(m->tag, disk, e) < 0 || disk_type(disk, &type, e) < 0)
        return vm_context(e, "mount %.200s", m->target);
    if (!type)
        return vm_fail(e, VM_E_INVALID, "mount %.200s: the disk '%s' holds no file system", m->target, m->tag);
    snprintf(what, sizeof(what), "the disk '%s'", m->tag);
    return mount_disk(disk, type, m->read_only, what, e);
}

static int share_mount(const struct setup_mount *m, struct vm_err *e)
{
    const struct mount_option options[] = { { "source", m->tag }, { 0 } };
    char what[80];
    snprintf(what, sizeof(what), "the share '%s'", m->tag);
    return mount_make("virtiofs", options, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | (m->read_only ? MOUNT_ATTR_RDONLY : 0),
                      what, e);
}

static int one_mount(int root, const struct setup_mount *m, struct vm_err *e)
{
    OWN(fd) int mount = m->share ? share_mount(m, e) : volume_mount(m, e);
    if (mount < 0)
        return -1;
    OWN(fd) int target = target_open(root, m->target, e);
    return target < 0 ? -1 : mount_put_at(mount, target, m->target, e);
}

int root_build(const struct setup *s, int *root, struct vm_err *e)
{
    if (overlay_mount(e) < 0)
        return -1;
    OWN(fd) int fd = open(NEW_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return vm_fail_sys(e, "open the new root");
    if (modules_mount(fd, e) < 0)
        return -1;
    for (size_t i = 0; i < s->n_mounts; i++) {
        if (one_mount(fd, &s->mounts[i], e) < 0)
            return -1;
    }
    *root = take_fd(&fd);
    return 0;
}
