/* Whatever comes as a tar: an error, or a bundle that keeps its promises and comes back the same from its own tar. */
#include "tar.h"

#include <vmsd/bundle.h>
#include <vmsd/text.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    OWN(bundle) struct bundle *b = NULL, *again = NULL;
    OWN(str) char *tar = NULL;
    OWN(mem) uint8_t *copy = malloc(size + !size);
    struct vm_err e;
    size_t n = 0;

    MUST(copy);
    memcpy(copy, data, size);
    if (size & 1)
        tar_mend(copy, size);
    if (bundle_from_tar(copy, size, NULL, &b, &e) < 0) {
        MUST(!b && e.text[0] && text_is_clean(e.text, strlen(e.text)));
        return 0;
    }
    for (size_t i = 0; i < b->n; i++) {
        const struct bundle_file *f = &b->files[i];
        MUST(f->path[0] && f->path[0] != '/' && !strstr(f->path, "//") && strlen(f->path) <= BUNDLE_PATH_MAX);
        MUST(f->data[f->len] == '\0' && (f->mode == 0644 || f->mode == 0755));
        MUST(i == 0 || strcmp(b->files[i - 1].path, f->path) < 0);
    }
    MUST(bundle_to_tar(b, &tar, &n, &e) == 0);
    MUST(bundle_from_tar(tar, n, NULL, &again, &e) == 0);
    MUST(strcmp(b->sha256, again->sha256) == 0);
    return 0;
}
