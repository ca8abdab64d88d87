#include "nspawn.h"

#include "disk_trust.h"
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

/* The host's own kernel is going to mount it. */
static int disk_open(const char *path, struct deadline d, struct vm_err *e)
{
    OWN(fd) int fd = plan_disk_open(path, d, e);

    return fd < 0 || disk_trust(fd, path, d, e) < 0 ? -1 : take_fd(&fd);
}

static int by_target(const void *a, const void *b)
{
    return strcmp((*(const struct drv_mount *const *)a)->target, (*(const struct drv_mount *const *)b)->target);
}

/* Parents before children, so that a mount below another one is not hidden by it. */
static int mounts_add(const struct drv_guest *g, struct deadline d, struct plan_draft *draft, struct vm_err *e)
{
    const struct drv_mount *sorted[KEEPER_MOUNTS_MAX];

    for (size_t i = 0; i < g->n_mounts; i++)
        sorted[i] = &g->mounts[i];
    qsort(sorted, g->n_mounts, sizeof *sorted, by_target);
    for (size_t i = 0; i < g->n_mounts; i++) {
        const struct drv_mount *m = sorted[i];

        if (target_check(m->target, e) < 0)
            return -1;
        if (i && !strcmp(m->target, sorted[i - 1]->target))
            return vm_fail(e, VM_E_INVALID, "target '%s' is given twice", m->target);
        if (plan_take_fd(draft, m->disk ? disk_open(m->source, d, e) : plan_tree_open(g, m, e)) < 0)
            return -1;
        plan_add(draft, "mount=%s,%s%s", m->disk ? "disk" : "tree", m->read_only ? "r" : "", m->mapped ? "m" : "");
        plan_add(draft, "target=%s", m->target);
    }
    return 0;
}

int nspawn_plan_make(const struct drv_guest *g, const struct cgroup *c, struct deadline d, struct kept_plan *out,
                     struct vm_err *e)
{
    OWN(plan_draft) struct plan_draft draft = {0};
    OWN(strv) struct strv args = {0};

    if (plan_begin(&draft, g, c, e) < 0 || plan_take_fd(&draft, path_open_host(g->image, O_PATH | O_DIRECTORY, e)) < 0 ||
        plan_take_fd(&draft, disk_open(g->root, d, e)) < 0 || nspawn_args(g, &args, e) < 0)
        return -1;
    plan_add(&draft, "read_only=%d", g->spec->security.read_only_root);
    for (size_t i = 0; i < args.n; i++)
        plan_add(&draft, "arg=%s", args.v[i]);
    return mounts_add(g, d, &draft, e) < 0 ? -1 : plan_end(&draft, out, e);
}
