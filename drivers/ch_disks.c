/* How fast a guest's disks may be: by the cgroup where the host can, which tells reading from writing and changes at any
 * time; else by cloud-hypervisor itself, from start to end. */
#include "ch.h"

#include "vm.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <vmsd/path.h>

/* The kernel limits whole block devices: not partitions, nor what has no device of its own (btrfs, tmpfs). 0: none. */
static dev_t whole_device(dev_t dev)
{
    char path[64];
    OWN(str) char *text = NULL;
    OWN(fd) int dir = -1;
    unsigned maj, min;
    bool part;

    snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(dev), minor(dev));
    if ((dir = path_open_host(path, O_RDONLY | O_DIRECTORY, NULL)) < 0)
        return 0;
    part = path_exists(dir, "partition");
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u%s/dev", major(dev), minor(dev), part ? "/.." : "");
    OWN(fd) int fd = path_open_host(path, O_RDONLY, NULL);

    if (fd < 0 || path_read_fd(fd, path, 64, &text, NULL, NULL) < 0 || sscanf(text, "%u:%u", &maj, &min) != 2)
        return 0;
    return makedev(maj, min);
}

bool ch_disk_devices(const struct drv_guest *g, dev_t out[static CH_DEVICES_MAX], size_t *n)
{
    OWN(vm_disks) struct vm_disks disks = {0};
    size_t found = 0;

    if (vm_disks_of(g, &disks, NULL) < 0)
        return false;
    for (size_t i = 0; i < disks.n; i++) {
        struct stat st;
        dev_t dev = stat(disks.v[i].path, &st) < 0 ? 0 : whole_device(st.st_dev);
        bool known = false;

        for (size_t k = 0; k < found; k++)
            known |= out[k] == dev;
        if (!dev || (!known && found == CH_DEVICES_MAX))
            return false;
        if (!known)
            out[found++] = dev;
    }
    *n = found;
    return true;
}

bool ch_disks_direct(const struct drv_guest *g)
{
    OWN(vm_disks) struct vm_disks disks = {0};

    if (vm_disks_of(g, &disks, NULL) < 0)
        return false;
    for (size_t i = 0; i < disks.n; i++) {
        OWN(fd) int fd = disks.v[i].read_only ? -1 : path_open_host(disks.v[i].path, O_RDONLY | O_DIRECT | O_NONBLOCK, NULL);

        if (!disks.v[i].read_only && fd < 0)
            return false;
    }
    return true;
}

int ch_disk_limits(const struct drv_guest *g, const struct ch_host *h, const struct guest_spec *bounds, uint64_t rate,
                   struct vm_err *e)
{
    dev_t devices[CH_DEVICES_MAX];
    struct cgroup c;
    size_t n;

    if (h->limits_disks && ch_disk_devices(g, devices, &n)) {
        cgroup_of(g->id, &c);
        return cgroup_limits(&c, bounds, devices, n, e);
    }
    if (rate != g->spec->limits.io_read + g->spec->limits.io_write)
        return vm_fail(e, VM_E_CONFLICT, "'%s': this host cannot change limits.io while the guest runs: restart it",
                       g->spec->name);
    return 0;
}
