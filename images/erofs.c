/* Trees as disks: EROFS, read-only and shared by all guests that boot from it. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/path.h>

static int enter_dir(void *dir)
{
    umask(022);
    return fchdir(*(const int *)dir) < 0 ? errno : 0;
}

static int mkfs_failed(const struct lines *l, int status, struct vm_err *e)
{
    if (l->full)
        return store_no_space(e);
    if (!WIFEXITED(status))
        return vm_fail(e, VM_E_BACKEND, "mkfs.erofs was killed by signal %d", WTERMSIG(status));
    return vm_fail(e, VM_E_BACKEND, "mkfs.erofs: %.250s", l->last[0] ? l->last : "failed silently");
}

int erofs_make(const struct image_store *s, int dir, const char *tree, const char *disk, struct image_progress p,
               struct deadline d, struct vm_err *e)
{
    /* Owners, modes, times, links and extended attributes (file capabilities) are kept: that is its default. lz4 takes
     * two thirds of the space, and no longer to make or to boot from. */
    char *const argv[] = {(char *)s->mkfs, "--quiet", "-zlz4", (char *)disk, (char *)tree, NULL};
    struct lines l = {.progress = p};
    struct child_plan plan = {
        .argv = argv, .on_output = lines_take, .arg = &l, .prepare = enter_dir, .prepare_arg = &dir};
    struct child_end end;
    struct vm_err why = {0};

    if (child_run(&plan, d, &end, &why) < 0) {
        if (why.code == VM_E_BACKEND) /* no such program */
            return vm_fail(e, VM_E_UNAVAILABLE, "'%s' is not installed; 'apt install erofs-utils' brings it", s->mkfs);
        if (e)
            *e = why;
        return -1;
    }
    free(end.output);
    lines_end(&l);
    if (end.status)
        return mkfs_failed(&l, end.status, e);
    OWN(fd) int fd = path_open(dir, disk, PATH_BENEATH, O_RDWR | O_NOFOLLOW, 0, e);
    if (fd < 0)
        return -1;
    return fchmod(fd, 0644) < 0 || fsync(fd) < 0 ? vm_fail_sys(e, "write the disk") : 0;
}

/* ---- of an image ---- */

struct disk_make {
    const struct image_ref *ref;
    struct image_progress progress;
};

static bool has_disk(const struct image_store *s, const char *id)
{
    char path[IMAGE_ID + 16];

    snprintf(path, sizeof path, "%s/" IMAGE_DISK_FILE, id);
    return path_exists(s->images, path);
}

static int disk_make_locked(const struct image_store *s, const struct disk_make *m, struct deadline d, struct vm_err *e)
{
    OWN(fd) int dir = path_open(s->images, m->ref->id, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);
    char scratch[IMAGE_FILE], tree[IMAGE_ID + 16];

    if (dir < 0 || has_disk(s, m->ref->id)) /* made by another process while we waited for the lock */
        return dir < 0 ? -1 : 0;
    snprintf(tree, sizeof tree, "%s/" IMAGE_TREE, m->ref->id);
    if (image_scratch(s, m->ref->id, scratch, e) < 0)
        return -1;
    progress_tell(m->progress, "making the image's disk for microVMs");
    if (erofs_make(s, s->images, tree, scratch, m->progress, d, e) < 0)
        goto undo;
    if (renameat(s->images, scratch, dir, IMAGE_DISK_FILE) < 0 || fsync(dir) < 0) {
        vm_fail_sys(e, "name the disk");
        goto undo;
    }
    return 0;
undo:
    unlinkat(s->images, scratch, 0);
    return -1;
}

static int disk_make(struct image_store *s, void *arg, struct deadline d, struct vm_err *e)
{
    struct disk_make *m = arg;
    OWN(fd) int lock = -1;

    if (image_lock(s, m->ref->id, d, &lock, e) < 0)
        return -1;
    int rc = disk_make_locked(s, m, d, e);
    image_unlock(s, m->ref->id, &lock);
    return rc;
}

int image_disk(struct image_store *s, const struct image_ref *ref, struct image_progress p, struct deadline d,
               char out[static IMAGE_PATH], struct vm_err *e)
{
    struct disk_make m = {.ref = ref, .progress = p};
    char key[ONCE_KEY], path[IMAGE_PATH];

    if (!image_is_there(s, ref->id))
        return vm_fail(e, VM_E_ABSENT, "no image '%.64s'; was it removed meanwhile?", ref->id);
    if (store_path(s, "images", ref->id, IMAGE_DISK_FILE, path, e) < 0)
        return -1;
    snprintf(key, sizeof key, "%s.disk", ref->id);
    if (!has_disk(s, ref->id) && once_do(s, &(struct once_ask){key, disk_make, &m, p.asked_at}, d, e) < 0) {
        vm_context(e, "disk of image %.12s", ref->id);
        return store_full(s, "the disk of an image", e);
    }
    memcpy(out, path, IMAGE_PATH);
    return 0;
}
