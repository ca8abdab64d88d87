/* hosts.h: the vmsds that a command is meant for: the one here, another one, or several. One thread. */
#ifndef VMCTL_HOSTS_H
#define VMCTL_HOSTS_H

#include "client.h"
#include "remote.h"

#define HOSTS_FILE "hosts.yaml"

struct cli;
struct host {
    char *name;      /* as the user calls it */
    char *socket;    /* here, or NULL: it is remote */
    struct strv specs; /* the directories that hosts.yaml names for it */
    struct remote remote;
    struct client client;
    int status;      /* of the command, there; an exit status */
};
struct hosts {
    struct host *v;
    size_t n;        /* 0: only $VMSD_SOCKET or its like was named, if anything */
    bool several;    /* one that was named by itself is worked on as if it were here: cli->client is its client */
};

/* Reads -H, --hosts and the environment, and hosts.yaml if they need it. */
int hosts_choose(struct cli *cli, struct vm_err *e);
/* Names that -H takes here, for completion; *out is the caller's. */
void hosts_names(const struct cli *cli, struct strv *out);
void hosts_done(struct hosts *h);

/* ---- several ---- */

/* Starts all ssh, side by side; complains of each host that is not reached, and leaves it out from then on. -1: none is. */
int hosts_reach(struct hosts *all);
/* Complains under the host's name, and notes the exit status. What is left out is asked no more. */
void host_fail(struct host *h, const struct vm_err *e);
static inline bool host_left_out(const struct host *h)
{
    return h->status != 0;
}
/* Of a host that may be lost: its client, or NULL while it is not reached, with *e if there is a reason. Nobody waits: ssh is
 * started anew, now and then. */
struct client *host_client(struct host *h, struct vm_err *e);
/* One request for each host (t[i] for all->v[i]), side by side; docs[i] is NULL for a host that fails or was left out. */
int hosts_gather(struct hosts *all, struct transfer *t, json_t **docs, struct vm_err *e);
/* GET /v1/guests; of several hosts all in one list, each guest with "host". */
int hosts_guests(struct cli *cli, json_t **out, struct vm_err *e);
/* It is the turn of the host of a guest out of that list: cli->client is its client. */
void hosts_turn(struct cli *cli, const json_t *guest);
/* What is to be tried begins with it: "vmctl", or "vmctl -H left" for a host that is not NULL. Yours; NULL: no memory. */
char *hosts_command(const char *host);
/* "left/db" for what has a "host", else the member alone. Yours; NULL: no memory. */
char *hosts_label(const json_t *object, const char *key);

/* The exit status of a command: its own, or that of the host where it went worst. */
int hosts_status(const struct hosts *h, int status);
/* An object of vmsd with "host" in front. Yours; NULL: no memory. */
json_t *hosts_mark(const char *host, const json_t *object);
/* Adds what is in a list to another one: objects marked, names as "left/db". */
void hosts_merge(const char *host, const json_t *list, json_t *into);

#endif
