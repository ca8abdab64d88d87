#include "bundles.h"

#include "job.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { SHA256_HEX = 64, NAME_SIZE = SHA256_HEX + sizeof ".tar" };

void bundles_in_use(struct world *w, struct strv *out)
{
    for (size_t i = 0; i < w->n_guests; i++) {
        const struct guest *g = w->guests[i];

        strv_add(out, g->bundle); /* a job may yet begin with it, though the row names another by then */
        if (g->job && g->job->bundle)
            strv_add(out, g->job->bundle);
    }
}

static int open_dir(const char *state_dir, struct vm_err *e)
{
    OWN(fd) int state = path_open_host(state_dir, O_RDONLY | O_DIRECTORY, e);

    return state < 0 ? -1 : path_mkdirs(state, "bundles", 0700, e);
}

int bundle_keep(const char *state_dir, const struct bundle *b, struct vm_err *e)
{
    OWN(fd) int dir = open_dir(state_dir, e);
    OWN(str) char *tar = NULL;
    char name[NAME_SIZE];
    size_t n;

    if (dir < 0)
        return -1;
    snprintf(name, sizeof name, "%.64s.tar", b->sha256);
    if (path_exists(dir, name))
        return 0;
    if (bundle_to_tar(b, &tar, &n, e) < 0)
        return -1;
    return path_write(dir, name, tar, n, 0600, e);
}

static int spare(const struct store_guest *row, void *spared)
{
    strv_add(spared, row->bundle);
    return 0;
}

static bool is_spared(const char *file, const struct strv *spared)
{
    char hash[SHA256_HEX + 1];

    if (strlen(file) != NAME_SIZE - 1)
        return false;
    memcpy(hash, file, SHA256_HEX);
    hash[SHA256_HEX] = '\0';
    return strv_has(spared, hash);
}

int bundles_sweep(struct world *w, struct strv *spared, struct vm_err *e)
{
    OWN(fd) int dir = open_dir(w->options->state_dir, e);
    DIR *list;
    int rc = 0;

    if (dir < 0 || store_guests(w->store, spare, spared, e) < 0)
        return -1;
    if (spared->failed || !(list = fdopendir(fcntl(dir, F_DUPFD_CLOEXEC, 0))))
        return vm_no_memory(e);
    for (struct dirent *d; rc == 0 && (d = readdir(list));)
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && !is_spared(d->d_name, spared))
            rc = path_remove(dir, d->d_name, e);
    closedir(list);
    return rc;
}
