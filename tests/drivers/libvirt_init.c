/* The init of the small guests of test_libvirt.c: does what it is told over the agent's channel, a word a line. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

static int is_module(const struct dirent *d)
{
    return strstr(d->d_name, ".ko") != NULL;
}

static void load_modules(void)
{
    struct dirent **list;
    int n = scandir("/modules", &list, is_module, alphasort);

    for (int i = 0; i < n; i++) {
        char path[300];

        snprintf(path, sizeof path, "/modules/%s", list[i]->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        syscall(SYS_finit_module, fd, "", 0);
        close(fd);
    }
}

static void slurp(const char *dir, const char *name, const char *file, char *out, size_t size)
{
    char path[400];

    snprintf(path, sizeof path, "%s/%s/%s", dir, name, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 1);
    if (fd >= 0)
        close(fd);
    out[n > 0 ? n : 0] = '\0';
    out[strcspn(out, "\n")] = '\0';
}

static int open_port(void)
{
    for (int tries = 0; tries < 300; tries++, usleep(20000)) {
        DIR *dir = opendir("/sys/class/virtio-ports");

        for (struct dirent *d; dir && (d = readdir(dir));) {
            char name[64], path[300];

            slurp("/sys/class/virtio-ports", d->d_name, "name", name, sizeof name);
            snprintf(path, sizeof path, "/dev/%s", d->d_name);
            if (!strcmp(name, "vmsd.agent"))
                return open(path, O_RDWR | O_CLOEXEC);
        }
        if (dir)
            closedir(dir);
    }
    return -1;
}

/* "vda root 131072 rw, …" */
static void tell_disks(FILE *to)
{
    struct dirent **list;
    int n = scandir("/sys/block", &list, NULL, alphasort);

    for (int i = 0; i < n; i++) {
        char serial[64], size[32], ro[8];

        if (strncmp(list[i]->d_name, "vd", 2))
            continue;
        slurp("/sys/block", list[i]->d_name, "serial", serial, sizeof serial);
        slurp("/sys/block", list[i]->d_name, "size", size, sizeof size);
        slurp("/sys/block", list[i]->d_name, "ro", ro, sizeof ro);
        fprintf(to, "%s %s %s %s,", list[i]->d_name, serial, size, *ro == '1' ? "ro" : "rw");
    }
    fprintf(to, "\n");
}

static void obey(const char *word, FILE *to)
{
    if (!strcmp(word, "ping"))
        fprintf(to, "pong\n");
    else if (!strcmp(word, "disks"))
        tell_disks(to);
    else if (!strcmp(word, "poweroff"))
        reboot(RB_POWER_OFF);
    else if (!strcmp(word, "shutdown")) { /* takes its time, as an init with services does */
        sleep(3);
        reboot(RB_POWER_OFF);
    }
    else if (!strcmp(word, "reboot"))
        reboot(RB_AUTOBOOT);
    else if (!strcmp(word, "exit"))
        exit(3);
    fflush(to);
}

int main(void)
{
    static const struct { const char *type, *dir; } mounts[] = {{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}};
    char word[64];

    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; i++)
        mount(mounts[i].type, mounts[i].dir, mounts[i].type, 0, NULL);
    int console = open("/dev/console", O_RDWR);
    for (int i = 0; i < 3; i++)
        dup2(console, i);
    load_modules();
    int port = open_port();
    FILE *to = fdopen(dup(port), "w");
    printf("init: obeys on fd %d\n", port);
    fflush(stdout);
    for (size_t n = 0;;) {
        ssize_t got = read(port, word + n, 1);

        if (got <= 0) /* nobody is connected */
            usleep(20000);
        else if (word[n] == '\n') {
            word[n] = '\0';
            obey(word, to);
            n = 0;
        } else if (n < sizeof word - 1)
            n++;
    }
}
