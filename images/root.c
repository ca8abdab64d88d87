/* Writable roots: guests/ID/root.img. What else lies in guests/ID is not ours. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/path.h>

#define ROOT_FILE "root.img"

enum { ID_TEXT = 12 };

static int root_dir(struct image_store *s, uint32_t guest_id, char name[static ID_TEXT])
{
    snprintf(name, ID_TEXT, "%u", guest_id);
    return path_open(s->guests, name, PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, NULL);
}

int root_ensure(struct image_store *s, uint32_t guest_id, uint64_t size, char out[static IMAGE_PATH], struct vm_err *e)
{
    char name[ID_TEXT], what[64], path[IMAGE_PATH];

    snprintf(name, sizeof name, "%u", guest_id);
    snprintf(what, sizeof what, "root disk of guest %u", guest_id);
    if (store_path(s, "guests", name, ROOT_FILE, path, e) < 0)
        return -1;
    OWN(fd) int dir = path_mkdirs(s->guests, name, 0700, e);
    if (dir < 0 || disk_ensure(s, dir, ROOT_FILE, DISK_ROOT, size, what, e) < 0)
        return store_full(s, what, e);
    memcpy(out, path, IMAGE_PATH);
    return 0;
}

int root_remove(struct image_store *s, uint32_t guest_id, struct vm_err *e)
{
    char name[ID_TEXT];
    OWN(fd) int dir = root_dir(s, guest_id, name);

    if (dir < 0)
        return errno == ENOENT ? 0 : vm_fail_sys(e, "open directory of guest %u", guest_id);
    if (unlinkat(dir, ROOT_FILE, 0) < 0 && errno != ENOENT)
        return vm_fail_sys(e, "remove root disk of guest %u", guest_id);
    if (fsync(dir) < 0)
        return vm_fail_sys(e, "remove root disk of guest %u", guest_id);
    if (unlinkat(s->guests, name, AT_REMOVEDIR) < 0 && errno != ENOTEMPTY && errno != ENOENT)
        return vm_fail_sys(e, "remove directory of guest %u", guest_id);
    return 0;
}

bool root_exists(struct image_store *s, uint32_t guest_id)
{
    uint64_t bytes;

    return root_usage(s, guest_id, &bytes) == 0;
}

int root_usage(struct image_store *s, uint32_t guest_id, uint64_t *bytes)
{
    char name[ID_TEXT];
    OWN(fd) int dir = root_dir(s, guest_id, name);

    return dir < 0 ? -1 : disk_usage(dir, ROOT_FILE, bytes);
}

struct ids {
    uint32_t *v;
    size_t n, cap;
};

static int ids_add(const char *name, void *arg, struct vm_err *e)
{
    struct ids *ids = arg;
    uint64_t id;

    if (!text_to_u64(name, &id) || id > UINT32_MAX)
        return 0; /* not made by us */
    if (ids->n == ids->cap) {
        size_t cap = ids->cap ? ids->cap * 2 : 64;
        uint32_t *v = reallocarray(ids->v, cap, sizeof *v);
        if (!v)
            return vm_no_memory(e);
        ids->v = v;
        ids->cap = cap;
    }
    ids->v[ids->n++] = (uint32_t)id;
    return 0;
}

int root_list(struct image_store *s, uint32_t **ids, size_t *n, struct vm_err *e)
{
    struct ids found = {0};

    if (store_each(s->guests, false, ids_add, &found, e) < 0) {
        free(found.v);
        return -1;
    }
    *ids = found.v;
    *n = found.n;
    return 0;
}
