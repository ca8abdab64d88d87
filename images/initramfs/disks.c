#include "init.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DISKS_MAX = 128, POLL_MS = 10 };

/* What was seen so far: a disk's serial costs a request to it, so each is asked once. */
static struct { char name[DISK_NAME], serial[SERIAL]; } disks[DISKS_MAX];
static size_t n_disks;

static bool is_known(const char *name)
{
    for (size_t i = 0; i < n_disks; i++) {
        if (strcmp(disks[i].name, name) == 0)
            return true;
    }
    return false;
}

static void add_disk(const char *name)
{
    char path[80];
    if (n_disks == DISKS_MAX || strlen(name) >= DISK_NAME || is_known(name))
        return;
    memcpy(disks[n_disks].name, name, strlen(name) + 1);
    snprintf(path, sizeof(path), "/sys/block/%s/serial", disks[n_disks].name);
    OWN(file) FILE *f = fopen(path, "re");
    if (f && fgets(disks[n_disks].serial, SERIAL, f))
        disks[n_disks].serial[strcspn(disks[n_disks].serial, "\n")] = '\0';
    n_disks++;
}

static int is_name(const struct dirent *de)
{
    return de->d_name[0] != '.';
}

static void look(void)
{
    struct dirent **list = NULL;
    int n = scandir("/sys/block", &list, is_name, alphasort);
    for (int i = 0; i < n; i++) {
        add_disk(list[i]->d_name);
        free(list[i]);
    }
    free(list);
}

bool disk_find(const char *serial, char name[static DISK_NAME])
{
    look();
    for (size_t i = 0; i < n_disks; i++) {
        if (strcmp(disks[i].serial, serial) == 0) {
            memcpy(name, disks[i].name, DISK_NAME);
            return true;
        }
    }
    return false;
}

static int64_t uptime_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static int fail_missing(const char *serial, struct vm_err *e)
{
    char list[200] = "";
    size_t n = 0;
    for (size_t i = 0; i < n_disks && n < sizeof(list); i++) {
        if (disks[i].serial[0])
            n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", n ? ", " : "", disks[i].serial);
    }
    return vm_fail(e, VM_E_ABSENT, "find the disk '%s' within %d s: this machine has %s", serial, DISK_WAIT_MS / 1000,
                   n ? list : "no disk with a serial");
}

int disk_wait(const char *serial, char name[static DISK_NAME], struct vm_err *e)
{
    static int64_t until;
    if (!until)
        until = uptime_ms() + DISK_WAIT_MS;
    while (!disk_find(serial, name)) {
        if (uptime_ms() >= until)
            return fail_missing(serial, e);
        nanosleep(&(struct timespec){ .tv_nsec = POLL_MS * 1000000L }, NULL);
    }
    return 0;
}

/* ---- what is on a disk ---- */

const char *superblock_type(const uint8_t *p, size_t n)
{
    static const struct { const char *type; size_t at, len; const char *magic; } rows[] = {
        { "erofs",    1024,           4, "\xe2\xe1\xf5\xe0" },
        { "ext4",     1024 + 0x38,    2, "\x53\xef" },
        { "squashfs", 0,              4, "hsqs" },
        { "xfs",      0,              4, "XFSB" },
        { "btrfs",    (64 << 10) + 64, 8, "_BHRfS_M" },
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if (n >= rows[i].at + rows[i].len && memcmp(p + rows[i].at, rows[i].magic, rows[i].len) == 0)
            return rows[i].type;
    }
    return NULL;
}

int disk_type(const char *name, const char **type, struct vm_err *e)
{
    static uint8_t buf[SUPERBLOCKS];
    char path[DISK_NAME + 8];
    size_t n = 0;

    snprintf(path, sizeof(path), "/dev/%s", name);
    OWN(fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vm_fail_sys(e, "open %s", path);
    for (ssize_t got; n < sizeof(buf); n += (size_t)got) {
        if ((got = read(fd, buf + n, sizeof(buf) - n)) < 0)
            return vm_fail_sys(e, "read %s", path);
        if (got == 0)
            break;
    }
    *type = superblock_type(buf, n);
    return 0;
}

/* The kernel calls them vda1, vda2, …, nvme0n1p1: what follows the disk's name ends with the number. */
size_t disk_partitions(const char *name, char out[][DISK_NAME], size_t max)
{
    size_t n = 0;
    for (unsigned i = 1; i <= PARTITIONS_MAX && n < max; i++) {
        char path[120];
        bool digit = isdigit((unsigned char)name[strlen(name) - 1]);
        snprintf(out[n], DISK_NAME, "%.20s%s%u", name, digit ? "p" : "", i);
        snprintf(path, sizeof(path), "/sys/block/%s/%s", name, out[n]);
        n += access(path, F_OK) == 0;
    }
    return n;
}
