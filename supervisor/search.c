/* Who runs a guest, when nobody here remembers: asked from the drivers, and asked again when one cannot say. */
#include "job.h"

#include <stdlib.h>
#include <vmsd/log.h>

enum { AGAIN_MS = 5000 };

int driver_find(uint32_t id, const char *run_dir, const struct vm_driver **out, struct drv_proc *proc, struct vm_err *e)
{
    struct vm_err silent = {0}, why;

    for (const struct vm_driver *const *d = drivers(); *d; d++) {
        why = (struct vm_err){0};
        if ((*d)->adopt(id, run_dir, proc, &why) == 0) {
            *out = *d;
            return 0;
        }
        if (why.code != VM_E_ABSENT) /* no file descriptor is left, say: nobody has said that it does not run */
            silent = why;
    }
    if (silent.code == VM_E_OK)
        return vm_fail(e, VM_E_ABSENT, "it does not run");
    return vm_fail(e, VM_E_UNAVAILABLE, "whether it runs cannot be told now: %s", silent.text);
}

void guest_adopt(struct guest *g, const struct vm_driver *d, const struct drv_proc *proc)
{
    g->driver = d;
    g->proc = *proc;
    guest_feed(g, EV_ADOPT, "found running");
    guest_watch_keeper(g);
}

struct search {
    struct world *w;
    uint32_t id;
    char *run_dir;
    struct strv links;
    const struct vm_driver *driver;
    struct drv_proc proc;
    struct vm_err err;
};

static void search_run(void *arg)
{
    struct search *x = arg;
    struct vm_err e;

    driver_find(x->id, x->run_dir, &x->driver, &x->proc, &x->err);
    for (size_t i = 0; i < x->links.n && x->err.code == VM_E_ABSENT; i++) /* a tap may outlive who held it */
        if (net_link_remove(x->links.v[i], &e) < 0)
            log_warn(NULL, "remove '%s': %s, continuing", x->links.v[i], e.text);
}

static void settle(struct guest *g, const struct search *x)
{
    if (x->err.code == VM_E_UNAVAILABLE) {
        guest_seek(g);
        return;
    }
    if (x->driver && x->proc.phase == DRV_BOOTED) {
        guest_adopt(g, x->driver, &x->proc);
    } else {
        g->cut = x->driver != NULL; /* between start and boot: the job that goes on takes it from there */
        guest_feed(g, EV_DOWN, x->driver ? "found half started" : "found ended");
    }
    guest_resume(g);
}

static void search_done(void *arg, bool cancelled)
{
    struct search *x = arg;
    struct guest *g = world_guest_by_id(x->w, x->id);

    if (g && cancelled)
        guest_seek(g); /* no thread was to be had, say */
    else if (g && g->state == ST_UNKNOWN && !g->job && !g->next)
        settle(g, x);
    strv_done(x->links);
    free(x->run_dir);
    free(x);
}

static void search(void *arg)
{
    struct guest *g = arg;
    struct search *x = calloc(1, sizeof *x);

    loop_timer_free(g->retry);
    g->retry = NULL;
    if (!x || !(x->run_dir = guest_run_dir(g))) {
        free(x);
        guest_seek(g);
        return;
    }
    x->w = g->w;
    x->id = g->id;
    for (size_t i = 0; i < g->n_nics; i++)
        strv_add(&x->links, g->nics[i].ifname);
    if (loop_work(g->w->loop, (struct loop_job){search_run, search_done, x}, NULL) < 0)
        search_done(x, true);
}

void guest_seek(struct guest *g)
{
    struct vm_err e = {0};

    if (g->state != ST_UNKNOWN || g->job || g->next || g->retry || g->w->stopping)
        return;
    if (loop_timer_new(g->w->loop, search, g, &g->retry, &e) < 0)
        log_error(g->name, "nobody will look for it again: %s; restart vmsd", e.text);
    else
        loop_timer_set(g->retry, AGAIN_MS, AGAIN_MS / 10);
}
