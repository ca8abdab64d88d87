#include "ch.h"

#include "vm.h"

#include <math.h>
#include <string.h>

/* A guest can grow, without a restart, to so many times what it began with, and at most to the host's own size. */
enum { MEMORY_GROWS = 4, CPUS_MAX = 32, QUEUES_MAX = 4 };
#define MB (UINT64_C(1) << 20)
#define MEMORY_BLOCK (128 * MB) /* of virtio-mem's region */

/* What the driver adds to the kernel's command line. panic: a kernel that could not tell of its panic reboots, and so ends.
 * memhp: what is plugged is used at once, and only for what can be moved away again. */
#define CMDLINE "console=ttyS0 8250.nr_uarts=1 panic=1 memhp_default_state=online_movable"

uint64_t ch_memory(const struct guest_spec *s)
{
    return (s->memory + CH_MEMORY_STEP - 1) / CH_MEMORY_STEP * CH_MEMORY_STEP;
}

uint64_t ch_memory_limit(uint64_t memory, size_t shares)
{
    return memory + memory / 128 + (128 + 32 * shares) * MB;
}

static unsigned cpus_of(const struct guest_spec *s)
{
    unsigned n = (unsigned)ceil(s->cpus);

    return n ? n : 1;
}

static json_t *cpus_config(const struct guest_spec *s, const struct ch_host *h)
{
    unsigned boot = cpus_of(s), max = h->cpus < CPUS_MAX ? h->cpus : CPUS_MAX;

    return json_pack("{sisi}", "boot_vcpus", boot, "max_vcpus", max > boot ? max : boot);
}

static json_t *memory_config(const struct guest_spec *s, const struct ch_host *h, bool shared)
{
    uint64_t size = ch_memory(s), most = size * MEMORY_GROWS < h->memory ? size * MEMORY_GROWS : h->memory;
    uint64_t more = most > size ? (most - size) / MEMORY_BLOCK * MEMORY_BLOCK : 0;
    json_t *m = json_pack("{sIsb}", "size", (json_int_t)size, "shared", shared);

    if (m && more) {
        json_put_str(m, "hotplug_method", "VirtioMem");
        json_put_int(m, "hotplug_size", (json_int_t)more);
    }
    return m;
}

static json_t *payload_config(const struct drv_guest *g)
{
    OWN(str) char *cmdline = text_format(CMDLINE "%s%s", g->cmdline && *g->cmdline ? " " : "", g->cmdline ? g->cmdline : "");
    json_t *p = json_pack("{ssss}", "kernel", CH_KERNEL, "cmdline", cmdline ? cmdline : "");

    if (p && g->initramfs)
        json_put_str(p, "initramfs", CH_INITRAMFS);
    return cmdline ? p : (json_decref(p), NULL);
}

/* Where the host cannot: one bucket for all disks of the guest, which counts what is read and what is written together. */
uint64_t ch_disk_rate(const struct drv_guest *g, const struct ch_host *h)
{
    return h->limits_disks ? 0 : g->spec->limits.io_read + g->spec->limits.io_write;
}

static json_t *disk_config(const struct vm_disk *d, const struct drv_guest *g, const struct ch_host *h)
{
    unsigned queues = cpus_of(g->spec) < QUEUES_MAX ? cpus_of(g->spec) : QUEUES_MAX;
    OWN(str) char *path = text_format(CH_DISK "%s", d->serial);
    /* C11: the type is told, so that no guest can make another one of it by what it writes. */
    json_t *j = json_pack("{sssssssbsbsssbsbsi}", "id", d->serial, "serial", d->serial, "path", path ? path : "",
                          "readonly", d->read_only, "direct", h->direct && !d->read_only, "image_type", "Raw",
                          "backing_files", false, "sparse", !d->read_only, "num_queues", queues);

    if (j && ch_disk_rate(g, h))
        json_put_str(j, "rate_limit_group", "disks");
    return path ? j : (json_decref(j), NULL);
}

