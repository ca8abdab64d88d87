/* The image that a spec names, made when it is not there. Within this process the first who asks makes it and the
 * others wait for his result; between processes a lock file decides. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

enum { SETTLE_MS = 5000, SETTLE_POLL_MS = 50 };

struct image_build {
    struct image_build *next;
    char id[IMAGE_ID];
    unsigned waiting;       /* the last of them frees it */
    bool ended;
    int rc;
    struct vm_err why;
};

static const char *const kind_names[] = {
    [IMAGE_RECIPE] = "recipe", [IMAGE_DIRECTORY] = "directory", [IMAGE_TAR] = "tar", [IMAGE_DISK] = "disk"};

/* ---- where it comes from ---- */

static void source_done(struct image_source src)
{
    recipe_free(src.recipe);
    fd_drop(src.dir);
}
OWN_DEFINE(source, struct image_source, source_done)

static int source_open(const struct image_store *s, const struct spec_image *want, struct image_source *src,
                       struct vm_err *e)
{
    snprintf(src->what, sizeof src->what, "image '%.100s'", want->name);
    src->want = want;
    switch (want->kind) {
    case IMAGE_RECIPE:
        if (recipe_open(s, want->name, &src->recipe, e) < 0)
            return -1;
        snprintf(src->id, sizeof src->id, "%s", recipe_id(src->recipe));
        return 0;
    case IMAGE_DIRECTORY:
        src->dir = path_open_host(want->name, O_RDONLY | O_DIRECTORY, e);
        return src->dir < 0 ? -1 : directory_id(src->dir, src->id, e);
    case IMAGE_TAR:
        return tar_id(want->sha256, src->id, e);
    case IMAGE_DISK:
        break;
    }
    return vm_fail(e, VM_E_UNAVAILABLE,
                   "a disk can't be the image of a container; name a recipe, a directory or a tarball");
}

/* ---- making ---- */

/* The processes of a build that was killed may still be on their way out, and write. */
static int scratch_open(const struct image_store *s, const char *scratch, struct vm_err *e)
{
    struct deadline settle = deadline_in(SETTLE_MS);
    struct vm_err why = {0};

    while (path_remove(s->images, scratch, &why) < 0) {
        if (why.sys != ENOTEMPTY || deadline_left(settle) == 0) {
            if (e)
                *e = why;
            return -1;
        }
        sleep_ms(SETTLE_POLL_MS);
    }
    return path_mkdirs(s->images, scratch, 0700, e);
}

static int write_note(const struct image_source *src, int scratch, struct vm_err *e)
{
    OWN(json) json_t *note = json_object();
    OWN(str) char *text = NULL;
    char now[CLOCK_TEXT];
    uint64_t bytes;

    if (tree_usage(scratch, "tree", &bytes, e) < 0)
        return -1;
    json_put_str(note, "id", src->id);
    json_put_str(note, "name", src->want->name);
    json_put_str(note, "kind", kind_names[src->want->kind]);
    json_put_int(note, "bytes", (int64_t)bytes);
    json_put_str(note, "created_at", wall_text(wall_ms(), now));
    if (!(text = json_to_text(note)))
        return vm_no_memory(e);
    return path_write(scratch, "image.json", text, strlen(text), 0600, e);
}

static int fill(const struct image_store *s, const struct image_source *src, int scratch, const char *path,
                struct image_progress p, struct deadline d, struct vm_err *e)
{
    char now[IMAGE_ID];

    switch (src->want->kind) {
    case IMAGE_RECIPE:
        return recipe_build(s, src->recipe, scratch, path, p, d, e);
    case IMAGE_TAR:
        return tar_import(s, src->want, scratch, p, d, e);
    default:
        break;
    }
    if (directory_import(src->dir, scratch, e) < 0 || directory_id(src->dir, now, e) < 0)
        return -1;
    return strcmp(now, src->id)
               ? vm_fail(e, VM_E_CONFLICT, "'%s' changed while it was copied; try again", src->want->name)
               : 0;
}

/* Everything beside the tree was the builder's. */
static int not_result(const char *name, void *arg, struct vm_err *e)
{
    return strcmp(name, "tree") ? path_remove(*(const int *)arg, name, e) : 0;
}

static int keep_result_only(int scratch, struct vm_err *e)
{
    if (store_each(scratch, false, not_result, &scratch, e) < 0)
        return -1;
    return store_each(scratch, true, not_result, &scratch, e);
}

static int make_locked(const struct image_store *s, const struct image_source *src, struct image_progress p,
                       struct deadline d, struct vm_err *e)
{
    char scratch[IMAGE_ID + 16], path[IMAGE_PATH];

