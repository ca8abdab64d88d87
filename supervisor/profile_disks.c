/* File systems, arrays and drives of the host. */
#include "profile.h"

#include <dirent.h>
#include <errno.h>
#include <mntent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>
#include <vmsd/child.h>
#include <vmsd/text.h>

enum { ASK_MS = 10000, OUTPUT_MAX = 1 << 20, DRIVES_MAX = 64 };

/* ---- file systems ---- */

/* On disks of this host: one that is somebody else's over the network may not answer at all. */
static bool is_local(const struct mntent *m)
{
    return !strncmp(m->mnt_fsname, "/dev/", 5) || !strcmp(m->mnt_type, "zfs");
}

static json_t *file_system(const struct mntent *m)
{
    struct statvfs st;

    if (statvfs(m->mnt_dir, &st) < 0)
        return json_pack("{ss ss ss sn ss}", "source", m->mnt_fsname, "target", m->mnt_dir, "type", m->mnt_type, "size_bytes",
                         "why", strerror(errno));
    json_int_t block = (json_int_t)st.f_frsize;
    return json_pack("{ss ss ss sI sI sI sI sI sb}", "source", m->mnt_fsname, "target", m->mnt_dir, "type", m->mnt_type,
                     "size_bytes", (json_int_t)st.f_blocks * block, "used_bytes",
                     (json_int_t)(st.f_blocks - st.f_bfree) * block, "available_bytes",
                     (json_int_t)st.f_bavail * block, "files", (json_int_t)st.f_files, "files_free",
                     (json_int_t)st.f_ffree, "read_only", (int)((st.f_flag & ST_RDONLY) != 0));
}

/* Each once, where it is mounted first: binds and the disks of guests would only repeat it. Of two on one place the upper one
 * would be asked twice. */
json_t *profile_file_systems(void)
{
    OWN(json) json_t *seen = json_object();
    json_t *list = json_array();
    FILE *f = setmntent("/proc/self/mounts", "re");
    struct mntent m;
    char text[4096];

    while (f && getmntent_r(f, &m, text, sizeof text)) {
        if (!is_local(&m) || !strncmp(m.mnt_fsname, "/dev/loop", 9) || json_object_get(seen, m.mnt_fsname) ||
            json_object_get(seen, m.mnt_dir))
            continue;
        json_put(seen, m.mnt_fsname, json_true());
        json_put(seen, m.mnt_dir, json_true());
        json_array_append_new(list, file_system(&m));
    }
    if (f)
        endmntent(f);
    return list;
}

/* ---- programs that know ---- */

/* What a program prints, whatever its status. NULL: it does not end. */
static char *ask(char *const *argv, size_t *n, struct vm_err *e)
{
    struct child_plan plan = {.argv = argv, .output_max = OUTPUT_MAX};
    struct child_end end = {0};

    if (child_run(&plan, deadline_in(ASK_MS), &end, e) == 0) {
        *n = end.n;
        return end.output;
    }
    free(end.output);
    return NULL;
}

static void put_unknown(json_t *into, const char *name, const char *why)
{
    OWN(str) char *key = text_format("%s_why", name);

    json_put(into, name, NULL);
    if (key)
        json_put_str(into, key, why);
}

/* ---- md ---- */

/* "md0 : active raid1 sdb1[1] sda1[0](F)" and below it "… blocks … [2/1] [U_]" */
json_t *profile_md(const char *mdstat)
{
    json_t *list = json_array();
    char name[64], state[32], level[32];
    unsigned disks = 0, working = 0;

    for (const char *line = mdstat; line; line = text_next_line(line)) {
        const char *next = strchr(line, '\n'), *counts, *end;

        level[0] = '\0';
        if (strncmp(line, "md", 2) || sscanf(line, "%63[^ ] : %31s %31[a-z0-9]", name, state, level) < 2)
            continue;
        end = next ? strstr(next + 1, "\nmd") : NULL;
        counts = next ? strchr(next + 1, '[') : NULL;
        while (counts && (!end || counts < end) && sscanf(counts, "[%u/%u]", &disks, &working) != 2)
            counts = strchr(counts + 1, '[');
        if (!counts || (end && counts > end))
            json_array_append_new(list, json_pack("{ss ss ss sn sn sb}", "name", name, "state", state, "level", level, "disks",
                                                  "working", "degraded", (int)(strcmp(state, "active") != 0)));
        else
            json_array_append_new(list, json_pack("{ss ss ss si si sb}", "name", name, "state", state, "level", level, "disks",
                                                  (int)disks, "working", (int)working, "degraded", (int)(working < disks)));
    }
    return list;
}

static void put_md(json_t *into)
{
    OWN(str) char *mdstat = profile_read("/proc/mdstat");

    if (mdstat)
        json_put(into, "md", profile_md(mdstat));
    else
        put_unknown(into, "md", "the kernel has no md");
}

/* ---- btrfs ---- */

static json_int_t errors_of(const char *dir, const char *device)
{
    OWN(str) char *path = text_format("%s/devinfo/%s/error_stats", dir, device), *stats = path ? profile_read(path) : NULL;
    json_int_t sum = 0;

    for (const char *line = stats; line; line = text_next_line(line))
        if (strchr(line, ' '))
            sum += strtoll(strchr(line, ' '), NULL, 10);
    return sum;
}

