/* What is known of a running domain without libvirtd: run_dir/libvirt, "key=value" lines, replaced by rename. */
#include "libvirt.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <vmsd/path.h>

#define NOTE_FILE "libvirt"
enum { NOTE_BYTES_MAX = 256 << 10 };

void virt_note_done(struct virt_note n)
{
    free(n.log_dir);
    strv_done(n.opened);
}

static void add_proc(struct text *t, const char *key, const struct proc_id *p)
{
    if (p->pid)
        text_addf(t, "%s=%d %" PRIu64 " %s\n", key, (int)p->pid, p->start, p->boot);
}

int virt_note_write(const char *run_dir, const struct virt_note *n, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(text) struct text t = {0};

    if (dir < 0)
        return -1;
    add_proc(&t, "qemu", &n->qemu);
    add_proc(&t, "console", &n->console);
    text_addf(&t, "booted=%d\nkilled=%d\nuid=%u\nconsole_from=%" PRIu64 "\nconsole_inode=%" PRIu64 "\n", n->booted, n->killed, n->uid,
              (uint64_t)n->console_from, (uint64_t)n->console_inode);
    if (n->log_dir)
        text_addf(&t, "log_dir=%s\n", n->log_dir);
    for (size_t i = 0; i < n->opened.n; i++)
        text_addf(&t, "opened=%s\n", n->opened.v[i]);
    if (t.failed)
        return vm_no_memory(e);
    return path_write(dir, NOTE_FILE, t.s, t.len, 0600, e);
}

static bool proc_parse(const char *value, struct proc_id *out)
{
    char end;
    int pid;

    if (sscanf(value, "%d %" SCNu64 " %36s%c", &pid, &out->start, out->boot, &end) != 3 || pid <= 0)
        return false;
    out->pid = pid;
    return true;
}

static bool field_parse(struct virt_note *n, const char *key, const char *value)
{
    uint64_t number = 0;

    if (!strcmp(key, "qemu"))
        return proc_parse(value, &n->qemu);
    if (!strcmp(key, "console"))
        return proc_parse(value, &n->console);
    if (!strcmp(key, "log_dir")) {
        if (n->log_dir)
            return false;
        n->log_dir = strdup(value);
        n->opened.failed |= !n->log_dir;
        return n->log_dir;
    }
    if (!strcmp(key, "opened")) {
        strv_add(&n->opened, value);
        return !n->opened.failed;
    }
    if (!text_to_u64(value, &number))
        return false;
    if (!strcmp(key, "booted"))
        n->booted = number;
    else if (!strcmp(key, "killed"))
        n->killed = number;
    else if (!strcmp(key, "uid"))
        n->uid = (uid_t)number;
    else if (!strcmp(key, "console_from"))
        n->console_from = (off_t)number;
    else if (!strcmp(key, "console_inode"))
        n->console_inode = (ino_t)number;
    return true;
}

static bool note_parse(char *text, struct virt_note *out)
{
    for (char *line; (line = strsep(&text, "\n"));) {
        char *value = strchr(line, '=');

        if (!*line)
            continue;
        if (!value)
            return false;
        *value++ = '\0';
        if (!field_parse(out, line, value))
            return false;
    }
    return out->uid != 0;
}

int virt_note_read(const char *run_dir, struct virt_note *out, struct vm_err *e)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, e);
    OWN(virt_note) struct virt_note n = {0};
    OWN(str) char *text = NULL;
    struct vm_err why;

    if (dir < 0) {
        if (e && e->sys == ENOENT)
            e->code = VM_E_ABSENT;
        return -1;
    }
    if (path_read(dir, NOTE_FILE, NOTE_BYTES_MAX, &text, NULL, &why) < 0) {
        if (why.sys == ENOENT)
            return vm_fail(e, VM_E_ABSENT, "%s has no note of a domain: nothing runs there", run_dir);
        if (e)
            *e = why;
        return vm_context(e, "%s", run_dir);
    }
    if (!note_parse(text, &n))
        return n.opened.failed ? vm_no_memory(e)
                               : vm_fail(e, VM_E_SYSTEM, "%s/" NOTE_FILE " is not as vmsd writes it", run_dir);
    *out = n;
    n = (struct virt_note){0};
    return 0;
}

void virt_note_remove(const char *run_dir)
{
    OWN(fd) int dir = path_open_host(run_dir, O_RDONLY | O_DIRECTORY, NULL);

    if (dir >= 0)
        path_remove(dir, NOTE_FILE, NULL);
}
