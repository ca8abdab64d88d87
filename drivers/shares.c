#include "shares.h"

#include "shares_plan.h"
#include "version.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>
#include <vmsd/path.h>

bool shares_wanted(const struct drv_guest *g)
{
    for (size_t i = 0; i < g->n_mounts; i++)
        if (!g->mounts[i].disk)
            return true;
    return false;
}

const char *shares_program(struct vm_err *e)
{
    /* The first three are in Rust, and kept up; the fourth is QEMU's own of before, all that Debian 12 has. */
    static const char *const places[] = {"/usr/libexec/virtiofsd", "/usr/local/bin/virtiofsd", "/usr/lib/virtiofsd",
                                         "/usr/lib/qemu/virtiofsd", "/usr/libexec/qemu/virtiofsd"};
    const char *named = getenv("VMS_VIRTIOFSD");

    if (named && access(named, X_OK) == 0)
        return named;
    for (size_t i = 0; i < ARRAY_LEN(places) && !named; i++)
        if (access(places[i], X_OK) == 0)
            return places[i];
    vm_fail(e, VM_E_UNAVAILABLE, "no virtiofsd%s%s, so no directory of the host goes into a microVM; apt install virtiofsd, "
            "or on Debian 12 qemu-system-common", named ? " at VMS_VIRTIOFSD=" : "", named ? named : "");
    return NULL;
}

/* QEMU's old one has other options; "virtiofsd version 7.2.22", where the other says "virtiofsd 1.13.0". */
static bool is_old(const char *program)
{
    static struct version version = VERSION_UNKNOWN;
    char line[VERSION_LINE];

    version_ask(&version, program, line);
    return strstr(line, " version ") != NULL;
}

/* Its root holds the share alone besides itself; the sandbox leaves it only that. */
static void server_args(struct plan_draft *d, bool old)
{
    static const char *const rust[] = {"--fd=3", "--shared-dir=/share", "--sandbox=chroot", "--cache=auto",
                                       "--rlimit-nofile=0", "--log-level=error"};
    static const char *const c[] = {"-f", "--fd=3", "-o", "source=/share,sandbox=chroot,cache=auto,log_level=err",
                                    "--rlimit-nofile=0"};

    plan_add(d, "server=" SHARES_ROOT_PROGRAM);
    for (size_t i = 0; i < (old ? ARRAY_LEN(c) : ARRAY_LEN(rust)); i++)
        plan_add(d, "server=%s", old ? c[i] : rust[i]);
}

int shares_plan_files(struct plan_draft *d, struct vm_err *e)
{
    const char *program = shares_program(e);

    if (!program || plan_program(d, "sr", SHARES_ROOT_PROGRAM, program, e) < 0)
        return -1;
    server_args(d, is_old(program));
    return 0;
}

static int share_add(struct plan_draft *d, const struct drv_guest *g, size_t i, struct vm_err *e)
{
    const struct drv_mount *m = &g->mounts[i];
    int fd = plan_tree_open(g, m, e);
    struct stat st;

    if (plan_take_fd(d, fd) < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISDIR(st.st_mode))
        return vm_fail(e, VM_E_INVALID, "'%s' is a file: a microVM can share only directories; name the one that holds it",
                       m->source);
    plan_add(d, "mount=share,%s%s", m->read_only ? "r" : "", m->mapped ? "m" : "");
    plan_add(d, "target=%s", m->target);
    plan_add(d, "socket=" SHARES_SOCKET_NAME, i);
    return 0;
}

int shares_plan_mounts(struct plan_draft *d, const struct drv_guest *g, struct vm_err *e)
{
    for (size_t i = 0; i < g->n_mounts; i++)
        if (!g->mounts[i].disk && share_add(d, g, i, e) < 0)
            return -1;
    return 0;
}

/* ---- for a VMM that others start ---- */

void shares_socket(const char *run_dir, size_t mount, char out[static SHARES_SOCKET])
{
    snprintf(out, SHARES_SOCKET, "%s/" SHARES_SOCKET_NAME, run_dir, mount);
}

static int plan_make(const struct drv_guest *g, const struct cgroup *c, struct kept_plan *out, int *tell, struct vm_err *e)
{
    OWN(plan_draft) struct plan_draft draft = {0};
    int ends[2];

    if (plan_begin(&draft, g, c, e) < 0)
        return -1;
    if (pipe2(ends, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "pipe");
    *tell = ends[1];
    plan_take_fd(&draft, ends[0]);
    if (shares_plan_files(&draft, e) < 0 || plan_libraries(&draft, "sr", e) < 0 || shares_plan_mounts(&draft, g, e) < 0)
        return -1;
    return plan_end(&draft, out, e);
}

int shares_start(const struct drv_guest *g, struct deadline d, struct shares *out, struct vm_err *e)
{
    OWN(kept_plan) struct kept_plan plan = {0};
    OWN(fd) int keeper = -1;
    OWN(fd) int tell = -1;
    struct kept k = {KEEPS_SHARES, g->id, g->run_dir};
    /* What is limited is the VMM; but no virtiofsd goes on without end. */
    struct guest_spec bounds = {.limits.pids = SHARES_PIDS};
    struct cgroup c;
    struct state s = {0};
    struct drv_proc p;

    cgroup_of(g->id, &c);
    if (kept_clear(&k, e) < 0 || plan_make(g, &c, &plan, &tell, e) < 0)
        return vm_context(e, "shares of '%s'", g->spec->name);
    if (kept_begin(&k, &plan, &c, &bounds, d, &keeper, e) < 0 || kept_await(&k, keeper, PHASE_STARTED, d, &s, e) < 0 ||
        (s.phase == PHASE_ENDED && vm_fail(e, VM_E_BACKEND, "%s", s.text) < 0)) {
        kept_undo(&k, keeper);
        return vm_context(e, "shares of '%s'", g->spec->name);
    }
    kept_proc(&s, &p);
    *out = (struct shares){.keeper = p.keeper, .tell = take_fd(&tell)};
    return 0;
}

int shares_give(struct shares *s, const struct proc_id *vmm, struct vm_err *e)
{
    struct state_proc p = {vmm->pid, vmm->start};
    bool told = write(s->tell, &p, sizeof p) == sizeof p;

    s->tell = fd_drop(s->tell);
    return told ? 0 : vm_fail_sys(e, "tell the guest's virtiofsd whose it is");
}

int shares_reap(uint32_t id, const char *run_dir, char *why, size_t size, struct vm_err *e)
{
    struct kept k = {KEEPS_SHARES, id, run_dir};
    struct state s;
    struct drv_exit x;
    bool killed = false; /* not by us */

    *why = '\0';
    if (kept_state(&k, &s, NULL) == 0) {
        OWN(fd) int keeper = kept_proc_open(&s, &s.keeper, NULL);

        /* It ends by itself when its VMM has; if not, there is none to wait for. */
        if (keeper >= 0 && !pidfd_wait(keeper, deadline_in(SHARES_LEAVE_MS))) {
            pidfd_send_signal(keeper, SIGKILL, NULL, 0);
            pidfd_wait(keeper, deadline_in(SHARES_LEAVE_MS));
        } else
            killed = kept_state(&k, &s, NULL) == 0 && s.end == END_NONE;
    }
    if (kept_reap(&k, &x, e) < 0)
        return vm_context(e, "shares");
    if (x.kind == EXIT_CRASH || x.kind == EXIT_FAILED_START)
        snprintf(why, size, "%s", x.text);
    else if (killed)
        snprintf(why, size, "the vms-keeper of its shares was killed");
    return 0;
}
