#include "nspawn.h"

#include <string.h>

/* "CAP_X" or "+CAP_X" adds, "-CAP_X" takes away. "all" is no capability, so nobody can ask for everything. */
static int capability_add(const char *word, struct strv *out, struct vm_err *e)
{
    const char *name = word + (*word == '+' || *word == '-');

    if (strncmp(name, "CAP_", 4) || !name[4] || strspn(name + 4, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") != strlen(name + 4))
        return vm_fail(e, VM_E_INVALID, "capability '%s': write CAP_NAME to add it, -CAP_NAME to drop it", word);
    strv_addf(out, "--%s=%s", *word == '-' ? "drop-capability" : "capability", name);
    return 0;
}

int nspawn_args(const struct drv_guest *g, struct strv *out, struct vm_err *e)
{
    static const char *const fixed[] = {
        "-q", "-D", (KEEPER_ROOT), "-b",
        "--settings=no",                  /* E9: no .nspawn file of the image or the host has a say */
        "--register=no", "--keep-unit",   /* needs no bus; and a reboot ends nspawn, with 133 */
        "--notify-ready=yes",
        "--console=read-only",
        "--link-journal=no", "--resolv-conf=off", "--timezone=off",
        "--private-users-ownership=off",  /* the layers come with their ids mapped */
        "--private-network",
        "--kill-signal=SIGRTMIN+3",
    };
    OWN(strv) struct strv v = {0};
    const struct spec_security *sec = &g->spec->security;

    if (!text_is_label(g->spec->name, SPEC_NAME_MAX))
        return vm_fail(e, VM_E_INVALID, "guest name '%s' is no DNS label of at most %d", g->spec->name, SPEC_NAME_MAX);
    strv_add(&v, NSPAWN_PROGRAM);
    for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
        strv_add(&v, fixed[i]);
    strv_addf(&v, "--machine=%s", g->spec->name);
    strv_addf(&v, "--hostname=%s", g->spec->name);
    strv_addf(&v, "--private-users=%u:%d", g->uid_base, KEEPER_IDS);
    if (sec->no_new_privileges)
        strv_add(&v, "--no-new-privileges=yes");
    for (size_t i = 0; i < sec->capabilities.n; i++)
        if (capability_add(sec->capabilities.v[i], &v, e) < 0)
            return -1;
    if (v.failed)
        return vm_no_memory(e);
    *out = v;
    v = (struct strv){0};
    return 0;
}
