/* images.h: the store's inside, shared by the files of this room. Floor 2. Workers only. */
#ifndef IMAGES_H
#define IMAGES_H

#include <pthread.h>
#include <sys/stat.h>
#include <vmsd/image.h>
#include <vmsd/own.h>

struct once;

enum { ONCE_KEY = IMAGE_ID + 8, ONCE_FAILED = 16 };

struct image_store {
    char *state;                                /* absolute */
    int images, guests, volumes, templates;     /* directories under it */
    struct strv recipes;
    const char *builder, *mkfs;                 /* "mmdebstrap", "mkfs.erofs"; tests put doubles in their places */
    char *unpacker;                             /* vms-unpack, absolute; NULL: no tarball can be imported */
    char *init, *agent;                         /* of the initramfs, absolute; NULL: none can be made */
    pthread_mutex_t lock;                       /* guards what follows */
    pthread_cond_t ended;                       /* one of these did */
    struct once *under_way;
    struct once_failed { char key[ONCE_KEY]; int64_t at; struct vm_err why; } failed[ONCE_FAILED]; /* the last ones */
    unsigned n_failed;                          /* ever */
};

/* Under images/ID/. */
#define IMAGE_NOTE "image.json"
#define IMAGE_TREE "tree"
#define IMAGE_DISK_FILE "disk.img"   /* EROFS of the tree, made when somebody asks; or what was imported */
#define KERNEL_FILE "vmlinuz"
#define KERNEL_MODULES "modules.erofs"
#define KERNEL_BOOT "initramfs"      /* directory of what our initramfs loads, in order of name */

enum { IMAGE_FILE = IMAGE_ID + 16 /* ".ID.lock" */, IMAGE_RESULTS = 3, KERNEL_MODULE_NAME = 100 };

struct image_make;
struct image_maker {
    const char *kind;                           /* as image_list shows it */
    int (*fill)(const struct image_make *m, struct vm_err *e);
    const char *results[IMAGE_RESULTS + 1];     /* NULL-terminated */
};

/* Where an image comes from, and so its id. */
struct image_source {
    const struct spec_image *want;              /* borrowed */
    const struct image_maker *maker;
    char id[IMAGE_ID];
    char what[160];                             /* "image 'debian-12'", for people */
    struct recipe *recipe;                      /* of IMAGE_RECIPE */
    int dir;                                    /* of IMAGE_DIRECTORY */
};

/* One image in the making. */
struct image_make {
    const struct image_store *s;
    const struct image_source *src;
    int scratch;                                /* directory that is to become images/ID */
    const char *path;                           /* of it, absolute */
    struct image_progress progress;
    struct deadline deadline;
};

/* ---- image.c: images as the store keeps them ---- */

bool image_is_id(const char *s);
bool image_is_there(const struct image_store *s, const char *id);
/* Held by whoever builds or removes that image, in any process; *lock is an fd, its end lets go. */
int image_lock(const struct image_store *s, const char *id, struct deadline d, int *lock, struct vm_err *e);
void image_unlock(const struct image_store *s, const char *id, int *lock);
/* The name under images/ for what is to become of that image or part of it; free, even if the processes of a build that
 * was killed are still on their way out, and write. With its lock. */
int image_scratch(const struct image_store *s, const char *id, char name[static IMAGE_FILE], struct vm_err *e);

/* ---- once.c ---- */

typedef int once_fn(struct image_store *s, void *arg, struct deadline d, struct vm_err *e);
struct once_ask { const char *key; once_fn *work; void *arg; int64_t asked_at; /* as in image_progress */ };
/* Of all in this process who ask for the same key at once the first one works, and the others get his result; so do those
 * who asked before he failed, and come later. If it was his own time that ended, another one works. */
int once_do(struct image_store *s, const struct once_ask *ask, struct deadline d, struct vm_err *e);

/* ---- recipe.c: trees from packages ---- */

struct recipe;
int recipe_open(const struct image_store *s, const char *name, struct recipe **out, struct vm_err *e);
void recipe_free(struct recipe *r);
const char *recipe_id(const struct recipe *r);
int recipe_build(const struct image_make *m, struct vm_err *e); /* makes scratch/tree */

/* ---- sources.c: the host's own mirrors ---- */

/* Lines for sources.list of that suite out of what the host's apt is set to; empty when it has none. *out is yours. */
int sources_of_host(const char *suite, const struct strv *components, struct deadline d, char **out, struct vm_err *e);

