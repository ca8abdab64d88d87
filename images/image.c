/* Images as the store keeps them: locked, listed, removed. An image that is being made is images/.ID.tmp, one that is
 * being removed .ID.gone; .ID.lock is held meanwhile, so what is not locked is a leftover. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

enum { LOCK_POLL_MS = 50, LIST_PATH = IMAGE_ID + 64 };

bool image_is_id(const char *s)
{
    return strlen(s) == IMAGE_ID - 1 && strspn(s, "0123456789abcdef") == IMAGE_ID - 1;
}

bool image_is_there(const struct image_store *s, const char *id)
{
    return image_is_id(id) && path_exists(s->images, id);
}

int image_find(struct image_store *s, const char *id, struct image_ref *out, struct vm_err *e)
{
    struct image_ref ref;
    char file[LIST_PATH];

    if (!image_is_there(s, id))
        return vm_fail(e, VM_E_ABSENT, "no image '%.64s'; 'vmctl image ls' lists what there is", id);
    if (store_path(s, "images", id, IMAGE_TREE, ref.tree, e) < 0)
        return -1;
    snprintf(file, sizeof file, "%.64s/" IMAGE_TREE, id);
    if (!path_is_dir(s->images, file))
        ref.tree[0] = '\0';
    memcpy(ref.id, id, sizeof ref.id);
    *out = ref;
    return 0;
}

/* ---- locks ---- */

/* 1: held; 0: another has it. The file is removed by its last holder, so the one that was locked may be no longer the
 * one with the name; then it is worth nothing. */
static int lock_try(const struct image_store *s, const char *file, int *lock, struct vm_err *e)
{
    for (;;) {
        OWN(fd) int fd = path_open(s->images, file, PATH_BENEATH, O_RDWR | O_CREAT | O_NOFOLLOW, 0600, e);
        struct stat st;

        if (fd < 0)
            return -1;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
            return errno == EWOULDBLOCK ? 0 : vm_fail_sys(e, "lock '%s'", file);
        if (fstat(fd, &st) < 0)
            return vm_fail_sys(e, "look at '%s'", file);
        if (st.st_nlink) {
            *lock = take_fd(&fd);
            return 1;
        }
    }
}

int image_lock(const struct image_store *s, const char *id, struct deadline d, int *lock, struct vm_err *e)
{
    char file[IMAGE_FILE];
    int held;

    snprintf(file, sizeof file, ".%s.lock", id);
    while ((held = lock_try(s, file, lock, e)) == 0) {
        if (deadline_left(d) == 0)
            return vm_fail(e, VM_E_TIMEOUT,
                           "another process is making or removing this image; try again when it is done");
        sleep_ms(LOCK_POLL_MS);
    }
    return held < 0 ? -1 : 0;
}

void image_unlock(const struct image_store *s, const char *id, int *lock)
{
    char file[IMAGE_FILE];

    snprintf(file, sizeof file, ".%s.lock", id);
    unlinkat(s->images, file, 0);
    *lock = fd_drop(*lock);
}

/* ---- listing ---- */

struct listing {
    const struct image_store *s;
    json_t *rows;
};

struct sum {
    int dir;
    uint64_t *bytes;
};

static int add_file(const char *name, void *arg, struct vm_err *e)
{
    const struct sum *sum = arg;
    uint64_t more;

    (void)e;
    if (disk_usage(sum->dir, name, &more) == 0)
        *sum->bytes += more;
    return 0;
}

/* Its note tells what its directories take, which never change; files come and go. */
static int list_add(const char *id, void *arg, struct vm_err *e)
{
    struct listing *l = arg;
    OWN(json) json_t *note = NULL;
    uint64_t bytes = 0;

    OWN(fd) int dir = !image_is_id(id) ? -1 : path_open(l->s->images, id, PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, NULL);
    if (dir < 0)
        return 0; /* being removed */
    if (store_note(dir, IMAGE_NOTE, &note, e) < 0)
        return vm_context(e, "image %s", id);
    if (!note)
        return 0; /* not made by us */
    if (store_each(dir, false, add_file, &(struct sum){dir, &bytes}, e) < 0)
        return -1;
    json_put_int(note, "bytes", json_int(note, "bytes", 0) + (int64_t)bytes);
    json_array_append(l->rows, note);
    return 0;
}

int image_list(struct image_store *s, json_t **out, struct vm_err *e)
{
    OWN(json) json_t *rows = json_array();

    if (store_each(s->images, false, list_add, &(struct listing){.s = s, .rows = rows}, e) < 0)
        return -1;
    if (json_lost())
        return vm_no_memory(e);
    *out = TAKE(rows);
    return 0;
}

/* ---- removing ---- */

static int remove_locked(struct image_store *s, const char *id, struct vm_err *e)
{
    char scratch[IMAGE_FILE];

    snprintf(scratch, sizeof scratch, ".%s.tmp", id);
    return path_remove(s->images, scratch, e) < 0 || store_remove(s->images, id, e) < 0 ? -1 : 0;
}

int image_remove(struct image_store *s, const char *id, struct vm_err *e)
{
    OWN(fd) int lock = -1;

    if (!image_is_there(s, id))
        return vm_fail(e, VM_E_ABSENT, "no image '%.64s'; 'vmctl image ls' lists what there is", id);
    if (image_lock(s, id, deadline_in(0), &lock, e) < 0)
        return -1;
    int rc = remove_locked(s, id, e);
    image_unlock(s, id, &lock);
    return rc;
}

struct gc {
    struct image_store *s;
    const struct strv *used;
    struct strv *removed;
};

static int gc_image(const char *id, void *arg, struct vm_err *e)
{
    struct gc *gc = arg;
    struct vm_err why;

    if (!image_is_id(id))
        return 0;
    if (strv_has(gc->used, id))
        return initramfs_gc(gc->s, id, e);
    if (image_remove(gc->s, id, &why) < 0) {
        if (why.code == VM_E_TIMEOUT || why.code == VM_E_ABSENT) /* somebody is at it */
            return 0;
        if (e)
            *e = why;
        return -1;
    }
    if (gc->removed)
        strv_add(gc->removed, id);
    return gc->removed && gc->removed->failed ? vm_no_memory(e) : 0;
}

/* ".ID.tmp", ".ID.gone", ".ID.lock" that nobody holds. */
static int gc_leftover(const char *name, void *arg, struct vm_err *e)
{
    struct gc *gc = arg;
    OWN(fd) int lock = -1;
    char id[IMAGE_ID], file[IMAGE_FILE];

    snprintf(id, sizeof id, "%s", name + 1);
    if (!image_is_id(id) || name[IMAGE_ID] != '.')
        return 0;
    snprintf(file, sizeof file, ".%s.lock", id);
    int held = lock_try(gc->s, file, &lock, e);
    if (held <= 0)
        return held;
    int rc = strcmp(name, file) ? path_remove(gc->s->images, name, e) : 0;
    image_unlock(gc->s, id, &lock);
    return rc;
}

static int gc_hidden(const char *name, void *arg, struct vm_err *e)
{
    return path_remove(*(const int *)arg, name, e);
}

int image_gc(struct image_store *s, const struct strv *used, struct strv *removed, struct vm_err *e)
{
    struct gc gc = {.s = s, .used = used, .removed = removed};

    if (store_each(s->images, true, gc_leftover, &gc, e) < 0 || store_each(s->images, false, gc_image, &gc, e) < 0)
        return -1;
    return store_each(s->volumes, true, gc_hidden, &s->volumes, e);
}
