/* What vms-init reads: /vmsd/setup, the kernel's command line, and the beginning of a disk that the guest may have written. */
#include "fuzz.h"

#include <images/initramfs/init.h>

static void check_mount(const struct setup *s, const struct setup_mount *m)
{
    MUST(m->tag[0] && strlen(m->tag) < SERIAL);
    MUST(m->target[0] == '/' && m->target[1] && !strstr(m->target, "//") && !strstr(m->target, "/../"));
    MUST(m == s->mounts || strcmp(m[-1].target, m->target) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    OWN(str) char *text = malloc(n + 1), *cmdline = NULL;
    struct setup s;
    struct vm_err e = { 0 };
    const char *init, *type = superblock_type(data, n);

    MUST(text && (!type || *type));
    memcpy(text, data, n);
    text[n] = '\0';
    MUST(cmdline = strdup(text));
    MUST(!(init = cmdline_init(cmdline)) || *init == '/');
    if (setup_parse(text, n, &s, &e) < 0) {
        MUST(e.text[0]);
        return 0;
    }
    MUST(s.n_mounts <= SETUP_MOUNTS_MAX && (!s.token || strlen(s.token) == PROTO_TOKEN));
    for (size_t i = 0; i < s.n_mounts; i++)
        check_mount(&s, &s.mounts[i]);
    return 0;
}
