/* images.h: the store's inside, shared by the files of this room. Floor 2. Workers only. */
#ifndef IMAGES_H
#define IMAGES_H

#include <pthread.h>
#include <sys/stat.h>
#include <vmsd/image.h>
#include <vmsd/own.h>

struct image_build; /* one that is under way in this process, see ensure.c */

struct image_store {
    char *state;                                /* absolute */
    int images, guests, volumes, templates;     /* directories under it */
    struct strv recipes;
    const char *builder;                        /* "mmdebstrap"; tests put a double in its place */
    char *unpacker;                             /* vms-unpack, absolute; NULL: no tarball can be imported */
    pthread_mutex_t lock;                       /* guards builds */
    pthread_cond_t ended;                       /* one of builds did */
    struct image_build *builds;
};

/* ---- store.c ---- */

/* "STATE/KIND/NAME/FILE" into out; file may be NULL. */
int store_path(const struct image_store *s, const char *kind, const char *name, const char *file,
               char out[static IMAGE_PATH], struct vm_err *e);
/* Calls each(name, arg) for every entry of dir until it returns -1. hidden: those beginning with "." or the others. */
int store_each(int dir, bool hidden, int (*each)(const char *name, void *arg, struct vm_err *e), void *arg,
               struct vm_err *e);
/* name vanishes at once, what was in it as fast as the disk can. Absent is success. */
int store_remove(int dir, const char *name, struct vm_err *e);
/* Turns "no space" of any step into what a person can act upon. */
int store_full(const struct image_store *s, const char *doing, struct vm_err *e);

/* ---- disk.c: sparse ext4 images ---- */

enum disk_kind { DISK_ROOT /* with upper/ and work/ */, DISK_VOLUME /* empty */ };
/* dir/file holds a file system of that size: made if absent, the file grown if smaller; larger is CONFLICT. what names
 * the disk in errors. */
int disk_ensure(struct image_store *s, int dir, const char *file, enum disk_kind kind, uint64_t size, const char *what,
                struct vm_err *e);
/* The file is larger than the file system in it. */
bool disk_outgrown(int dir, const char *file);
/* Bytes that a file takes on the host; -1: there is none. */
int disk_usage(int dir, const char *file, uint64_t *bytes);

/* ---- copy.c ---- */

/* All of a regular file, holes kept, blocks shared where the file system can. */
int copy_file(int from, int to, const char *what, struct vm_err *e);

/* ---- tree.c ---- */

struct tree_entry {
    int parent;                                 /* directory that it lies in */
    const char *name, *path;                    /* path: from the root of the walk; "" for the root itself */
    struct stat st;
};
struct tree_visit {
    int (*enter)(const struct tree_entry *at, void *arg, struct vm_err *e);
    int (*leave)(const struct tree_entry *at, void *arg, struct vm_err *e); /* after a directory's content; may be NULL */
    void *arg;
};
/* Everything under root in lexical order, by fd, no link followed, no other file system entered. */
int tree_walk(int root, const struct tree_visit *v, struct vm_err *e);
/* Bytes that dir/name and all in it take. */
int tree_usage(int dir, const char *name, uint64_t *bytes, struct vm_err *e);
/* Makes dir/tree one that every driver can boot from, or says why it is none. */
int tree_finish(int dir, struct vm_err *e);

#endif
