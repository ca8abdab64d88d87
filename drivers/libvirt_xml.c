/* The XML of a domain: pure, and every text in it is escaped. */
#include "libvirt.h"
#include "shares.h"
#include "vm.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

enum { SOCKET_PATH_MAX = 107, BALLOON_STATS_S = 10 };

/* XML has no way to write most control characters, and libvirt takes UTF-8 only. */
static int check_text(const char *what, const char *s, struct vm_err *e)
{
    return text_is_clean(s, strlen(s))
               ? 0
               : vm_fail(e, VM_E_INVALID, "%s has control characters or is no UTF-8: libvirt cannot be told of it", what);
}

static void add_escaped(struct text *t, const char *s)
{
    for (; *s; s++)
        switch (*s) {
        case '&': text_add(t, "&amp;"); break;
        case '<': text_add(t, "&lt;"); break;
        case '>': text_add(t, "&gt;"); break;
        case '\'': text_add(t, "&apos;"); break;
        case '"': text_add(t, "&quot;"); break;
        default: text_add_bytes(t, s, 1);
        }
}

/* Adds the strings in turn, every second one escaped. */
#define ADD(t, ...) add_parts(t, (const char *const[]){__VA_ARGS__, NULL})
static void add_parts(struct text *t, const char *const *parts)
{
    for (size_t i = 0; parts[i]; i++)
        (i % 2 ? add_escaped : text_add)(t, parts[i]);
}

void virt_disk_name(size_t index, char out[static 8])
{
    char letters[8];
    size_t n = 0, at = 2;

    for (index++; index && n < 5; index = (index - 1) / 26)
        letters[n++] = (char)('a' + (index - 1) % 26);
    memcpy(out, "vd", 2);
    while (n)
        out[at++] = letters[--n];
    out[at] = '\0';
}

char *virt_description(const char *run_dir)
{
    return text_format("vmsd keeps it in %s", run_dir);
}

bool virt_xml_connected(const char *xml)
{
    const char *channel = strstr(xml, " name='" DRV_AGENT_CHANNEL "'");
    const char *end = channel ? strchr(channel, '>') : NULL, *state = channel ? strstr(channel, " state='connected'") : NULL;

    return end && state && state < end;
}

/* Files of the page cache: the read-only ones are shared by many guests, and a flush of the guest reaches the disk. */
static void add_disks(struct text *t, const struct drv_guest *g, const struct vm_disks *d)
{
    const struct spec_limits *l = &g->spec->limits;

    for (size_t i = 0; i < d->n; i++) {
        char name[8];

        virt_disk_name(i, name);
        ADD(t, "  <disk type='file' device='disk'>\n"
               "   <driver name='qemu' type='raw' cache='writeback'");
        ADD(t, d->v[i].read_only ? "/>\n" : " discard='unmap' detect_zeroes='unmap'/>\n");
        ADD(t, "   <source file='", d->v[i].path, "'/>\n   <target dev='", name, "' bus='virtio'/>\n");
        if (l->io_read || l->io_write) {
            text_add(t, "   <iotune>");
            if (l->io_read)
                text_addf(t, "<read_bytes_sec>%" PRIu64 "</read_bytes_sec>", l->io_read);
            if (l->io_write)
                text_addf(t, "<write_bytes_sec>%" PRIu64 "</write_bytes_sec>", l->io_write);
            text_add(t, "<group_name>" VIRT_IO_GROUP "</group_name></iotune>\n");
        }
        ADD(t, d->v[i].read_only ? "   <readonly/>\n" : "", "", "   <serial>", d->v[i].serial, "</serial>\n  </disk>\n");
    }
}

static void add_nics(struct text *t, const struct drv_guest *g)
{
    for (size_t i = 0; i < g->n_taps; i++)
        ADD(t, "  <interface type='ethernet'>\n   <mac address='", g->taps[i].mac, "'/>\n   <target dev='",
            g->taps[i].ifname, "' managed='no'/>\n   <model type='virtio'/>\n   <rom enabled='no'/>\n  </interface>\n");
}

static void add_shares(struct text *t, const struct drv_guest *g)
{
    for (size_t i = 0; i < g->n_mounts; i++) {
        char tag[DRV_TAG], path[SHARES_SOCKET];

        if (g->mounts[i].disk)
            continue;
        drv_mount_tag(g, i, tag);
        shares_socket(g->run_dir, i, path);
        ADD(t, "  <filesystem type='mount'>\n   <driver type='virtiofs'/>\n   <source socket='", path,
            "'/>\n   <target dir='", tag, "'/>\n  </filesystem>\n");
    }
}

