/* What alerts want to know, and only a worker can ask: directories that the spec names, volumes, arrays and drives, and how all
 * that grows. A directory on a host that does not answer holds up this and nothing else. */
#include "alert.h"

#include "profile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <vmsd/clock.h>

enum { HOUR_MS = 3600000, DAY_MS = 86400000 };

struct alert_look {
    struct store *store;
    struct image_store *images;
    bool with_arrays;
    json_t *roots, *paths;         /* copies of what to ask: [{name, id}], [{path, grows}] */
    json_t *growing;               /* set of the guests whose growth matters */
    json_t *look, *arrays;
    void (*done)(json_t *look, json_t *arrays, bool cancelled, void *arg);
    void *arg;
};

/* By how much more it is than a day ago, or than when it was first looked at. It is kept once an hour. */
static json_t *grown(const struct alert_look *x, const char *subject, int64_t bytes)
{
    int64_t now = wall_ms(), before = -1;

    if (store_size_since(x->store, subject, now - DAY_MS, &before, NULL) < 0)
        return NULL;
    if (store_put_size(x->store, subject, now / HOUR_MS * HOUR_MS, bytes, NULL) < 0)
        return NULL;
    return json_integer(before < 0 ? 0 : bytes - before);
}

static json_t *look_at_roots(const struct alert_look *x)
{
    json_t *out = json_object(), *root;
    size_t i;

    json_array_foreach(x->roots, i, root) {
        const char *name = json_str(root, "name", "");
        OWN(str) char *subject = text_format("guest %s", name);
        uint64_t bytes;

        if (subject && root_usage(x->images, (uint32_t)json_int(root, "id", 0), &bytes) == 0)
            json_put(out, name, grown(x, subject, (int64_t)bytes));
    }
    return out;
}

static json_t *look_at_volumes(const struct alert_look *x)
{
    json_t *list = NULL, *volume;
    size_t i;

    if (volume_list(x->images, x->growing, &list, NULL) < 0)
        return NULL;
    json_array_foreach(list, i, volume) {
        OWN(str) char *subject = text_format("volume %s", json_str(volume, "name", "?"));
        int64_t bytes = json_int(volume, "bytes", -1);

        if (subject && bytes >= 0 && json_object_get(x->growing, json_str(volume, "guest", "")))
            json_put(volume, "grown", grown(x, subject, bytes));
    }
    return list;
}

static json_t *look_at_path(const struct alert_look *x, const json_t *want)
{
    const char *path = json_str(want, "path", "");
    OWN(str) char *subject = text_format("path %s", path);
    json_t *o = json_object();
    struct statvfs st;

    json_put_str(o, "path", path);
    if (statvfs(path, &st) < 0)
        return o;
    int64_t used = (int64_t)(st.f_blocks - st.f_bfree) * (int64_t)st.f_frsize;
    json_put_int(o, "used_bytes", used);
    json_put_int(o, "available_bytes", (int64_t)st.f_bavail * (int64_t)st.f_frsize);
    json_put_int(o, "files", (int64_t)st.f_files);
    json_put_int(o, "files_free", (int64_t)st.f_ffree);
    if (subject && json_flag(want, "grows", false))
        json_put(o, "grown", grown(x, subject, used));
    return o;
}

static void look_run(void *arg)
{
    struct alert_look *x = arg;
    json_t *paths = json_array(), *want;
    size_t i;

    json_array_foreach(x->paths, i, want)
        json_array_append_new(paths, look_at_path(x, want));
    x->look = json_object();
    json_put(x->look, "paths", paths);
    json_put(x->look, "roots", look_at_roots(x));
    json_put(x->look, "volumes", look_at_volumes(x));
    if (x->with_arrays && (x->arrays = json_object()))
        profile_arrays(x->arrays);
    if (json_lost()) { /* half of it would look like things that are gone */
        json_decref(x->look);
        json_decref(x->arrays);
        x->look = x->arrays = NULL;
    }
}

static void look_free(struct alert_look *x)
{
    json_decref(x->roots);
    json_decref(x->paths);
    json_decref(x->growing);
    free(x);
}

static void look_done(void *arg, bool cancelled)
{
    struct alert_look *x = arg;

    x->done(x->look, x->arrays, cancelled, x->arg);
    look_free(x);
}

int alert_look(struct world *w, bool arrays, void (*done)(json_t *look, json_t *arrays, bool cancelled, void *arg), void *arg)
{
    struct alert_look *x = calloc(1, sizeof *x);

    if (!x)
        return -1;
    *x = (struct alert_look){.store = w->store, .images = w->images, .with_arrays = arrays, .roots = json_array(),
                             .paths = json_array(), .growing = json_object(), .done = done, .arg = arg};
    for (size_t i = 0; i < w->n_guests; i++) {
        const struct guest *g = w->guests[i];

        if (!g->spec->alerts.growth)
            continue;
        json_put(x->growing, g->name, json_true());
        json_array_append_new(x->roots, json_pack("{ss sI}", "name", g->name, "id", (json_int_t)g->id));
    }
    for (size_t i = 0; i < w->host_spec->n_paths; i++)
        json_array_append_new(x->paths, json_pack("{ss sb}", "path", w->host_spec->paths[i].path, "grows",
                                                  (int)(w->host_spec->paths[i].growth > 0)));
    if (!json_lost() && loop_work(w->loop, (struct loop_job){look_run, look_done, x}, NULL) == 0)
        return 0;
    look_free(x);
    return -1;
}
