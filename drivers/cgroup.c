#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>
#include <vmsd/path.h>

#define CGROUP_ROOT "/sys/fs/cgroup"
enum { CGROUP_FILE_MAX = 64 << 10, REMOVE_STEPS_MAX = 200000, PERIOD_US = 100000, GUEST_DEPTH = 32, GUEST_GROUPS = 4096 };

#define X(id, name) [V1_##id] = name,
static const char *const v1_names[V1_COUNT] = {CGROUP_V1(X)};
#undef X

static bool is_cgroup2(const char *path)
{
    struct statfs fs;

    return statfs(path, &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static bool is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

void cgroup_of(uint32_t id, struct cgroup *out)
{
    *out = (struct cgroup){.v2 = is_cgroup2(CGROUP_ROOT)};
    if (out->v2 && scope_wanted())
        snprintf(out->base, sizeof out->base, CGROUP_ROOT "/vms.slice/vms-%u.scope", id);
    else if (out->v2)
        snprintf(out->base, sizeof out->base, CGROUP_ROOT "/vmsd/%u", id);
    else if (is_cgroup2(CGROUP_ROOT "/unified"))
        snprintf(out->base, sizeof out->base, CGROUP_ROOT "/unified/vmsd/%u", id);
    if (*out->base) {
        snprintf(out->guest, sizeof out->guest, "%s/guest", out->base);
        snprintf(out->keeper, sizeof out->keeper, "%s/keeper", out->base);
    }
    for (int i = 0; i < V1_COUNT && !out->v2; i++) {
        char root[64];

        snprintf(root, sizeof root, CGROUP_ROOT "/%s", v1_names[i]);
        if (is_dir(root))
            snprintf(out->v1[i], sizeof out->v1[i], "%s/vmsd/%u", root, id);
    }
}

/* A kernel file takes its value in one write, or says no. */
static int put(const char *dir, const char *file, const char *value, struct vm_err *e)
{
    char path[CGROUP_PATH + 64];
    OWN(fd) int fd = -1;

    snprintf(path, sizeof path, "%s/%s", dir, file);
    if ((fd = path_open_host(path, O_WRONLY, e)) < 0)
        return -1;
    if (write(fd, value, strlen(value)) < 0)
        return vm_fail_sys(e, "write '%s' to %s", value, path);
    return 0;
}

VM_PRINTF(4) static int putf(const char *dir, const char *file, struct vm_err *e, const char *fmt, ...)
{
    char value[96];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(value, sizeof value, fmt, ap);
    va_end(ap);
    return put(dir, file, value, e);
}

/* One by one: a host may lack some of them. */
static void controllers_pass_down(const char *dir)
{
    static const char *const names[] = {"+memory", "+cpu", "+pids", "+io"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        put(dir, "cgroup.subtree_control", names[i], NULL);
}

/* Whatever our umask: a guest's root mounts its own group, and must be able to come as far as that. */
static bool dir_make(const char *path)
{
    OWN(fd) int fd = path_mkdirs_host(path, 0755, NULL);

    return fd >= 0 && fchmod(fd, 0755) == 0;
}

static bool base_make(const struct cgroup *c)
{
    char parent[sizeof c->base];

    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(c->base, '/') - c->base), c->base);
    return dir_make(parent) && dir_make(c->base);
}

/* Where no systemd balances its slices, all guests together would weigh as much as one single process of the host. */
#define V1_GUESTS_SHARES "10240"
#define V2_GUESTS_WEIGHT "1000"

static void v1_guests_weigh(const char *cpu)
{
    char parent[CGROUP_PATH];

    snprintf(parent, sizeof parent, "%.*s", (int)(strrchr(cpu, '/') - cpu), cpu);
    put(parent, "cpu.shares", V1_GUESTS_SHARES, NULL);
}

int cgroup_make(const struct cgroup *c, pid_t keeper, struct vm_err *e)
{
    for (int i = 0; i < V1_COUNT; i++)
        if (*c->v1[i] && !dir_make(c->v1[i]))
            return vm_fail_sys(e, "make %s", c->v1[i]);
    if (*c->v1[V1_CPU])
        v1_guests_weigh(c->v1[V1_CPU]);
    if (!*c->base)
        return 0;
    if (!base_make(c) || !dir_make(c->keeper) || !dir_make(c->guest))
        return vm_fail_sys(e, "make %s", c->base);
    /* Before the controllers: with a process still in BASE, cpu and pids would turn it into a threaded group. */
    if (keeper && putf(c->keeper, "cgroup.procs", e, "%d", (int)keeper) < 0)
        return -1;
    if (c->v2 && !scope_wanted()) {
        controllers_pass_down(CGROUP_ROOT);
        controllers_pass_down(CGROUP_ROOT "/vmsd");
        put(CGROUP_ROOT "/vmsd", "cpu.weight", V2_GUESTS_WEIGHT, NULL);
    }
    if (c->v2)
        controllers_pass_down(c->base);
    /* The guest's root makes groups of its own below payload/: not without end. */
    putf(c->guest, "cgroup.max.depth", NULL, "%d", GUEST_DEPTH);
    putf(c->guest, "cgroup.max.descendants", NULL, "%d", GUEST_GROUPS);
    return 0;
}

int cgroup_keeper_open(const struct cgroup *c, int *fd, struct vm_err *e)
{
    int dir = -1;

    if (*c->keeper && (dir = path_open_host(c->keeper, O_PATH | O_DIRECTORY, e)) < 0)
        return -1;
    *fd = dir;
    return 0;
}

int cgroup_agent(const struct cgroup *c, int *born, struct strv *join, struct vm_err *e)
{
    char dir[CGROUP_PATH + 24];
    int fd = -1;

    /* Only leaves may hold processes in v2; in v1 any group may, but name=systemd is left to the guest's init. */
    for (int i = 0; i < V1_COUNT; i++)
        if (i != V1_SYSTEMD && *c->v1[i])
            strv_addf(join, "%s/tasks", c->v1[i]);
    if (join->failed)
        return vm_no_memory(e);
    if (*c->guest) {
        snprintf(dir, sizeof dir, "%s/agent", c->guest);
        if ((fd = path_mkdirs_host(dir, 0755, e)) < 0)
            return -1;
    }
    *born = fd;
    return 0;
}

/* ---- limits ---- */

static char *get(const char *dir, const char *file)
{
    char path[CGROUP_PATH + 64], *text = NULL;
    OWN(fd) int fd = -1;

    if (!*dir)
        return NULL;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    if ((fd = path_open_host(path, O_RDONLY, NULL)) < 0 || path_read_fd(fd, path, CGROUP_FILE_MAX, &text, NULL, NULL) < 0)
        return NULL;
    return text;
}

bool word_in(const char *text, const char *word)
{
    size_t n = strlen(word);

    for (const char *at = text; at && (at = strstr(at, word)); at += n)
        if ((at == text || at[-1] == ' ') && strchr(" \n", at[n]))
            return true;
    return false;
}

/* A controller that the host does not have is borne, and the doctor names it: a Raspberry Pi starts without memory. One
 * that it has and did not pass down is an error, for the guest would run without its limit. */
static int limits_v2(const char *dir, const char *has, const struct guest_spec *s, struct vm_err *e)
{
    long quota = (long)(s->cpus * PERIOD_US);

    if (word_in(has, "memory") && putf(dir, "memory.max", e, s->memory ? "%" PRIu64 : "max", s->memory) < 0)
        return -1;
    if (word_in(has, "cpu") &&
        (putf(dir, "cpu.max", e, quota ? "%ld %d" : "max", quota, PERIOD_US) < 0 ||
         putf(dir, "cpu.weight", e, "%u", s->limits.cpu_weight ? s->limits.cpu_weight : 100) < 0))
        return -1;
    return word_in(has, "pids") ? putf(dir, "pids.max", e, s->limits.pids ? "%" PRIu64 : "max", s->limits.pids) : 0;
}

static int io_v2(const char *dir, const struct guest_spec *s, dev_t dev, struct vm_err *e)
{
    char r[24] = "max", w[24] = "max";

    if (s->limits.io_read)
        snprintf(r, sizeof r, "%" PRIu64, s->limits.io_read);
    if (s->limits.io_write)
        snprintf(w, sizeof w, "%" PRIu64, s->limits.io_write);
    return putf(dir, "io.max", e, "%u:%u rbps=%s wbps=%s", major(dev), minor(dev), r, w);
}

static int limits_v1(const struct cgroup *c, const struct guest_spec *s, struct vm_err *e)
{
    unsigned weight = s->limits.cpu_weight ? s->limits.cpu_weight : 100;
    int64_t memory = s->memory ? (int64_t)s->memory : -1;
    long quota = s->cpus > 0 ? (long)(s->cpus * PERIOD_US) : -1;

    if (*c->v1[V1_MEMORY] && putf(c->v1[V1_MEMORY], "memory.limit_in_bytes", e, "%" PRId64, memory) < 0)
        return -1;
    if (*c->v1[V1_CPU] && (putf(c->v1[V1_CPU], "cpu.cfs_period_us", e, "%d", PERIOD_US) < 0 ||
                           putf(c->v1[V1_CPU], "cpu.cfs_quota_us", e, "%ld", quota) < 0 ||
                           putf(c->v1[V1_CPU], "cpu.shares", e, "%u", weight * 1024 / 100) < 0))
        return -1;
    if (*c->v1[V1_PIDS] &&
        putf(c->v1[V1_PIDS], "pids.max", e, s->limits.pids ? "%" PRIu64 : "max", s->limits.pids) < 0)
        return -1;
    return 0;
}

static int io_v1(const char *dir, const struct guest_spec *s, dev_t dev, struct vm_err *e)
{
    if (putf(dir, "blkio.throttle.read_bps_device", e, "%u:%u %" PRIu64, major(dev), minor(dev), s->limits.io_read) < 0)
        return -1;
    return putf(dir, "blkio.throttle.write_bps_device", e, "%u:%u %" PRIu64, major(dev), minor(dev),
                s->limits.io_write);
}

int cgroup_limits(const struct cgroup *c, const struct guest_spec *s, const dev_t *devices, size_t n_devices,
                  struct vm_err *e)
{
    OWN(str) char *has = c->v2 ? get(CGROUP_ROOT, "cgroup.controllers") : NULL;
    bool io = c->v2 ? word_in(has, "io") : *c->v1[V1_BLKIO];

    if (c->v2 && !has)
        return vm_fail(e, VM_E_SYSTEM, "limits: cannot read " CGROUP_ROOT "/cgroup.controllers");
    if ((c->v2 ? limits_v2(c->guest, has, s, e) : limits_v1(c, s, e)) < 0)
        return vm_context(e, "limits");
    for (size_t i = 0; io && i < n_devices; i++)
        if ((c->v2 ? io_v2(c->guest, s, devices[i], e) : io_v1(c->v1[V1_BLKIO], s, devices[i], e)) < 0)
            return vm_context(e, "limits");
    return 0;
}

/* ---- use ---- */

/* A file of one number; "max" and a limit beyond all memory mean none. */
static uint64_t get_number(const char *dir, const char *file)
{
    OWN(str) char *text = get(dir, file);
    uint64_t n;

    if (!text)
        return UINT64_MAX;
    text[strcspn(text, "\n")] = '\0';
    return text_to_u64(text, &n) && n < UINT64_C(1) << 62 ? n : UINT64_MAX;
}

/* "… KEY N": the number after a word. */
static bool number_after(const char *text, const char *key, uint64_t *out)
{
    const char *at = text ? strstr(text, key) : NULL;

    return at && sscanf(at + strlen(key), "%" SCNu64, out) == 1;
}

static double get_pressure(const char *dir, const char *file)
{
    OWN(str) char *text = get(dir, file);
    double some;

    return text && sscanf(text, "some avg10=%lf", &some) == 1 ? some : NAN;
}

/* What goes through a loop device shows again on the disk beneath it: the larger of both is what the guest did. */
struct io_sum { uint64_t loop, disk; };
static void io_add(struct io_sum *sum, unsigned maj, uint64_t n)
{
    *(maj == 7 ? &sum->loop : &sum->disk) += n;
}
static uint64_t io_total(const struct io_sum *s)
{
    return s->loop > s->disk ? s->loop : s->disk;
}

static void io_stats_v2(const char *dir, struct drv_stats *out)
{
    OWN(str) char *text = get(dir, "io.stat");
    struct io_sum r = {0}, w = {0};
    char *rest = text, *line;

    if (!text)
        return;
    while ((line = strsep(&rest, "\n"))) {
        unsigned maj, min;
        uint64_t n;

        if (sscanf(line, "%u:%u", &maj, &min) != 2)
            continue;
        if (number_after(line, " rbytes=", &n))
            io_add(&r, maj, n);
        if (number_after(line, " wbytes=", &n))
            io_add(&w, maj, n);
    }
    out->io_read = io_total(&r);
    out->io_write = io_total(&w);
}

static void io_stats_v1(const char *dir, struct drv_stats *out)
{
    OWN(str) char *text = get(dir, "blkio.throttle.io_service_bytes_recursive");
    struct io_sum r = {0}, w = {0};
    char *rest = text, *line;

    if (!text)
        return;
    while ((line = strsep(&rest, "\n"))) {
        unsigned maj, min;
        char what[16];
        uint64_t n;

        if (sscanf(line, "%u:%u %15s %" SCNu64, &maj, &min, what, &n) == 4)
            strcmp(what, "Read") ? strcmp(what, "Write") ? (void)0 : io_add(&w, maj, n) : io_add(&r, maj, n);
    }
    out->io_read = io_total(&r);
    out->io_write = io_total(&w);
}

static uint64_t get_counter(const char *dir, const char *file, const char *key)
{
    OWN(str) char *text = get(dir, file);
    uint64_t n;

    return number_after(text, key, &n) ? n : UINT64_MAX;
}

/* What groups below met are limits that the guest has set itself: only this very group's count. For processes version 2
 * has told of that since Linux 6.11 only; before, the limit was met if it was ever reached. */
static void limits_met(const struct cgroup *c, struct drv_stats *out)
{
    uint64_t held = get_counter(c->v2 ? c->guest : c->v1[V1_CPU], "cpu.stat", "nr_throttled ");
    uint64_t peak = c->v2 ? get_number(c->guest, "pids.peak") : UINT64_MAX;

    out->memory_kills = c->v2 ? get_counter(c->guest, "memory.events.local", "\noom ")
                              : get_counter(c->v1[V1_MEMORY], "memory.oom_control", "\noom_kill ");
    out->pids_refused = c->v2 ? get_counter(c->guest, "pids.events.local", "max ")
                              : get_counter(c->v1[V1_PIDS], "pids.events", "max ");
    if (out->pids_refused == UINT64_MAX && peak != UINT64_MAX)
        out->pids_refused = peak >= get_number(c->guest, "pids.max");
    if (held != UINT64_MAX)
        out->cpu_held_seconds = (double)held * PERIOD_US / 1e6;
}

/* File caches, which the kernel takes back when memory is wanted. */
static uint64_t cache(const struct cgroup *c)
{
    OWN(str) char *text = get(c->v2 ? c->guest : c->v1[V1_MEMORY], "memory.stat");
    uint64_t active, inactive;

    return number_after(text, c->v2 ? "\nactive_file " : "\ntotal_active_file ", &active) &&
           number_after(text, c->v2 ? "\ninactive_file " : "\ntotal_inactive_file ", &inactive) ? active + inactive : UINT64_MAX;
}

void cgroup_stats(const struct cgroup *c, struct drv_stats *out)
{
    uint64_t cpu;

    *out = (struct drv_stats){
        .cpu_seconds = NAN, .cpu_held_seconds = NAN, .io_read = UINT64_MAX, .io_write = UINT64_MAX,
        .memory = c->v2 ? get_number(c->guest, "memory.current") : get_number(c->v1[V1_MEMORY], "memory.usage_in_bytes"),
        .memory_peak = c->v2 ? get_number(c->guest, "memory.peak")
                             : get_number(c->v1[V1_MEMORY], "memory.max_usage_in_bytes"),
        .memory_limit = c->v2 ? get_number(c->guest, "memory.max")
                              : get_number(c->v1[V1_MEMORY], "memory.limit_in_bytes"),
        .memory_cache = UINT64_MAX,
        .pids = get_number(c->v2 ? c->guest : c->v1[V1_PIDS], "pids.current"),
        .pressure_cpu = get_pressure(c->guest, "cpu.pressure"),
        .pressure_memory = get_pressure(c->guest, "memory.pressure"),
        .pressure_io = get_pressure(c->guest, "io.pressure"),
    };
    limits_met(c, out);
    if (out->memory != UINT64_MAX && out->memory > out->memory_limit / 2) /* it costs the kernel more than all the others */
        out->memory_cache = cache(c);
    if (c->v2) {
        if ((cpu = get_counter(c->guest, "cpu.stat", "usage_usec")) != UINT64_MAX)
            out->cpu_seconds = (double)cpu / 1e6;
        io_stats_v2(c->guest, out);
    } else {
        if ((cpu = get_number(c->v1[V1_CPUACCT], "cpuacct.usage")) != UINT64_MAX)
            out->cpu_seconds = (double)cpu / 1e9;
        io_stats_v1(c->v1[V1_BLKIO], out);
    }
}

/* ---- the end ---- */

void cgroup_kill(const struct cgroup *c)
{
    if (*c->guest)
        put(c->guest, "cgroup.kill", "1", NULL);
}

/* Removes what is below dir and not busy, by one fd at a time, for the guest's root decides how deep it is. */
static void empty_below(int dir)
{
    OWN(fd) int at = fcntl(dir, F_DUPFD_CLOEXEC, 0);
    unsigned depth = 0;

    for (int steps = 0; steps < REMOVE_STEPS_MAX && at >= 0; steps++) {
        OWN(dir) DIR *list = dir_take(openat(at, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        bool more = false;
        int child = -1;

        for (struct dirent *d; list && (d = readdir(list));) {
            if (d->d_type != DT_DIR || d->d_name[0] == '.')
                continue;
            if (unlinkat(at, d->d_name, AT_REMOVEDIR) == 0 || errno == ENOENT)
                continue;
            child = openat(at, d->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            more = true;
            break;
        }
        if (!more && depth == 0)
            return;
        if (!more) {
            child = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            depth--;
        } else
            depth++;
        fd_drop(at);
        at = child;
    }
}

static int tree_remove(const char *path, struct vm_err *e)
{
    struct vm_err why = {0};
    OWN(fd) int dir = path_open_host(path, O_RDONLY | O_DIRECTORY, &why);

    if (dir < 0 && why.sys == ENOENT)
        return 0;
    if (dir < 0)
        return vm_fail(e, why.code, "%s", why.text);
    empty_below(dir);
    if (rmdir(path) < 0 && errno != ENOENT)
        return errno == EBUSY ? vm_fail(e, VM_E_CONFLICT, "%s still has processes", path)
                              : vm_fail_sys(e, "remove %s", path);
    return 0;
}

int cgroup_remove(const struct cgroup *c, struct vm_err *e)
{
    int rc = 0;

    for (int i = 0; i < V1_COUNT; i++)
        if (*c->v1[i] && tree_remove(c->v1[i], rc ? NULL : e) < 0)
            rc = -1;
    if (c->v2 && scope_wanted()) {
        /* systemd removes an empty scope. Done here, the unit would stay, as one that never got empty. */
        if (is_dir(c->base))
            rc = vm_fail(e, VM_E_CONFLICT, "%s still has processes, or systemd does not answer", c->base);
    } else if (*c->base && tree_remove(c->base, rc ? NULL : e) < 0)
        rc = -1;
    return rc;
}