static void add_head(struct text *t, const struct drv_guest *g, const struct virt_machine *m, const char *description)
{
    char name[VIRT_NAME];

    virt_name(g->id, name);
    ADD(t, "<domain type='", m->kvm ? "kvm" : "qemu", "'>\n <name>", name, "</name>\n <title>", g->spec->name,
        "</title>\n <description>", description, "</description>\n");
    text_addf(t, " <memory unit='b'>%" PRIu64 "</memory>\n", g->spec->memory);
    if (shares_wanted(g))
        text_add(t, " <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\n");
    text_addf(t, " <vcpu>%u</vcpu>\n", (unsigned)ceil(g->spec->cpus));
    ADD(t, " <os>\n  <type arch='x86_64' machine='q35'>hvm</type>\n  <kernel>", g->kernel, "</kernel>\n");
    if (g->initramfs)
        ADD(t, "  <initrd>", g->initramfs, "</initrd>\n");
    /* The last console named is the one that init gets: a spec's own comes after ours. On a busy host an emulated timer may
     * tick too late for the kernel's test of it: "IO-APIC + timer doesn't work!", and a panic. */
    ADD(t, "  <cmdline>console=ttyS0", m->kvm ? "" : " no_timer_check", g->cmdline ? " " : "", g->cmdline ? g->cmdline : "", "</cmdline>\n </os>\n");
    /* Emulated, the best that QEMU can do well: the second level of x86-64, which some distributions ask for. */
    text_add(t, m->kvm ? " <cpu mode='host-passthrough'/>\n" : " <cpu mode='custom' match='exact'><model>Nehalem</model></cpu>\n");
    /* What was translated is kept in memory of the host: by itself QEMU would take 1 GiB for it, whatever the guest has. */
    ADD(t, " <features><acpi/><apic/>", "", m->kvm ? "" : "<tcg><tb-cache unit='MiB'>512</tb-cache></tcg>", "", "</features>\n");
    text_add(t, " <clock offset='utc'/>\n"
                " <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='no'/></pm>\n"
                " <on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>\n");
}

static void add_devices(struct text *t, const struct drv_guest *g, const struct vm_disks *d)
{
    text_add(t, " <devices>\n  <controller type='usb' model='none'/>\n");
    add_disks(t, g, d);
    add_shares(t, g);
    add_nics(t, g);
    ADD(t, "  <channel type='unix'>\n   <source mode='bind' path='", g->run_dir, ("/" VIRT_AGENT_SOCKET "'/>\n"
           "   <target type='virtio' name='"), DRV_AGENT_CHANNEL, "'/>\n  </channel>\n");
    ADD(t, "  <serial type='unix'>\n   <source mode='bind' path='", g->run_dir, "/" VIRT_CONSOLE_SOCKET "'/>\n"
           "   <target port='0'/>\n  </serial>\n");
    text_add(t, "  <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>\n");
    text_addf(t, "  <memballoon model='virtio' autodeflate='on' freePageReporting='on'><stats period='%d'/></memballoon>\n",
              BALLOON_STATS_S);
    text_add(t, " </devices>\n");
}

static int check_guest(const struct drv_guest *g, const struct vm_disks *d, struct vm_err *e)
{
    const struct { const char *what, *text; } texts[] = {
        {"the run directory", g->run_dir}, {"the kernel's path", g->kernel}, {"the initramfs's path", g->initramfs},
        {"cmdline", g->cmdline}, {"the name", g->spec->name},
    };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].text && check_text(texts[i].what, texts[i].text, e) < 0)
            return -1;
    for (size_t i = 0; i < d->n; i++)
        if (check_text("the path of a disk", d->v[i].path, e) < 0)
            return -1;
    if (strlen(g->run_dir) + strlen("/" VIRT_CONSOLE_SOCKET) > SOCKET_PATH_MAX)
        return vm_fail(e, VM_E_INVALID, "%s is too long for the sockets in it; start vmsd with a shorter --run-dir", g->run_dir);
    return 0;
}

int virt_xml(const struct drv_guest *g, const struct virt_machine *m, char **out, struct vm_err *e)
{
    OWN(text) struct text t = {0};
    OWN(vm_disks) struct vm_disks d = {0};
    OWN(str) char *description = virt_description(g->run_dir);

    if (!description)
        return vm_no_memory(e);
    if (vm_disks_of(g, &d, e) < 0 || check_guest(g, &d, e) < 0)
        return -1;
    add_head(&t, g, m, description);
    add_devices(&t, g, &d);
    /* Each guest's QEMU is a user of its own; what it opens is its own already, and stays so. */
    text_addf(&t, " <seclabel type='static' model='dac' relabel='no'><label>+%u:+%u</label></seclabel>\n</domain>\n",
              g->uid_base, m->gid);
    return (*out = text_take(&t)) ? 0 : vm_no_memory(e);
}
