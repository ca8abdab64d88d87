/* J1: images, roots, volumes and what a microVM boots from. After each failure the same is asked for again, and must come
 * about: nothing half done is in its way. */
#include "images/images.h"
#include "nth.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>
#include <vmsd/starter.h>

static struct image_store *store;
static char room_path[] = "/var/tmp/vmsd-nth-XXXXXX";
static int room_dir;
static const struct image_progress quiet;
static char tree_path[128], tar_path[128], tar_sum[65], disk_path[128], disk_sum[65];

static int list_say(struct vm_err *e)
{
    OWN(json) json_t *rows = NULL;

    if (image_list(store, &rows, e) < 0)
        return -1;
    nth_over();
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);

        nth_say("%s %s;", json_str(row, "kind", "none"), json_str(row, "id", "none"));
    }
    return 0;
}

static char *const starter[] = {VMS_STARTER, "--unpack", VMS_UNPACK, NULL};

static int open_store(struct vm_err *e)
{
    OWN(strv) struct strv recipes = {0};
    OWN(str) char *state = text_format("%s/state", room_path);
    struct image_store *s = NULL;
    int rc;

    strv_addf(&recipes, "%s/recipes", room_path);
    rc = !state || recipes.failed ? vm_no_memory(e) : image_store_open(state, &recipes, &s, e);
    if (!rc && (image_store_set_unpacker(s, VMS_UNPACK, e) < 0 || image_store_set_boot(s, VMS_INIT, VMS_AGENT, e) < 0))
        rc = -1;
    nth_over();
    image_store_close(s);
    return rc;
}

/* Made anew each time. */
static int import(const struct spec_image *want, struct vm_err *e)
{
    OWN(strv) struct strv none = {0};
    struct image_ref ref, again;
    int rc;

    nth_over();
    if (image_gc(store, &none, NULL, e) < 0)
        return -1;
    nth_again();
    rc = image_ensure(store, want, quiet, deadline_in(30000), &ref, e);
    if (!rc && (rc = image_find(store, ref.id, &again, e)) == 0)
        rc = list_say(e);
    nth_over();
    if (rc < 0 && image_ensure(store, want, quiet, deadline_in(30000), &ref, NULL) < 0)
        vm_fail(e, VM_E_SYSTEM, "asked again, it fails still");
    return rc;
}

static int directory(struct vm_err *e)
{
    return import(&(struct spec_image){.kind = IMAGE_DIRECTORY, .name = tree_path}, e);
}

static int tarball(struct vm_err *e)
{
    return import(&(struct spec_image){.kind = IMAGE_TAR, .name = tar_path, .sha256 = tar_sum}, e);
}

static int raw_disk(struct vm_err *e)
{
    return import(&(struct spec_image){.kind = IMAGE_DISK, .name = disk_path, .sha256 = disk_sum}, e);
}

static int recipe(struct vm_err *e)
{
    struct recipe *r = NULL;
    int rc = recipe_open(store, "tiny", &r, e);

    nth_over();
    if (!rc)
        nth_say("%s", recipe_id(r));
    recipe_free(r);
    return rc;
}

static int collect(struct vm_err *e)
{
    OWN(strv) struct strv used = {0}, removed = {0};
    struct image_ref ref;
    int rc;

    nth_over();
    if (image_ensure(store, &(struct spec_image){.kind = IMAGE_DIRECTORY, .name = tree_path}, quiet, deadline_in(30000), &ref,
                     e) < 0)
        return -1;
    nth_again();
    rc = image_gc(store, &used, &removed, e);
    nth_over();
    if (!rc)
        nth_say("%zu", removed.n);
    return rc;
}

static int root(struct vm_err *e)
{
    OWN(mem) void *memory = NULL;
    char path[IMAGE_PATH];
    uint32_t *ids = NULL;
    uint64_t bytes = 0;
    size_t n = 0;
    int rc = root_ensure(store, 7, 64 << 20, path, e) < 0 || root_ensure(store, 7, 128 << 20, path, e) < 0 ||
             root_usage(store, 7, &bytes) < 0 || root_list(store, &ids, &n, e) < 0 || root_remove(store, 7, e) < 0 ? -1 : 0;

    memory = ids;
    nth_over();
    if (!rc)
        nth_say("%zu %d", n, root_exists(store, 7));
    root_remove(store, 7, NULL);
    return rc;
}

static int volume(struct vm_err *e)
{
    struct spec_volume v = {.name = "data", .target = "/srv", .size = 64 << 20};
    OWN(json) json_t *rows = NULL;
    char path[IMAGE_PATH];
    bool grown = false;
    int rc = volume_ensure(store, &v, "db", path, &grown, e) < 0 || volume_list(store, NULL, &rows, e) < 0 ||
             volume_remove(store, "data", e) < 0 ? -1 : 0;

    nth_over();
    if (!rc)
        nth_say("%zu %s", json_array_size(rows), json_str(json_array_get(rows, 0), "guest", "none"));
    volume_remove(store, "data", NULL);
    return rc;
}

static const struct nth_case cases[] = {
    {"image store", open_store},
    {"image of a directory", directory},
    {"image of a tarball", tarball},
    {"image of a disk", raw_disk},
    {"recipe", recipe},
    {"collection", collect},
    {"root", root},
    {"volume", volume},
};

/* What a root tree needs at least, as a directory, a tarball, and a file that stands for a disk. */
static const char sources[] =
    "cd %s && mkdir -p tree/etc tree/sbin recipes/tiny && echo ID=tiny >tree/etc/os-release && "
    "echo '#!/bin/sh' >tree/sbin/init && chmod 755 tree/sbin/init && ln tree/sbin/init tree/sbin/again && "
    "echo '{\"suite\": \"x\", \"packages\": [\"init\"]}' >recipes/tiny/recipe.json && "
    "tar -C tree -cf tree.tar . && truncate -s 1M disk.raw && sha256sum tree.tar disk.raw >sums";

static int make_sources(void)
{
    OWN(str) char *command = text_format(sources, room_path);
    OWN(str) char *sums = NULL;

    if (!command || system(command) || path_read(room_dir, "sums", 1024, &sums, NULL, NULL) < 0)
        return -1;
    snprintf(tar_sum, sizeof tar_sum, "%.64s", sums);
    snprintf(disk_sum, sizeof disk_sum, "%.64s", strchr(sums, '\n') + 1);
    snprintf(tree_path, sizeof tree_path, "%s/tree", room_path);
    snprintf(tar_path, sizeof tar_path, "%s/tree.tar", room_path);
    snprintf(disk_path, sizeof disk_path, "%s/disk.raw", room_path);
    return 0;
}

int main(int argc, char **argv)
{
    OWN(strv) struct strv recipes = {0};
    OWN(str) char *state = NULL, *remove = NULL;
    struct vm_err e = {0};
    int rc = 1;

    if (geteuid() != 0) {
        puts("skipped: not root");
        return 77;
    }
    if (!mkdtemp(room_path) || (room_dir = open(room_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return 1;
    starter_place((struct starter_place){.argv = starter});
    state = text_format("%s/state", room_path);
    remove = text_format("rm -rf %s", room_path);
    strv_addf(&recipes, "%s/recipes", room_path);
    if (make_sources() == 0 && image_store_open(state, &recipes, &store, &e) == 0 &&
        image_store_set_unpacker(store, VMS_UNPACK, &e) == 0)
        rc = test_J1_each_allocation_fails(argc, argv, cases, ARRAY_LEN(cases));
    else
        fprintf(stderr, "not ready: %s\n", e.text);
    image_store_close(store);
    close(room_dir);
    return system(remove) || rc;
}
