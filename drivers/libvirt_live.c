/* What is asked of a domain that runs, and told to it. */
#include "libvirt.h"
#include "kept.h"
#include "vm.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { ASK_MS = 5000, COUNT_MS = 1000, FRESH_MS = 1000, REST_MS = 5000, RETRY_MS = 10 };

/* ---- agent ---- */

/* Its line has room for one at a time; who comes while another is there waits. */
int virt_agent(const struct drv_guest *g, const struct drv_proc *p, struct deadline d, int *out, struct vm_err *e)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    OWN(fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    OWN(fd) int qemu = -1;

    if ((size_t)snprintf(a.sun_path, sizeof a.sun_path, "%s/" VIRT_AGENT_SOCKET, g->run_dir) >= sizeof a.sun_path)
        return vm_fail(e, VM_E_INVALID, "%s is too long for a socket in it", g->run_dir);
    if (fd < 0)
        return vm_fail_sys(e, "socket");
    if ((qemu = proc_id_open(&p->keeper, e)) < 0)
        return vm_context(e, "QEMU of '%s'", g->spec->name);
    while (connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        if (errno != EAGAIN)
            return vm_fail_sys(e, "the agent's line of '%s'", g->spec->name);
        if (!deadline_left(d))
            return vm_fail(e, VM_E_TIMEOUT, "the agent's line of '%s' is taken", g->spec->name);
        if (pidfd_wait(qemu, deadline_in(RETRY_MS)))
            return vm_fail(e, VM_E_ABSENT, "'%s' has just ended", g->spec->name);
    }
    if (fcntl(fd, F_SETFL, 0) < 0)
        return vm_fail_sys(e, "the agent's line of '%s'", g->spec->name);
    *out = take_fd(&fd);
    return 0;
}

/* ---- disks ---- */

/* "vdb" of a writable disk by its file; false: the guest has none of it. */
static bool disk_find(const struct vm_disks *d, const char *path, char name[static 8])
{
    for (size_t i = 0; i < d->n; i++)
        if (!d->v[i].read_only && !strcmp(d->v[i].path, path)) {
            virt_disk_name(i, name);
            return true;
        }
    return false;
}

static int resize(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    OWN(domain) virDomainPtr dom = virt_domain(v, c, call, e);

    if (!dom)
        return -1;
    return v->virDomainBlockResize(dom, call->text, call->number, VIR_DOMAIN_BLOCK_RESIZE_BYTES) < 0
               ? virt_fail(v, e, "grow disk %s of %s", call->text, call->name)
               : 0;
}

int virt_grow(const struct drv_guest *g, const struct drv_proc *p, const char *source, struct vm_err *e)
{
    OWN(virt_call) struct virt_call *call = virt_call_new(g->id, resize);
    OWN(vm_disks) struct vm_disks disks = {0};
    struct stat st;
    char name[8];

    (void)p;
    if (vm_disks_of(g, &disks, e) < 0)
        return -1;
    if (!disk_find(&disks, source, name))
        return vm_fail(e, VM_E_ABSENT, "'%s' has no disk %s", g->spec->name, source);
    if (stat(source, &st) < 0)
        return vm_fail_sys(e, "%s", source);
    if (!call || !(call->text = strdup(name)))
        return vm_no_memory(e);
    call->number = (uint64_t)st.st_size;
    return virt_ask(call, deadline_in(ASK_MS), e);
}

struct tune { size_t disks; uint64_t read, write; };

static int tune_disk(const struct virt *v, virDomainPtr dom, size_t disk, const struct tune *t)
{
    virTypedParameterPtr params = NULL;
    int n = 0, max = 0, rc = -1;
    char name[8];

    virt_disk_name(disk, name);
    if (v->virTypedParamsAddULLong(&params, &n, &max, VIR_DOMAIN_BLOCK_IOTUNE_READ_BYTES_SEC, t->read) == 0 &&
        v->virTypedParamsAddULLong(&params, &n, &max, VIR_DOMAIN_BLOCK_IOTUNE_WRITE_BYTES_SEC, t->write) == 0 &&
        (!(t->read || t->write) ||
         v->virTypedParamsAddString(&params, &n, &max, VIR_DOMAIN_BLOCK_IOTUNE_GROUP_NAME, VIRT_IO_GROUP) == 0))
        rc = v->virDomainSetBlockIoTune(dom, name, params, n, VIR_DOMAIN_AFFECT_LIVE);
    v->virTypedParamsFree(params, n);
    return rc;
}

static int tune(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    const struct tune *t = call->arg;
    OWN(domain) virDomainPtr dom = virt_domain(v, c, call, e);

    for (size_t i = 0; dom && i < t->disks; i++)
        if (tune_disk(v, dom, i, t) < 0)
            return virt_fail(v, e, "limits.io of %s", call->name);
    return dom ? 0 : -1;
}

