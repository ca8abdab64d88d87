/* keeper_fs.h: mounts, by fds. Private to vms-keeper: whatever fails ends the keeper. `what` is for the message. */
#ifndef VMSD_DRIVERS_KEEPER_FS_H
#define VMSD_DRIVERS_KEEPER_FS_H

#include <stddef.h>
#include <stdint.h>

/* A user namespace in which on-disk id n is host id base + n. It needs a process only while it is made. */
int idmap_open(uint32_t base);
int fs_open(const char *type);
void fs_set(int fs, unsigned cmd, const char *key, const char *value);
int fs_mount(int fs, const char *what, unsigned attributes); /* takes fs; a detached mount */
/* A clone of the mount at dir, which is taken; detached. A mount can be cloned only from the namespace that its fd was
 * opened in: so before leaving that. */
int tree_clone(int dir, const char *what);
void mount_change(int mnt, uint64_t set, int idmap, const char *what); /* idmap -1: ids stay */
void mount_put(int mnt, const char *path);  /* at a directory, made if missing */
void mount_take(int mnt, const char *path); /* the same, and closes it */
void mounts_private(void);                  /* moves to a mount namespace of our own */
int scratch_mount(const char *size, const char *mode, unsigned attributes); /* a tmpfs, nosuid */

#endif