static bool is_missing(const char *dir, const char *device)
{
    OWN(str) char *path = text_format("%s/devinfo/%s/missing", dir, device), *said = path ? profile_read(path) : NULL;

    return said && *said == '1';
}

static json_t *btrfs(const char *uuid)
{
    OWN(str) char *dir = text_format("/sys/fs/btrfs/%s", uuid), *devices = dir ? text_format("%s/devinfo", dir) : NULL;
    OWN(dir) DIR *d = devices ? opendir(devices) : NULL;
    json_int_t n = 0, missing = 0, errors = 0;

    for (struct dirent *entry; d && (entry = readdir(d));) {
        if (entry->d_name[0] == '.')
            continue;
        n++;
        missing += is_missing(dir, entry->d_name);
        errors += errors_of(dir, entry->d_name);
    }
    return json_pack("{ss sI sI sI sb}", "uuid", uuid, "disks", n, "missing", missing, "errors", errors, "degraded",
                     (int)(missing || errors));
}

static void put_btrfs(json_t *into)
{
    OWN(dir) DIR *d = opendir("/sys/fs/btrfs");
    json_t *list = json_array();

    for (struct dirent *entry; d && (entry = readdir(d));)
        if (strlen(entry->d_name) == 36) /* a UUID; the others are of the module */
            json_array_append_new(list, btrfs(entry->d_name));
    json_put(into, "btrfs", list);
    if (!d)
        put_unknown(into, "btrfs", "the kernel has no btrfs");
}

/* ---- ZFS ---- */

json_t *profile_zpools(const char *listed)
{
    json_t *list = json_array();
    char name[256], health[32];
    long long size, used;

    for (const char *line = listed; line && *line; line = text_next_line(line))
        if (sscanf(line, "%255[^\t]\t%31[^\t]\t%lld\t%lld", name, health, &size, &used) == 4)
            json_array_append_new(list, json_pack("{ss ss sI sI sb}", "name", name, "state", health, "size_bytes", (json_int_t)size,
                                                  "used_bytes", (json_int_t)used, "degraded", (int)(strcmp(health, "ONLINE") != 0)));
    return list;
}

static void put_zfs(json_t *into)
{
    char *argv[] = {"zpool", "list", "-H", "-p", "-o", "name,health,size,allocated", NULL};
    struct vm_err e = {.text = "zpool is not installed"};
    size_t n;
    OWN(str) char *said = child_there(argv[0]) ? ask(argv, &n, &e) : NULL;

    if (said)
        json_put(into, "zfs", profile_zpools(said));
    else
        put_unknown(into, "zfs", e.text);
}

/* ---- SMART ---- */

json_t *profile_drive(const char *name, const char *smartctl, size_t n)
{
    OWN(json) json_t *said = json_from_text(smartctl, n, NULL);
    const json_t *passed = json_object_get(json_object_get(said, "smart_status"), "passed");
    const json_t *message = json_array_get(json_object_get(json_object_get(said, "smartctl"), "messages"), 0);
    json_t *o = json_object();

    json_put_str(o, "device", name);
    json_put_str(o, "model", json_str(said, "model_name", NULL));
    json_put(o, "healthy", json_is_boolean(passed) ? json_boolean(json_is_true(passed)) : NULL);
    json_put(o, "celsius", json_incref(json_object_get(json_object_get(said, "temperature"), "current")));
    json_put(o, "hours", json_incref(json_object_get(json_object_get(said, "power_on_time"), "hours")));
    json_put_str(o, "why", json_is_boolean(passed) ? NULL : json_str(message, "string", "it does not say how it is"));
    return o;
}

/* What stands for no drive of its own has no "device". */
static bool is_drive(const char *name)
{
    OWN(str) char *path = text_format("/sys/block/%s/device", name);

    return name[0] != '.' && path && access(path, F_OK) == 0;
}

static void put_smart(json_t *into)
{
    OWN(dir) DIR *d = child_there("smartctl") ? opendir("/sys/block") : NULL;
    json_t *list = json_array();

    for (struct dirent *entry; d && (entry = readdir(d)) && json_array_size(list) < DRIVES_MAX;) {
        OWN(str) char *path = text_format("/dev/%s", entry->d_name);
        /* The sandbox of vmsd's unit keeps it, and what it starts, from drives. */
        char *argv[] = {"systemd-run", "--quiet", "--pipe", "--wait", "--collect",
                        "smartctl", "-j", "-H", "-A", "-i", "-n", "standby", path, NULL};
        char *const *run = sd_booted() > 0 ? argv : argv + 5;
        size_t n = 0;
        OWN(str) char *said = path && is_drive(entry->d_name) ? ask(run, &n, NULL) : NULL;

        if (said)
            json_array_append_new(list, profile_drive(path, said, n));
    }
    json_put(into, "smart", list);
    if (!d)
        put_unknown(into, "smart", "smartctl is not installed");
}

void profile_arrays(json_t *into)
{
    put_md(into);
    put_btrfs(into);
    put_zfs(into);
    put_smart(into);
}