int virt_limits(const struct drv_guest *g, const struct drv_proc *p, struct vm_err *e)
{
    OWN(virt_call) struct virt_call *call = virt_call_new(g->id, tune);
    OWN(vm_disks) struct vm_disks disks = {0};
    struct tune *t;

    (void)p;
    if (vm_disks_of(g, &disks, e) < 0)
        return -1;
    if (!call || !(call->arg = t = malloc(sizeof *t)))
        return vm_no_memory(e);
    call->drop = free;
    *t = (struct tune){.disks = disks.n, .read = g->spec->limits.io_read, .write = g->spec->limits.io_write};
    return virt_ask(call, deadline_in(ASK_MS), e);
}

/* ---- stats ---- */

struct row { char name[VIRT_NAME]; uint64_t limit, read, write; };

static uint64_t number_of(const struct virt *v, const virDomainStatsRecord *r, const char *key, uint64_t otherwise)
{
    unsigned long long value;

    return v->virTypedParamsGetULLong(r->params, r->nparams, key, &value) == 1 ? value : otherwise;
}

static void row_fill(const struct virt *v, const virDomainStatsRecord *r, struct row *out)
{
    int disks = 0;

    snprintf(out->name, sizeof out->name, "%s", v->virDomainGetName(r->dom));
    out->limit = number_of(v, r, "balloon.maximum", UINT64_MAX / 1024);
    out->limit = out->limit == UINT64_MAX / 1024 ? UINT64_MAX : out->limit * 1024;
    for (int i = 0; i < r->nparams; i++)
        if (!strcmp(r->params[i].field, "block.count"))
            disks = (int)r->params[i].value.ui;
    out->read = out->write = disks ? 0 : UINT64_MAX;
    for (int i = 0; i < disks; i++) {
        char key[40];

        snprintf(key, sizeof key, "block.%d.rd.bytes", i);
        out->read += number_of(v, r, key, 0);
        snprintf(key, sizeof key, "block.%d.wr.bytes", i);
        out->write += number_of(v, r, key, 0);
    }
}

/* All domains in one call; those whose monitor is busy are passed over, or one that hangs would hold up all. */
static int count(const struct virt *v, virConnectPtr c, struct virt_call *call, struct vm_err *e)
{
    virDomainStatsRecordPtr *records;
    struct row *rows;
    int n = v->virConnectGetAllDomainStats(c, VIR_DOMAIN_STATS_BALLOON | VIR_DOMAIN_STATS_BLOCK, &records,
                                           VIR_CONNECT_GET_ALL_DOMAINS_STATS_RUNNING |
                                               VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT);

    if (n < 0)
        return virt_fail(v, e, "counters of all domains");
    if ((call->arg = rows = calloc((size_t)n + 1, sizeof *rows)))
        for (int i = 0; i < n; i++)
            row_fill(v, records[i], &rows[i]);
    v->virDomainStatsRecordListFree(records);
    call->number = (uint64_t)n;
    return rows ? 0 : vm_no_memory(e);
}

/* One answer serves all guests that are asked about within a second; and after none, nobody is held up for a while. */
static void counted(uint32_t id, struct row *out)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static struct virt_call *last;
    static int64_t fresh_until;
    struct row none = {.limit = UINT64_MAX, .read = UINT64_MAX, .write = UINT64_MAX};
    char name[VIRT_NAME];

    virt_name(id, name);
    *out = none;
    pthread_mutex_lock(&lock);
    if (now_ms() >= fresh_until) {
        virt_call_drop(last);
        if ((last = virt_call_new(0, count)))
            last->drop = free;
        if (virt_ask(last, deadline_in(COUNT_MS), NULL) < 0) {
            virt_call_drop(last);
            last = NULL;
        }
        fresh_until = now_ms() + (last ? FRESH_MS : REST_MS);
    }
    const struct row *rows = last ? last->arg : NULL;
    for (uint64_t i = 0; rows && i < last->number; i++)
        if (!strcmp(rows[i].name, name))
            *out = rows[i];
    pthread_mutex_unlock(&lock);
}

/* Time and memory are the kernel's to tell, with or without a libvirtd; only the counters of disks are not. */
int virt_stats(uint32_t id, const char *run_dir, const struct drv_proc *p, struct drv_stats *out, struct vm_err *e)
{
    OWN(fd) int qemu = proc_id_open(&p->keeper, e);
    struct drv_stats own;
    struct row r;

    (void)run_dir;
    if (qemu < 0 || vm_proc_stats(p->keeper.pid, &own, e) < 0)
        return -1;
    counted(id, &r);
    *out = (struct drv_stats){
        .cpu_seconds = own.cpu_seconds, .memory = own.memory, .memory_peak = own.memory_peak, .memory_limit = r.limit,
        .pids = UINT64_MAX, .io_read = r.read, .io_write = r.write,
        .pressure_cpu = NAN, .pressure_memory = NAN, .pressure_io = NAN,
        .memory_kills = UINT64_MAX, .pids_refused = UINT64_MAX, .cpu_held_seconds = NAN};
    return 0;
}
