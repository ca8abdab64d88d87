/* <vmsd/image.h>: images, root disks and volumes. Floor 2. Workers only.
 *
 * Layout under the state directory:
 *   images/ID/{tree/,image.json}   read-only root trees, ID = hash of recipe or content; scratch names begin with "."
 *   guests/ID/root.img             sparse ext4: the writable part (upper/ and work/ for containers)
 *   volumes/NAME/{disk.img|tree/,volume.json}
 *   templates/                     ready-made empty ext4 images, copied instead of mkfs */
#ifndef VMSD_IMAGE_H
#define VMSD_IMAGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <vmsd/clock.h>
#include <vmsd/err.h>
#include <vmsd/spec.h>
#include <vmsd/text.h>

struct image_store;
/* state: absolute state directory; recipes: absolute directories searched in order for recipe NAME/. */
int image_store_open(const char *state, const struct strv *recipes, struct image_store **out, struct vm_err *e);
void image_store_close(struct image_store *s);
/* program: absolute path of vms-unpack, which takes tarballs apart; without it they can't be imported. Once, after open. */
int image_store_set_unpacker(struct image_store *s, const char *program, struct vm_err *e);

/* Who asks for a build or import. line: told how it goes on ("unpacking …"), on the calling thread; may be NULL.
 * asked_at: monotonic; what has failed since then fails for him as well, and is not tried again. 0: it is. */
struct image_progress { void (*line)(const char *text, void *arg); void *arg; int64_t asked_at; };

enum { IMAGE_ID = 65, IMAGE_PATH = 512 };
struct image_ref { char id[IMAGE_ID]; char tree[IMAGE_PATH]; /* absolute path of the root tree; "": a disk
                                                                      image, which no container can boot from */ };
/* The image that a spec names, built or imported when it is not there. Callers that ask for the same one at once wait
 * for one build. Built under a scratch name, fsynced, renamed: no half image is ever listed. */
int image_ensure(struct image_store *s, const struct spec_image *want, struct image_progress p, struct deadline d,
                 struct image_ref *out, struct vm_err *e);
/* The disk of an image, for microVMs: an EROFS of its tree, made when absent, or the disk that was imported. One file for
 * all guests of that image, world-readable. */
int image_disk(struct image_store *s, const struct image_ref *ref, struct image_progress p, struct deadline d,
               char out[static IMAGE_PATH], struct vm_err *e);

/* The kernel for microVMs whose spec names none: Debian's, by the recipe of that name, with our initramfs for it. */
#define IMAGE_KERNEL "kernel"
struct image_kernel {
    char id[IMAGE_ID]; /* as image_list and image_gc know it */
    char kernel[IMAGE_PATH], initramfs[IMAGE_PATH], modules[IMAGE_PATH]; /* modules: EROFS of /usr/lib/modules */
};
int kernel_ensure(struct image_store *s, struct image_progress p, struct deadline d, struct image_kernel *out,
                  struct vm_err *e);
int kernel_id(struct image_store *s, char id[static IMAGE_ID], struct vm_err *e); /* of the one that it would give */
/* init: absolute path of the static vms-init; agent: of vms-agent. What the initramfs is made of. Once, after open. */
int image_store_set_boot(struct image_store *s, const char *init, const char *agent, struct vm_err *e);
/* dir/name becomes a copy of the initramfs `base` (absolute; NULL: nothing) with a file /vmsd/setup of that text, 0600.
 * The kernel unpacks both into one. */
int initramfs_write(int dir, const char *name, const char *base, const char *setup, struct vm_err *e);

/* The image of that id: a guest keeps the one that its root was made on until it is rebuilt, whatever its spec's source
 * has become since. ABSENT when it was removed. */
int image_find(struct image_store *s, const char *id, struct image_ref *out, struct vm_err *e);
bool image_have(struct image_store *s, const struct spec_image *want); /* ready, without building */
/* [{id, name, kind: recipe|directory|tar|disk|kernel, bytes, created_at}] */
int image_list(struct image_store *s, json_t **out, struct vm_err *e);
int image_remove(struct image_store *s, const char *id, struct vm_err *e); /* caller made sure that none uses it */
/* Removes every image whose id is not in used, and scratch leftovers that no build holds. removed: ids; may be NULL. */
int image_gc(struct image_store *s, const struct strv *used, struct strv *removed, struct vm_err *e);

/* The writable root of a guest: made when absent, its file grown when size grew; smaller is CONFLICT. out: absolute path. */
int root_ensure(struct image_store *s, uint32_t guest_id, uint64_t size, char out[static IMAGE_PATH], struct vm_err *e);
int root_remove(struct image_store *s, uint32_t guest_id, struct vm_err *e); /* absent is success */
bool root_exists(struct image_store *s, uint32_t guest_id);
int root_usage(struct image_store *s, uint32_t guest_id, uint64_t *bytes); /* allocated on the host; -1: none */

/* out: absolute path of disk.img or tree/. grown: the image file became larger than the file system in it (the driver
 * grows that online or at the next mount). A volume of another type is CONFLICT. */
int volume_ensure(struct image_store *s, const struct spec_volume *v, const char *guest, char out[static IMAGE_PATH],
                  bool *grown, struct vm_err *e);
int volume_remove(struct image_store *s, const char *name, struct vm_err *e);
/* [{name, type, size, bytes, guest}]. bytes is null where it is not known: of a directory that cannot be counted, and of those
 * of guests that are no key of `counted` (NULL: all are counted, file by file, which takes its time). */
int volume_list(struct image_store *s, const json_t *counted, json_t **out, struct vm_err *e);

/* Ids of guests that have a directory under guests/, for recovery. */
int root_list(struct image_store *s, uint32_t **ids, size_t *n, struct vm_err *e);

#endif
