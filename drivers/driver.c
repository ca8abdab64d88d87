#include "ch.h"
#include "libvirt.h"
#include "nspawn.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vmsd/path.h>

enum { INOTIFY_INSTANCES = 65536 };

/* In the order in which `hypervisor: auto` takes them. */
static const struct vm_driver *const table[] = {&nspawn_driver, &ch_driver, &libvirt_driver, NULL};

/* Each guest's init and its services open seven inotify instances, and all guests together count as root's: the
 * kernel's default of 128 ends at 18 guests, with an init that does not come up. Borne where it cannot be raised. */
static void inotify_raise(void)
{
    OWN(str) char *text = NULL;
    OWN(fd) int dir = path_open_host("/proc/sys/fs/inotify", O_PATH | O_DIRECTORY, NULL);
    OWN(fd) int fd = dir < 0 ? -1 : path_open(dir, "max_user_instances", PATH_BENEATH, O_RDWR, 0, NULL);
    char want[16];
    int n = snprintf(want, sizeof want, "%d", INOTIFY_INSTANCES);

    if (fd < 0 || path_read_fd(fd, "max_user_instances", 64, &text, NULL, NULL) < 0 || strtol(text, NULL, 10) >= INOTIFY_INSTANCES)
        return;
    if (pwrite(fd, want, (size_t)n, 0) < 0)
        errno = 0;
}

int drivers_init(const char *keeper, struct vm_err *e)
{
    if (strlen(keeper) >= sizeof keeper_program)
        return vm_fail(e, VM_E_INVALID, "the path of vms-keeper is too long");
    snprintf(keeper_program, sizeof keeper_program, "%s", keeper);
    inotify_raise();
    return 0;
}

const struct vm_driver *const *drivers(void)
{
    return table;
}

int driver_settle(const char *log_dir, struct vm_err *e)
{
    return virt_settle(log_dir, e);
}

const struct vm_driver *driver_by_name(const char *name)
{
    for (size_t i = 0; table[i]; i++)
        if (!strcmp(table[i]->name, name))
            return table[i];
    return NULL;
}

/* Does the spec leave it to this driver? Containers have but one. */
static bool may_run(const struct vm_driver *d, const struct guest_spec *g)
{
    static const struct { const char *hypervisor, *driver; } names[] = {
        {"cloud-hypervisor", "cloud-hypervisor"},
        {"qemu", "libvirt"},
    };

    if (d->kind != g->kind)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names) && g->kind == KIND_MICROVM; i++)
        if (!strcmp(g->hypervisor, names[i].hypervisor))
            return !strcmp(d->name, names[i].driver);
    return true;
}

const struct vm_driver *driver_for(const struct guest_spec *g, struct vm_err *e)
{
    struct drv_report r;
    struct vm_err none = {0}, before;

    for (size_t i = 0; table[i]; i++) {
        if (!may_run(table[i], g))
            continue;
        table[i]->probe(&r);
        if (r.usable)
            return table[i];
        before = none;
        if (none.code)
            vm_fail(&none, VM_E_UNAVAILABLE, "%s; nor can %s: %s; %s", before.text, table[i]->name, r.why, r.hint);
        else
            vm_fail(&none, VM_E_UNAVAILABLE, "%s cannot run '%s' here: %s; %s", table[i]->name, g->name, r.why, r.hint);
    }
    if (e)
        *e = none;
    return NULL;
}
