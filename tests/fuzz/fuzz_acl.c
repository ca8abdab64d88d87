/* An access list as a file system tells it, which may be one that a user wrote: an error, or one entry more or less, in an
 * order that the kernel takes. */
#include "fuzz.h"

#include <drivers/acl.h>
#include <endian.h>
#include <errno.h>
#include <linux/posix_acl_xattr.h>
#include <sys/types.h>
#include <vmsd/text.h>

enum { UID = 70000, TAG_USER = 2, TAG_MASK = 16 };

static uint8_t list[70000];
static ssize_t n_list;

ssize_t fake_fgetxattr(int fd, const char *name, void *value, size_t size);
ssize_t fake_fgetxattr(int fd, const char *name, void *value, size_t size)
{
    (void)fd, (void)name;
    if (n_list < 0 || (size_t)n_list > size) {
        errno = n_list < 0 ? ENODATA : ERANGE;
        return -1;
    }
    memcpy(value, list, (size_t)n_list);
    return n_list;
}

int fake_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags);
int fake_fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    (void)fd, (void)name, (void)flags;
    MUST(size <= sizeof list);
    memcpy(list, value, size);
    n_list = (ssize_t)size;
    return 0;
}

static unsigned count(unsigned tag, uint32_t id)
{
    unsigned n = 0;

    for (ssize_t at = 4; at + 8 <= n_list; at += 8) {
        struct posix_acl_xattr_entry entry;
        memcpy(&entry, list + at, sizeof entry);
        n += le16toh(entry.e_tag) == tag && (tag != TAG_USER || le32toh(entry.e_id) == id);
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    OWN(strv) struct strv closed = { 0 };
    struct vm_err e = { 0 };

    n_list = n <= sizeof list / 2 ? (ssize_t)n : -1;
    memcpy(list, data, n_list < 0 ? 0 : n);
    if (acl_closed("/usr", UID, &closed, &e) < 0) {
        MUST(e.text[0] && acl_open("/usr", UID, NULL) < 0 && acl_close("/usr", UID, NULL) < 0);
        return 0;
    }
    unsigned before = count(TAG_USER, UID);
    MUST(acl_open("/usr", UID, &e) == 0);
    unsigned open = count(TAG_USER, UID);
    MUST(open >= before && open <= before + 1 && (open == before || count(TAG_MASK, 0) > 0));
    MUST(acl_close("/usr", UID, &e) == 0);
    MUST(count(TAG_USER, UID) == (open ? open - 1 : 0));
    return 0;
}
