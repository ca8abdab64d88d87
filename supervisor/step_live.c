/* What runs is changed, as far as it can be. */
#include "steps.h"

#include <string.h>

enum { GROW_MS = 120000 };

/* ---- links ---- */

static int limit_rates(const struct job *j, size_t nic, struct vm_err *e)
{
    const struct spec_limits *l = &j->spec->limits;

    return net_rate_limit(j->nics[nic].ifname, l->net_rx, l->net_tx, e) < 0 ? vm_context(e, "limits.net") : 0;
}

int attach_nics(struct job *j, struct vm_err *e)
{
    const struct spec_limits *l = &j->spec->limits;
    OWN(fd) int ns = -1;

    if (!j->driver->netns || j->driver->netns(&j->proc, &ns, e) < 0)
        return j->driver->netns ? -1 : 0;
    for (unsigned i = 0; i < j->n_nics; i++) {
        if (net_veth_attach(&j->nics[i], i, j->networks[i], ns, e) < 0)
            return vm_context(e, "attach to network '%s'", j->networks[i]->name);
        if ((l->net_rx || l->net_tx) && limit_rates(j, i, e) < 0)
            return -1;
    }
    return 0;
}

static int rejoin(struct job *j, const struct strv *ports, bool *lost, struct vm_err *e)
{
    for (size_t i = 0; i < j->n_nics; i++) {
        if (strv_has(ports, j->nics[i].ifname) || net_tap_rejoin(&j->nics[i], j->networks[i], e) == 0)
            continue;
        if (e->code != VM_E_ABSENT)
            return -1;
        *lost = true;
        *e = (struct vm_err){0};
    }
    return 0;
}

int mend_nics(struct job *j, bool *lost, struct vm_err *e)
{
    OWN(strv) struct strv ports = {0};
    bool whole = true;

    if (j->n_nics && net_ports(&ports, e) < 0)
        return -1;
    for (size_t i = 0; i < j->n_nics; i++)
        whole &= strv_has(&ports, j->nics[i].ifname);
    if (whole)
        return 0;
    if (step_network(j, e) < 0)
        return -1;
    return j->driver->can & DRV_TAKES_TAPS ? rejoin(j, &ports, lost, e) : attach_nics(j, e);
}

/* ---- from outside ---- */

static bool resized(const struct job *j)
{
    return j->was && (j->was->cpus != j->spec->cpus || j->was->memory != j->spec->memory);
}

int step_live(struct job *j, struct vm_err *e)
{
    struct drv_guest view;

    job_borrow(j, &view);
    if (j->driver->limits && j->driver->limits(&view, &j->proc, e) < 0) {
        if (job_boots(j) && resized(j))
            return vm_context(e, "cpus and memory stay as they are (vmctl restart %s changes them)", j->name);
        if (e->code != VM_E_UNAVAILABLE)
            return -1;
    }
    for (size_t i = 0; i < j->n_nics; i++)
        if (limit_rates(j, i, e) < 0 && e->code != VM_E_UNAVAILABLE)
            return -1;
    *e = (struct vm_err){0};
    return 0;
}

/* ---- from inside ---- */

static const struct spec_volume *volume_then(const struct job *j, size_t i)
{
    return i < j->was->n_volumes && !strcmp(j->was->volumes[i].name, j->spec->volumes[i].name) ? &j->was->volumes[i] : NULL;
}

bool changes_inside(const struct job *j)
{
    bool grows = j->was && j->spec->disk > j->was->disk;

    for (size_t i = 0; j->was && i < j->spec->n_volumes; i++)
        grows |= !volume_then(j, i) ||
                 (!j->spec->volumes[i].directory && j->spec->volumes[i].size > volume_then(j, i)->size);
    return grows || resized(j);
}

/* First the disk that the guest sees, then the file system on it. */
static int grow(struct job *j, const char *path, const char *serial, struct vm_err *e)
{
    OWN(strv) struct strv q = {0};
    struct drv_guest view;

    job_borrow(j, &view);
    strv_add(&q, "op=grow");
    strv_addf(&q, "disk=%s", serial);
    if (j->driver->grow(&view, &j->proc, path, e) < 0 || job_ask(j, &q, NULL, 0, GROW_MS, e) < 0)
        return vm_context(e, "grow disk '%s'", serial);
    return 0;
}

static int grow_volume(struct job *j, size_t i, struct vm_err *e)
{
    const struct spec_volume *now = &j->spec->volumes[i], *then = volume_then(j, i);
    struct drv_guest view;
    char serial[DRV_TAG];

    if (!then) /* a disk is known inside by the place that it had when the guest was started */
        return vm_fail(e, VM_E_CONFLICT, "volume '%s' stands in another place of `volumes` than when the guest was started; "
                       "vmctl restart %s", now->name, j->name);
    if (now->directory || now->size <= then->size)
        return 0;
    job_borrow(j, &view);
    drv_mount_tag(&view, i, serial);
    return grow(j, j->mount_paths[i], serial, e);
}

int step_inside(struct job *j, struct vm_err *e)
{
    if (boot_kernel(j, deadline_in(GROW_MS), e) < 0) /* drivers count disks, and that of the modules is one */
        return -1;
    if (j->spec->disk > j->was->disk && (root_ensure(j->w->images, j->guest_id, j->spec->disk, j->root, e) < 0 ||
                                         grow(j, j->root, DRV_DISK_ROOT, e) < 0))
        return -1;
    for (size_t i = 0; i < j->spec->n_volumes; i++)
        if (grow_volume(j, i, e) < 0)
            return -1;
    if (resized(j) && job_setup(j, e) < 0) /* CPUs that came are switched on inside */
        return -1;
    return run_note(j, e);
}
