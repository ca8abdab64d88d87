/* What a guest is made of: image, root, volumes, network. */
#include "steps.h"

#include <stdlib.h>
#include <string.h>

enum { IMAGE_MS = 1800000 };

/* The root stays on the image that it was made on, even when the recipe of that name has changed since. */
static bool image_of_root(struct job *j)
{
    return j->image && !j->rebuilding && root_exists(j->w->images, j->guest_id) &&
           image_find(j->w->images, j->image, &j->image_ref, NULL) == 0;
}

static void set_image(struct guest *g, void *arg)
{
    guest_set_text(&g->image, arg);
}

static int choose_image(struct job *j, struct vm_err *e)
{
    struct deadline d = {.at = deadline_in(IMAGE_MS).at, .cut = &j->cut};

    if (image_of_root(j))
        return 0;
    if (image_ensure(j->w->images, &j->spec->image, (struct image_progress){job_output, j, j->asked_at}, d, &j->image_ref, e) < 0)
        return -1;
    if (store_put_image(j->w->store, j->guest_id, j->image_ref.id, e) < 0)
        return -1;
    job_on_loop(j, set_image, j->image_ref.id);
    return 0;
}

int step_image(struct job *j, struct vm_err *e)
{
    struct deadline d;

    if (choose_image(j, e) < 0)
        return -1;
    if (!job_boots(j))
        return *j->image_ref.tree ? 0 : vm_fail(e, VM_E_INVALID, "%s is a disk, and a container starts from a directory: "
                                                "use kind: microvm, or another image", j->spec->image.name);
    d = (struct deadline){.at = deadline_in(IMAGE_MS).at, .cut = &j->cut};
    if (image_disk(j->w->images, &j->image_ref, (struct image_progress){job_output, j, j->asked_at}, d, j->disk, e) < 0)
        return -1;
    return boot_kernel(j, d, e);
}

static void set_rebuilt(struct guest *g, void *arg)
{
    (void)arg;
    g->rebuilding = false;
    g->scripts_done = 0;
    g->provisioned_at = 0;
    guest_set_text(&g->script_digests, "");
}

int step_root(struct job *j, struct vm_err *e)
{
    if (j->rebuilding && root_remove(j->w->images, j->guest_id, e) < 0)
        return -1;
    if (root_ensure(j->w->images, j->guest_id, j->spec->disk, j->root, e) < 0)
        return -1;
    if (!j->rebuilding)
        return 0;
    if (store_put_rebuilding(j->w->store, j->guest_id, false, e) < 0)
        return -1;
    j->rebuilding = false;
    j->scripts_done = 0;
    j->provisioned_at = 0;
    guest_set_text(&j->digests, "");
    job_on_loop(j, set_rebuilt, NULL);
    return 0;
}

/* Volumes and binds become mounts. A container's volume whose file grew while it runs is grown at once; what boots a
 * kernel is asked to, later. */
int step_volumes(struct job *j, struct vm_err *e)
{
    const struct guest_spec *s = j->spec;
    struct drv_guest view;
    bool grown;

    free(j->mounts); /* a guest may start twice in one job */
    free(j->mount_paths);
    j->n_mounts = 0;
    j->mounts = calloc(s->n_volumes + s->n_binds + 1, sizeof *j->mounts);
    j->mount_paths = calloc(s->n_volumes + 1, sizeof *j->mount_paths);
    if (!j->mounts || !j->mount_paths)
        return vm_no_memory(e);
    for (size_t i = 0; i < s->n_volumes; i++) {
        const struct spec_volume *v = &s->volumes[i];

        if (volume_ensure(j->w->images, v, j->name, j->mount_paths[i], &grown, e) < 0)
            return -1;
        j->mounts[j->n_mounts++] =
            (struct drv_mount){.disk = !v->directory, .source = j->mount_paths[i], .target = v->target, .mapped = true};
        job_borrow(j, &view);
        if (grown && j->running && !job_boots(j) && j->driver->grow(&view, &j->proc, j->mount_paths[i], e) < 0)
            return vm_context(e, "grow volume '%s'", v->name);
    }
    for (size_t i = 0; i < s->n_binds; i++) {
        const struct spec_bind *b = &s->binds[i];

        j->mounts[j->n_mounts++] = (struct drv_mount){
            .source = b->source, .target = b->target, .read_only = b->read_only, .mapped = b->mapped};
    }
    return 0;
}

/* Rules stand before a link comes up. */
int step_network(struct job *j, struct vm_err *e)
{
    for (size_t i = 0; i < j->n_nics; i++)
        if (net_bridge_ensure(j->networks[i], e) < 0)
            return vm_context(e, "network '%s'", j->networks[i]->name);
    return netsync_wait(j->w, e);
}
