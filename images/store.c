/* The store as directories: opened, listed, emptied. */
#include "images.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/json.h>
#include <vmsd/path.h>

enum { NOTE_BYTES_MAX = 64 << 10 };

int image_store_open(const char *state, const struct strv *recipes, struct image_store **out, struct vm_err *e)
{
    struct image_store *s = calloc(1, sizeof *s);
    OWN(fd) int top = -1;

    if (!s)
        return vm_no_memory(e);

    const struct { const char *name; int *fd; } rooms[] = {
        {"images", &s->images}, {"guests", &s->guests}, {"volumes", &s->volumes}, {"templates", &s->templates}};

    s->images = s->guests = s->volumes = s->templates = -1;
    s->builder = "mmdebstrap";
    s->mkfs = "mkfs.erofs";
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->ended, NULL);
    s->state = strdup(state);
    for (size_t i = 0; i < recipes->n; i++)
        strv_add(&s->recipes, recipes->v[i]);
    if (!s->state || s->recipes.failed) {
        vm_no_memory(e);
        goto fail;
    }
    if ((top = path_mkdirs_host(state, 0700, e)) < 0)
        goto fail;
    for (size_t i = 0; i < ARRAY_LEN(rooms); i++)
        if ((*rooms[i].fd = path_mkdirs(top, rooms[i].name, 0700, e)) < 0)
            goto fail;
    *out = s;
    return 0;
fail:
    image_store_close(s);
    return -1;
}

void image_store_close(struct image_store *s)
{
    if (!s)
        return;
    fd_drop(s->images);
    fd_drop(s->guests);
    fd_drop(s->volumes);
    fd_drop(s->templates);
    strv_done(s->recipes);
    free(s->state);
    free(s->unpacker);
    free(s->init);
    free(s->agent);
    pthread_cond_destroy(&s->ended);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int image_store_set_unpacker(struct image_store *s, const char *program, struct vm_err *e)
{
    char *copy = strdup(program);

    if (!copy)
        return vm_no_memory(e);
    free(s->unpacker);
    s->unpacker = copy;
    return 0;
}

int image_store_set_boot(struct image_store *s, const char *init, const char *agent, struct vm_err *e)
{
    OWN(str) char *a = strdup(init);
    OWN(str) char *b = strdup(agent);

    if (!a || !b)
        return vm_no_memory(e);
    free(s->init);
    free(s->agent);
    s->init = TAKE(a);
    s->agent = TAKE(b);
    return 0;
}

int store_path(const struct image_store *s, const char *kind, const char *name, const char *file,
               char out[static IMAGE_PATH], struct vm_err *e)
{
    char path[IMAGE_PATH];
    int n = snprintf(path, sizeof path, "%s/%s/%s%s%s", s->state, kind, name, file ? "/" : "", file ? file : "");

    if (n < 0 || (size_t)n >= sizeof path)
        return vm_fail(e, VM_E_TOO_LARGE, "state directory '%.200s' has too long a name; choose a shorter one",
                       s->state);
    memcpy(out, path, (size_t)n + 1);
    return 0;
}

int store_note(int dir, const char *name, json_t **out, struct vm_err *e)
{
    OWN(str) char *text = NULL;
    struct vm_err why = {0};
    json_t *note = NULL;
    size_t n = 0;

    if (path_read(dir, name, NOTE_BYTES_MAX, &text, &n, &why) == 0)
        note = json_from_text(text, n, &why);
    if (!note && why.code == VM_E_SYSTEM && why.sys != ENOENT)
        return vm_fail(e, why.code, "%s", why.text);
    *out = note;
    return 0;
}

int store_each(int dir, bool hidden, int (*each)(const char *name, void *arg, struct vm_err *e), void *arg,
               struct vm_err *e)
{
    int fd = path_open(dir, ".", PATH_BENEATH, O_RDONLY | O_DIRECTORY, 0, e);

    if (fd < 0)
        return -1;
    OWN(dir) DIR *list = dir_take(fd);
    if (!list)
        return vm_no_memory(e);
    for (struct dirent *d; (errno = 0, d = readdir(list));)
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, "..") && (d->d_name[0] == '.') == hidden &&
            each(d->d_name, arg, e) < 0)
            return -1;
    return errno ? vm_fail_sys(e, "list a directory of the store") : 0;
}

int store_remove(int dir, const char *name, struct vm_err *e)
{
    char gone[NAME_MAX];

    snprintf(gone, sizeof gone, ".%s.gone", name);
    if (path_remove(dir, gone, e) < 0) /* left from a removal that was cut off */
        return -1;
    if (renameat(dir, name, dir, gone) < 0)
        return errno == ENOENT ? 0 : vm_fail_sys(e, "remove '%s'", name);
    if (fsync(dir) < 0)
        return vm_fail_sys(e, "remove '%s'", name);
    return path_remove(dir, gone, e);
}

int store_no_space(struct vm_err *e)
{
    errno = ENOSPC;
    return vm_fail_sys(e, "write");
}

int store_full(const struct image_store *s, const char *doing, struct vm_err *e)
{
    if (!e || (e->sys != ENOSPC && e->sys != EDQUOT && !strstr(e->text, strerror(ENOSPC))))
        return -1;
    vm_fail(e, VM_E_SYSTEM,
            "no space left in '%.200s' for %s; free some ('vmctl image gc' removes what no guest uses) and try again",
            s->state, doing);
    e->sys = ENOSPC;
    return -1;
}
