#include "vm.h"

#include "keeper_plan.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void drv_mount_tag(const struct drv_guest *g, size_t mount, char out[static DRV_TAG])
{
    snprintf(out, DRV_TAG, "%s%zu", g->mounts[mount].disk ? "vol" : "share", mount);
}

static struct vm_disk *add(struct vm_disks *d, const char *serial, const char *path, bool read_only)
{
    struct vm_disk *disk = &d->v[d->n++];

    *disk = (struct vm_disk){.path = path, .read_only = read_only};
    snprintf(disk->serial, sizeof disk->serial, "%s", serial);
    return disk;
}

int vm_disks_of(const struct drv_guest *g, struct vm_disks *out, struct vm_err *e)
{
    OWN(vm_disks) struct vm_disks d = {.v = calloc(g->n_mounts + 3, sizeof *d.v)};

    if (!d.v)
        return vm_no_memory(e);
    add(&d, DRV_DISK_IMAGE, g->image, true);
    add(&d, DRV_DISK_ROOT, g->root, false);
    if (g->modules)
        add(&d, DRV_DISK_MODULES, g->modules, true);
    for (size_t i = 0; i < g->n_mounts; i++) {
        char tag[DRV_TAG];

        drv_mount_tag(g, i, tag);
        if (g->mounts[i].disk)
            add(&d, tag, g->mounts[i].source, g->mounts[i].read_only);
    }
    *out = d;
    d = (struct vm_disks){0};
    return 0;
}

void vm_disks_done(struct vm_disks d)
{
    free(d.v);
}

int vm_disk_take(const struct drv_guest *g, const char *path, struct deadline d, struct vm_err *e)
{
    OWN(fd) int fd = plan_disk_open(path, d, e);

    if (fd < 0)
        return -1;
    if (fchown(fd, g->uid_base, g->uid_base) < 0 || fchmod(fd, 0600) < 0)
        return vm_fail_sys(e, "give %s to the guest's user", path);
    return take_fd(&fd);
}

/* "VmRSS:   123 kB" in bytes. */
static uint64_t status_bytes(const char *status, const char *key)
{
    const char *at = strstr(status, key);
    uint64_t kib;

    return at && sscanf(at + strlen(key), "%" SCNu64, &kib) == 1 ? kib << 10 : UINT64_MAX;
}

int vm_proc_stats(pid_t vmm, struct drv_stats *out, struct vm_err *e)
{
    OWN(str) char *stat = NULL;
    OWN(str) char *status = NULL;
    unsigned long user, system;
    const char *at;

    if (proc_file_read(vmm, "stat", &stat, NULL, e) < 0 || proc_file_read(vmm, "status", &status, NULL, e) < 0)
        return -1;
    /* The name in parentheses may hold anything: fields are counted from its end. */
    if (!(at = strrchr(stat, ')')) ||
        sscanf(at, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        return vm_fail(e, VM_E_SYSTEM, "/proc/%d/stat: not as expected", (int)vmm);
    out->cpu_seconds = (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
    out->memory = status_bytes(status, "\nVmRSS:");
    out->memory_peak = status_bytes(status, "\nVmHWM:");
    return 0;
}