    if (image_is_there(s, src->id)) /* made by another process while we waited for the lock */
        return 0;
    snprintf(scratch, sizeof scratch, ".%s.tmp", src->id);
    if (store_path(s, "images", scratch, NULL, path, e) < 0)
        return -1;
    OWN(fd) int fd = scratch_open(s, scratch, e);
    if (fd < 0)
        return -1;
    if (fill(s, src, fd, path, p, d, e) < 0 || tree_finish(fd, e) < 0 || keep_result_only(fd, e) < 0 ||
        write_note(src, fd, e) < 0)
        goto undo;
    if (syncfs(fd) < 0 || renameat(s->images, scratch, s->images, src->id) < 0 || fsync(s->images) < 0) {
        vm_fail_sys(e, "write it to disk");
        goto undo;
    }
    return 0;
undo:
    path_remove(s->images, scratch, NULL); /* what is left is swept up by the next build or by image_gc */
    return -1;
}

static int make(const struct image_store *s, const struct image_source *src, struct image_progress p, struct deadline d,
                struct vm_err *e)
{
    OWN(fd) int lock = -1;

    if (image_lock(s, src->id, d, &lock, e) < 0)
        return vm_context(e, "%s", src->what);
    int rc = make_locked(s, src, p, d, e);
    image_unlock(s, src->id, &lock);
    if (rc == 0)
        return 0;
    vm_context(e, "%s", src->what);
    return store_full(s, src->what, e);
}

/* ---- one build for all who ask ---- */

/* With the lock of the store. The build of that image that is under way, or NULL. */
static struct image_build *build_find(const struct image_store *s, const char *id)
{
    struct image_build *b = s->builds;

    while (b && strcmp(b->id, id))
        b = b->next;
    return b;
}

static void build_unlist(struct image_store *s, struct image_build *b)
{
    struct image_build **at = &s->builds;

    while (*at != b)
        at = &(*at)->next;
    *at = b->next;
}

/* With the lock of the store. */
static int build_wait(struct image_store *s, struct image_build *b, struct deadline d, struct vm_err *e)
{
    struct timespec until = {.tv_sec = d.at / 1000, .tv_nsec = d.at % 1000 * 1000000};
    int rc = 0;

    b->waiting++;
    while (!b->ended && rc != ETIMEDOUT)
        rc = pthread_cond_clockwait(&s->ended, &s->lock, CLOCK_MONOTONIC, &until);
    if (!b->ended)
        rc = vm_fail(e, VM_E_TIMEOUT, "another guest's build of this image takes too long");
    else if ((rc = b->rc) < 0 && e)
        *e = b->why;
    if (--b->waiting == 0 && b->ended)
        free(b);
    return rc;
}

static int build_or_wait(struct image_store *s, const struct image_source *src, struct image_progress p,
                         struct deadline d, struct vm_err *e)
{
    struct image_build *b;
    int rc;

    pthread_mutex_lock(&s->lock);
    if ((b = build_find(s, src->id))) {
        rc = build_wait(s, b, d, e);
        pthread_mutex_unlock(&s->lock);
        return rc;
    }
    if (!(b = calloc(1, sizeof *b))) {
        pthread_mutex_unlock(&s->lock);
        return vm_no_memory(e);
    }
    memcpy(b->id, src->id, sizeof b->id);
    b->next = s->builds;
    s->builds = b;
    pthread_mutex_unlock(&s->lock);

    struct vm_err why = {0};
    rc = make(s, src, p, d, &why);
    if (rc < 0 && e)
        *e = why;

    pthread_mutex_lock(&s->lock);
    build_unlist(s, b);
    b->ended = true;
    b->rc = rc;
    b->why = why;
    pthread_cond_broadcast(&s->ended);
    if (b->waiting == 0)
        free(b);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

int image_ensure(struct image_store *s, const struct spec_image *want, struct image_progress p, struct deadline d,
                 struct image_ref *out, struct vm_err *e)
{
    OWN(source) struct image_source src = {.dir = -1};
    struct image_ref ref;

    if (source_open(s, want, &src, e) < 0 || store_path(s, "images", src.id, "tree", ref.tree, e) < 0)
        return -1;
    memcpy(ref.id, src.id, sizeof ref.id);
    if (!image_is_there(s, src.id) && build_or_wait(s, &src, p, d, e) < 0)
        return -1;
    *out = ref;
    return 0;
}

bool image_have(struct image_store *s, const struct spec_image *want)
{
    OWN(source) struct image_source src = {.dir = -1};

    return source_open(s, want, &src, NULL) == 0 && image_is_there(s, src.id);
}
