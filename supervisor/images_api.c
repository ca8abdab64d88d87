/* Images and volumes over the API. */
#include "api.h"
#include "report.h"

#include <stdlib.h>
#include <string.h>
#include <vmsd/clock.h>

enum { BUILD_MS = 1800000 };

/* [[image, guest], …]: a snapshot of who stands on what, for the worker. Whose kernel is ours has a second line. */
static json_t *users(struct world *w)
{
    json_t *list = json_array();

    for (size_t i = 0; i < w->n_guests; i++) {
        const struct guest *g = w->guests[i];

        if (g->image)
            json_array_append_new(list, json_pack("[ss]", g->image, g->name));
        if (g->spec->kind == KIND_MICROVM && !g->spec->kernel)
            json_array_append_new(list, json_pack("[ss]", IMAGE_KERNEL, g->name));
    }
    return list;
}

/* On the worker: which kernel that is follows from its recipe. */
static void users_name_kernel(struct api_work *x)
{
    char id[IMAGE_ID];
    json_t *pair;
    size_t i;

    if (kernel_id(x->w->images, id, NULL) < 0) /* no recipe: then nothing was made by it */
        return;
    json_array_foreach (x->extra, i, pair)
        if (!strcmp(json_string_value(json_array_get(pair, 0)), IMAGE_KERNEL))
            json_array_set_new(pair, 0, json_string(id));
}

static json_t *used_by(const json_t *all, const char *id)
{
    json_t *names = json_array(), *pair;
    size_t i;

    json_array_foreach (all, i, pair)
        if (!strcmp(json_string_value(json_array_get(pair, 0)), id))
            json_array_append(names, json_array_get(pair, 1));
    return names;
}

static int list_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *images = NULL, *image;
    size_t i;

    if (image_list(x->w->images, &images, e) < 0)
        return -1;
    users_name_kernel(x);
    json_array_foreach (images, i, image)
        json_put(image, "used_by", used_by(x->extra, json_str(image, "id", "")));
    *body = json_object();
    json_put(*body, "images", images);
    return 0;
}

void images_list(struct http_request *r, void *arg)
{
    api_work(r, (struct api_work){.w = arg, .run = list_run, .extra = users(arg)});
}

static int removed(json_t **body, const struct strv *ids)
{
    json_t *list = json_array();

    for (size_t i = 0; i < ids->n; i++)
        json_array_append_new(list, json_string(ids->v[i]));
    *body = json_object();
    json_put(*body, "removed", list);
    return 0;
}

static int remove_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    OWN(json) json_t *names = NULL;
    OWN(strv) struct strv ids = {0};

    users_name_kernel(x);
    names = used_by(x->extra, x->text);
    if (json_array_size(names))
        return vm_fail(e, VM_E_CONFLICT, "guest '%s' stands on this image; remove or rebuild it first",
                       json_string_value(json_array_get(names, 0)));
    if (image_remove(x->w->images, x->text, e) < 0)
        return -1;
    strv_add(&ids, x->text);
    return removed(body, &ids);
}

/* A job that makes or has just found an image for its guest: until that is written nobody else knows that it is used. */
static bool refused(struct http_request *r, struct world *w)
{
    struct vm_err e = {0};

    for (size_t i = 0; i < w->n_guests; i++) {
        const struct job *j = w->guests[i]->job;

        if (!j || j->verb != JOB_CONVERGE || (j->step && strcmp(j->step, "image")))
            continue;
        vm_fail(&e, VM_E_CONFLICT, "'%s' is about to use an image; try again when it has one", j->name);
        http_reply_error(r, &e);
        return true;
    }
    return false;
}

void images_remove(struct http_request *r, void *arg)
{
    struct api_work x = {.w = arg, .run = remove_run, .verb = "remove-image"};

    if (refused(r, arg))
        return;
    x.extra = users(arg);
    guest_set_text(&x.text, http_path_arg(r, "id"));
    api_work(r, x);
}

static int gc_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    OWN(strv) struct strv used = {0}, gone = {0};
    json_t *pair;
    size_t i;

    users_name_kernel(x);
    json_array_foreach (x->extra, i, pair)
        strv_add(&used, json_string_value(json_array_get(pair, 0)));
    if (used.failed)
        return vm_no_memory(e);
    return image_gc(x->w->images, &used, &gone, e) < 0 ? -1 : removed(body, &gone);
}

void images_gc(struct http_request *r, void *arg)
{
    if (!refused(r, arg))
        api_work(r, (struct api_work){.w = arg, .run = gc_run, .verb = "collect-images", .extra = users(arg)});
}

static int volumes_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    json_t *volumes = NULL;

    if (volume_list(x->w->images, NULL, &volumes, e) < 0)
        return -1;
    *body = json_object();
    json_put(*body, "volumes", volumes);
    return 0;
}

void volumes_list(struct http_request *r, void *arg)
{
    api_work(r, (struct api_work){.w = arg, .run = volumes_run});
}

