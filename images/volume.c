/* Volumes: volumes/NAME/{disk.img|tree/,volume.json}. They outlive guests and rebuilds. What a volume is follows from
 * what lies there; volume.json only tells people about it. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

#define DISK_FILE "disk.img"
#define TREE_DIR "tree"
#define TREE_DRAFT ".tree"
#define NOTE_FILE "volume.json"

static int volume_check_name(const char *name, struct vm_err *e)
{
    if (!name || !text_is_label(name, SPEC_NAME_MAX))
        return vm_fail(e, VM_E_INVALID, "volume name is no label of a-z, 0-9 and '-' of at most %d bytes",
                       SPEC_NAME_MAX);
    return 0;
}

/* Written only when it says something new, so that an unchanged volume costs no write. */
static int note_write(int dir, const struct spec_volume *v, const char *guest, struct vm_err *e)
{
    OWN(json) json_t *was = NULL;
    OWN(json) json_t *note = json_object();
    OWN(str) char *text = NULL;
    char now[CLOCK_TEXT];

    if (store_note(dir, NOTE_FILE, &was, e) < 0)
        return -1;
    json_put_str(note, "name", v->name);
    json_put_str(note, "type", v->directory ? "directory" : "disk");
    json_put(note, "size", v->directory ? NULL : json_integer((json_int_t)v->size));
    json_put_str(note, "guest", guest);
    json_put_str(note, "created_at", json_str(was, "created_at", wall_text(wall_ms(), now)));
    if (was && json_equal(was, note))
        return json_lost() ? vm_no_memory(e) : 0;
    if (!(text = json_to_text(note)))
        return vm_no_memory(e);
    return path_write(dir, NOTE_FILE, text, strlen(text), 0600, e);
}

static int volume_make(struct image_store *s, int dir, const struct spec_volume *v, const char *what, struct vm_err *e)
{
    if (path_exists(dir, v->directory ? DISK_FILE : TREE_DIR))
        return vm_fail(e, VM_E_CONFLICT, "%s is a %s and can't become a %s; give it another name, or remove it first",
                       what, v->directory ? "disk" : "directory", v->directory ? "directory" : "disk");
    if (!v->directory)
        return disk_ensure(s, dir, DISK_FILE, DISK_VOLUME, v->size, what, e);
    if (path_exists(dir, TREE_DIR))
        return 0;
    /* Named when it has its mode: what a guest makes of that later is its own affair. */
    if ((mkdirat(dir, TREE_DRAFT, 0755) < 0 && errno != EEXIST) || fchmodat(dir, TREE_DRAFT, 0755, 0) < 0 ||
        renameat(dir, TREE_DRAFT, dir, TREE_DIR) < 0 || fsync(dir) < 0)
        return vm_fail_sys(e, "make %s", what);
    return 0;
}

int volume_ensure(struct image_store *s, const struct spec_volume *v, const char *guest, char out[static IMAGE_PATH],
                  bool *grown, struct vm_err *e)
{
    char what[64], path[IMAGE_PATH];

    if (volume_check_name(v->name, e) < 0 ||
        store_path(s, "volumes", v->name, v->directory ? TREE_DIR : DISK_FILE, path, e) < 0)
        return -1;
    snprintf(what, sizeof what, "volume '%s'", v->name);
    OWN(fd) int dir = path_mkdirs(s->volumes, v->name, 0700, e);
    if (dir < 0 || volume_make(s, dir, v, what, e) < 0 || note_write(dir, v, guest, e) < 0) {
        unlinkat(s->volumes, v->name, AT_REMOVEDIR); /* while it is empty: nobody would list it, so nobody remove it */
        return store_full(s, what, e);
    }
    memcpy(out, path, IMAGE_PATH);
    *grown = !v->directory && disk_outgrown(dir, DISK_FILE);
    return 0;
}

int volume_remove(struct image_store *s, const char *name, struct vm_err *e)
{
    return volume_check_name(name, e) < 0 ? -1 : store_remove(s->volumes, name, e);
}

struct listing {
    struct image_store *s;
    const json_t *counted;
    json_t *rows;
};

static int list_add(const char *name, void *arg, struct vm_err *e)
{
    struct listing *l = arg;
    OWN(fd) int dir = path_open(l->s->volumes, name, PATH_BENEATH, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0, NULL);
    OWN(json) json_t *note = NULL;
    OWN(json) json_t *row = json_object();
    uint64_t bytes = 0;
    struct stat st;

    if (dir < 0)
        return 0; /* gone meanwhile, or not made by us */
    if (store_note(dir, NOTE_FILE, &note, e) < 0)
        return vm_context(e, "volume '%s'", name);
    bool disk = disk_usage(dir, DISK_FILE, &bytes) == 0;
    if (!disk && !path_is_dir(dir, TREE_DIR))
        return 0; /* being made, or being removed */
    bool counted = !l->counted || json_object_get(l->counted, json_str(note, "guest", ""));
    bool known = disk || (counted && tree_usage(dir, TREE_DIR, &bytes, NULL) == 0);
    json_put_str(row, "name", name);
    json_put_str(row, "type", disk ? "disk" : "directory");
    bool sized = disk && fstatat(dir, DISK_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;
    json_put(row, "size", sized ? json_integer((json_int_t)st.st_size) : NULL);
    json_put(row, "bytes", known ? json_integer((json_int_t)bytes) : NULL);
    json_put_str(row, "guest", json_str(note, "guest", NULL));
    json_array_append(l->rows, row);
    return 0;
}

int volume_list(struct image_store *s, const json_t *counted, json_t **out, struct vm_err *e)
{
    OWN(json) json_t *rows = json_array();

    if (store_each(s->volumes, false, list_add, &(struct listing){.s = s, .counted = counted, .rows = rows}, e) < 0)
        return -1;
    if (json_lost())
        return vm_no_memory(e);
    *out = TAKE(rows);
    return 0;
}
