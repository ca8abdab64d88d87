/* The image that a spec names, and the kernel, made when they are not there: in a scratch directory that gets its name
 * when all of it is on disk. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

enum { SETTLE_MS = 5000, SETTLE_POLL_MS = 50 };

static void source_done(struct image_source src)
{
    recipe_free(src.recipe);
    fd_drop(src.dir);
}
OWN_DEFINE(source, struct image_source, source_done)

/* ---- what each kind is made of ---- */

static int fill_recipe(const struct image_make *m, struct vm_err *e)
{
    return recipe_build(m, e) < 0 ? -1 : tree_finish(m->scratch, e);
}

static int fill_directory(const struct image_make *m, struct vm_err *e)
{
    char now[IMAGE_ID];

    if (directory_import(m, e) < 0 || directory_id(m->src->dir, now, e) < 0)
        return -1;
    if (strcmp(now, m->src->id))
        return vm_fail(e, VM_E_CONFLICT, "'%s' changed while it was copied; try again", m->src->want->name);
    return tree_finish(m->scratch, e);
}

static int fill_tar(const struct image_make *m, struct vm_err *e)
{
    return tar_import(m, e) < 0 ? -1 : tree_finish(m->scratch, e);
}

static int fill_kernel(const struct image_make *m, struct vm_err *e)
{
    return recipe_build(m, e) < 0 ? -1 : kernel_finish(m, e);
}

/* results: what stays, all else in the scratch directory was the builder's. */
static const struct image_maker makers[] = {
    [IMAGE_RECIPE] = {"recipe", fill_recipe, {IMAGE_TREE}},
    [IMAGE_DIRECTORY] = {"directory", fill_directory, {IMAGE_TREE}},
    [IMAGE_TAR] = {"tar", fill_tar, {IMAGE_TREE}},
    [IMAGE_DISK] = {"disk", raw_import, {IMAGE_DISK_FILE}},
};
static const struct image_maker kernel_maker = {
    IMAGE_KERNEL, fill_kernel, {KERNEL_FILE, KERNEL_MODULES, KERNEL_BOOT}};

/* ---- where it comes from ---- */

static int source_open(const struct image_store *s, const struct spec_image *want, struct image_source *src,
                       struct vm_err *e)
{
    snprintf(src->what, sizeof src->what, "image '%.100s'", want->name);
    src->want = want;
    src->maker = &makers[want->kind];
    switch (want->kind) {
    case IMAGE_RECIPE:
        if (!strcmp(want->name, IMAGE_KERNEL))
            return vm_fail(e, VM_E_INVALID, "the recipe '" IMAGE_KERNEL "' makes the kernel of microVMs, no image");
        if (recipe_open(s, want->name, &src->recipe, e) < 0)
            return -1;
        memcpy(src->id, recipe_id(src->recipe), IMAGE_ID);
        return 0;
    case IMAGE_DIRECTORY:
        src->dir = path_open_host(want->name, O_RDONLY | O_DIRECTORY, e);
        return src->dir < 0 ? -1 : directory_id(src->dir, src->id, e);
    case IMAGE_TAR:
        return tar_id(want->sha256, src->id, e);
    case IMAGE_DISK:
        break;
    }
    return raw_id(want->sha256, src->id, e);
}

static int source_open_kernel(const struct image_store *s, struct image_source *src, struct vm_err *e)
{
    static const struct spec_image kernel = {.kind = IMAGE_RECIPE, .name = IMAGE_KERNEL};

    snprintf(src->what, sizeof src->what, "recipe '" IMAGE_KERNEL "'");
    src->want = &kernel;
    src->maker = &kernel_maker;
    if (recipe_open(s, IMAGE_KERNEL, &src->recipe, e) < 0)
        return -1;
    return kernel_id_of(recipe_id(src->recipe), src->id, e);
}

/* ---- making ---- */

int image_scratch(const struct image_store *s, const char *id, char name[static IMAGE_FILE], struct vm_err *e)
{
    struct deadline settle = deadline_in(SETTLE_MS);
    struct vm_err why = {0};

    snprintf(name, IMAGE_FILE, ".%s.tmp", id);
    while (path_remove(s->images, name, &why) < 0) {
        if (why.sys != ENOTEMPTY || deadline_left(settle) == 0) {
            if (e)
                *e = why;
            return -1;
        }
        sleep_ms(SETTLE_POLL_MS);
    }
    return 0;
}