static json_t *disks_config(const struct drv_guest *g, const struct ch_host *h, struct vm_err *e)
{
    OWN(vm_disks) struct vm_disks disks = {0};
    OWN(json) json_t *all = json_array();

    if (vm_disks_of(g, &disks, e) < 0)
        return NULL;
    for (size_t i = 0; i < disks.n; i++)
        if (json_array_append_new(all, disk_config(&disks.v[i], g, h)) < 0)
            return vm_no_memory(e), NULL;
    return TAKE(all);
}

static json_t *shares_config(const struct drv_guest *g)
{
    OWN(json) json_t *all = json_array();

    for (size_t i = 0; i < g->n_mounts; i++) {
        char tag[DRV_TAG], path[64];

        if (g->mounts[i].disk)
            continue;
        drv_mount_tag(g, i, tag);
        snprintf(path, sizeof path, CH_RUN "%s.sock", tag);
        if (json_array_append_new(all, json_pack("{sssssssisi}", "id", tag, "tag", tag, "socket", path, "num_queues", 1,
                                                 "queue_size", 1024)) < 0)
            return NULL;
    }
    return TAKE(all);
}

static json_t *rate_config(uint64_t rate)
{
    /* A bucket for a whole second: once it is empty the VMM looks again only after 100 ms. */
    return json_pack("[{sss{s{sIsi}}}]", "id", "disks", "rate_limiter_config", "bandwidth", "size", (json_int_t)rate,
                     "refill_time", 1000);
}

int ch_config(const struct drv_guest *g, const struct ch_host *h, json_t **out, struct vm_err *e)
{
    uint64_t rate = ch_disk_rate(g, h);
    OWN(json) json_t *disks = disks_config(g, h, e);
    OWN(json) json_t *shares = shares_config(g);
    OWN(json) json_t *vm = NULL;

    if (!disks)
        return -1;
    if (!shares)
        return vm_no_memory(e);
    vm = json_pack("{sosososO}", "payload", payload_config(g), "cpus", cpus_config(g->spec, h), "memory",
                   memory_config(g->spec, h, json_array_size(shares) > 0), "disks", disks);
    if (!vm)
        return vm_no_memory(e);
    if (json_array_size(shares))
        json_put(vm, "fs", TAKE(shares));
    if (rate)
        json_put(vm, "rate_limit_groups", rate_config(rate));
    json_put(vm, "vsock", json_pack("{sssiss}", "id", "vsock", "cid", 3, "socket", CH_RUN CH_VSOCK));
    json_put(vm, "rng", json_pack("{ss}", "src", "/dev/urandom"));
    json_put(vm, "balloon", json_pack("{sssisbsb}", "id", "balloon", "size", 0, "deflate_on_oom", true,
                                      "free_page_reporting", true));
    json_put(vm, "serial", json_pack("{ss}", "mode", "Tty")); /* the keeper's pipe */
    json_put(vm, "console", json_pack("{ss}", "mode", "Off"));
    json_put(vm, "pvpanic", json_true());
    json_put(vm, "landlock_enable", json_boolean(h->landlock));
    *out = TAKE(vm);
    return 0;
}

json_t *ch_config_net(const struct drv_tap *tap, size_t n)
{
    char id[16];

    snprintf(id, sizeof id, "net%zu", n);
    return json_pack("{sssssi}", "id", id, "mac", tap->mac, "num_queues", 2);
}

json_t *ch_config_resize(unsigned cpus, uint64_t memory)
{
    json_t *j = json_object();

    if (j && cpus)
        json_put_int(j, "desired_vcpus", cpus);
    if (j && memory)
        json_put_int(j, "desired_ram", (json_int_t)memory);
    return j;
}

json_t *ch_config_grow(const char *disk, uint64_t size)
{
    return json_pack("{sssI}", "id", disk, "desired_size", (json_int_t)size);
}

int ch_args(struct strv *out, struct vm_err *e)
{
    static const char *const args[] = {CH_PROGRAM, "--api-socket", "fd=3", "--event-monitor", "fd=4", "--seccomp", "true"};
    OWN(strv) struct strv v = {0};

    for (size_t i = 0; i < ARRAY_LEN(args); i++)
        strv_add(&v, args[i]);
    if (v.failed)
        return vm_no_memory(e);
    *out = v;
    v = (struct strv){0};
    return 0;
}
