/* KVM through libvirt takes more than a /dev/kvm that works: QEMU opens it as the guest's own user, and libvirt tries it
 * out as the user that it runs QEMU as by itself. While that one cannot open it, libvirt distrusts what it knows of QEMU
 * and looks anew at each start, which takes seconds. */
#include "libvirt.h"
#include "vm.h"

#include <grp.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>

enum { GROUPS_MAX = 64 };

/* Is the user that libvirt has for QEMU in that group? Unknown users are taken to be: then they were set up by hand. */
static bool qemu_user_in(gid_t gid)
{
    static const char *const names[] = {"libvirt-qemu", "qemu"};
    gid_t groups[GROUPS_MAX];
    struct passwd user, *found = NULL;
    char buffer[4096];
    int n = GROUPS_MAX;

    for (size_t i = 0; i < ARRAY_LEN(names) && !found; i++)
        if (getpwnam_r(names[i], &user, buffer, sizeof buffer, &found) != 0)
            found = NULL;
    if (!found)
        return true;
    if (getgrouplist(found->pw_name, found->pw_gid, groups, &n) < 0)
        return false;
    for (int i = 0; i < n; i++)
        if (groups[i] == gid)
            return true;
    return false;
}

void virt_kvm_look(struct virt_kvm *out)
{
    struct stat st;

    *out = (struct virt_kvm){.usable = true};
    if (!kvm_usable(out->why, sizeof out->why)) {
        out->usable = false;
        return;
    }
    if (stat("/dev/kvm", &st) < 0 || (st.st_mode & 06) == 06)
        return;
    if ((st.st_mode & 060) == 060 && qemu_user_in(st.st_gid)) {
        out->group = true;
        out->gid = st.st_gid;
        return;
    }
    out->usable = false;
    snprintf(out->why, sizeof out->why, "/dev/kvm does not open to the user that libvirt runs QEMU as");
    snprintf(out->hint, sizeof out->hint, "chgrp kvm /dev/kvm && chmod 660 /dev/kvm");
}
