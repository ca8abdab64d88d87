/* What the host is made of and how full, worn or broken that is: GET /v1/host/profile. A worker's, since programs are asked and
 * disks may be slow. What cannot be known is null, and its reason stands beside it. Private to supervisor/. */
#ifndef PROFILE_H
#define PROFILE_H

#include <vmsd/json.h>

/* Yours. One at a time: drives may take their time, and workers are few. Who comes meanwhile gets UNAVAILABLE. */
json_t *profile_json(struct vm_err *e);

/* Of it what changes from one moment to the next, and costs next to nothing: {load: {1m, 5m, 15m}, memory, pressure,
 * file_systems}. A worker's, too. Yours; NULL: no memory. */
json_t *profile_measures(void);

/* profile_disks.c */
json_t *profile_file_systems(void);
/* Puts md, btrfs, zfs and smart, each a list, or null and beside it NAME_why. */
void profile_arrays(json_t *into);

/* Pure, of what was read: */
json_t *profile_md(const char *mdstat);                      /* /proc/mdstat */
json_t *profile_zpools(const char *listed);                  /* zpool list -H -o name,health,size,allocated -p */
json_t *profile_drive(const char *name, const char *smartctl, size_t n); /* its -j output */
json_t *profile_os_release(const char *text);                /* {id, name, version} */
json_t *profile_pressure(const char *text);                  /* avg10 of "some", or null */

/* A small file of the host, or NULL. Yours. */
char *profile_read(const char *path);

#endif
