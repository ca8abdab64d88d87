/* contract.h: guests of the contract suite, alike in all that a driver's user sees, whatever runs them: Debian 12 with
 * systemd and the real vms-agent, a volume at /srv/data, and the trial's source at /srv/share and, read-only, at /srv/ro.
 * The suite has a network namespace of its own (contract.sh).
 *
 * Several processes may work on one guest: its starter keeps what the others need in the trial's directory. */
#ifndef VMSD_TESTS_CONTRACT_H
#define VMSD_TESTS_CONTRACT_H

#include "trial.h"

#include <vmsd/agent.h>
#include <vmsd/image.h>
#include <vmsd/proto.h>

enum { SUBJECT_MOUNTS = 3, START_MS = 120000, BOOT_MS = 180000 /* emulated, beside other work */ };

#define SUBJECT_MAC "02:00:00:00:00:01"
#define SUBJECT_HOST "10.66.0.1"
#define SUBJECT_GUEST "10.66.0.2"

struct subject {
    struct trial t;
    char name[24];
    char token[PROTO_TOKEN + 1];   /* of this boot; "": its agent asks for none */
    char disk[96], initramfs[160], tap_name[16];
    struct drv_tap tap;            /* with DRV_TAKES_TAPS, during the start */
    const char *fault;             /* one more line for its initramfs, or NULL */
    struct drv_mount mounts[SUBJECT_MOUNTS];
};

/* Loads what guests of that driver are made of. Why it cannot be tested here, or NULL. */
const char *subjects_prepare(const char *driver);
uint32_t subjects_first(void);     /* of their thousand ids */
/* The n-th guest, described; make it, or adopt what another process made and started. */
void subject_describe(struct subject *s, unsigned n);
void subject_init(struct subject *s, unsigned n);
void subject_adopt(struct subject *s, unsigned n);
int subject_start(struct subject *s, struct deadline d);
void subject_boot(struct subject *s);
void subject_done(struct subject *s);    /* trial_done, and its tap */

/* A session of its own with the guest's agent for one request of "key=value" strings, up to NULL. Returns false when the
 * guest ended or nobody answered within ms. */
struct answer { struct agent_result r; char output[4096]; };
bool subject_ask(struct subject *s, const char *token, int64_t ms, struct answer *out, ...) __attribute__((sentinel));
bool subject_answers(struct subject *s);
/* Runs a shell line as root; its exit status, -1: the session ended. output may be NULL. */
int subject_sh(struct subject *s, const char *line, char *output, size_t size);

#endif
