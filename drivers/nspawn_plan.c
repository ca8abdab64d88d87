#include "nspawn.h"

#include "keeper_plan.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <vmsd/path.h>

/* Below these the guest's init mounts its own file systems, which would hide the mount. */
static int target_check(const char *target, struct vm_err *e)
{
    static const char *const own[] = {"/dev", "/proc", "/sys", "/run", "/tmp"};

    if (strlen(target) >= PATH_MAX || target[0] != '/' || !target[1] || strstr(target, "/../") || strstr(target, "/./") || strstr(target, "//") ||
        target[strlen(target) - 1] == '/' || (strlen(target) > 2 && !strcmp(target + strlen(target) - 3, "/..")))
        return vm_fail(e, VM_E_INVALID, "target '%s' is no plain absolute path", target);
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        size_t n = strlen(own[i]);

        if (!strncmp(target, own[i], n) && (!target[n] || target[n] == '/'))
            return vm_fail(e, VM_E_INVALID, "target '%s' is below %s, which every guest mounts anew; choose another",
                           target, own[i]);
    }
    return 0;
}

static int by_target(const void *a, const void *b)
{
    return strcmp((*(const struct drv_mount *const *)a)->target, (*(const struct drv_mount *const *)b)->target);
}

/* Parents before children, so that a mount below another one is not hidden by it. */
static int mounts_open(const struct drv_guest *g, struct deadline d, struct kept_plan *p, struct text *t,
                       struct vm_err *e)
{
    const struct drv_mount *sorted[KEEPER_MOUNTS_MAX];

    for (size_t i = 0; i < g->n_mounts; i++)
        sorted[i] = &g->mounts[i];
    qsort(sorted, g->n_mounts, sizeof *sorted, by_target);
    for (size_t i = 0; i < g->n_mounts; i++) {
        const struct drv_mount *m = sorted[i];
        int fd;

        if (target_check(m->target, e) < 0)
            return -1;
        if (i && !strcmp(m->target, sorted[i - 1]->target))
            return vm_fail(e, VM_E_INVALID, "target '%s' is given twice", m->target);
        if ((fd = m->disk ? plan_disk_open(m->source, d, e) : plan_tree_open(g, m, e)) < 0)
            return -1;
        p->fds[p->n++] = fd;
        plan_add(t, "mount=%s,%s%s", m->disk ? "disk" : "tree", m->read_only ? "r" : "", m->mapped ? "m" : "");
        plan_add(t, "target=%s", m->target);
    }
    return 0;
}

static int words_add(const struct drv_guest *g, const struct cgroup *c, struct text *t, struct vm_err *e)
{
    OWN(strv) struct strv args = {0};

    if (nspawn_args(g, &args, e) < 0)
        return -1;
    plan_add_guest(t, g, c);
    plan_add(t, "read_only=%d", g->spec->security.read_only_root);
    for (size_t i = 0; i < args.n; i++)
        plan_add(t, "arg=%s", args.v[i]);
    return 0;
}

int nspawn_plan_make(const struct drv_guest *g, const struct cgroup *c, struct deadline d, struct kept_plan *out,
                     struct vm_err *e)
{
    OWN(text) struct text t = {0};
    OWN(kept_plan) struct kept_plan p = {0};
    int dir = O_RDONLY | O_DIRECTORY;

    if (plan_guest_check(g, e) < 0)
        return -1;
    if (!(p.fds = calloc(KEEPER_FD_MOUNTS + KEEPER_MOUNTS_MAX, sizeof *p.fds)))
        return vm_no_memory(e);
    if ((p.fds[p.n] = -1, p.n++, p.fds[p.n] = path_open_host(g->run_dir, dir, e)) < 0 ||
        (p.n++, p.fds[p.n] = path_open_host(g->log_dir, dir, e)) < 0 ||
        (p.n++, p.fds[p.n] = path_open_host(g->image, O_PATH | O_DIRECTORY, e)) < 0 ||
        (p.n++, p.fds[p.n] = plan_disk_open(g->root, d, e)) < 0)
        return -1;
    p.n++;
    if (words_add(g, c, &t, e) < 0 || mounts_open(g, d, &p, &t, e) < 0)
        return -1;
    if (t.failed)
        return vm_no_memory(e);
    if ((p.fds[0] = plan_seal(&t, e)) < 0)
        return -1;
    *out = p;
    p = (struct kept_plan){0};
    return 0;
}
