/* prepare RECIPES INIT AGENT STATE: builds in STATE what guests boot from, the image debian-12 with its disk and the
 * kernel of microVMs, where that is not there yet, and prints the directory of each. The test host has no network. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/image.h>

enum { BUILD_MS = 900000 };

static void progress(const char *text, void *arg)
{
    (void)arg;
    fprintf(stderr, "%s\n", text);
}

static int prepare(struct image_store *s, char **argv, struct vm_err *e)
{
    const struct spec_image debian = {.kind = IMAGE_RECIPE, .name = "debian-12"};
    const struct image_progress p = {.line = progress};
    const struct deadline d = deadline_in(BUILD_MS);
    struct image_kernel kernel;
    struct image_ref ref;
    char disk[IMAGE_PATH];

    if (image_store_set_boot(s, argv[2], argv[3], e) < 0 || image_ensure(s, &debian, p, d, &ref, e) < 0 ||
        image_disk(s, &ref, p, d, disk, e) < 0 || kernel_ensure(s, p, d, &kernel, e) < 0)
        return -1;
    printf("%s/images/%s\n%s/images/%s\n", argv[4], ref.id, argv[4], kernel.id);
    return 0;
}

int main(int argc, char **argv)
{
    OWN(strv) struct strv recipes = {0};
    struct image_store *s = NULL;
    struct vm_err e = {0};
    int rc = -1;

    if (argc != 5)
        return 2;
    strv_add(&recipes, argv[1]);
    if (image_store_open(argv[4], &recipes, &s, &e) == 0)
        rc = prepare(s, argv, &e);
    image_store_close(s);
    if (rc < 0)
        fprintf(stderr, "prepare: %s\n", e.text);
    return rc < 0;
}
