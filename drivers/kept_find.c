/* A guest whose state file is gone, because somebody wiped the runtime directory: its cgroup still knows the keeper, and
 * the kernel who is whose child. */
#include "kept.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <vmsd/path.h>

enum { LIST_MAX = 64 << 10 };

/* The only process of the group, or 0. */
static pid_t only_process(const char *group)
{
    char *end;
    OWN(str) char *text = NULL;
    OWN(fd) int dir = *group ? path_open_host(group, O_RDONLY | O_DIRECTORY, NULL) : -1;
    long pid;

    if (dir < 0 || path_read(dir, "cgroup.procs", LIST_MAX, &text, NULL, NULL) < 0)
        return 0;
    pid = strtol(text, &end, 10);
    return pid > 0 && !strcmp(end, "\n") ? (pid_t)pid : 0;
}

/* vms-keeper's own command line tells its kind. */
static bool is_keeper(pid_t pid, enum keeper_kind kind)
{
    OWN(str) char *text = NULL;
    size_t n, first;

    if (proc_file_read(pid, "cmdline", &text, &n, NULL) < 0)
        return false;
    first = strlen(text) + 1;
    return first < n && !strcmp(text + first, keeper_kinds[kind]);
}

static bool is_init(pid_t pid)
{
    char *line, *end;
    OWN(str) char *text = NULL;

    if (proc_file_read(pid, "status", &text, NULL, NULL) < 0 || !(line = strstr(text, "\nNSpid:")) ||
        !(end = strchr(line + 1, '\n')))
        return false;
    return end[-1] == '1' && end[-2] == '\t';
}

/* The VMM has the host's user namespace, a virtiofsd beside it one of its own. */
static bool is_in_our_userns(pid_t pid)
{
    char path[40];
    struct stat ours, its;

    snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    return stat("/proc/self/ns/user", &ours) == 0 && stat(path, &its) == 0 && ours.st_ino == its.st_ino;
}

/* The child that is init of a pid namespace of its own, or 0. */
static pid_t init_child(pid_t parent, bool our_userns)
{
    char name[40];
    OWN(str) char *text = NULL;
    char *rest, *word;

    snprintf(name, sizeof name, "task/%d/children", (int)parent);
    if (parent <= 0 || proc_file_read(parent, name, &text, NULL, NULL) < 0)
        return 0;
    for (rest = text; (word = strsep(&rest, " "));) {
        pid_t pid = (pid_t)strtol(word, NULL, 10);

        if (pid > 0 && is_init(pid) && (!our_userns || is_in_our_userns(pid)))
            return pid;
    }
    return 0;
}

static void fill(struct state_proc *out, pid_t pid)
{
    struct proc_id id;

    if (pid > 0 && proc_id_of(pid, &id, NULL) == 0)
        *out = (struct state_proc){id.pid, id.start};
}

int kept_find(const struct kept *k, struct state *out, struct vm_err *e)
{
    struct state s = {.by = k->kind, .phase = PHASE_STARTING};
    struct proc_id keeper;
    struct cgroup c;
    OWN(fd) int run = -1;
    pid_t pid;

    cgroup_of(k->id, &c);
    if (!(pid = only_process(c.keeper)) || !is_keeper(pid, k->kind) || proc_id_of(pid, &keeper, NULL) < 0)
        return vm_fail(e, VM_E_ABSENT, "nothing runs for %s", k->run_dir);
    fill(&s.keeper, pid);
    memcpy(s.boot, keeper.boot, sizeof s.boot);
    if (k->kind == KEEPS_NSPAWN) {
        fill(&s.nspawn, init_child(pid, false));
        fill(&s.leader, init_child(s.nspawn.pid, false));
    } else
        fill(&s.leader, init_child(pid, true));
    if (s.leader.pid)
        s.phase = PHASE_BOOTED; /* or nearly so: its agent will tell */
    if ((run = path_mkdirs_host(k->run_dir, 0700, e)) < 0)
        return -1;
    state_write(run, &s);
    *out = s;
    return 0;
}
