#include "acl.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/posix_acl_xattr.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <vmsd/path.h>

#define ACL_NAME "system.posix_acl_access"

/* From <linux/posix_acl.h>, which is not for programs. */
enum { TAG_USER_OBJ = 0x01, TAG_USER = 0x02, TAG_GROUP_OBJ = 0x04, TAG_GROUP = 0x08, TAG_MASK = 0x10, TAG_OTHER = 0x20 };
enum { PERM_READ = 4, PERM_PASS = 1, ACL_BYTES_MAX = 64 << 10 };

struct entry { unsigned tag, perm; uint32_t id; };
/* Sorted as the kernel wants it: by tag, then by id; with room for two more entries. */
struct acl { struct entry *v; size_t n; };

static void acl_done(struct acl a)
{
    free(a.v);
}
OWN_DEFINE(acl, struct acl, acl_done)

/* Lists are read, changed and written whole: one at a time. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int acl_of_mode(mode_t mode, struct acl *out, struct vm_err *e)
{
    if (!(out->v = calloc(5, sizeof *out->v)))
        return vm_no_memory(e);
    out->v[0] = (struct entry){TAG_USER_OBJ, mode >> 6 & 7, ACL_UNDEFINED_ID};
    out->v[1] = (struct entry){TAG_GROUP_OBJ, mode >> 3 & 7, ACL_UNDEFINED_ID};
    out->v[2] = (struct entry){TAG_OTHER, mode & 7, ACL_UNDEFINED_ID};
    out->n = 3;
    return 0;
}

static struct entry *find(const struct acl *a, unsigned tag, uint32_t id)
{
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].tag == tag && (tag != TAG_USER || a->v[i].id == id))
            return &a->v[i];
    return NULL;
}

/* Of one of the three entries that every list has. */
static unsigned base_perm(const struct acl *a, unsigned tag)
{
    const struct entry *found = find(a, tag, 0);

    return found ? found->perm : 0;
}

static int acl_read(int fd, const char *path, struct acl *out, struct vm_err *e)
{
    OWN(acl) struct acl a = {0};
    OWN(mem) struct posix_acl_xattr_header *raw = malloc(ACL_BYTES_MAX);
    struct stat st;
    ssize_t n;

    if (!raw)
        return vm_no_memory(e);
    if (fstat(fd, &st) < 0)
        return vm_fail_sys(e, "%s", path);
    n = fgetxattr(fd, ACL_NAME, raw, ACL_BYTES_MAX);
    if (n < 0 && (errno == ENODATA || errno == EOPNOTSUPP))
        return acl_of_mode(st.st_mode, out, e);
    if (n < 0)
        return vm_fail_sys(e, "access list of %s", path);
    if ((size_t)n < sizeof *raw || le32toh(raw->a_version) != POSIX_ACL_XATTR_VERSION)
        return vm_fail(e, VM_E_SYSTEM, "the access list of %s is of an unknown kind", path);
    const struct posix_acl_xattr_entry *entries = (const void *)(raw + 1);
    a.n = ((size_t)n - sizeof *raw) / sizeof *entries;
    if (!(a.v = calloc(a.n + 2, sizeof *a.v)))
        return vm_no_memory(e);
    for (size_t i = 0; i < a.n; i++)
        a.v[i] = (struct entry){le16toh(entries[i].e_tag), le16toh(entries[i].e_perm), le32toh(entries[i].e_id)};
    if (!find(&a, TAG_USER_OBJ, 0) || !find(&a, TAG_GROUP_OBJ, 0) || !find(&a, TAG_OTHER, 0))
        return vm_fail(e, VM_E_SYSTEM, "the access list of %s is not whole", path); /* FUSE hands on what it is told */
    *out = a;
    a = (struct acl){0};
    return 0;
}

static int acl_write(int fd, const char *path, const struct acl *a, struct vm_err *e)
{
    size_t size = sizeof(struct posix_acl_xattr_header) + a->n * sizeof(struct posix_acl_xattr_entry);
    OWN(mem) struct posix_acl_xattr_header *raw = malloc(size);

    if (!raw)
        return vm_no_memory(e);
    raw->a_version = htole32(POSIX_ACL_XATTR_VERSION);
    struct posix_acl_xattr_entry *entries = (void *)(raw + 1);
    for (size_t i = 0; i < a->n; i++)
        entries[i] = (struct posix_acl_xattr_entry){
            htole16((uint16_t)a->v[i].tag), htole16((uint16_t)a->v[i].perm), htole32(a->v[i].id)};
    if (fsetxattr(fd, ACL_NAME, raw, size, 0) == 0)
        return 0;
    if (errno == EOPNOTSUPP)
        return vm_fail_sys(e, "%s is on a file system without access lists, and closed to the guest's user", path);
    return vm_fail_sys(e, "access list of %s", path);
}

