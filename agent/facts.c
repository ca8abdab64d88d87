#include "agent.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vmsd/own.h>

enum { FILESYSTEMS_MAX = 64, MOUNT_LINE = 4096 };

/* ---- usage: lines on stdout ---- */

static void print_memory(void)
{
    static const struct { const char *from, *to; } rows[] = {
        { "MemTotal",  "memory_total" }, { "MemAvailable", "memory_available" },
        { "SwapTotal", "swap_total" },   { "SwapFree",     "swap_free" },
    };
    OWN(file) FILE *f = fopen("/proc/meminfo", "re");
    char line[128], key[32];
    unsigned long long kib;
    while (f && fgets(line, sizeof(line), f)) {
        if (sscanf(line, "%31[^:]: %llu", key, &kib) != 2)
            continue;
        for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
            if (strcmp(key, rows[i].from) == 0)
                printf("%s=%llu\n", rows[i].to, kib << 10);
        }
    }
}

/* How often its kernel has killed for lack of memory. */
static void print_kills(void)
{
    OWN(file) FILE *f = fopen("/proc/vmstat", "re");
    char line[128];
    unsigned long long n;
    while (f && fgets(line, sizeof(line), f))
        if (sscanf(line, "oom_kill %llu", &n) == 1)
            printf("oom_kills=%llu\n", n);
}

static void print_load(void)
{
    OWN(file) FILE *load = fopen("/proc/loadavg", "re");
    OWN(file) FILE *up = fopen("/proc/uptime", "re");
    char a[16], b[16], c[16];
    if (load && fscanf(load, "%15s %15s %15s", a, b, c) == 3)
        printf("load1=%s\nload5=%s\nload15=%s\n", a, b, c);
    if (up && fscanf(up, "%15s", a) == 1)
        printf("uptime=%s\n", a);
}

static void print_processes(void)
{
    OWN(dir) DIR *d = opendir("/proc");
    unsigned n = 0;
    for (const struct dirent *de; d && (de = readdir(d));)
        n += isdigit((unsigned char)de->d_name[0]) != 0;
    if (d)
        printf("processes=%u\n", n);
}

/* /proc/mounts writes a space in a name as \040. */
static void unescape(char *s)
{
    char *to = s;
    for (; *s; s++) {
        unsigned c;
        if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
            *to++ = (char)c;
            s += 3;
        } else {
            *to++ = *s;
        }
    }
    *to = '\0';
}

static void print_filesystems(void)
{
    static char line[MOUNT_LINE], dir[MOUNT_LINE], type[64];
    OWN(file) FILE *f = fopen("/proc/self/mounts", "re");
    struct statvfs v;
    for (int n = 0; f && n < FILESYSTEMS_MAX && fgets(line, sizeof(line), f);) {
        static char shown[MOUNT_LINE];
        if (sscanf(line, "%*s %4095s %63s", dir, type) != 2)
            continue;
        memcpy(shown, dir, sizeof(shown));
        unescape(dir);
        if (statvfs(dir, &v) < 0 || v.f_blocks == 0) /* proc and its like hold nothing */
            continue;
        printf("fs=%s %s %llu %llu %llu %llu\n", shown, type, (unsigned long long)v.f_blocks * v.f_frsize,
               (unsigned long long)v.f_bavail * v.f_frsize, (unsigned long long)v.f_files,
               (unsigned long long)v.f_favail);
        n++;
    }
}

int op_usage(const struct request *rq, struct vm_err *e)
{
    struct utsname u;
    (void)rq;
    print_memory();
    print_kills();
    print_load();
    if (uname(&u) == 0)
        printf("kernel=%s\n", u.release);
    print_processes();
    printf("cpus=%ld\n", sysconf(_SC_NPROCESSORS_ONLN));
    print_filesystems();
    return fflush(stdout) == 0 ? 0 : vm_fail_sys(e, "write the usage");
}

/* ---- systemd ---- */

static bool has_systemd(void)
{
    return access("/run/systemd/system", F_OK) == 0;
}

/* Runs a program to its end and keeps what it writes. The exit status, or -1. */
static int capture(char *const argv[], char *out, size_t max, struct vm_err *e)
{
    int p[2], status;
    size_t n = 0;
    if (pipe2(p, O_CLOEXEC) < 0)
        return vm_fail_sys(e, "make a pipe");
    OWN(fd) int from = p[0];
    OWN(fd) int to = p[1];
    pid_t pid = fork();
    if (pid < 0)
        return vm_fail_sys(e, "start '%s'", argv[0]);
    if (pid == 0) {
        dup2(to, 1);
        dup2(to, 2);
        execvp(argv[0], argv);
        _exit(127);
    }
    to = fd_drop(to);
    for (ssize_t got; n < max - 1 && (got = read(from, out + n, max - 1 - n)) > 0;)
        n += (size_t)got;
    out[n] = '\0';
    from = fd_drop(from); /* a program that says more than that ends by SIGPIPE */
    if (waitpid(pid, &status, 0) < 0)
        return vm_fail_sys(e, "wait for '%s'", argv[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127 && n == 0)
        return vm_fail(e, VM_E_ABSENT, "no program '%s' in this guest", argv[0]);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int op_units(const struct request *rq, struct vm_err *e)
{
    static char out[64 << 10];
    char *state[] = { "systemctl", "is-system-running", NULL };
    char *failed[] = { "systemctl", "list-units", "--failed", "--plain", "--no-legend", "--no-pager", NULL };
    (void)rq;

    if (!has_systemd())
        return vm_fail(e, VM_E_ABSENT, "systemd does not run in this guest, so it has no units");
    if (capture(state, out, sizeof(out), e) < 0) /* fails for every state but running */
        return -1;
    printf("state=%.*s\n", (int)strcspn(out, " \n"), out);
    int rc = capture(failed, out, sizeof(out), e);
    if (rc < 0)
        return -1;
    if (rc > 0)
        return vm_fail(e, VM_E_BACKEND, "systemctl: %.*s", (int)strcspn(out, "\n"), out);
    for (char *rest, *line = strtok_r(out, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
        printf("failed=%.*s\n", (int)strcspn(line, " "), line);
    return fflush(stdout) == 0 ? 0 : vm_fail_sys(e, "write the units");
}

static int ask_init(char *verb, struct vm_err *e)
{
    static char out[4096];
    char *by_systemd[] = { "systemctl", "--no-block", verb, NULL }, *by_init[] = { verb, NULL };
    int rc = capture(has_systemd() ? by_systemd : by_init, out, sizeof(out), e);
    if (rc > 0)
        return vm_fail(e, VM_E_BACKEND, "%s: %.*s", verb, (int)strcspn(out, "\n"), out);
    return rc;
}

int op_poweroff(const struct request *rq, struct vm_err *e)
{
    (void)rq;
    return ask_init("poweroff", e);
}

int op_reboot(const struct request *rq, struct vm_err *e)
{
    (void)rq;
    return ask_init("reboot", e);
}