static bool is_listed(const json_t *volumes, const char *name)
{
    const json_t *v;
    size_t i;

    json_array_foreach (volumes, i, v)
        if (!strcmp(json_str(v, "name", ""), name))
            return true;
    return false;
}

static int volume_remove_run(struct api_work *x, json_t **body, struct vm_err *e)
{
    OWN(json) json_t *volumes = NULL, *none = json_object();
    OWN(strv) struct strv gone = {0};

    if (volume_list(x->w->images, none, &volumes, e) < 0)
        return -1;
    if (!is_listed(volumes, x->text))
        return vm_fail(e, VM_E_ABSENT, "there is no volume '%.64s'; 'vmctl volume ls' lists those that are", x->text);
    if (volume_remove(x->w->images, x->text, e) < 0)
        return -1;
    strv_add(&gone, x->text);
    return removed(body, &gone);
}

void volumes_remove(struct http_request *r, void *arg)
{
    struct world *w = arg;
    const char *name = http_path_arg(r, "name");
    struct api_work x = {.run = volume_remove_run, .verb = "remove-volume"};
    struct vm_err e = {0};

    for (size_t i = 0; i < w->n_guests; i++) {
        const struct guest_spec *s = w->guests[i]->spec;

        for (size_t k = 0; k < s->n_volumes; k++) {
            if (strcmp(s->volumes[k].name, name))
                continue;
            vm_fail(&e, VM_E_CONFLICT, "volume '%s' belongs to guest '%s'; remove the guest first", name, s->name);
            http_reply_error(r, &e);
            return;
        }
    }
    x.w = w;
    guest_set_text(&x.text, name);
    api_work(r, x);
}

/* A build by hand, with its lines as they come. */
struct build {
    struct world *w;
    struct http_stream *stream;
    char *name, id[IMAGE_ID];
    bool finished;
    int rc;
    struct vm_err err;
};

struct build_line {
    struct build *b;
    json_t *line;
};

static void build_say(struct build *b, json_t *line)
{
    OWN(str) char *text = json_to_text(line);

    if (b->stream && text && http_stream_write(b->stream, text, strlen(text)) && b->stream)
        http_stream_write(b->stream, "\n", 1);
    json_decref(line);
}

static void line_on_loop(void *arg)
{
    struct build_line *l = arg;

    build_say(l->b, l->line);
    free(l);
}

static void build_progress(const char *text, void *arg)
{
    struct build *b = arg;
    struct build_line *l = malloc(sizeof *l);

    if (!l)
        return;
    *l = (struct build_line){b, json_object()};
    json_put_str(l->line, "type", "progress");
    json_put_str(l->line, "text", text);
    if (json_lost()) { /* of this thread; the loop cannot know */
        json_decref(l->line);
        free(l);
        return;
    }
    loop_post(b->w->loop, line_on_loop, l);
}

static void build_run(void *arg)
{
    struct build *b = arg;
    struct spec_image want = {.kind = IMAGE_RECIPE, .name = b->name};
    struct image_progress p = {.line = build_progress, .arg = b};
    struct deadline d = deadline_in(BUILD_MS);
    struct image_kernel kernel;
    struct image_ref ref;

    bool is_kernel = !strcmp(b->name, IMAGE_KERNEL);
    b->rc = is_kernel ? kernel_ensure(b->w->images, p, d, &kernel, &b->err)
                      : image_ensure(b->w->images, &want, p, d, &ref, &b->err);
    if (b->rc == 0)
        memcpy(b->id, is_kernel ? kernel.id : ref.id, IMAGE_ID);
}

static void build_free(struct build *b)
{
    free(b->name);
    free(b);
}

static void build_done(void *arg, bool cancelled)
{
    struct build *b = arg;
    json_t *line = json_object();

    json_put_str(line, "type", "result");
    json_put(line, "ok", json_boolean(b->rc == 0 && !cancelled));
    json_put_str(line, "image", b->rc == 0 ? b->id : NULL);
    json_put_str(line, "error", b->rc < 0 ? b->err.text : NULL);
    build_say(b, line);
    b->finished = true;
    if (b->stream)
        http_stream_end(b->stream); /* build_gone frees b */
    else
        build_free(b);
}

static void build_gone(void *arg)
{
    struct build *b = arg;

    b->stream = NULL;
    if (b->finished)
        build_free(b);
}

void images_build(struct http_request *r, void *arg)
{
    struct build *b = calloc(1, sizeof *b);
    struct vm_err e = {0};

    if (!b || !(b->name = strdup(http_path_arg(r, "name")))) {
        free(b);
        vm_no_memory(&e);
        http_reply_error(r, &e);
        return;
    }
    b->w = arg;
    access_record(b->w, r, "build-image", b->name);
    b->stream = http_reply_stream(r, 200, "application/x-ndjson", build_gone, b);
    if (loop_work(b->w->loop, (struct loop_job){build_run, build_done, b}, &b->err) < 0) {
        b->rc = -1;
        build_done(b, false);
    }
}
