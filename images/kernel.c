/* The kernel of microVMs: images/ID/{vmlinuz,modules.erofs,initramfs/,initramfs-SUM.img,image.json}, made of what a
 * recipe leaves in /boot of its tree: vmlinuz, modules/ (as /usr/lib/modules) and initramfs/. */
#include "images.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/hash.h>
#include <vmsd/path.h>

#define FORMAT "vmsd kernel 1" /* change it when the same recipe gives another kernel */

int kernel_id_of(const char *recipe, char id[static IMAGE_ID], struct vm_err *e)
{
    struct hash *h = hash_new();

    if (!h)
        return vm_no_memory(e);
    hash_add_str(h, FORMAT);
    hash_add_str(h, recipe);
    hash_end(h, id);
    return 0;
}

static int need(int boot, const char *name, mode_t type, struct vm_err *e)
{
    struct stat st;

    if (fstatat(boot, name, &st, AT_SYMLINK_NOFOLLOW) < 0 || (st.st_mode & S_IFMT) != type)
        return vm_fail(e, VM_E_INVALID, "the recipe made no %s /boot/%s; does its 'customize' put it there?",
                       type == S_IFDIR ? "directory" : "file", name);
    return 0;
}

static int check_module(const struct tree_entry *at, void *arg, struct vm_err *e)
{
    (void)arg;
    if (*at->path && (!S_ISREG(at->st.st_mode) || strlen(at->path) > KERNEL_MODULE_NAME))
        return vm_fail(e, VM_E_INVALID, "'/boot/" KERNEL_BOOT "/%.60s' is no module", at->path);
    return 0;
}

int kernel_finish(const struct image_make *m, struct vm_err *e)
{
    OWN(fd) int boot = path_open(m->scratch, IMAGE_TREE "/boot", PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, NULL);

    if (boot < 0)
        return vm_fail(e, VM_E_INVALID, "the recipe made no directory /boot; does it name a kernel's package?");
    if (need(boot, KERNEL_FILE, S_IFREG, e) < 0 || need(boot, "modules", S_IFDIR, e) < 0 ||
        need(boot, KERNEL_BOOT, S_IFDIR, e) < 0)
        return -1;
    OWN(fd) int first = path_open(boot, KERNEL_BOOT, PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, e);
    if (first < 0 || tree_walk(first, &(struct tree_visit){.enter = check_module}, e) < 0)
        return -1;
    if (erofs_make(m->s, m->scratch, IMAGE_TREE "/boot/modules", KERNEL_MODULES, m->progress, m->deadline, e) < 0)
        return -1;
    if (fchmodat(boot, KERNEL_FILE, 0644, 0) < 0 || renameat(boot, KERNEL_FILE, m->scratch, KERNEL_FILE) < 0 ||
        renameat(boot, KERNEL_BOOT, m->scratch, KERNEL_BOOT) < 0)
        return vm_fail_sys(e, "take over what the recipe made");
    return 0;
}

int kernel_files(struct image_store *s, const char *id, struct deadline d, struct image_kernel *out, struct vm_err *e)
{
    struct image_kernel k;
    char name[IMAGE_FILE];

    memcpy(k.id, id, IMAGE_ID);
    if (initramfs_ensure(s, id, d, name, e) < 0) {
        vm_context(e, "initramfs");
        return store_full(s, "the initramfs", e);
    }
    if (store_path(s, "images", id, KERNEL_FILE, k.kernel, e) < 0 ||
        store_path(s, "images", id, KERNEL_MODULES, k.modules, e) < 0 ||
        store_path(s, "images", id, name, k.initramfs, e) < 0)
        return -1;
    *out = k;
    return 0;
}
