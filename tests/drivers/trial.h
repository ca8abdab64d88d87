/* trial.h: guests for the tests of drivers/. A trial has a directory of its own and real containers from a Debian 12
 * tree with systemd: $VMS_TEST_TREE, else /var/tmp/vmsd-test/tree. */
#ifndef VMSD_TESTS_TRIAL_H
#define VMSD_TESTS_TRIAL_H

#include <check.h>
#include <vmsd/driver.h>

struct trial {
    char dir[64];
    char run[96], log[96], root[96], tree[256], source[96];
    struct guest_spec spec;
    struct drv_guest g;
    struct drv_proc p;
    struct vm_err e;
    const struct vm_driver *drv;
};

/* Why these tests cannot run here, or NULL. */
const char *trial_missing(void);
void trial_init(struct trial *t, const char *name, uint32_t id);
/* A guest whose init is tests/drivers/init.c and does what the line says. */
void trial_init_tiny(struct trial *t, const char *name, uint32_t id, const char *what);
void trial_start(struct trial *t);       /* and boots */
void trial_stop(struct trial *t);
struct drv_exit trial_reap(struct trial *t);
void trial_wait_end(struct trial *t);    /* of the keeper, without being asked to */
/* Removes the directory, after a check that nothing of the guest is left on the host. */
void trial_done(struct trial *t);
/* Ends what failed tests left running, and removes their directories. */
void trial_sweep(void);
/* Runs a shell line in the guest as its root and waits for its end; exit status. output may be NULL. */
int trial_sh(struct trial *t, const char *line, char *output, size_t size);
/* Makes an ext4 image of so many MiB. */
void trial_image(const char *path, unsigned mib);
void trial_file(const char *path, const char *text);
/* The guest's processes, mounts, loop devices and cgroups on the host: all 0 when nothing is left. */
struct trial_rest { unsigned processes, mounts, loops, cgroups; };
struct trial_rest trial_audit(const struct trial *t);
void trial_gone(struct trial *t);        /* asserts that */

#define OK(call) ck_assert_msg((call) == 0, "%s: %s", #call, t->e.text)

#endif
