/* init.h: vms-init, the first process of a microVM: it puts the guest's root together and hands over to the guest's own
 * init. Floor 2. One thread. docs/microvm.md tells the story.
 *
 *   init.c      the story, and how it ends where it fails    disks.c     disks by serial, file systems by superblock
 *   setup.c     what vmsd said, pure                         mounts.c    one mount, one target
 *   modules.c   kernel modules                               root.c      the new root
 *   handover.c  what the guest's init finds, and the way over
 *
 * An error's text goes on after "cannot ". */
#ifndef VMS_INIT_H
#define VMS_INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <vmsd/err.h>
#include <vmsd/own.h>
#include <vmsd/proto.h>

#define NEW_ROOT "/new"
#define SETUP_FILE "/vmsd/setup"

enum {
    DISK_WAIT_MS = 10000,          /* for all disks together */
    DISK_NAME = 32,                /* "vda1" */
    SERIAL = 21,                   /* of a virtio disk, with the NUL */
    SETUP_MAX = FRAME_PAYLOAD_MAX, /* as for op=setup */
    SETUP_MOUNTS_MAX = 64,
};

/* A line on the console; never fails. */
VM_PRINTF(1) void say(const char *fmt, ...);

/* ---- setup.c ---- */

struct setup_mount { const char *tag, *target; bool share, read_only; };
struct setup {
    struct setup_mount mounts[SETUP_MOUNTS_MAX]; /* parents before what is below them */
    size_t n_mounts;
    const char *token;             /* or NULL */
    bool read_only_root;
};
/* Cuts text (NUL-terminated at n) into the strings of *out. */
int setup_parse(char *text, size_t n, struct setup *out, struct vm_err *e);
/* init= of the kernel's command line, or NULL; cuts the text. */
const char *cmdline_init(char *cmdline);

/* ---- modules.c ---- */

void modules_load(const char *dir); /* in lexical order; absent: none */
/* Loads one that did not come with us, and what it needs, as far as the disk of modules is there and has it. */
void module_find(const char *name);

/* ---- disks.c ---- */

/* The name in /dev of the disk with that serial, once it is there. */
int disk_wait(const char *serial, char name[static DISK_NAME], struct vm_err *e);
bool disk_find(const char *serial, char name[static DISK_NAME]); /* is it there now? */
/* The file system that a superblock tells of, or NULL; p holds the first n bytes of a device. */
enum { SUPERBLOCKS = 68 << 10 };
const char *superblock_type(const uint8_t *p, size_t n);
/* Of what is on a disk: the type, or NULL; *partition is 0 for the disk itself. */
int disk_type(const char *name, const char **type, struct vm_err *e);
/* Names of a disk's partitions, in their order. */
enum { PARTITIONS_MAX = 128 };
size_t disk_partitions(const char *name, char out[][DISK_NAME], size_t max);

/* ---- mounts.c ---- */

struct mount_option { const char *key, *value; /* NULL: a flag */ };
/* A mount that is nowhere yet; options end with a NULL key. what: for the error. */
int mount_make(const char *type, const struct mount_option *options, unsigned attributes, const char *what,
               struct vm_err *e);
int mount_disk(const char *name, const char *type, bool read_only, const char *what, struct vm_err *e);
int mount_put(int mount, const char *path, struct vm_err *e);
int mount_put_at(int mount, int target, const char *what, struct vm_err *e);
/* An fd of the directory `target` below root: no symbolic link on the way (C2); what is missing is made. */
int target_open(int root, const char *target, struct vm_err *e);
int beneath(int dir, const char *path, int flags); /* openat2 without links; as open */

/* ---- root.c, handover.c ---- */

/* Mounts all of it on NEW_ROOT; *root is an fd of that. */
int root_build(const struct setup *s, int *root, struct vm_err *e);
int run_fill(int root, const struct setup *s, const char *text, size_t n, struct vm_err *e);
/* The path of a system's init: the one of the command line, or the first of the usual ones that there is; NULL: none. */
const char *find_init(int root);
/* Only returns on failure. */
int hand_over(int root, bool read_only, char **argv, struct vm_err *e);

#endif
