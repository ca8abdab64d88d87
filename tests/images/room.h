/* room.h: what the tests of images/ share. Each test gets a state directory of its own that goes with it. */
#ifndef ROOM_H
#define ROOM_H

#include <check.h>
#include <images/images.h>
#include <stdbool.h>
#include <vmsd/hash.h>
#include <vmsd/own.h>

OWN_DEFINE(store, struct image_store *, image_store_close)

/* Runs the tests (NULL-terminated); setup may be NULL: "once" for all of them, "each" before each. */
int room_run(const char *name, void (*once)(void), void (*each)(void), void (*after)(void), const TTest *const *tests);
int room_skip(const char *why);

/* A fresh directory under /var/tmp, its fd, and its end. */
extern char room_path[64];
extern int room_dir;
void room_make(void);
void room_remove(void);

/* A store in room_path/state with recipes from room_path/recipes. */
struct image_store *room_store(void);
/* A store that builds with a double, by its path. */
struct image_store *room_store_with(char *builder);
void room_recipe(const char *name, const char *json, const char *customize);
void room_write(const char *rel, const char *content, mode_t mode); /* parents are made */
/* Runs a shell command in room_path; its exit status. */
VM_PRINTF(1) int room_sh(const char *fmt, ...);

void room_sum(int fd, char sum[static HASH_HEX]); /* of a whole file */
unsigned count_entries(int dir, const char *rel); /* without "." and ".." */
bool path_is(const char *rel, mode_t type);       /* in room_path, not following a link */

#define ck_fails(call, errc, part) \
    do { \
        struct vm_err e_ = {0}; \
        int rc_ = (call); \
        ck_assert_int_eq(rc_, -1); \
        ck_assert_msg(e_.code == VM_E_##errc, "%s: %s", vm_err_name(e_.code), e_.text); \
        ck_assert_msg(strstr(e_.text, part), "%s", e_.text); \
    } while (0)
#define ck_works(call) \
    do { \
        struct vm_err e_ = {0}; \
        int rc_ = (call); \
        ck_assert_msg(rc_ == 0, "%s: %s", #call, e_.text); \
    } while (0)

#endif