static void insert(struct acl *a, struct entry new)
{
    size_t at = a->n;

    while (at && (a->v[at - 1].tag > new.tag || (a->v[at - 1].tag == new.tag && a->v[at - 1].id > new.id)))
        at--;
    memmove(a->v + at + 1, a->v + at, (a->n - at) * sizeof *a->v);
    a->v[at] = new;
    a->n++;
}

static void delete(struct acl *a, struct entry *old)
{
    size_t at = (size_t)(old - a->v);

    memmove(a->v + at, a->v + at + 1, (a->n - at - 1) * sizeof *a->v);
    a->n--;
}

static void allow(struct acl *a, uid_t uid, unsigned perm)
{
    struct entry *mask, *user = find(a, TAG_USER, uid);

    if (user)
        user->perm |= perm;
    else
        insert(a, (struct entry){TAG_USER, perm, uid});
    if ((mask = find(a, TAG_MASK, 0)))
        mask->perm |= perm;
    else
        insert(a, (struct entry){TAG_MASK, base_perm(a, TAG_GROUP_OBJ) | perm, ACL_UNDEFINED_ID});
}

/* Without a user or group of its own, a list says no more than the mode does, and the kernel keeps none. */
static void withdraw(struct acl *a, struct entry *user)
{
    struct entry *mask;

    delete(a, user);
    for (size_t i = 0; i < a->n; i++)
        if (a->v[i].tag == TAG_USER || a->v[i].tag == TAG_GROUP)
            return;
    if ((mask = find(a, TAG_MASK, 0)))
        delete(a, mask);
}

static bool allows(const struct acl *a, uid_t uid, uid_t owner, unsigned perm)
{
    struct entry *user = find(a, TAG_USER, uid), *mask = find(a, TAG_MASK, 0);

    if (uid == owner)
        return (base_perm(a, TAG_USER_OBJ) & perm) == perm;
    if (user)
        return (user->perm & (mask ? mask->perm : perm) & perm) == perm;
    return (base_perm(a, TAG_OTHER) & perm) == perm;
}

static int open_place(const char *path, struct stat *st, struct vm_err *e)
{
    OWN(fd) int fd = path_open_host(path, O_RDONLY | O_NONBLOCK, e);

    if (fd < 0)
        return -1;
    if (fstat(fd, st) < 0 || (!S_ISDIR(st->st_mode) && !S_ISREG(st->st_mode)))
        return vm_fail(e, VM_E_CONFLICT, "%s is neither directory nor regular file", path);
    return take_fd(&fd);
}

static unsigned wanted(const struct stat *st)
{
    return S_ISDIR(st->st_mode) ? PERM_PASS : PERM_READ;
}

static int look(const char *path, uid_t uid, struct strv *out, struct vm_err *e)
{
    OWN(acl) struct acl a = {0};
    struct stat st;
    OWN(fd) int fd = open_place(path, &st, e);

    if (fd < 0 || acl_read(fd, path, &a, e) < 0)
        return -1;
    /* What an earlier start opened to it, and nobody knows of any more, is to be closed again as well. */
    if ((!allows(&a, uid, st.st_uid, wanted(&st)) || find(&a, TAG_USER, uid)) && !strv_has(out, path))
        strv_add(out, path);
    return 0;
}

int acl_closed(const char *path, uid_t uid, struct strv *out, struct vm_err *e)
{
    char real[PATH_MAX];

    if (!realpath(path, real))
        return vm_fail_sys(e, "%s", path);
    for (char *at = real; (at = strchr(at + 1, '/'));) {
        *at = '\0';
        if (look(real, uid, out, e) < 0)
            return -1;
        *at = '/';
    }
    if (look(real, uid, out, e) < 0)
        return -1;
    return out->failed ? vm_no_memory(e) : 0;
}

int acl_open(const char *path, uid_t uid, struct vm_err *e)
{
    OWN(acl) struct acl a = {0};
    struct stat st;
    OWN(fd) int fd = open_place(path, &st, e);
    int rc;

    if (fd < 0)
        return -1;
    pthread_mutex_lock(&lock);
    if ((rc = acl_read(fd, path, &a, e)) == 0 && !allows(&a, uid, st.st_uid, wanted(&st))) {
        allow(&a, uid, wanted(&st));
        rc = acl_write(fd, path, &a, e);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

int acl_close(const char *path, uid_t uid, struct vm_err *e)
{
    OWN(acl) struct acl a = {0};
    struct vm_err why;
    struct stat st;
    OWN(fd) int fd = open_place(path, &st, &why);
    struct entry *user;
    int rc;

    if (fd < 0) {
        if (why.sys == ENOENT)
            return 0;
        if (e)
            *e = why;
        return -1;
    }
    pthread_mutex_lock(&lock);
    if ((rc = acl_read(fd, path, &a, e)) == 0 && (user = find(&a, TAG_USER, uid))) {
        withdraw(&a, user);
        rc = acl_write(fd, path, &a, e);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}
