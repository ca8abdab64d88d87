/* trial.h: guests for the tests of drivers/. A trial has a directory of its own. Containers are real, from a Debian 12
 * tree with systemd: $VMS_TEST_TREE, else /var/tmp/vmsd-test/tree; contract.h has microVMs as well. */
#ifndef VMSD_TESTS_TRIAL_H
#define VMSD_TESTS_TRIAL_H

#include <check.h>
#include <vmsd/driver.h>

#define TRIAL_INITRAMFS "initramfs" /* in run_dir: the only file there that is not the driver's */

struct trial {
    char dir[64];
    char run[96], log[96], root[96], tree[256], source[96];
    struct guest_spec spec;
    struct drv_guest g;
    struct drv_proc p;
    struct vm_err e;
    const struct vm_driver *drv;
};

/* Why containers cannot run here, or NULL. */
const char *trial_missing(void);
/* Names everything and makes nothing, so that a second process can do it for the same guest. */
void trial_describe(struct trial *t, const char *driver, const char *name, uint32_t id);
void trial_make(struct trial *t);        /* its directory, with an empty root image */
/* Both, for a container. */
void trial_init(struct trial *t, const char *name, uint32_t id);
/* Its image becomes one whose init is tests/drivers/init.c and does what the line says. */
void trial_tiny(struct trial *t, const char *what);
void trial_init_tiny(struct trial *t, const char *name, uint32_t id, const char *what);
void trial_start(struct trial *t);       /* and boots */
void trial_stop(struct trial *t);
struct drv_exit trial_reap(struct trial *t);
void trial_wait_end(struct trial *t);    /* of the keeper, without being asked to */
/* Removes the directory, after a check that nothing of the guest is left on the host. */
void trial_done(struct trial *t);
/* Ends what failed tests left running of the thousand ids from this one on, and removes their directories. */
void trial_sweep(uint32_t first);
/* Makes an ext4 image of so many MiB. */
void trial_image(const char *path, unsigned mib);
void trial_file(const char *path, const char *text);
/* The guest's processes, mounts, loop devices, cgroups, files in run_dir that the driver made there, and ACLs that let its
 * user in somewhere: all 0 when nothing is left. */
struct trial_rest { unsigned processes, mounts, loops, cgroups, files, acls; char who[64]; /* one of the processes */ };
struct trial_rest trial_audit(const struct trial *t);
void trial_gone(struct trial *t);        /* asserts that */

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, t->e.text)

#endif