/* ---- import.c, import_file.c: from directories, tarballs and disks ---- */

/* Ids change when anything in the directory does. */
int directory_id(int dir, char id[static IMAGE_ID], struct vm_err *e);
int directory_import(const struct image_make *m, struct vm_err *e);
int tar_id(const char *sha256, char id[static IMAGE_ID], struct vm_err *e);
int tar_import(const struct image_make *m, struct vm_err *e);

int raw_id(const char *sha256, char id[static IMAGE_ID], struct vm_err *e);
int raw_import(const struct image_make *m, struct vm_err *e);

/* ---- erofs.c: trees as disks ---- */

/* dir/disk becomes an EROFS of dir/tree, on disk and world-readable. */
int erofs_make(const struct image_store *s, int dir, const char *tree, const char *disk, struct image_progress p,
               struct deadline d, struct vm_err *e);

/* ---- kernel.c, initramfs.c: what microVMs boot ---- */

int kernel_id_of(const char *recipe, char id[static IMAGE_ID], struct vm_err *e);
int kernel_finish(const struct image_make *m, struct vm_err *e); /* scratch/tree becomes what KERNEL_… name */
int kernel_files(struct image_store *s, const char *id, struct deadline d, struct image_kernel *out, struct vm_err *e);
/* The file under images/ID/ with init, agent and modules as they are now; made when absent. */
int initramfs_ensure(const struct image_store *s, const char *id, struct deadline d, char name[static IMAGE_FILE],
                     struct vm_err *e);
int initramfs_gc(const struct image_store *s, const char *id, struct vm_err *e); /* those that nobody asks for */

/* ---- lines.c: what is told of a build, and what its child says, line by line ---- */

struct lines {
    struct image_progress progress;
    char line[512];                             /* the one that is coming in */
    size_t n;
    char first_error[512], last[512];           /* "E: …", and the last line before it; both safe to show */
    bool full;                                  /* somebody ran out of space */
};
void lines_take(const char *p, size_t n, void *lines); /* as child_plan.on_output */
void lines_end(struct lines *l);
/* A line of our own. */
VM_PRINTF(2) void progress_tell(struct image_progress p, const char *fmt, ...);

/* ---- store.c ---- */

/* "STATE/KIND/NAME/FILE" into out; file may be NULL. */
int store_path(const struct image_store *s, const char *kind, const char *name, const char *file,
               char out[static IMAGE_PATH], struct vm_err *e);
/* The JSON in dir/name; NULL where there is none, or it is none of ours. */
int store_note(int dir, const char *name, json_t **out, struct vm_err *e);
/* Calls each(name, arg) for every entry of dir until it returns -1. hidden: those beginning with "." or the others. */
int store_each(int dir, bool hidden, int (*each)(const char *name, void *arg, struct vm_err *e), void *arg,
               struct vm_err *e);
/* name vanishes at once, what was in it as fast as the disk can. Absent is success. */
int store_remove(int dir, const char *name, struct vm_err *e);
/* A child said so. */
int store_no_space(struct vm_err *e);
/* Turns "no space" of any step, or in the words of any child, into what a person can act upon. */
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

#define FOREVER ((struct deadline){.at = INT64_MAX})

/* All of a regular file, holes kept, blocks shared where the file system can. */
int copy_file(int from, int to, const char *what, struct deadline d, struct vm_err *e);

/* ---- tree.c ---- */

bool path_is_dir(int dir, const char *name);

struct tree_entry {
    int parent;                                 /* directory that it lies in */
    const char *name, *path;                    /* path: from the root of the walk; "" for the root itself */
    struct stat st;
};
struct tree_visit {
    int (*enter)(const struct tree_entry *at, void *arg, struct vm_err *e);
    /* After a directory's content; may be NULL. */
    int (*leave)(const struct tree_entry *at, void *arg, struct vm_err *e);
    void *arg;
};
/* Everything under root in lexical order, by fd, no link followed, no other file system entered. */
int tree_walk(int root, const struct tree_visit *v, struct vm_err *e);
/* Bytes that dir/name and all in it take. */
int tree_usage(int dir, const char *name, uint64_t *bytes, struct vm_err *e);
/* Makes dir/tree one that every driver can boot from, or says why it is none. */
int tree_finish(int dir, struct vm_err *e);

#endif
