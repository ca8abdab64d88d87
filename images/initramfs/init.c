#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

static char setup_text[SETUP_MAX + 1], setup_words[SETUP_MAX + 1];

/* To the console, which may have come with a module, or else to the kernel's log. */
void say(const char *fmt, ...)
{
    char line[512];
    va_list ap;

    int n = snprintf(line, sizeof(line), "vms-init: ");
    va_start(ap, fmt);
    vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
    va_end(ap);
    n = (int)strlen(line);
    line[n++] = '\n';
    OWN(fd) int fd = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);
    if (fd >= 0 && write(fd, line, (size_t)n) == n) {
        tcdrain(fd); /* a panic would not wait for what the console still holds */
        return;
    }
    OWN(fd) int log = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
    (void)!write(log, line, (size_t)n);
}

static int mount_kernel(const char *type, const char *path, struct vm_err *e)
{
    mkdir(path, 0755);
    if (mount(type, path, type, MS_NOSUID | (strcmp(path, "/dev") == 0 ? 0 : MS_NODEV | MS_NOEXEC), NULL) < 0 &&
        errno != EBUSY) /* the kernel mounts /dev itself where it was built so */
        return vm_fail_sys(e, "mount %s", path);
    return 0;
}

/* The kernel opens /dev/console for us only where the initramfs brings that node. */
static void fill_standard_fds(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    while (fd >= 0 && fd <= 2);
    fd_drop(fd);
}

static void standard_fds_to_console(void)
{
    OWN(fd) int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);
    for (int i = 0; fd >= 0 && i <= 2; i++)
        dup2(fd, i);
}

static int setup_read(struct setup *out, size_t *n, struct vm_err *e)
{
    OWN(fd) int fd = open(SETUP_FILE, O_RDONLY | O_CLOEXEC);
    *n = 0;
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return vm_fail_sys(e, "read " SETUP_FILE);
    for (ssize_t got; *n < sizeof(setup_text); *n += (size_t)got) {
        if ((got = read(fd, setup_text + *n, sizeof(setup_text) - *n)) < 0)
            return vm_fail_sys(e, "read " SETUP_FILE);
        if (got == 0)
            break;
    }
    if (*n > SETUP_MAX)
        return vm_fail(e, VM_E_TOO_LARGE, "read " SETUP_FILE ": it is larger than %d KiB", SETUP_MAX >> 10);
    memcpy(setup_words, setup_text, *n);
    return setup_parse(setup_words, *n, out, e) < 0 ? vm_context(e, "understand " SETUP_FILE) : 0;
}

static int boot(char **argv, struct vm_err *e)
{
    struct setup s = { 0 };
    size_t n;

    if (mount_kernel("devtmpfs", "/dev", e) < 0)
        return -1;
    fill_standard_fds();
    if (mount_kernel("proc", "/proc", e) < 0 || mount_kernel("sysfs", "/sys", e) < 0)
        return -1;
    modules_load("/modules");
    standard_fds_to_console();
    if (setup_read(&s, &n, e) < 0)
        return -1;
    OWN(fd) int root = -1;
    if (root_build(&s, &root, e) < 0 || run_fill(root, &s, setup_text, n, e) < 0)
        return -1;
    return hand_over(root, s.read_only_root, argv, e);
}

/* The end of process 1 is a panic of the kernel: no host can take that for a machine that was switched off. */
int main(int argc, char **argv)
{
    struct vm_err e = { 0 };
    (void)argc;

    umask(022);
    boot(argv, &e);
    say("cannot %s", e.text);
    OWN(fd) int fd = open("/proc/sys/kernel/panic", O_WRONLY | O_CLOEXEC);
    if (fd >= 0)
        (void)!write(fd, "-1", 2); /* and that no host waits for in vain */
    return 1;
}
