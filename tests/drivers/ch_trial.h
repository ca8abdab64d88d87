/* ch_trial.h: guests whose VMM is a double (ch_double.c), so without KVM. One at a time: t. */
#ifndef VMSD_TESTS_CH_TRIAL_H
#define VMSD_TESTS_CH_TRIAL_H

#include "trial.h"

extern struct trial trial, *const t;
extern struct drv_mount mounts[3];
extern struct drv_tap tap;
enum { PATH_IMAGE, PATH_KERNEL, PATH_MODULES, PATH_VOLUME, PATH_INITRAMFS, PATH_COUNT };
extern char paths[PATH_COUNT][160];

/* A guest whose VMM does what the script says. */
void guest_init(unsigned n, const char *script);
void guest_tap(void);                    /* it gets a nic; close tap.fd afterwards */
void guest_share(size_t i, const char *target, bool read_only);
void guest_start_fails(enum vm_errc code, const char *words);
void guest_over(void);                   /* stops it and removes it all */
char *console(void);                     /* all that it wrote; valid until the next call */
bool console_says(const char *words);    /* soon: what is written there comes through a pipe and the keeper */
/* Appends what was said between driver and VMM to the file that $VMS_CH_TRAFFIC names, for test_ch_openapi.py. */
void traffic_keep(void);

/* What main does. shares: only where there is a virtiofsd; may be NULL. */
int suite_run(Suite *s, TCase *shares);

#endif
