/* client.h: HTTP to vmsd over its Unix socket. One thread. */
#ifndef VMCTL_CLIENT_H
#define VMCTL_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <vmsd/json.h>
#include <vmsd/text.h>

#define CLIENT_SOCKET "/run/vmsd/vmsd.sock"
#define CLIENT_ANSWER_MAX (64ul << 20) /* a document; streams have no bound but their lines' */
enum { CLIENT_ERROR_MAX = 64 << 10, CLIENT_STREAMS_MAX = 48, CLIENT_ANSWER_S = 120 };

struct client {
    const char *socket;
    struct remote *remote; /* NULL: vmsd is on this host */
    const char *host; /* as the user called it by -H; NULL: did not */
    bool unreached; /* the last failure was that nobody answers there: exit 3 */
    bool refused;   /* vmsd itself said no to a request */
};

/* One request and where its answer goes. */
struct transfer {
    struct client *at;              /* whom it goes to; NULL: the one that is given for all */
    const char *method, *path;
    const void *body;               /* borrowed; NULL: none … */
    size_t n;
    int body_fd;                    /* … or, when has_body_fd, all that can be read from there */
    bool has_body_fd;
    /* Gets the body of a 2xx answer, piece by piece. -1 ends the transfer with *e. NULL: nobody wants it. */
    int (*sink)(const char *p, size_t n, void *arg, struct vm_err *e);
    void *arg;
    long limit_s;                   /* 0: none */
    /* afterwards: */
    bool cut; /* set before, and unset by its end: a tick ended it */
    bool failed;
    struct vm_err err;
    struct text error_body;         /* private */
};

/* Runs n transfers side by side until all have ended; each then says how it went. tick, which may be NULL, is called
 * about ten times a second, and ends everything by returning false. c may be NULL: then those that go to nobody are left
 * out. -1: could not even begin. */
int client_run(struct client *c, struct transfer *t, size_t n, bool (*tick)(void *arg), void *arg, struct vm_err *e);

/* The same for requests whose answers are documents: docs[i] is NULL, or yours. */
int client_gather(struct client *c, struct transfer *t, size_t n, bool (*tick)(void *arg), void *arg, json_t **docs,
                  struct vm_err *e);

/* One request; its answer as a document. out may be NULL. */
int client_json(struct client *c, const char *method, const char *path, json_t **out, struct vm_err *e);
int client_post(struct client *c, const char *path, const void *body, size_t n, json_t **out, struct vm_err *e);
/* GET, with a tick as client_run has it: when that ends it, *out stays as it was and 0 is returned. */
int client_watch(struct client *c, const char *path, bool (*tick)(void *arg), void *arg, json_t **out, struct vm_err *e);
/* One request; its answer goes to a sink. */
int client_stream(struct client *c, struct transfer *t, struct vm_err *e);

/* Fills *e from an answer that is not 2xx. Text from the daemon is kept as it is: who shows it makes it visible. */
int client_error(long status, const char *body, size_t n, struct vm_err *e);
/* Before each connect: c->socket leads to vmsd, wherever that is. */
int client_reach(struct client *c, struct vm_err *e);
/* Connects; *out is yours. */
int client_dial(struct client *c, int *out, struct vm_err *e);
/* Fills *e for a connect that failed with that errno, and sets unreached. */
int client_unreached(struct client *c, int sys, struct vm_err *e);

/* "/v1/guests/NAME" + tail with every byte of name encoded that needs it. Yours; NULL: no memory. */
char *client_path(const char *head, const char *name, const char *tail);
/* Adds "?key=value", or "&key=value"; nothing if value is NULL. */
void client_query(struct text *path, const char *key, const char *value);
/* Adds one for each of the values. */
void client_query_list(struct text *path, const char *key, const struct strv *values);

#endif