/* bytes: of the directories; files beside them come and go, and are counted when somebody asks. */
static int write_note(const struct image_make *m, struct vm_err *e)
{
    const struct image_source *src = m->src;
    OWN(json) json_t *note = json_object();
    OWN(str) char *text = NULL;
    char now[CLOCK_TEXT];
    uint64_t bytes = 0;

    for (const char *const *dir = src->maker->results; *dir; dir++) {
        uint64_t more = 0;
        if (path_is_dir(m->scratch, *dir) && tree_usage(m->scratch, *dir, &more, e) < 0)
            return -1;
        bytes += more;
    }
    json_put_str(note, "id", src->id);
    json_put_str(note, "name", src->want->name);
    json_put_str(note, "kind", src->maker->kind);
    json_put_int(note, "bytes", (int64_t)bytes);
    json_put_str(note, "created_at", wall_text(wall_ms(), now));
    if (!(text = json_to_text(note)))
        return vm_no_memory(e);
    return path_write(m->scratch, IMAGE_NOTE, text, strlen(text), 0600, e);
}

static int not_result(const char *name, void *arg, struct vm_err *e)
{
    const struct image_make *m = arg;

    for (const char *const *result = m->src->maker->results; *result; result++)
        if (!strcmp(name, *result))
            return 0;
    return path_remove(m->scratch, name, e);
}

static int keep_results_only(struct image_make *m, struct vm_err *e)
{
    if (store_each(m->scratch, false, not_result, m, e) < 0)
        return -1;
    return store_each(m->scratch, true, not_result, m, e);
}

static int make_locked(struct image_make *m, struct vm_err *e)
{
    const struct image_store *s = m->s;
    const struct image_source *src = m->src;
    char name[IMAGE_FILE], path[IMAGE_PATH];

    if (image_is_there(s, src->id)) /* made by another process while we waited for the lock */
        return 0;
    if (image_scratch(s, src->id, name, e) < 0 || store_path(s, "images", name, NULL, path, e) < 0)
        return -1;
    OWN(fd) int scratch = path_mkdirs(s->images, name, 0700, e);
    if (scratch < 0)
        return -1;
    m->scratch = scratch;
    m->path = path;
    if (src->maker->fill(m, e) < 0 || keep_results_only(m, e) < 0 || write_note(m, e) < 0)
        goto undo;
    if (syncfs(scratch) < 0 || renameat(s->images, name, s->images, src->id) < 0 || fsync(s->images) < 0) {
        vm_fail_sys(e, "write it to disk");
        goto undo;
    }
    return 0;
undo:
    path_remove(s->images, name, NULL); /* what is left is swept up by the next build or by image_gc */
    return -1;
}

static int make(struct image_store *s, void *arg, struct deadline d, struct vm_err *e)
{
    struct image_make *m = arg;
    const struct image_source *src = m->src;
    OWN(fd) int lock = -1;

    if (image_lock(s, src->id, d, &lock, e) < 0)
        return vm_context(e, "%s", src->what);
    int rc = make_locked(m, e);
    image_unlock(s, src->id, &lock);
    if (rc == 0)
        return 0;
    vm_context(e, "%s", src->what);
    return store_full(s, src->what, e);
}

static int source_ensure(struct image_store *s, const struct image_source *src, struct image_progress p,
                         struct deadline d, struct vm_err *e)
{
    struct image_make m = {.s = s, .src = src, .progress = p, .deadline = d};

    return image_is_there(s, src->id) ? 0 : once_do(s, &(struct once_ask){src->id, make, &m, p.asked_at}, d, e);
}

/* ---- asking ---- */

int image_ensure(struct image_store *s, const struct spec_image *want, struct image_progress p, struct deadline d,
                 struct image_ref *out, struct vm_err *e)
{
    OWN(source) struct image_source src = {.dir = -1};

    if (source_open(s, want, &src, e) < 0 || source_ensure(s, &src, p, d, e) < 0)
        return -1;
    return image_find(s, src.id, out, e);
}

bool image_have(struct image_store *s, const struct spec_image *want)
{
    OWN(source) struct image_source src = {.dir = -1};

    return source_open(s, want, &src, NULL) == 0 && image_is_there(s, src.id);
}

int kernel_id(struct image_store *s, char id[static IMAGE_ID], struct vm_err *e)
{
    OWN(source) struct image_source src = {.dir = -1};

    if (source_open_kernel(s, &src, e) < 0)
        return -1;
    memcpy(id, src.id, IMAGE_ID);
    return 0;
}

int kernel_ensure(struct image_store *s, struct image_progress p, struct deadline d, struct image_kernel *out,
                  struct vm_err *e)
{
    OWN(source) struct image_source src = {.dir = -1};

    if (!s->init)
        return vm_fail(e, VM_E_UNAVAILABLE,
                       "a microVM without a kernel of its own needs vms-init, which is not installed beside vmsd; "
                       "install it, or name 'kernel' and 'initramfs' in the spec");
    if (source_open_kernel(s, &src, e) < 0 || source_ensure(s, &src, p, d, e) < 0)
        return -1;
    return kernel_files(s, src.id, d, out, e);
}
